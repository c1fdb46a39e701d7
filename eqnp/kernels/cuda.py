"""The kernels of `naive` on a GPU, in numba.cuda: the same names and arguments, with arrays that live on the device.

Sums run in a fixed order (trees within a block, blocks one after the other, no atomic additions), so that a seed gives
the same bits again on one device. Nothing here waits for the device but `host`, `finite` and `squared_norm`.

Large products are made by the tiled `_product` below, or by cuBLAS where `cupy` is installed (see `PRODUCTS`). Under
numba's simulator the blocks are small, because each of their threads is one of Python's.
"""

from __future__ import annotations

import math
import threading
import warnings
from functools import cache, lru_cache

import numpy as np
from numba import config, cuda, float64, from_dtype
from numba.core.errors import NumbaPerformanceWarning

from eqnp.kernels import arrays
from eqnp.kernels.naive import NEWTON_STEPS

try:
    import cupy
except ImportError:
    cupy = None

warnings.filterwarnings("ignore", "Grid size", NumbaPerformanceWarning)  # small layers are small

ASYNCHRONOUS = True  # calls return before their work is done: whole batches, and few looks at the residual
PRODUCTS = "cuBLAS, by cupy" if cupy else "numba.cuda kernels"

SIDE, PER, DEPTH = (2, 2, 4) if config.ENABLE_CUDASIM else (16, 4, 16)  # a tile is (SIDE · PER)², and DEPTH deep
THREADS = SIDE * SIDE
LINE = 4 if config.ENABLE_CUDASIM else 256  # threads of a block that works on one row
TILE, ROWS = SIDE * PER, SIDE * 2  # of a product; of queries and of slots in an attention block
# Shared arrays are a column wider than what is in them, so that the threads of a warp meet in different banks.
WIDE_TILE, WIDE_ROWS, WIDE_DEPTH = TILE + 1, ROWS + 1, DEPTH + 1
# Blocks that keep a device busy: products of few tiles are cut along their depth, into slices of at least that length.
BUSY, SLICE = (8, 8) if config.ENABLE_CUDASIM else (512, 128)


# --- arrays -----------------------------------------------------------------------------------------------------------


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
    _over(flat.size, _fill, flat, value)


def copy(source, out):
    """out[...] = source; a smaller source is repeated along the first axes."""
    _over(out.size, _copy, source.reshape(-1), out.reshape(-1))


def add(source, out):
    """out += source; a smaller source is repeated along the first axes."""
    _over(out.size, _add, source.reshape(-1), out.reshape(-1))


def scale(array, factor):
    """array *= factor."""
    flat = array.reshape(-1)
    _over(flat.size, _scale, flat, flat.dtype.type(factor))


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


