"""A run folder: the names of its files, how it is claimed, and what is known of it.

RUN/config.toml    the whole configuration, every key
RUN/start.h5       tokenizer, classes and word vectors that training starts from (see `eqnp.text.prepare`)
RUN/data.h5        token ids, lengths, labels and vocabulary (see `eqnp.text.store`)
RUN/log.jsonl      ten lines an epoch, and one at its end
RUN/model.h5       the best epoch by validation accuracy (see `eqnp.model`)
RUN/last.h5        while training is under way: the last state, to go on from
RUN/metrics.json   when it is finished: figures and the environment they were measured in

The first three files make `eqnp train RUN` repeat the run without its sources.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from eqnp import checkpoint
from eqnp.config import Config, load_config
from eqnp.errors import CheckpointError, ConfigError
from eqnp.model import MODEL, PARAMETERS, Model
from eqnp.parallel import available_cores

CONFIG, LOG, LAST, METRICS = "config.toml", "log.jsonl", "last.h5", "metrics.json"


def check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder; choose another with --out")


def claim(folder: Path, numbered: bool) -> Path:
    """Make the run folder, so that no other run that starts at the same time can have it too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(2):
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            if not numbered:
                check_free(folder)
                return folder
            base = folder.name.removesuffix(f"-{number - 1}") if number > 2 else folder.name
            folder = folder.with_name(f"{base}-{number}")


def with_absolute_paths(config: Config) -> Config:
    """The same configuration with files named in full, so that it repeats the run from any folder."""

    def full(source: str) -> str:
        return str(Path(source).resolve()) if source and Path(source).is_file() else source

    data, vectors = config.data, config.vectors
    sources = {"train": full(data.train), "validation": full(data.validation), "test": full(data.test)}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, **sources),
        vectors=dataclasses.replace(vectors, source=full(vectors.source), unlabelled=full(vectors.unlabelled)),
    )


def read_json(path: Path) -> dict:
    """A JSON file of a run; raises CheckpointError."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); remove it and resume the run") from error


def read_log(run: Path) -> list[dict]:
    """The lines of the log of a run, none before the first; raises CheckpointError."""
    path = run / LOG
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); eqnp train --resume writes it anew") from error


def describe(run: Path) -> dict:
    """State, configuration in short, figures, parameters and their digest; raises CheckpointError."""
    if not (run / CONFIG).is_file() and not (run / MODEL).is_file():
        raise CheckpointError(f"{run} holds no run; eqnp train makes one")
    about: dict = {"run": str(run)}
    if (run / CONFIG).is_file():
        config = load_config(str(run / CONFIG))
        epochs = [event for event in read_log(run) if event["event"] == "epoch"]
        finished = (run / METRICS).is_file()
        about["state"] = "finished" if finished else f"stopped; go on with eqnp train --resume {run}"
        about |= {"preset": config.preset or "own configuration", "data": config.data.train}
        about |= {"vectors": config.vectors.source, "algorithm": config.learning.algorithm}
        about |= {"seed": config.training.seed, "epochs": f"{len(epochs)} of {config.training.epochs}"}
        if finished:
            metrics = read_json(run / METRICS)
            about |= {name: metrics[name] for name in ("best_epoch", "accuracy", "baselines", "samples", "seconds")}
    if (run / MODEL).is_file():
        arrays, _ = checkpoint.load(run / MODEL, "model")
        model = Model.load(run)
        shapes = {name.removeprefix(PARAMETERS): "×".join(map(str, array.shape)) for name, array in arrays.items()}
        about |= {"classes": list(model.classes), "weights": shapes}
        about |= {
            "parameters": sum(array.size for array in arrays.values()),
            "words": len(model.tokenizer.get_vocab()) - 2,
        }
        about["digest"] = checkpoint.digest(arrays[PARAMETERS + "output.weight"])[:16]
    return about


def environment(threads: int | None) -> dict:
    """Versions and machine, for the record."""
    packages = ("eqnp", "numpy", "numba", "scipy", "tokenizers", "datasets", "h5py")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "threads": threads or available_cores(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "unknown"
