"""Arrays on the device: filled, copied, added up; see `eqnp.kernels.arrays` for those of the host."""

from __future__ import annotations

import numpy as np
from numba import cuda, float64

from eqnp.kernels.cuda.array import device, empty, host
from eqnp.kernels.cuda.blocks import BUSY, LINE, launch, over, sum_up


def scratch(purpose, shape, dtype):
    """An uninitialised array, whose memory is used again as soon as nobody holds it."""
    return empty(shape, dtype)


def zeros(shape, dtype):
    """An array of zeros on the device."""
    array = empty(shape, dtype)
    fill(array, 0)
    return array


def write(source, out):
    """out[...] = source, from the host's memory, and perhaps another precision."""
    copy(device(source.astype(out.dtype)), out)


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


def weigh(array, weight, out):
    """As `arrays.weigh`."""
    over(out.size, _weigh, array.reshape(-1), weight, len(array), out.reshape(-1))


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
    launch(_squares, blocks, LINE, flat, sums)
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
        out[i] = source[i if source.size == out.size else i % source.size]


@cuda.jit
def _add(source, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] += source[i if source.size == out.size else i % source.size]


@cuda.jit
def _scale(array, factor):
    i = cuda.grid(1)
    if i < array.size:
        array[i] *= factor


@cuda.jit
def _weigh(array, weight, phases, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = array[i] * weight[i // (out.size // (phases * weight.size)) % weight.size]


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