def _over(size: int, kernel, *arguments) -> None:
    """Run a kernel with a thread for every entry."""
    if size:
        kernel[-(-size // LINE), LINE](*arguments)


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
    _sum_up(shared)
    if t == 0:
        sums[cuda.blockIdx.x] = shared[0]


# --- reductions within a block ----------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _sum_up(shared):
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
def _find_largest(shared):
    """shared[0] ← the largest entry, or NaN if there is one."""
    t = cuda.threadIdx.x
    width = LINE // 2
    cuda.syncthreads()
    while width > 0:
        if t < width:
            shared[t] = _larger(shared[t], shared[t + width])
        cuda.syncthreads()
        width //= 2


@cuda.jit(device=True)
def _larger(a, b):
    """The larger; NaN, once seen, stays."""
    return b if b > a or b != b else a


# --- states of dense layers -------------------------------------------------------------------------------------------


HALF, NONE, FULL = np.float32(0.5), np.float32(0), np.float32(1)  # they widen nothing: 1 + float32 would be float64


@cuda.jit(device=True)
def _clip(u):
    return min(max(HALF * u, NONE), FULL)


@cuda.jit(device=True)
def _clip_value(u):
    s = _clip(u)
    return s * (u - s)


@cuda.jit(device=True)
def _sigmoid(u):
    small = math.exp(-abs(u))  # never overflows
    return 1 / (1 + small) if u >= 0 else small / (1 + small)


@cuda.jit(device=True)
def _softplus(u):
    return max(u, 0.0) + math.log1p(math.exp(-abs(u)))


@cuda.jit(device=True)
def _tanh(u):
    return math.tanh(u)


@cuda.jit(device=True)
def _log_cosh(u):
    return abs(u) + math.log1p(math.exp(-2 * abs(u))) - math.log(2.0)


def _move_units(name: str, activation, potential):
    """The move of a layer of units: a block for every sample."""

    @cache
    def of_type(real):
        @cuda.jit
        def kernel(drive, state, residual, value):
            sums = cuda.shared.array(LINE, float64)  # (the simulator knows a shared array by its line)
            largest = cuda.shared.array(LINE, real)
            b, t = cuda.blockIdx.x, cuda.threadIdx.x
            total, change = 0.0, real(0)
            for h in range(t, drive.shape[1], LINE):
                u = drive[b, h]
                s = real(activation(u))
                change = _larger(change, abs(s - state[b, h]))
                state[b, h] = s
                total += potential(u)
            sums[t], largest[t] = total, change
            _sum_up(sums)
            _find_largest(largest)
            if t == 0:
                value[b], residual[b] = sums[0], _larger(residual[b], largest[0])

        return kernel

    def move(drive, state, residual, value):
        if len(drive):
            of_type(_real(drive))[len(drive), LINE](drive, state, residual, value)

    move.__name__, move.__doc__ = name, f"As `naive.{name}`."
    return move


clipped = _move_units("clipped", _clip, _clip_value)
logistic = _move_units("logistic", _sigmoid, _softplus)
tanh = _move_units("tanh", _tanh, _log_cosh)


# The output has a few units only: a thread for every sample.


def softmax(drive, state, residual, value):
    """As `naive.softmax`."""
    _over(len(drive), _softmax_output, drive, state, drive.dtype.type(0), state, residual, value)


def softmax_nudged(drive, state, beta, target, residual, value):
    """As `naive.softmax_nudged`."""
    _over(len(drive), _softmax_output, drive, state, drive.dtype.type(beta), target, residual, value)


@cuda.jit
def _softmax_output(drive, state, beta, target, residual, value):
    b = cuda.grid(1)
    if b < drive.shape[0]:
        peak = drive[b, 0]
        for c in range(1, drive.shape[1]):
            peak = _larger(peak, drive[b, c])
        total = 0.0
        for c in range(drive.shape[1]):
            total += math.exp(drive[b, c] - peak)
        energy, change = (1 - beta) * (peak + math.log(total)), residual[b]
        for c in range(drive.shape[1]):
            s = (1 - beta) * (math.exp(drive[b, c] - peak) / total)
            if beta != 0:
                s += beta * target[b, c]
                energy += beta * drive[b, c] * target[b, c]
            change = _larger(change, abs(s - state[b, c]))
            state[b, c] = s
        value[b], residual[b] = energy, change


def clipped_nudged(drive, state, beta, target, residual, value):
    """As `naive.clipped_nudged`."""
    _over(len(drive), _clipped_nudged, drive, state, drive.dtype.type(beta), target, residual, value)


@cuda.jit
def _clipped_nudged(drive, state, beta, target, residual, value):
    b = cuda.grid(1)
    if b < drive.shape[0]:
        energy, change = 0.0, residual[b]
        for c in range(drive.shape[1]):
            a, y = drive[b, c], target[b, c]
            s = min(max((a + beta * y) / (2 + beta), a * 0), a * 0 + 1)
            energy += s * (a - s) - beta / 2 * (s - y) ** 2
            change = _larger(change, abs(s - state[b, c]))
            state[b, c] = s
        value[b], residual[b] = energy, change


def _nudge_units(name: str, activation, slope, potential):
    """The move of an output under a nudge, by the bracketed Newton of `naive`."""

    @cuda.jit
    def kernel(drive, state, beta, target, residual, value):
        b = cuda.grid(1)
        if b < drive.shape[0]:
            energy, change = 0.0, residual[b]
            for c in range(drive.shape[1]):
                a, y = float64(drive[b, c]), float64(target[b, c])
                low, high, u = a - 2 * abs(beta), a + 2 * abs(beta), a
                for _ in range(NEWTON_STEPS):
                    s = activation(u)
                    excess = u + beta * (s - y) - a
                    if excess < 0:
                        low = u
                    elif excess > 0:
                        high = u
                    following = u - excess / (1 + beta * slope(s))
                    if following < low or following > high:
                        following = (low + high) / 2
                    if following == u:
                        break
                    u = following
                s = activation(u)
                energy += potential(u) + beta / 2 * (s * s - y * y)
                change = _larger(change, abs(state.dtype.type(s) - state[b, c]))
                state[b, c] = s
            value[b], residual[b] = energy, change

    def move(drive, state, beta, target, residual, value):
        _over(len(drive), kernel, drive, state, float(beta), target, residual, value)

    move.__name__, move.__doc__ = name, f"As `naive.{name}`."
    return move


@cuda.jit(device=True)
def _sigmoid_slope(s):
    return s * (1 - s)


@cuda.jit(device=True)
def _tanh_slope(s):
    return 1 - s * s


logistic_nudged = _nudge_units("logistic_nudged", _sigmoid, _sigmoid_slope, _softplus)
tanh_nudged = _nudge_units("tanh_nudged", _tanh, _tanh_slope, _log_cosh)


def pull(drive, state, beta, target):
    """As `naive.pull`."""
    _over(drive.size, _pull, drive.reshape(-1), state.reshape(-1), drive.dtype.type(beta), target.reshape(-1))


@cuda.jit
def _pull(drive, state, beta, target):
    i = cuda.grid(1)
    if i < drive.size:
        drive[i] -= beta * (state[i] - target[i])


# --- products ---------------------------------------------------------------------------------------------------------


def product(a, b, out, *, turned=False):
    """As `naive.product`."""
    _product(a, b, out, turn_b=turned)


def add_product(weight, pre, scratch, out):
    """As `naive.add_product`; needs no scratch."""
    _product(pre, weight, out, turn_b=True, accumulate=True)


def _product(a, b, out, *, turn_a=False, turn_b=False, accumulate=False, factor=1.0, count=1):
    """out ← factor · A B (+ out) for matrices, or for ``count`` of them one below the other in each array.

    ``turn_a`` says that A is stored transposed, (K, M) for (M, K); ``turn_b`` the same of B.
    """
    rows, columns = out.shape[0] // count, out.shape[1]
    depth = a.shape[0] // count if turn_a else a.shape[1]
    if not (rows and columns):
        return
    if cupy and depth:
        _product_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count)
        return
    across, down = -(-columns // TILE), -(-rows // TILE)
    slices = max(1, min(BUSY // (across * down * count), depth // SLICE))
    grid, block = (across, down, count * slices), (SIDE, SIDE)
    factor, kernel = out.dtype.type(factor), _tiled(_real(out))
    if slices == 1:
        kernel[grid, block](a, b, out, turn_a, turn_b, factor, accumulate, count, slices)
        return
    parts = scratch("slices", (slices * count * rows, columns), out.dtype)
    kernel[grid, block](a, b, parts, turn_a, turn_b, factor, False, count, slices)
    _over(out.size, _add_slices, parts, slices, accumulate, out)


def _product_by_cublas(a, b, out, turn_a, turn_b, accumulate, factor, count):
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
        left = cuda.shared.array((DEPTH, WIDE_TILE), real)
        right = cuda.shared.array((DEPTH, WIDE_TILE), real)
        sums = cuda.local.array((PER, PER), real)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        thread = y * SIDE + x
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
            for entry in range(thread, TILE * DEPTH, THREADS):
                # Neighbouring threads read neighbouring memory, whichever way the matrix is stored.
                if turn_a:
                    i, k = entry % TILE, entry // TILE
                else:
                    k, i = entry % DEPTH, entry // DEPTH
                inside = top + i < rows and start + k < last
                if not inside:
                    left[k, i] = 0
                elif turn_a:
                    left[k, i] = a[which * depth + start + k, top + i]
                else:
                    left[k, i] = a[which * rows + top + i, start + k]
                if turn_b:
                    k, j = entry % DEPTH, entry // DEPTH
                else:
                    j, k = entry % TILE, entry // TILE
                inside = side + j < columns and start + k < last
                if not inside:
                    right[k, j] = 0
                elif turn_b:
                    right[k, j] = b[which * columns + side + j, start + k]
                else:
                    right[k, j] = b[which * depth + start + k, side + j]
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


def _real(array):
    """Numba's type of the entries."""
    return from_dtype(array.dtype)


# --- rows of tokens ---------------------------------------------------------------------------------------------------


def place(source, lengths, out):
    """As `naive.place`."""
    _over(out.size, _place, source, lengths, out)


@cuda.jit
def _place(source, lengths, out):
    i = cuda.grid(1)
    if i < out.size:
        b, row, column = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        out[b, row, column] = source[b, row, column] if row < min(source.shape[1], lengths[b]) else 0


def mean_rows(shares, state, out):
    """As `naive.mean_rows`."""
    _over(out.size, _mean_rows, shares, state, out)


@cuda.jit
def _mean_rows(shares, state, out):
    i = cuda.grid(1)
    if i < out.size:
        b, column = i // out.shape[1], i % out.shape[1]
        total = out.dtype.type(0)
        for row in range(state.shape[1]):
            total += shares[b, row] * state[b, row, column]
        out[b, column] = total


def spread_rows(shares, back, out):
    """As `naive.spread_rows`."""
    _over(out.size, _spread_rows, shares, back, out)


@cuda.jit
def _spread_rows(shares, back, out):
    i = cuda.grid(1)
    if i < out.size:
        b, row, column = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        out[b, row, column] = shares[b, row] * back[b, column]


# --- Hopfield attention -----------------------------------------------------------------------------------------------


def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    """As `naive.retrieve`: logits, softmax and retrieval in one pass over the memory, tile by tile.

    A block has `ROWS` queries of a sample. It keeps the largest logit and the sum so far of each, and shrinks what it
    has retrieved whenever a larger logit turns up (Milakov & Gimelshein 2018; Dao et al. 2022).
    """
    size, queries, width = drive.shape
    if not size:
        return
    tiles = -(-queries // ROWS)
    changes, values = scratch("changes", (size, tiles), drive.dtype), scratch("values", (size, tiles), np.float64)
    kernel = _retrieve(_real(drive), -(-width // SIDE))
    content = memory, slots, phantoms, rows, drive.dtype.type(scale), samples
    kernel[(tiles, size), (SIDE, SIDE)](drive, *content, state, changes, values)
    _over(size, _finish_retrieval, changes, values, residual, value)


@cache
def _retrieve(real, widths):
    """For vectors of at most ``widths`` · SIDE entries: each thread keeps that many sums of two rows in registers."""

    @cuda.jit
    def kernel(drive, memory, slots, phantoms, rows, scale, samples, state, changes, values):
        queries = cuda.shared.array((ROWS, WIDE_DEPTH), real)
        keys = cuda.shared.array((ROWS, WIDE_DEPTH), real)
        weights = cuda.shared.array((ROWS, WIDE_ROWS), real)
        peaks = cuda.shared.array(ROWS, real)
        totals = cuda.shared.array(ROWS, real)
        shrink = cuda.shared.array(ROWS, real)
        largest = cuda.shared.array(ROWS, real)
        low, high = cuda.local.array(widths, real), cuda.local.array(widths, real)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        thread = y * SIDE + x
        b, top, width = cuda.blockIdx.y, cuda.blockIdx.x * ROWS, drive.shape[2]
        place = samples[b]
        stored, zeros = slots[place], phantoms[place]
        live = rows[place] if stored > 0 else 0
        for c in range(widths):
            low[c], high[c] = 0, 0
        for row in range(thread, ROWS, THREADS):
            # Zero patterns have logit 0. Without them the peak may be far below 0.
            peaks[row], totals[row] = real(0) if zeros > 0 else real(-math.inf), real(zeros)
            largest[row] = 0
        cuda.syncthreads()
        for start in range(0, stored if top < live else 0, ROWS):
            near, far = real(0), real(0)
            near_right, far_right = real(0), real(0)
            for begin in range(0, width, DEPTH):
                for entry in range(thread, ROWS * DEPTH, THREADS):
                    k, i = entry % DEPTH, entry // DEPTH
                    d = begin + k
                    queries[i, k] = drive[b, top + i, d] if top + i < live and d < width else real(0)
                    keys[i, k] = memory[place, start + i, d] if start + i < stored and d < width else real(0)
                cuda.syncthreads()
                for k in range(DEPTH):
                    near += queries[y, k] * keys[x, k]
                    near_right += queries[y, k] * keys[x + SIDE, k]
                    far += queries[y + SIDE, k] * keys[x, k]
                    far_right += queries[y + SIDE, k] * keys[x + SIDE, k]
                cuda.syncthreads()
            weights[y, x], weights[y, x + SIDE] = near, near_right
            weights[y + SIDE, x], weights[y + SIDE, x + SIDE] = far, far_right
            cuda.syncthreads()
            count = min(ROWS, stored - start)
            for row in range(thread, ROWS, THREADS):
                peak = peaks[row]
                for j in range(count):
                    peak = _larger(peak, weights[row, j])
                shrink[row], peaks[row] = math.exp(scale * (peaks[row] - peak)), peak
            cuda.syncthreads()
            for entry in range(thread, ROWS * ROWS, THREADS):
                row, j = entry // ROWS, entry % ROWS
                weights[row, j] = math.exp(scale * (weights[row, j] - peaks[row])) if j < count else real(0)
            cuda.syncthreads()
            for row in range(thread, ROWS, THREADS):
                total = totals[row] * shrink[row]
                for j in range(count):
                    total += weights[row, j]
                totals[row] = total
            for c in range(widths):
                low[c] *= shrink[y]
                high[c] *= shrink[y + SIDE]
            for j in range(count):
                above, below = weights[y, j], weights[y + SIDE, j]
                for c in range(widths):
                    d = x + c * SIDE
                    if d < width:
                        entry_of_slot = memory[place, start + j, d]
                        low[c] += above * entry_of_slot
                        high[c] += below * entry_of_slot
            cuda.syncthreads()
        change = real(0)
        for c in range(widths):
            d = x + c * SIDE
            if d < width and top + y < drive.shape[1]:
                s = low[c] / totals[y] if top + y < live else real(0)
                change = _larger(change, abs(s - state[b, top + y, d]))
                state[b, top + y, d] = s
            if d < width and top + y + SIDE < drive.shape[1]:
                s = high[c] / totals[y + SIDE] if top + y + SIDE < live else real(0)
                change = _larger(change, abs(s - state[b, top + y + SIDE, d]))
                state[b, top + y + SIDE, d] = s
        weights[y, x] = change
        cuda.syncthreads()
        for row in range(thread, SIDE, THREADS):
            for j in range(SIDE):
                largest[row] = _larger(largest[row], weights[row, j])
        cuda.syncthreads()
        if thread == 0:
            change, energy = real(0), 0.0
            for row in range(ROWS):
                change = _larger(change, largest[row])
                if top + row < rows[place] and stored + zeros > 0:
                    energy += peaks[row] + math.log(float64(totals[row])) / scale
            changes[b, cuda.blockIdx.x], values[b, cuda.blockIdx.x] = change, energy

    return kernel


@cuda.jit
def _finish_retrieval(changes, values, residual, value):
    b = cuda.grid(1)
    if b < changes.shape[0]:
        total, change = 0.0, residual[b]
        for tile in range(changes.shape[1]):
            total += values[b, tile]
            change = _larger(change, changes[b, tile])
        value[b], residual[b] = total, change


def attend(drive, memory, slots, phantoms, rows, scale, attention):
    """As `naive.attend`."""
    size, queries, width = drive.shape
    patterns = memory.shape[1]
    if not size:
        return
    keys, out = memory.reshape(size * patterns, width), attention.reshape(size * queries, patterns)
    _product(drive.reshape(size * queries, width), keys, out, turn_b=True, count=size)
    kernel = _softmax_rows(_real(drive))
    kernel[(queries, size), LINE](attention, slots, phantoms, rows, drive.dtype.type(scale))


@cache
def _softmax_rows(real):
    """Logits to weights in place, a block for every row."""

    @cuda.jit
    def kernel(attention, slots, phantoms, rows, scale):
        sums = cuda.shared.array(LINE, real)
        row, b, t = cuda.blockIdx.x, cuda.blockIdx.y, cuda.threadIdx.x
        live = slots[b] if row < rows[b] else 0
        peak = real(0) if phantoms[b] > 0 else real(-math.inf)
        for j in range(t, live, LINE):
            peak = _larger(peak, attention[b, row, j])
        sums[t] = peak
        _find_largest(sums)
        peak = sums[0]
        cuda.syncthreads()
        total = real(0)
        for j in range(t, live, LINE):
            weight = math.exp(scale * (attention[b, row, j] - peak))
            attention[b, row, j] = weight
            total += weight
        sums[t] = total
        _sum_up(sums)
        total = sums[0]
        if phantoms[b] > 0:
            total += phantoms[b] * math.exp(-scale * peak)
        for j in range(t, attention.shape[2], LINE):
            attention[b, row, j] = attention[b, row, j] / total if j < live else real(0)

    return kernel


# --- learning ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _factors(coefficients: tuple[float, ...], dtype):
    """The coefficients of a contrast on the device, which are the same batch after batch."""
    return device(np.array(coefficients, dtype))


def local_update(post, pre, coefficients, out):
    """As `naive.local_update`."""
    phases, rows, units = post.shape
    together = len(pre) == 1  # the pre end is the same in all phases: contrast first, and add up rows then
    contrasted = scratch("contrasted", (rows if together else phases * rows, units), post.dtype)
    factors = _factors(tuple(coefficients), post.dtype)
    _over(contrasted.size, _contrast, post.reshape(phases, -1), factors, together, contrasted.reshape(-1))
    _product(contrasted, pre.reshape(-1, pre.shape[2]), out, turn_a=True)


@cuda.jit
def _contrast(post, factors, together, out):
    i = cuda.grid(1)
    if i < out.size:
        if together:
            total = out.dtype.type(0)
            for p in range(post.shape[0]):
                total += factors[p] * post[p, i]
            out[i] = total
        else:
            p = i // post.shape[1]
            out[i] = factors[p] * post[p, i - p * post.shape[1]]


def add_contrast(post, weight, coefficients, out):
    """As `naive.add_contrast`; `Network.fitted` sees to it that there are as many rows as tokens."""
    phases, size, rows, units = post.shape
    contrasted = scratch("contrasted", (size * rows, units), post.dtype)
    factors = _factors(tuple(coefficients), post.dtype)
    _over(contrasted.size, _contrast, post.reshape(phases, -1), factors, True, contrasted.reshape(-1))
    _product(contrasted, weight, out.reshape(size * rows, -1), accumulate=True)


def memory_update(drive, memory, slots, phantoms, rows, scale, coefficients, out):
    """As `naive.memory_update`, one phase after the other."""
    phases, size, queries, width = drive.shape
    patterns = memory.shape[1]
    if not size:
        return
    attention = scratch("attention", (size, queries, patterns), drive.dtype)
    for p in range(phases):
        attend(drive[p], memory, slots, phantoms, rows, scale, attention)
        _product(
            attention.reshape(size * queries, patterns),
            drive[p].reshape(size * queries, width),
            out.reshape(size * patterns, width),
            turn_a=True,
            accumulate=p > 0,
            factor=coefficients[p],
            count=size,
        )


# --- embeddings and optimiser -----------------------------------------------------------------------------------------


def gather(table, ids, out):
    """As `naive.gather`."""
    _over(out.size, _gather, table, ids.reshape(-1), out.reshape(-1, out.shape[2]))


@cuda.jit
def _gather(table, ids, out):
    i = cuda.grid(1)
    if i < out.size:
        row, d = i // out.shape[1], i % out.shape[1]
        out[row, d] = table[ids[row], d]


def scatter_add(values, index, out):
    """As `naive.scatter_add`, with ``index`` on the host: a block adds up all that belongs to a row, in order."""
    places = np.flatnonzero(index >= 0)
    order = places[np.argsort(index.reshape(-1)[places], kind="stable")]
    starts = np.searchsorted(index.reshape(-1)[order], np.arange(len(out) + 1))
    if len(order):
        blocks = len(out), -(-out.shape[1] // LINE)
        _scatter_add[blocks, LINE](values.reshape(-1, out.shape[1]), device(order), device(starts), out)


@cuda.jit
def _scatter_add(values, order, starts, out):
    row, d = cuda.blockIdx.x, cuda.blockIdx.y * LINE + cuda.threadIdx.x
    if d < out.shape[1]:
        total = out[row, d]
        for i in range(starts[row], starts[row + 1]):
            total += values[order[i], d]
        out[row, d] = total


def adam(parameter, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    """As `naive.adam`."""
    correct = 1 / (1 - decay_mean**step), 1 / (1 - decay_square**step)
    numbers = [parameter.dtype.type(n) for n in (rate, decay_mean, decay_square, epsilon, *correct)]
    _over(parameter.size, _adam, parameter, gradient, mean, square, *numbers)


@cuda.jit
def _adam(parameter, gradient, mean, square, rate, keep_mean, keep_square, epsilon, correct_mean, correct_square):
    i = cuda.grid(1)
    if i < parameter.size:
        g = gradient[i]
        m = keep_mean * mean[i] + (FULL - keep_mean) * g
        v = keep_square * square[i] + (FULL - keep_square) * g * g
        mean[i], square[i] = m, v
        parameter[i] -= rate * (correct_mean * m) / (math.sqrt(correct_square * v) + epsilon)


def adam_rows(table, rows, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    """As `naive.adam_rows`, with ``rows`` on the host."""
    correct = 1 / (1 - decay_mean**step), 1 / (1 - decay_square**step)
    numbers = [table.dtype.type(n) for n in (rate, decay_mean, decay_square, epsilon, *correct)]
    _over(gradient.size, _adam_rows, table, device(rows), gradient, mean, square, *numbers)


@cuda.jit
def _adam_rows(
    table, rows, gradient, mean, square, rate, keep_mean, keep_square, epsilon, correct_mean, correct_square
):
    i = cuda.grid(1)
    if i < gradient.size:
        row, d = rows[i // gradient.shape[1]], i % gradient.shape[1]
        g = gradient[i // gradient.shape[1], d]
        m = keep_mean * mean[row, d] + (FULL - keep_mean) * g
        v = keep_square * square[row, d] + (FULL - keep_square) * g * g
        mean[row, d], square[row, d] = m, v
        table[row, d] -= rate * (correct_mean * m) / (math.sqrt(correct_square * v) + epsilon)
