"""Files that cannot break: written beside their place, flushed to the disk, then renamed over it.

A model file (HDF5) holds the parameters and, as JSON text, everything else that prediction needs. Nothing in it is
executed on loading.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from eqnp.errors import CheckpointError

FORMAT, VERSION = "eqnp model", 1
FORMAT_ERRORS = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file in the same safe way."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_model(path: Path, parameters: Mapping[str, np.ndarray], about: Mapping) -> None:
    """Write parameters by name and a JSON-serialisable description of the rest."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.create_dataset("about", data=json.dumps(about), dtype=h5py.string_dtype())
        for name, value in parameters.items():
            file.create_dataset(f"parameters/{name}", data=value).attrs["sha256"] = _digest(value)


def _digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    about = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(about + np.ascontiguousarray(array).tobytes()).hexdigest()


def load_model(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Parameters and description from a model file; raises CheckpointError if it is missing, damaged or too new."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model; give the folder of a finished run")
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a model of this package; give the folder of a finished run")
            if file.attrs.get("version") != VERSION:
                raise CheckpointError(
                    f"{path}: version {file.attrs.get('version')} of the format; this release reads version {VERSION}"
                )
            about = json.loads(file["about"][()])
            parameters = {name: value[:] for name, value in file["parameters"].items()}
            for name, value in parameters.items():
                if file["parameters"][name].attrs.get("sha256") != _digest(value):
                    raise CheckpointError(
                        f"{path}: parameter {name!r} was changed or damaged; restore it or train again"
                    )
            return parameters, about
    except FORMAT_ERRORS as error:
        raise CheckpointError(f"{path}: damaged or not a model file ({error}); restore it or train again") from error
