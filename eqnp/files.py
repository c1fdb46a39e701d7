"""Files that cannot break: written beside their place, flushed to the disk, then renamed over it; read with suspicion.

A file is HDF5, which any reader of HDF5 can open, behind a first block of 512 bytes (HDF5's "user block"):

    eqnp <kind> <version> <bytes that follow the block> <their SHA-256>

/about           JSON text: everything that is not an array
/arrays/<name>   the arrays, contiguous, each with its dtype, shape and SHA-256 as attributes

The block is held against the rest before HDF5 sees a byte of it, so that a damaged file is a line of text and not an
allocation, an endless loop or a crash. Nothing is pickled, and nothing in a file is executed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from eqnp.errors import CheckpointError

MAGIC, VERSION, BLOCK = "eqnp", 2, 512
ROOM = 1 << 16  # what HDF5 needs beside the numbers, at most, for a file and again for 32 arrays
PIECE = 1 << 20  # bytes hashed at a time
KINDS = "fiu"  # of numbers that an array may hold
MEND = {
    "model": "restore it, or train again",
    "checkpoint": "restore it, or start the run again from its config.toml",
    "token store": "prepare the texts or train the run again",
    "start": "prepare again",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where the system knows how."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had begun to write."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file in the same safe way; raises OSError. What is no file, as a device, is written to."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save(path: Path, kind: str, arrays: Mapping[str, np.ndarray], about: Mapping) -> None:
    """Write arrays by name, and a JSON-serialisable description of the rest; raises OSError, the old file intact."""
    text = json.dumps(about)
    needed = sum(array.nbytes for array in arrays.values()) + len(text) + ROOM * (1 + len(arrays) // 32)
    if shutil.disk_usage(path.parent).free < needed:  # HDF5 is not at its best on a full disk
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({needed / 2**20:.1f} MiB are needed)", str(path))
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w", userblock_size=BLOCK) as file:
                file.create_dataset("about", data=text, dtype=h5py.string_dtype())
                for name, array in sorted(arrays.items()):
                    dataset = file.create_dataset(f"arrays/{name}", data=array)
                    dataset.attrs["dtype"], dataset.attrs["shape"] = array.dtype.str, array.shape
                    dataset.attrs["sha256"] = digest(array)
        except RuntimeError as error:  # how HDF5 puts it when a disk fills up while it closes a file
            raise OSError(errno.EIO, f"HDF5 could not write it ({error})", str(path)) from error
        with open(temporary, "r+b") as file:
            file.seek(BLOCK)
            length, sha256 = _hash_rest(file)
            file.seek(0)
            file.write(f"{MAGIC} {kind.replace(' ', '-')} {VERSION} {length} {sha256}\n".encode().ljust(BLOCK, b"\0"))


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).data.cast("B") if array.size else b"").hexdigest()


def load(
    path: Path, kind: str, wanted: Callable[[str], bool] = lambda name: True, *, mapped: bool = False
) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays whose name is ``wanted``, and the description; raises CheckpointError.

    With ``mapped`` they are maps of the file, which cannot be written to and take no memory of the process's own. The
    error says whether the file is missing, of another kind or version, truncated, or changed since it was written.
    """
    _check_block(path, kind)
    try:
        with h5py.File(path) as file:
            if file["about"].chunks is not None or file["about"].size != 1:
                raise ValueError("its description is stored in another way")
            about = json.loads(file["about"][()])
            names: list[str] = []
            group = file.get("arrays")
            if group is not None:
                group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            sound = [name for name in names if _is_sound(group[name])]
            if len(sound) < len(names) or sum(group[n].nbytes for n in names) > path.stat().st_size:
                raise ValueError("an array is not what its description says")
            read = partial(_map, path) if mapped else _read
            arrays = {name: read(group[name]) for name in names if wanted(name)}
            for name, array in arrays.items():
                if digest(array) != group[name].attrs["sha256"]:
                    raise ValueError(f"array {name!r} is not the one that was written")
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); {MEND[kind]}") from error
    if not isinstance(about, dict):
        raise CheckpointError(f"{path}: damaged (its description is no table); {MEND[kind]}")
    return arrays, about


def _read(dataset: h5py.Dataset) -> np.ndarray:
    return dataset[...]


def _map(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """What is contiguous in the file is an array as it stands there."""
    if not dataset.size:
        return dataset[...]
    return np.memmap(path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)


def _is_sound(dataset: h5py.Dataset) -> bool:
    return (
        dataset.chunks is None
        and not dataset.external
        and not dataset.is_virtual
        and dataset.dtype.kind in KINDS
        and dataset.attrs["dtype"] == dataset.dtype.str
        and tuple(dataset.attrs["shape"]) == dataset.shape
    )


def _check_block(path: Path, kind: str) -> None:
    """Hold the first block against the rest of the file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such {kind}; give the folder of a run")
    try:
        with open(path, "rb") as file:
            block = file.read(BLOCK)
            if block.startswith(b"\x89HDF"):
                raise CheckpointError(f"{path}: not of this format (version 1 or another program's); {MEND[kind]}")
            fields = block.split(b"\n")[0].decode("ascii", "replace").split(" ")
            if len(block) < BLOCK or len(fields) != 5 or fields[0] != MAGIC or not fields[2].isdecimal():
                raise CheckpointError(f"{path}: not a file of this package, or damaged; {MEND[kind]}")
            if fields[1] != kind.replace(" ", "-"):
                raise CheckpointError(f"{path}: found {fields[1][:40]!r}, where a {kind} is needed; {MEND[kind]}")
            if int(fields[2][:9]) != VERSION:
                raise CheckpointError(f"{path}: version {fields[2][:9]} of the format; this release reads {VERSION}")
            length = path.stat().st_size - BLOCK
            if fields[3] != str(length):
                raise CheckpointError(f"{path}: {length} bytes, where {fields[3][:20]} are due: cut off; {MEND[kind]}")
            if _hash_rest(file)[1] != fields[4] or block[block.index(b"\n") + 1 :].strip(b"\0"):
                raise CheckpointError(f"{path}: changed or damaged since it was written; {MEND[kind]}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _hash_rest(file) -> tuple[int, str]:
    """Bytes from the present place to the end, and their SHA-256."""
    hashed, length = hashlib.sha256(), 0
    while piece := file.read(PIECE):
        hashed.update(piece)
        length += len(piece)
    return length, hashed.hexdigest()
