"""Files that cannot break: written beside their place, flushed to the disk, then renamed over it; read with suspicion.

A file is HDF5, which any reader of HDF5 can open, behind a first block of 512 bytes (HDF5's "user block"):

    eqnp <kind> <version> <bytes that follow the block> <their SHA-256>

/about           JSON text: everything that is not an array
/arrays/<name>   the arrays, contiguous, each with its dtype, shape and SHA-256 as attributes

The block is held against the rest before HDF5 sees a byte of it, so that a damaged file is a line of text and not an
allocation, an endless loop or a crash. Nothing is pickled, and nothing in a file is executed. HDF5 does not touch the
disk when a file is written either: it lays the file out in memory, arrays left blank, and we write both, from the first
byte to the last. It crashes where a write fails (a full disk, a quota, a limit on the size of files).
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from eqnp.errors import CheckpointError
from eqnp.machine.threads import let_go

MAGIC, VERSION, BLOCK = "eqnp", 2, 512
PIECE, PAGE = 1 << 20, 1 << 12  # bytes hashed at a time; bytes of a layout that are kept together
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KINDS = "fiu"  # of numbers that an array may hold
MEND = {
    "model": "restore it, or train again",
    "checkpoint": "restore it, or start the run again from its config.toml",
    "token store": "prepare the texts or train the run again",
    "start": "prepare again",
}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and vanishes when it does not.

    An OSError about the temporary file, or about no file, is one about ``path``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):  # writes and flushes name none
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A binary file, of any length, that becomes ``path`` when the block ends well; else nothing of it is left.

    Until then it has no name, so that nothing is left of it where the process is killed either (where a system knows no
    such files, a hidden one may be). What is no file, as a device, is written to. Raises OSError.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    try:
        nameless = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except (AttributeError, OSError):
        with replacing(path) as temporary, open(temporary, "wb") as file:
            yield file
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with os.fdopen(nameless, "wb") as file:
            yield file
            file.flush()
            with replacing(path) as temporary:  # naming a folder has the link in /proc followed
                os.link(f"/proc/self/fd/{nameless}", temporary, src_dir_fd=folder, follow_symlinks=True)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(folder)


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
    layout, placed = _lay_out(arrays, json.dumps(about))
    hashed = hashlib.sha256()
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                file.write(bytes(BLOCK))
                for piece in _pieces(layout, placed):
                    hashed.update(piece)
                    file.write(piece)
                file.seek(0)
                described = f"{MAGIC} {kind.replace(' ', '-')} {VERSION} {layout.size - BLOCK} {hashed.hexdigest()}\n"
                file.write(described.encode().ljust(BLOCK, b"\0"))
        except OSError as error:
            needed = f" ({layout.size / 2**20:.2f} MiB are needed)" if error.errno in NO_ROOM else ""
            raise OSError(error.errno, error.strerror + needed, str(path)) from error


class _Layout(io.RawIOBase):
    """A file in memory for HDF5 to write to, in which what is not written takes no room, and no write fails."""

    def __init__(self):
        self.pages, self.place, self.size = defaultdict(partial(bytearray, PAGE)), 0, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        for done, page, span in self._spans(len(data)):
            page[span] = data[done : done + span.stop - span.start]
        self.size = max(self.size, self.place)
        return len(data)

    def readinto(self, into) -> int:
        into = memoryview(into).cast("B")
        for done, page, span in self._spans(len(into)):
            into[done : done + span.stop - span.start] = page[span]
        return len(into)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def _spans(self, length: int) -> Iterator[tuple[int, bytearray, slice]]:
        """The next bytes, page by page: how many came before, the page, and which part of it; moves past them."""
        done = 0
        while done < length:
            number, start = divmod(self.place, PAGE)
            stop = min(PAGE, start + length - done)
            yield done, self.pages[number], slice(start, stop)
            self.place, done = self.place + stop - start, done + stop - start


def _lay_out(arrays: Mapping[str, np.ndarray], text: str) -> tuple[_Layout, list[tuple[int, np.ndarray]]]:
    """The file with arrays left blank, and where each of them has its place."""
    layout, placed = _Layout(), []
    at_once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    at_once.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    at_once.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(layout, "w", userblock_size=BLOCK) as file:
        file.create_dataset("about", data=text, dtype=h5py.string_dtype())
        for name, array in sorted(arrays.items()):
            if array.ndim and array.size:
                dataset = file.create_dataset(f"arrays/{name}", array.shape, array.dtype, dcpl=at_once)
                placed.append((dataset.id.get_offset(), array))
            else:  # has no place yet, or none at all
                dataset = file.create_dataset(f"arrays/{name}", data=array)
            dataset.attrs["dtype"], dataset.attrs["shape"] = array.dtype.str, array.shape
            dataset.attrs["sha256"] = digest(array)
    return layout, sorted(placed, key=lambda each: each[0])


def _pieces(layout: _Layout, placed: list[tuple[int, np.ndarray]]) -> Iterator[bytes | memoryview]:
    """All that follows the first block, in its order."""
    layout.seek(BLOCK)
    for offset, array in placed:
        yield layout.read(offset - layout.tell())
        yield from _bytes(array)
        layout.seek(offset + array.nbytes)
    yield layout.read(layout.size - layout.tell())


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in C order."""
    hashed = hashlib.sha256()
    for piece in _bytes(array):
        hashed.update(piece)
    return hashed.hexdigest()


def _bytes(array: np.ndarray) -> Iterator[memoryview]:
    """An array's bytes, in C order; of one that is elsewhere (`eqnp.machine.wholes`), or large, a block at a time."""
    rows = max(1, PIECE * array.shape[0] // max(1, array.nbytes)) if array.ndim else 0
    cut = (array[start : start + rows] for start in range(0, array.shape[0], rows)) if rows else [array]
    for block in array.blocks() if hasattr(array, "blocks") else cut:
        if block.size:
            yield np.ascontiguousarray(block).data.cast("B")
        let_go(array)


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
