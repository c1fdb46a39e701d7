"""Products of matrices: tiles in shared memory, sums in registers; or cuBLAS, where `cupy` is installed."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
from numba import config, cuda

from eqnp.kernels.cuda.array import Array, empty
from eqnp.kernels.cuda.blocks import BUSY, SIDE, THREADS, launch, over, real_of

try:
    from cupy.cuda import cublas
    from cupy.cuda.device import get_cublas_handle
except ImportError:
    cublas = None

PRODUCTS = "cuBLAS, by cupy" if cublas else "numba.cuda kernels"
PER, DEPTH = (2, 4) if config.ENABLE_CUDASIM else (4, 16)  # a tile is (SIDE · PER)², and DEPTH deep
TILE = SIDE * PER
WIDE = TILE + 1  # a column more than is needed, so that the threads of a warp meet in different banks
SLICE = 8 if config.ENABLE_CUDASIM else 128  # products of few tiles are cut along their depth, into at least so much


def product(a, b, out, *, turned=False):
    """As `naive.product`."""
    multiply(a, b, out, turn_b=turned)


def add_products(weights, pres, scratch, out, run=map):
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
    across, down = -(-columns // TILE), -(-rows // TILE)
    slices = max(1, min(BUSY // (across * down * count), depth // SLICE))
    grid, block = (across, down, count * slices), (SIDE, SIDE)
    factor, kernel = out.dtype.type(factor), _tiled(real_of(out))
    if slices == 1:
        launch(kernel, grid, block, a, b, out, turn_a, turn_b, factor, accumulate, count, slices)
        return
    parts = empty((slices * count * rows, columns), out.dtype)
    launch(kernel, grid, block, a, b, parts, turn_a, turn_b, factor, False, count, slices)
    over(out.size, _add_slices, parts, slices, accumulate, out)


def _multiply_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count):
    """By the calls of cuBLAS themselves: they take views with gaps between rows, and add up in place.

    To cuBLAS every matrix is stored by columns, so ours are their transposes there, and outᵀ ← Bᵀ Aᵀ.
    """
    rows, columns = out.shape[0] // count, out.shape[1]
    depth = a.shape[0] // count if turn_a else a.shape[1]
    handle, single = get_cublas_handle(), out.dtype.itemsize == 4
    cublas.setStream(handle, 0)
    alpha, beta = (_number(float(number), out.dtype).ctypes.data for number in (factor, accumulate))
    (at_a, wide_a, next_a), (at_b, wide_b, next_b), (at_out, wide_out, next_out) = (
        _placed(array, count) for array in (a, b, out)
    )
    turns, sizes = (int(turn_b), int(turn_a)), (columns, rows, depth)
    if count == 1:
        call = cublas.sgemm if single else cublas.dgemm
        call(handle, *turns, *sizes, alpha, at_b, wide_b, at_a, wide_a, beta, at_out, wide_out)
    else:
        call = cublas.sgemmStridedBatched if single else cublas.dgemmStridedBatched
        places = (at_b, wide_b, next_b, at_a, wide_a, next_a)
        call(handle, *turns, *sizes, alpha, *places, beta, at_out, wide_out, next_out, count)


@lru_cache
def _number(value: float, dtype: np.dtype) -> np.ndarray:
    """A factor where cuBLAS can read it."""
    return np.array(value, dtype)


def _placed(array: Array, count: int) -> tuple[int, int, int]:
    """Where a matrix is, or the first of ``count``; and how many entries on the next row is, and the next matrix."""
    wide = array.strides[0] // array.dtype.itemsize
    return array.address, wide, len(array) // count * wide


@cache
def _tiled(real):
    """A tile of the product for every block, whose threads keep PER × PER sums each in registers.

    With ``slices`` the depth is cut, and the blocks of a slice write their part below that of the slice before.
    """

    @cuda.jit
    def kernel(a, b, out, turn_a, turn_b, factor, accumulate, count, slices):
        left = cuda.shared.array((DEPTH, WIDE), real)
        right = cuda.shared.array((DEPTH, WIDE), real)
        sums = cuda.local.array((PER, PER), real)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        which, part = cuda.blockIdx.z // slices, cuda.blockIdx.z % slices
        rows, columns = out.shape[0] // (count * slices), out.shape[1]
        depth = a.shape[0] // count if turn_a else a.shape[1]
        top, side = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
        first = (part * depth // slices) // DEPTH * DEPTH
        last = depth if part == slices - 1 else ((part + 1) * depth // slices) // DEPTH * DEPTH
        for r in range(PER):
            for c in range(PER):
                sums[r, c] = 0
        for start in range(first, last, DEPTH):
            _load(a, turn_a, which, depth, rows, top, start, last, left)
            _load(b, not turn_b, which, depth, columns, side, start, last, right)
            cuda.syncthreads()
            for k in range(DEPTH):
                for r in range(PER):
                    for c in range(PER):
                        sums[r, c] += left[k, y + r * SIDE] * right[k, x + c * SIDE]
            cuda.syncthreads()
        for r in range(PER):
            for c in range(PER):
                i, j = top + y + r * SIDE, side + x + c * SIDE
                if i < rows and j < columns:
                    row = (part * count + which) * rows + i
                    made = factor * sums[r, c]
                    out[row, j] = out[row, j] + made if accumulate else made

    return kernel


@cuda.jit(device=True)
def _load(matrix, depth_first, which, depth, lines, first, start, stop, tile):
    """tile[k, i] ← the entry of line ``first`` + i at depth ``start`` + k, and zero beyond lines and ``stop``.

    ``depth_first`` says that the rows of the matrix in memory are its depth. ``which`` is that of several matrices.
    """
    for entry in range(cuda.threadIdx.y * SIDE + cuda.threadIdx.x, TILE * DEPTH, THREADS):
        # Neighbouring threads read neighbouring memory, whichever way the matrix is stored.
        if depth_first:
            i, k = entry % TILE, entry // TILE
        else:
            k, i = entry % DEPTH, entry // DEPTH
        if first + i >= lines or start + k >= stop:
            tile[k, i] = 0
        elif depth_first:
            tile[k, i] = matrix[which * depth + start + k, first + i]
        else:
            tile[k, i] = matrix[which * lines + first + i, start + k]


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
