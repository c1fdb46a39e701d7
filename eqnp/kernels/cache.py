"""Compiled kernels on disk: kept once for all runs, safe beside other processes, and never in the way of one.

Numba stores a function's machine code by source, signature and processor: beside the source where that can be written,
else in the user's cache folder (or in NUMBA_CACHE_DIR). It replaces files as a whole, so a killed run leaves no half of
one. Three things it leaves open are closed here. Two processes that compile different signatures of one function at the
same time may swap their code, so what is read is checked and what is written waits for its turn. A damaged file counts
as absent. And where nothing can be written the run goes on without a cache. EQNP_CACHE=off does so on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from numba import njit
from numba.core.caching import FunctionCache

_caches: list[KernelCache] = []
_listeners: list[Callable[[], None]] = []


class KernelCache(FunctionCache):
    """Numba's cache of one function, tolerant of damage and of a full or read-only disk."""

    def load_overload(self, sig, target_context):
        """The compiled function for a tuple of argument types, or None if it must be compiled."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file may raise anything
            found = None
            self._remove()
        if found is not None and tuple(found.signature.args) == tuple(sig):
            return found
        for listener in _listeners:
            listener()
        return None

    def save_overload(self, sig, data):
        """Store what was compiled; where that cannot be written, the next run compiles again."""
        with suppress(OSError), _turn(Path(self.cache_path)):
            super().save_overload(sig, data)

    def _remove(self) -> None:
        with suppress(OSError):
            for path in _files(Path(self.cache_path), self._impl.filename_base):
                path.unlink(missing_ok=True)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time, where the system has locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows, where Numba guards against the same itself
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "eqnp.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by the end of the process
        yield


def compiled(**options):
    """`numba.njit` without the GIL, and with the cache."""

    def decorate(function):
        dispatcher = njit(nogil=True, **options)(function)
        try:
            cache = KernelCache(function)
        except RuntimeError:  # no folder can be written
            return dispatcher
        if os.environ.get("EQNP_CACHE", "").lower() in ("off", "0", "no", "false"):
            cache.disable()
        dispatcher._cache = cache  # what `njit(cache=True)` does with its own class
        _caches.append(cache)
        return dispatcher

    return decorate


def enabled() -> bool:
    """Whether compiled kernels are kept on disk."""
    return any(cache._enabled for cache in _caches)


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Call ``listener`` whenever a kernel has to be compiled inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def files() -> list[Path]:
    """The files of the cache, of kernels of this and earlier versions of the source."""
    folders = {Path(cache.cache_path) for cache in _caches}
    return sorted(path for folder in folders for path in _files(folder, "cpu."))


def clear() -> int:
    """Remove the cached kernels; returns the bytes freed."""
    freed = 0
    for path in files():
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    return freed


def _files(folder: Path, start: str) -> list[Path]:
    """Index, code and left-over temporary files in a cache folder."""
    return [path for path in folder.glob(f"{start}*") if ".nbi" in path.name or ".nbc" in path.name]
