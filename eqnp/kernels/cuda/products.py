"""Products of matrices: tiles in shared memory, sums in registers; or cuBLAS, where `cupy` is installed."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numba import config, cuda
from numba import uint64 as at  # of an index that is never negative: it spares the code for those that are

from eqnp.kernels.cuda.array import Array, empty
from eqnp.kernels.cuda.blocks import BUSY, SIDE, launch, over, real_of
from eqnp.kernels.cuda.timeline import mark

try:
    from cupy.cuda import cublas
    from cupy.cuda.device import get_cublas_handle
except ImportError:
    cublas = None

PRODUCTS = "cuBLAS, by cupy" if cublas else "numba.cuda kernels"
PER = 2 if config.ENABLE_CUDASIM else 4  # a thread makes PER², or for large products (2 PER)², entries in registers
SLICE = 8 if config.ENABLE_CUDASIM else 128  # products of few tiles are cut along their depth, into at least so much


def product(a, b, out, *, turned=False):
    """As `naive.product`."""
    multiply(a, b, out, turn_b=turned)


def add_products(weights, pres, scratch, out, map_over=map):
    """As `naive.add_products`, one after the other; needs no scratch."""
    for weight, pre in zip(weights, pres, strict=True):
        multiply(pre, weight, out, turn_b=True, accumulate=True)


def multiply(a, b, out, *, turn_a=False, turn_b=False, accumulate=False, factor=1.0, count=1):
    """out ← factor · A B (+ out) for matrices, or for ``count`` of them one below the other in each array.

    ``turn_a`` says that A is stored transposed, (K, M) for (M, K); ``turn_b`` the same of B.
    """
    rows, columns = out.shape[0] // count, out.shape[1]
    depth = a.shape[0] // count if turn_a else a.shape[1]
    if not (rows and columns):
        return
    if cublas and depth:
        _multiply_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count)
        return
    large = 2 * min(rows, columns) > 3 * SIDE * PER and out.dtype.itemsize == 4
    per = 2 * PER if large else PER
    across, down = -(-columns // (SIDE * per)), -(-rows // (SIDE * per))
    slices = max(1, min(BUSY // (across * down * count), depth // SLICE))
    parts = out if slices == 1 else empty((slices * count * rows, columns), out.dtype)
    added, factor = accumulate and slices == 1, out.dtype.type(factor)
    matrices = *_lines(a), turn_a, *_lines(b), turn_b, *_lines(parts)
    grid, sizes = (across, down, count * slices), (rows, columns, depth, count, slices)
    launch(_tiled(real_of(out), per), grid, (SIDE, SIDE), *matrices, *sizes, factor, added)
    if slices > 1:
        over(out.size, _add_slices, parts, slices, accumulate, out)


def _lines(matrix: Array) -> tuple[Array, int]:
    """The entries as they lie in memory, with any between them, and how many it is from row to row."""
    wide = _wide(matrix)
    extent = (len(matrix) - 1) * wide + matrix.shape[1] if matrix.size else 0
    return Array(matrix.memory, matrix.address, (extent,), matrix.dtype), wide


def _wide(matrix: Array) -> int:
    return matrix.strides[0] // matrix.dtype.itemsize


def _multiply_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count):
    """By the calls of cuBLAS themselves: they take views with gaps between rows, and add up in place.

    To cuBLAS every matrix is stored by columns, so ours are their transposes there, and outᵀ ← Bᵀ Aᵀ.
    """
    rows, columns = out.shape[0] // count, out.shape[1]
    depth = a.shape[0] // count if turn_a else a.shape[1]
    handle, single = get_cublas_handle(), out.dtype.itemsize == 4
    cublas.setStream(handle, 0)
    (_, alpha), (_, beta) = _number(float(factor), single), _number(float(accumulate), single)
    turns, sizes = (int(turn_b), int(turn_a)), (columns, rows, depth)
    places = [(matrix.address, _wide(matrix)) for matrix in (b, a, out)]
    if count == 1:
        multiply, several = cublas.sgemm if single else cublas.dgemm, ()
    else:
        multiply, several = cublas.sgemmStridedBatched if single else cublas.dgemmStridedBatched, (count,)
        places = [(*p, len(m) // count * p[1]) for p, m in zip(places, (b, a, out), strict=True)]
    multiply(handle, *turns, *sizes, alpha, *places[0], *places[1], beta, *places[2], *several)
    mark("cuBLAS")


@lru_cache
def _number(value: float, single: bool) -> tuple[np.ndarray, int]:
    """A factor where cuBLAS can read it."""
    number = np.array(value, np.float32 if single else np.float64)
    return number, number.ctypes.data


@cache
def _tiled(real, per):
    """A tile of the product for every block, whose threads keep ``per``² sums each in registers.

    With ``slices`` the depth is cut, and the blocks of a slice write their part below that of the slice before.
    """
    tile, last_thread = SIDE * per, SIDE - 1
    wide_tile = tile + 2  # so that the threads of a warp meet in different banks

    @cuda.jit(device=True)
    def load(matrix, place, wide, depth_first, lines, deep, x, y, out):
        """out[k, i] ← the entry of line i at depth k, counted from ``place``; zero beyond ``lines`` and ``deep``.

        ``depth_first`` says that the rows in memory are depths. Neighbouring threads read neighbouring memory.
        """
        for r in range(per):
            if depth_first:
                i, k = x + r * SIDE, y
                entry = place + y * wide + i
            else:
                i, k = y + r * SIDE, x
                entry = place + i * wide + x
            out[k, i] = matrix[at(entry)] if i < lines and k < deep else real(0)

    @cuda.jit
    def kernel(
        a, wide_a, turn_a, b, wide_b, turn_b, out, wide_out, rows, columns, depth, count, slices, factor, accumulate
    ):
        left = cuda.shared.array((SIDE, wide_tile), real)
        right = cuda.shared.array((SIDE, wide_tile), real)
        sums = cuda.local.array((per, per), real)
        x, y = cuda.threadIdx.x & last_thread, cuda.threadIdx.y & last_thread  # so that they are known not to be < 0
        which, part = cuda.blockIdx.z // slices, cuda.blockIdx.z % slices
        top, side = cuda.blockIdx.y * tile, cuda.blockIdx.x * tile
        first = (part * depth // slices) // SIDE * SIDE
        last = depth if part == slices - 1 else ((part + 1) * depth // slices) // SIDE * SIDE
        for r in range(per):
            for c in range(per):
                sums[r, c] = 0
        for start in range(first, last, SIDE):
            from_a = (which * depth + start) * wide_a + top if turn_a else (which * rows + top) * wide_a + start
            load(a, from_a, wide_a, turn_a, rows - top, last - start, x, y, left)
            from_b = (which * columns + side) * wide_b + start if turn_b else (which * depth + start) * wide_b + side
            load(b, from_b, wide_b, not turn_b, columns - side, last - start, x, y, right)
            cuda.syncthreads()
            for k in range(0, SIDE, 2):  # by two, which the compiler does not do by itself
                even, odd = at(k), at(k + 1)
                for r in range(per):
                    for c in range(per):
                        sums[r, c] += left[even, y + r * SIDE] * right[even, x + c * SIDE]
                        sums[r, c] += left[odd, y + r * SIDE] * right[odd, x + c * SIDE]
            cuda.syncthreads()
        for r in range(per):
            i = top + y + r * SIDE
            for c in range(per):
                j = side + x + c * SIDE
                if i < rows and j < columns:
                    entry = at(((part * count + which) * rows + i) * wide_out + j)
                    made = factor * sums[r, c]
                    out[entry] = out[entry] + made if accumulate else made

    return kernel


@cuda.jit
def _add_slices(parts, slices, accumulate, out):
    i = cuda.grid(1)
    if i < out.size:
        rows, columns = out.shape
        row, column = i // columns, i % columns
        total = parts[row, column]
        for part in range(1, slices):
            total += parts[part * rows + row, column]
        out[row, column] = out[row, column] + total if accumulate else total
