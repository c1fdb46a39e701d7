"""A run folder: the names of its files, how it is claimed, and what is known of it.

RUN/config.toml    the whole configuration, every key
RUN/start.h5       tokenizer, classes, and the vectors or weights that training starts from (see `eqnp.text.prepare`)
RUN/data.h5        token ids, lengths, labels and vocabulary (see `eqnp.text.store`)
RUN/unlabelled.h5  texts that the network is to label itself (``training.self_training``), as token ids
RUN/log.jsonl      ten to nineteen lines an epoch (of fewer batches than ten, one for each), and one at its end
RUN/model.h5       the best epoch by ``training.metric`` on the validation texts (see `eqnp.runs.model`)
RUN/last.h5        while training is under way: the last state, to go on from
RUN/metrics.json   when it is finished: figures and the environment they were measured in

The files before the log make `eqnp train RUN` repeat the run without its sources.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from eqnp import files
from eqnp.config import Config, load_config
from eqnp.errors import CheckpointError, ConfigError
from eqnp.machine.threads import available_cores
from eqnp.runs.contents import CONFIG, LAST, LOG, METRICS, MODEL, instead, quoted
from eqnp.runs.model import PARAMETERS, Model
from eqnp.sections import Source
from eqnp.text.prepare import START, UNLABELLED
from eqnp.text.sources import paths_of
from eqnp.text.store import STORE

FIGURES = ("best_epoch", "accuracy", "baselines", "samples", "seconds")


def check_free(folder: Path) -> None:
    """Raise ConfigError for a folder with anything in it but the beginnings of a run that was killed."""
    if folder.exists() and (not folder.is_dir() or any(not _is_beginning(path) for path in folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder; choose another with --out")


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise ConfigError where a folder cannot be made or written to; the folder above it may be missing too."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    mend = f"choose another place with {option}"
    if not place.is_dir():
        raise ConfigError(f"{folder}: {place} is no folder; {mend}")
    try:
        with tempfile.TemporaryDirectory(prefix=".eqnp-", dir=place):
            pass
    except OSError as error:
        what = "written to" if place == folder else "made"
        raise ConfigError(f"{folder}: cannot be {what} ({place}: {error.strerror}); {mend}") from error


def check_writable_file(path: Path, option: str) -> None:
    """Raise ConfigError for a file that cannot be written; the folder that it is to be in must be there."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file with {option}")
    if path.exists() and not path.is_file():  # a device or a pipe
        return
    if not path.parent.exists():
        raise ConfigError(f"{path.parent}: no such folder; make it, or choose another place with {option}")
    check_writable(path.parent, option)


def _is_beginning(path: Path) -> bool:
    """Whether a file is one that is written before the configuration, which makes a folder a run."""
    begun = path.name in (START, STORE, UNLABELLED, LOG) and not (path.parent / CONFIG).exists()
    return begun or (path.name.startswith(".") and path.name.endswith(".tmp"))


def abandon(folder: Path) -> None:
    """Remove the files of a run that came to nothing, and the folder if nothing else is in it."""
    files.remove_leftovers(folder)
    for name in (CONFIG, LOG, START, STORE, UNLABELLED, LAST, MODEL):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process; raises ConfigError if another one has it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(f"{folder} is in use by another process; wait for it, or stop it") from error
    try:
        yield
    finally:
        os.close(descriptor)


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
                files.remove_leftovers(folder)
                return folder
            base = folder.name.removesuffix(f"-{number - 1}") if number > 2 else folder.name
            folder = folder.with_name(f"{base}-{number}")


def pinned(config: Config) -> Config:
    """The same configuration with files named in full and every seed a number: it repeats the run from any folder."""

    def full(source: Source) -> Source:
        each = [source] if isinstance(source, str) else source
        found = [path for one in each for path in (paths_of(one) if one else [one])]
        return found[0] if len(found) == 1 else tuple(found)

    data, vectors = config.data, config.vectors
    sources = {"train": full(data.train), "validation": full(data.validation), "test": full(data.test)}
    seed = config.training.seed if data.seed < 0 else data.seed
    file = Path(vectors.source)
    named = vectors.source == "corpus" or not file.is_file()
    given = {"source": vectors.source if named else str(file.absolute()), "unlabelled": full(vectors.unlabelled)}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, **sources, seed=seed),
        vectors=dataclasses.replace(vectors, **given),
    )


def read_json(path: Path, keys: Sequence[str] = ()) -> dict:
    """A JSON table of a run with these keys; raises CheckpointError."""
    try:
        table = json.loads(path.read_text("utf-8"))
        for key in keys:
            table[key]
        if not isinstance(table, dict):
            raise TypeError("not a table")
        return table
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged ({error!r}); remove it and resume the run") from error


def read_log(run: Path) -> list[dict]:
    """The lines of the log of a run, none before the first; raises CheckpointError."""
    path = run / LOG
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        for event in events:
            event["event"], event["epoch"], event["train"]["loss"], event["sweeps"][0], event["settled"][0]
        return events
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged ({error!r}); eqnp train --resume writes it anew") from error


def summary(run: Path) -> dict:
    """State, configuration in short, figures, parameters and their digest; raises CheckpointError."""
    if not (run / CONFIG).is_file() and not (run / MODEL).is_file():
        raise CheckpointError(instead(run))
    about: dict = {"run": str(run)}
    if (run / CONFIG).is_file():
        config = load_config(str(run / CONFIG))
        epochs = [event for event in read_log(run) if event["event"] == "epoch"]
        finished = (run / METRICS).is_file()
        unfinished = f"stopped; go on with eqnp train --resume {quoted(run)}"
        if not (run / LOG).exists():
            unfinished = f"prepared; not trained yet: eqnp train {quoted(run)}"
        about["state"] = "finished" if finished else unfinished
        about |= {"preset": config.name or "own configuration", "data": config.data.train}
        about |= {"vectors": config.vectors.source, "algorithm": config.learning.algorithm}
        about |= {"seed": config.training.seed, "epochs": f"{len(epochs)} of {config.training.epochs}"}
        if finished:
            about |= {name: value for name, value in read_json(run / METRICS, FIGURES).items() if name in FIGURES}
    if (run / MODEL).is_file():
        arrays, _ = files.load(run / MODEL, "model")
        model = Model.load(run)
        shapes = {name.removeprefix(PARAMETERS): "×".join(map(str, array.shape)) for name, array in arrays.items()}
        about |= {"classes": list(model.classes), "weights": shapes}
        about |= {
            "parameters": sum(array.size for array in arrays.values()),
            "words": len(model.tokenizer) - 2,
        }
        about["digest"] = files.digest(arrays[PARAMETERS + "output.weight"])[:16]
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
