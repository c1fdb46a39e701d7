"""What a folder holds, by the names of its files, and which command is for it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from eqnp.errors import CheckpointError
from eqnp.text.store import STORE

CONFIG, LOG, LAST, METRICS, MODEL = "config.toml", "log.jsonl", "last.h5", "metrics.json", "model.h5"
START = "start.h5"  # as `eqnp.text.prepare` has it, which takes long to import
DATA = re.compile(r".*\.(csv|tsv|parquet|jsonl|ndjson|json|txt)(\.gz)?", re.IGNORECASE | re.DOTALL)
PARTS = {START: "word vectors and tokenizer", STORE: "texts as token ids"}


def quoted(path: str | Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))


def is_saved(folder: Path) -> bool:
    """Whether a folder is one that ``SequenceClassifier.save`` wrote: a model and nothing beside it."""
    return (folder / MODEL).is_file() and not any((folder / name).exists() for name in (CONFIG, STORE, START))


def instead(folder: Path) -> str:
    """For a path that is not what a command needs: one line on what it is, and the command that is for it."""
    if not folder.exists():
        return f"{folder}: no such run, and no run folder of that name; `eqnp train` makes one and prints its name"
    if not folder.is_dir():
        if folder.name in (CONFIG, LOG, LAST, METRICS, MODEL, *PARTS):
            return f"{folder} is a file of a run; give its folder, {folder.parent}"
        if DATA.fullmatch(folder.name):
            return f"{folder} is a file of data; to train on it: eqnp train --data {quoted(folder)}"
        return f"{folder} is a file; give the folder of a run"
    has, own = (lambda name: (folder / name).is_file()), quoted(folder)
    if has(CONFIG) and has(METRICS):
        lost = next((name for name in (MODEL, LOG) if not has(name)), "")
        state = f"has lost {lost}" if lost else "is a finished run"
        return f"{folder} {state}; eqnp train {own} trains it anew, in another folder"
    if has(CONFIG) and has(LOG):
        done = "this run is not finished" if has(MODEL) else "no epoch of this run is finished yet"
        return f"{folder}: {done}; go on with eqnp train --resume {own}"
    if has(CONFIG) and has(MODEL):
        return f"{folder} has lost {LOG}; eqnp train {own} trains it anew, in another folder"
    if has(CONFIG):
        return f"{folder} is prepared and not trained yet; train it: eqnp train {own}"
    if is_saved(folder):
        return (
            f"{folder} was saved from Python: it has a model, and neither texts nor a log; "
            f'use it with eqnp predict {own} "…", or eqnp evaluate {own} --data F'
        )
    if has(MODEL) or has(START) or has(STORE):
        return f"{folder} has lost {CONFIG}, without which it is no run; restore it, or start anew with eqnp train"
    if data := sorted(path for path in folder.iterdir() if path.is_file() and DATA.fullmatch(path.name)):
        return (
            f"{folder} is a folder of data, and no run; to train on a file of it: eqnp train --data {quoted(data[0])}"
        )
    if any(path.is_file() for each in folder.iterdir() if each.is_dir() for path in each.iterdir()):
        return f"{folder} is a folder of folders, and no run; to train on its texts: eqnp train --data {own}"
    return f"{folder} holds no such model, nor anything of a run, nor data; eqnp train --data F makes a run"


def check_parts(folder: Path) -> None:
    """Raise CheckpointError for a run or prepared folder that has lost what training starts from."""
    lost = [name for name in PARTS if not (folder / name).is_file()]
    if not lost:
        return
    names = " and ".join(f"{name} ({PARTS[name]})" for name in lost)
    again = "train" if (folder / LOG).exists() else "prepare"
    rest = f"; its model is still there for eqnp predict {quoted(folder)}" if (folder / MODEL).is_file() else ""
    raise CheckpointError(
        f"{folder} has lost {names}, and cannot be trained; if the sources that its {CONFIG} names are still there: "
        f"eqnp {again} {quoted(folder / CONFIG)} --out NEW{rest}"
    )


def check_texts(folder: Path, mend: str) -> None:
    """Raise CheckpointError for a folder with a model and without the texts of its training; ``mend`` says what to do.

    Of a folder without a model, `instead` says more.
    """
    if (folder / MODEL).is_file() and not (folder / STORE).is_file():
        why = "was saved from Python, without texts" if is_saved(folder) else f"has lost {STORE}, its texts"
        raise CheckpointError(f"{folder} {why}; {mend}")
