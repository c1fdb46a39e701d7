"""The device where numba simulates one: what `eqnp.kernels.cuda.driver` does, in the memory of the host."""

from __future__ import annotations

import time

import numpy as np
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

moment = time.perf_counter


def between(before: float, after: float) -> float:
    """Seconds from one moment to another."""
    return after - before


def allocate(size: int):
    """So many bytes: what keeps them, and their address."""
    piece = np.full(size, 0xFF, np.uint8)  # NaN: nothing may rely on what is there
    return piece, piece.ctypes.data


def to_device(source: np.ndarray, out) -> None:
    """out ← source, of the same shape and without gaps."""
    _seen(out)[...] = source


def to_host(source, out: np.ndarray) -> None:
    """out ← source, of the same shape and without gaps."""
    out[...] = _seen(source)


def launch(kernel, grid, block, *arguments) -> None:
    """Run a kernel on a grid of blocks; arguments are arrays and numbers."""
    kernel[grid, block](*(FakeCUDAArray(_seen(a)) if hasattr(a, "numbers") else a for a in arguments))


def _seen(array) -> np.ndarray:
    memory = array.memory
    return np.ndarray(
        array.shape, array.dtype, memory.pieces[memory.address], array.address - memory.address, array.strides
    )
