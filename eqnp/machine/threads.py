"""One pool of threads, and no other: BLAS is held to a single thread while shards settle on ours."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice

import numpy as np

LARGE = 1 << 25  # bytes of an array that is set aside
MapOver = Callable[..., Iterable]  # calls a function for several things, like `map`
_own = threading.local()
_at_work: list[tuple[int, Executor]] = []  # of `workers`, with the thread that began each, the last one at the end


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def workers(threads: int | None = None) -> Iterator[Executor]:
    """An executor of ``threads`` threads (default: one per core); inside, every BLAS call takes one thread, and
    `on_threads` shares work."""
    with _one_thread_a_call, ThreadPoolExecutor(threads or available_cores(), initializer=_mark) as executor:
        begun = threading.get_ident(), executor
        _at_work.append(begun)
        try:
            yield executor
        finally:
            _at_work.remove(begun)


class _OneThread:
    """BLAS at one thread a call from the first that enters to the last that leaves, whichever thread they are on."""

    def __init__(self):
        self.lock, self.inside, self.limits = threading.Lock(), 0, None

    def __enter__(self):
        # Numba's np.dot runs on SciPy's BLAS, a second library: load it first, or the limit would miss it.
        import scipy.linalg.cython_blas  # noqa: F401
        import threadpoolctl

        with self.lock:
            if not self.inside:
                self.limits = threadpoolctl.threadpool_limits(limits=1)
            self.inside += 1

    def __exit__(self, *_):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limits.restore_original_limits()


_one_thread_a_call = _OneThread()


def _mark() -> None:
    _own.works = True


def on_a_worker() -> bool:
    """Whether the calling thread is one of an executor of `workers`."""
    return getattr(_own, "works", False)


def over(executor: Executor | None) -> MapOver:
    """What calls a function for several things, like `map`: on the threads of an executor, if there is one.

    One thing alone is left to the calling thread, whose work on it may be shared in turn. Threads of the executor share
    nothing: they would wait for each other.
    """

    def map_over(call: Callable, *things: Iterable) -> Iterable:
        every = list(zip(*things, strict=True))
        shared = executor is not None and len(every) > 1 and not on_a_worker()
        return (executor.map if shared else map)(lambda some: call(*some), every)

    return map_over


def on_threads(call: Callable, things: Iterable) -> Iterator:
    """Calls a function for several things, as `map` does, a few at a time: on the threads of the last `workers` that
    the calling thread has begun, if there are any. Those of another thread may end in between."""
    things = iter(things)
    while some := list(islice(things, 2 * available_cores())):
        own = [executor for thread, executor in list(_at_work) if thread == threading.get_ident()]
        yield from over(own[-1] if own else None)(call, some)


def return_freed_memory() -> None:
    """Give the system what was freed, where that can be said: of millions of small arrays glibc keeps the holes."""
    with suppress(OSError, TypeError, AttributeError):  # another system, or another library
        ctypes.CDLL(None).malloc_trim(0)


def set_aside(array: np.ndarray) -> np.ndarray:
    """The same array, to be read only, in a file without a name if it is large and there is room for it.

    Its pages come as they are read, and can be `let_go`.
    """
    if array.nbytes < LARGE:
        return array
    try:
        with tempfile.TemporaryFile() as file:
            file.write(array.data)
            file.flush()
            kept = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:  # a full disk
        return array
    return np.frombuffer(kept, array.dtype).reshape(array.shape)


def let_go(array) -> None:
    """Let no page of a file that an array maps count as this process's memory; it is read again where it is needed.

    For files that are mapped to be read: what was written to a private copy of pages would be lost.
    """
    while isinstance(array, np.ndarray | memoryview):
        array = array.obj if isinstance(array, memoryview) else array.base
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        array.madvise(mmap.MADV_DONTNEED)


def trim() -> None:
    """Give memory that is not in use any more back to the system, where the allocator (glibc's) can be told to."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda room: 0)(0)


def peak_resident_gib() -> float | None:
    """The largest resident set of this process so far, in GiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)
