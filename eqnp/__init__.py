"""Sequence classifiers trained by Equilibrium Propagation, in Numba-accelerated NumPy.

The names below are the public ones; they are imported on first use, so that ``import eqnp`` costs nothing. Checkers for
layers, synapses and networks of one's own are in `eqnp.testing`.
"""

from importlib import import_module

_HOMES = {
    "Potential": "eqnp.potentials",
    "Elementwise": "eqnp.potentials",
    "Attention": "eqnp.potentials",
    "Hopfield": "eqnp.potentials",
    "Softmax": "eqnp.potentials",
    "elementwise": "eqnp.potentials",
    "Cost": "eqnp.costs",
    "SquaredError": "eqnp.costs",
    "CrossEntropy": "eqnp.costs",
    "BinaryCrossEntropy": "eqnp.costs",
    "Nudge": "eqnp.costs",
    "Layer": "eqnp.states",
    "Segment": "eqnp.states",
    "Bundle": "eqnp.synapses",
    "Synapse": "eqnp.synapses",
    "Dense": "eqnp.synapses",
    "Mean": "eqnp.synapses",
    "Compare": "eqnp.synapses",
    "Product": "eqnp.products",
    "Projection": "eqnp.synapses",
    "Queries": "eqnp.synapses",
    "Memory": "eqnp.memories",
    "Window": "eqnp.memories",
    "Machine": "eqnp.machine",
    "Network": "eqnp.network",
    "AttentionConfig": "eqnp.architecture",
    "NetworkConfig": "eqnp.architecture",
    "build_network": "eqnp.architecture",
    "SettlingConfig": "eqnp.dynamics",
    "Trace": "eqnp.dynamics",
    "settle": "eqnp.dynamics",
    "LearningConfig": "eqnp.learning",
    "estimate": "eqnp.learning",
    "Optimizer": "eqnp.optim",
    "OptimizerConfig": "eqnp.optim",
    "Adam": "eqnp.optim",
    "Momentum": "eqnp.optim",
    "load_config": "eqnp.config",
    "evaluate": "eqnp.runs.loop",
    "fit": "eqnp.runs.loop",
    "one_hot": "eqnp.runs.loop",
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
