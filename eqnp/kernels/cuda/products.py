"""Products of matrices: tiles in shared memory, sums in registers; or cuBLAS, where `cupy` is installed."""

from __future__ import annotations

from functools import cache

from numba import config, cuda

from eqnp.kernels.cuda.blocks import BUSY, SIDE, THREADS, over, real_of
from eqnp.kernels.cuda.memory import scratch

try:
    import cupy
except ImportError:
    cupy = None

PRODUCTS = "cuBLAS, by cupy" if cupy else "numba.cuda kernels"
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
    if cupy and depth:
        _multiply_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count)
        return
    across, down = -(-columns // TILE), -(-rows // TILE)
    slices = max(1, min(BUSY // (across * down * count), depth // SLICE))
    grid, block = (across, down, count * slices), (SIDE, SIDE)
    factor, kernel = out.dtype.type(factor), _tiled(real_of(out))
    if slices == 1:
        kernel[grid, block](a, b, out, turn_a, turn_b, factor, accumulate, count, slices)
        return
    parts = scratch("slices", (slices * count * rows, columns), out.dtype)
    kernel[grid, block](a, b, parts, turn_a, turn_b, factor, False, count, slices)
    over(out.size, _add_slices, parts, slices, accumulate, out)


def _multiply_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count):
    def stacked(array, turn):
        array = cupy.asarray(array)
        if count == 1:  # (a third axis would have the weights copied)
            return array.T if turn else array
        array = array.reshape(count, -1, array.shape[1])
        return array.transpose(0, 2, 1) if turn else array

    result, left, right = stacked(out, False), stacked(a, turn_a), stacked(b, turn_b)
    if accumulate or factor != 1:
        made = cupy.matmul(left, right)
        result[...] = result + factor * made if accumulate else factor * made
    else:
        cupy.matmul(left, right, out=result)


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
