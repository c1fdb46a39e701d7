"""What is trained for the paper's experiment: which network, by which algorithm, and for how long.

Names of trials say task, algorithm and seed. Epochs are fixed beforehand, so that the cosine schedules end; where the
settings have patience they are the most. The epoch is chosen on validation data everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eqnp.config import Config, load_config
from eqnp.errors import ConfigError, nearest

TASKS = {"snli": "snli-paper", "imdb": "imdb-paper"}  # and their presets
SETTLED = {"settling.order": "even-odd", "settling.accelerate": True, "settling.tolerance": 1e-3}
LONG = {"training.epochs": 20, "training.patience": 3}
FIXED = {"training.epochs": 1}  # with all of T and K, an epoch of SNLI takes BPTT 40 minutes on a core
SHORT = {"data.max_tokens": 150, "training.epochs": 3}
# From the paper's biases of 0, one unit of IMDB's output is 0 for every text at first, and so is its exact gradient: by
# implicit differentiation it learns nothing. From the middle of their slope all units can move, by any algorithm.
MIDWAY = {"data.max_tokens": 150, "training.epochs": 2, "network.initial_bias": 0.5}
ONCE = {**MIDWAY, "training.epochs": 1}  # which takes BPTT an hour and a half on a core
ABLATION = {**SETTLED, "training.epochs": 3}
BETAS = (0.01, 0.1, 0.5, 1.0)
SWEEPS = {"T": "settling.free_sweeps", "K": "settling.nudged_sweeps"}
CAPS = (1, 2, 5)  # of T or K, where the others settle in about 5 and 3 sweeps at first
FILES = {  # of a folder with both corpora
    "snli": {"train": "snli_train.parquet", "validation": "snli_dev.parquet", "test": "snli_test.parquet"},
    "imdb": {"train": "imdb_train.parquet", "test": "imdb_test.parquet"},
}
QUICK = {  # minutes on embedded data, for a look at it all; the same, where a training changes it
    "vectors.dimension": 24,
    "network.hidden": [24],
    "settling.free_sweeps": 20,
    "settling.nudged_sweeps": 10,
}
QUICK_RATES = {
    "training.epochs": 3,
    "training.batch": 50,
    "optimizer.learning_rate": 1e-2,
    "optimizer.learning_rates": {"projection": 1e-2},
}
QUICK_TEXTS = {
    "snli": {"data.train": "mini-nli", "data.max_tokens": 9},
    "imdb": {"data.train": "mini-sentiment", "data.max_tokens": 12},
}


@dataclass(frozen=True)
class Trial:
    """One training: the task, the part of the experiment that it belongs to, and what it changes in the preset."""

    name: str
    task: str
    part: str  # "accuracy", "fixed", "short", "midway", "once" or "ablation"
    settings: Mapping[str, object]
    algorithm: str = "ep"
    seed: int = 0

    def config(self, data: Path | None, vectors: str | None, quick: bool) -> Config:
        """Of this training; ``data`` is a folder of `FILES`, else the preset's source is asked."""
        given = {**self.settings, "learning.algorithm": self.algorithm, "training.seed": self.seed}
        if quick:
            given = QUICK | given | QUICK_RATES | QUICK_TEXTS[self.task]
        elif data:
            given |= {f"data.{split}": str(data / name) for split, name in FILES[self.task].items()}
        if vectors and not quick:
            given["vectors.source"] = vectors
        return load_config(TASKS[self.task], given=given)


def trials(task: str) -> list[Trial]:
    """All trainings of a task, those first that the others are held against."""
    if task == "imdb":
        return [
            Trial("imdb-ep-0", task, "accuracy", {**SETTLED, "training.epochs": 6}),
            Trial("imdb-150-ep-0", task, "short", {**SETTLED, **SHORT}),
            *(
                Trial(f"imdb-midway-{algorithm}-0", task, "midway", {**SETTLED, **MIDWAY}, algorithm)
                for algorithm in ("ep", "implicit")
            ),
            *(
                Trial(f"imdb-once-{algorithm}-0", task, "once", {**SETTLED, **ONCE}, algorithm)
                for algorithm in ("ep", "implicit", "bptt")
            ),
        ]
    accuracy = [
        Trial(f"snli-{algorithm}-{seed}", task, "accuracy", {**SETTLED, **LONG}, algorithm, seed)
        for seed in range(3)
        for algorithm in ("ep", "implicit")
    ]
    fixed = [Trial(f"snli-fixed-{algorithm}-0", task, "fixed", FIXED, algorithm) for algorithm in ("ep", "bptt")]
    return [*accuracy, *fixed, *_ablations()]


def named(names: Sequence[str]) -> list[Trial]:
    """Trainings of either task by their names; raises ConfigError."""
    every = {trial.name: trial for task in TASKS for trial in trials(task)}
    unknown = next((name for name in names if name not in every), None)
    if unknown is not None:
        raise ConfigError(f"no training is called {unknown!r}{nearest(unknown, every)}")
    return [every[name] for name in names]


def _ablations() -> list[Trial]:
    def trial(name: str, changes: Mapping[str, object]) -> Trial:
        return Trial(f"snli-{name}", "snli", "ablation", {**ABLATION, **changes})

    betas = [
        trial(f"{estimator}-{beta:g}", {"learning.estimator": estimator, "learning.beta": beta})
        for estimator in ("one-sided", "symmetric")
        for beta in BETAS
    ]
    sweeps = [trial(f"{name}-{cap}", {key: cap}) for name, key in SWEEPS.items() for cap in CAPS]
    others = [trial("masked", {"network.padding": "masked"}), trial("embeddings", {"learning.train_embeddings": True})]
    return [*betas, *sweeps, *others]
