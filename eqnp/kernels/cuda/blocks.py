"""Blocks of threads: how large they are, how a kernel is started, and what the threads of one find out together.

Under numba's simulator the blocks are small, because Python runs their threads, in turn.
"""

from __future__ import annotations

from numba import config, cuda, from_dtype

from eqnp.kernels.cuda.timeline import launch

SIDE = 2 if config.ENABLE_CUDASIM else 16  # threads along each side of a block that works on a tile
THREADS = SIDE * SIDE
LINE = 4 if config.ENABLE_CUDASIM else 256  # threads of a block that works on one row
BUSY = 8 if config.ENABLE_CUDASIM else 512  # blocks that keep a device busy


def over(size: int, kernel, *arguments) -> None:
    """Run a kernel with a thread for every entry."""
    if size:
        launch(kernel, -(-size // LINE), LINE, *arguments)


def real_of(array):
    """Numba's type of the entries."""
    return from_dtype(array.dtype)


@cuda.jit(device=True)
def sum_up(shared):
    """shared[0] ← the sum of all its entries, one for each thread of a `LINE`."""
    t = cuda.threadIdx.x
    width = LINE // 2
    cuda.syncthreads()
    while width > 0:
        if t < width:
            shared[t] += shared[t + width]
        cuda.syncthreads()
        width //= 2


@cuda.jit(device=True)
def find_largest(shared):
    """shared[0] ← the largest entry, or NaN if there is one."""
    t = cuda.threadIdx.x
    width = LINE // 2
    cuda.syncthreads()
    while width > 0:
        if t < width:
            shared[t] = larger(shared[t], shared[t + width])
        cuda.syncthreads()
        width //= 2


@cuda.jit(device=True)
def larger(a, b):
    """The larger; NaN, once seen, stays."""
    return b if b > a or b != b else a
