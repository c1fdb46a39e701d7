"""Sequence classifiers trained by Equilibrium Propagation, in Numba-accelerated NumPy.

The names below are the public ones; they are imported on first use, so that ``import eqnp`` costs nothing.
"""

from importlib import import_module

_HOMES = {
    "AttentionConfig": "eqnp.network",
    "Network": "eqnp.network",
    "NetworkConfig": "eqnp.network",
    "Segment": "eqnp.synapses",
    "SettlingConfig": "eqnp.dynamics",
    "settle": "eqnp.dynamics",
    "LearningConfig": "eqnp.learning",
    "estimate": "eqnp.learning",
    "Adam": "eqnp.optim",
    "OptimizerConfig": "eqnp.optim",
    "load_config": "eqnp.config",
    "run_training": "eqnp.runs.training",
    "resume_training": "eqnp.runs.training",
    "Model": "eqnp.runs.model",
    "SequenceClassifier": "eqnp.app.classifier",
    "EqnpError": "eqnp.errors",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'eqnp' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
