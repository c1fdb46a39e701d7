"""Arrays on the device: taken, filled, copied, added up; see `eqnp.kernels.arrays` for those of the host."""

from __future__ import annotations

import math
import threading

import numpy as np
from numba import config, cuda, float64

from eqnp.kernels import arrays
from eqnp.kernels.cuda.blocks import BUSY, LINE, over, sum_up


def empty(shape, dtype):
    """An uninitialised array on the device; raises MemoryError when its memory is full."""
    try:
        return cuda.device_array(shape, np.dtype(dtype))
    except Exception as error:
        if "MEMORY" in str(error):
            raise MemoryError("the GPU's is full") from error
        raise


_memory = threading.local()


def scratch(purpose, shape, dtype):
    """An uninitialised array, good until the next call for the same purpose: to take memory is to wait."""
    key, size, kept = (purpose, np.dtype(dtype)), math.prod(shape), _memory.__dict__
    if key not in kept or kept[key].size < size:
        kept[key] = empty(size, dtype)
    return kept[key][:size].reshape(shape)


def zeros(shape, dtype):
    """An array of zeros on the device."""
    array = empty(shape, dtype)
    fill(array, 0)
    return array


def device(array: np.ndarray):
    """A copy on the device; raises MemoryError."""
    array = np.ascontiguousarray(array)
    copied = empty(array.shape, array.dtype)
    copied.copy_to_device(array, stream=0 if config.ENABLE_CUDASIM else cuda.default_stream())
    return copied


def host(array) -> np.ndarray:
    """A copy on the host, once all work before it is done."""
    return array.copy_to_host()


def write(source, out):
    """out[...] = source, from the host's memory, and perhaps another precision."""
    copy(device(source.astype(out.dtype)), out)


def timed(call) -> float:
    """Seconds that a call takes on the device, until its work is done."""
    if config.ENABLE_CUDASIM:
        return arrays.timed(call)
    started, ended = cuda.event(), cuda.event()
    cuda.synchronize()
    started.record()
    call()
    ended.record()
    ended.synchronize()
    return cuda.event_elapsed_time(started, ended) / 1000


def fill(array, value):
    """array[...] = value, for an array without gaps."""
    flat = array.reshape(-1)
    over(flat.size, _fill, flat, value)


def copy(source, out):
    """out[...] = source; a smaller source is repeated along the first axes."""
    over(out.size, _copy, source.reshape(-1), out.reshape(-1))


def add(source, out):
    """out += source; a smaller source is repeated along the first axes."""
    over(out.size, _add, source.reshape(-1), out.reshape(-1))


def scale(array, factor):
    """array *= factor."""
    flat = array.reshape(-1)
    over(flat.size, _scale, flat, flat.dtype.type(factor))


def repeated(array, count):
    """The array itself, for what reads it repeats it by itself."""
    return array


def may_speak(state) -> bool:
    """Yes: to look would be to wait."""
    return True


def finite(array) -> bool:
    """Whether all entries are finite."""
    return bool(np.isfinite(squared_norm(array)))


def squared_norm(array) -> float:
    """The sum of all squares, float64."""
    flat = array.reshape(-1)
    blocks = min(BUSY, -(-flat.size // LINE))
    if not blocks:
        return 0.0
    sums = scratch("sums", (blocks,), np.float64)
    _squares[blocks, LINE](flat, sums)
    return float(host(sums).sum())


@cuda.jit
def _fill(out, value):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = value


@cuda.jit
def _copy(source, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = source[i % source.size]


@cuda.jit
def _add(source, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] += source[i % source.size]


@cuda.jit
def _scale(array, factor):
    i = cuda.grid(1)
    if i < array.size:
        array[i] *= factor


@cuda.jit
def _squares(array, sums):
    shared = cuda.shared.array(LINE, float64)
    t = cuda.threadIdx.x
    total = 0.0
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        total += float64(array[i]) * float64(array[i])
    shared[t] = total
    sum_up(shared)
    if t == 0:
        sums[cuda.blockIdx.x] = shared[0]
