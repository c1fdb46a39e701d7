"""numba's simulated GPU, with some of its flaws mended for the time of the tests; and made to look for races.

A simulated block takes turns where a real one does not, so a missing barrier goes unnoticed there. Here every entry of
an array remembers who touched it since when, and a test fails where the order of two threads decides what is read.
"""

import os
import sys

import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


class RaceError(AssertionError):
    """Two threads meet at an entry that one of them writes, and nothing says who comes first."""


class Watch:
    """Who has touched which address since a kernel started: barriers order the threads of a block, and nothing blocks.

    Threads are (block, number), and an epoch is how many barriers one has passed.
    """

    def __init__(self):
        self.writer, self.readers = {}, {}

    def start(self) -> None:
        """A kernel starts, after all others are done."""
        self.writer.clear()
        self.readers.clear()

    def touch(self, array: np.ndarray, index, writes: bool, shared: bool) -> None:
        """Raise RaceError where this access meets another's; and for what is read from shared memory unwritten."""
        thread = TURN.current_thread()
        place = tuple(map(int, index)) if isinstance(index, tuple) else (int(index),)
        if len(place) != array.ndim or min(place) < 0:
            raise IndexError(f"{place} in an array of {array.shape}")
        address = array.__array_interface__["data"][0] + sum(i * s for i, s in zip(place, array.strides, strict=True))
        block, epoch = tuple(thread.blockIdx), thread.passed
        key, who = (block if shared else None, address), (block, thread.thread_id)
        others = [self.writer.get(key)]
        if shared and not writes and others == [None]:
            raise RaceError(f"{place} of a shared array of {array.shape} is read before it is written")
        if writes:
            others += self.readers.get(key, {}).items()
        for other in others:
            if other and other[0] != who and (other[0][0] != block or other[1] == epoch):
                raise RaceError(f"threads {who} and {other[0]} meet at {place} of {array.shape}, epoch {epoch}")
        if writes:
            self.writer[key] = who, epoch
            self.readers.pop(key, None)
        else:
            self.readers.setdefault(key, {})[who] = epoch


class Shared(np.ndarray):
    """A shared array under watch."""

    def __getitem__(self, index):
        WATCH.touch(self, index, writes=False, shared=True)
        return super().__getitem__(index)

    def __setitem__(self, index, value):
        WATCH.touch(self, index, writes=True, shared=True)
        super().__setitem__(index, value)


class Turn:
    """Whose turn it is: the simulator asks for the current thread."""

    def __init__(self):
        self.thread = None

    def current_thread(self):
        """The simulated one."""
        return self.thread


TURN, WATCH = Turn(), Watch()


def _largest(a, b):
    """As a device's: of NaN and a number it takes the number, where Python's takes the first."""
    return b if a != a or b > a else a


def _smallest(a, b):
    return b if a != a or b < a else a


def mend() -> None:
    """Give the threads of a block one and the same shared array; have them compare NaN as a device does; let them take
    turns; and watch them.

    Each runs to its next barrier, and then the next one does: they are no threads of the system, which would wait for
    each other most of the time.
    """
    from greenlet import greenlet
    from numba.cuda.simulator import kernel, kernelapi
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    def array(self, shape, dtype):
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        if place not in self._allocations:
            self._allocations[place] = np.empty(shape, as_dtype(dtype)).view(Shared)
        return self._allocations[place]

    def read(self, index):
        WATCH.touch(self._ary, index, writes=False, shared=False)
        return self._ary[index]

    def write(self, index, value):
        WATCH.touch(self._ary, index, writes=True, shared=False)
        self._ary[index] = value

    call, initialise = kernel.FakeCUDAKernel.__call__, kernel.BlockThread.__init__

    def begin(self, *arguments):
        initialise(self, *arguments)
        self.passed, self.fibre = 0, greenlet(self._target)

    def synchronise(self):
        self.fibre.parent.switch()
        self.passed += 1

    def run(self, block, *arguments):
        places = np.ndindex(*self._block_dim)
        every = [kernel.BlockThread(lambda: self._f(*arguments), self, block, at, self._debug) for at in places]
        live = every
        while live:
            for TURN.thread in live:
                TURN.thread.fibre.switch()
            live = [thread for thread in live if not thread.fibre.dead]
        if len({thread.passed for thread in every}) > 1:
            raise RaceError("not all threads of a block come to the same barriers")

    def call_watched(self, *arguments):
        if not self._device:
            WATCH.start()
        return call(self, *arguments)

    import eqnp.kernels.cuda

    for name, module in list(sys.modules.items()):
        if name.startswith(eqnp.kernels.cuda.__name__):
            module.max, module.min = _largest, _smallest
    FakeCUDAShared.array = array
    FakeCUDAArray.__getitem__, FakeCUDAArray.__setitem__ = read, write
    kernelapi.threading = TURN
    kernel.BlockThread.__init__, kernel.BlockThread.syncthreads = begin, synchronise
    kernel.BlockManager.run, kernel.FakeCUDAKernel.__call__ = run, call_watched
