"""Hopfield attention: retrieval in one pass over the memory, the weights by themselves, and what the memory learns."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import config, cuda, float64

from eqnp.kernels.cuda.blocks import LINE, SIDE, THREADS, find_largest, larger, launch, over, real_of, sum_up
from eqnp.kernels.cuda.memory import scratch
from eqnp.kernels.cuda.products import multiply

ROWS, DEPTH = SIDE * 2, 4 if config.ENABLE_CUDASIM else 16  # queries and slots in a block; entries of them at a time
WIDE_ROWS, WIDE_DEPTH = ROWS + 1, DEPTH + 1  # so that the threads of a warp meet in different banks


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
    kernel = _retrieve(real_of(drive), -(-width // SIDE))
    content = memory, slots, phantoms, rows, drive.dtype.type(scale), samples
    launch(kernel, (tiles, size), (SIDE, SIDE), drive, *content, state, changes, values)
    over(size, _finish_retrieval, changes, values, residual, value)


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
                    peak = larger(peak, weights[row, j])
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
                change = larger(change, abs(s - state[b, top + y, d]))
                state[b, top + y, d] = s
            if d < width and top + y + SIDE < drive.shape[1]:
                s = high[c] / totals[y + SIDE] if top + y + SIDE < live else real(0)
                change = larger(change, abs(s - state[b, top + y + SIDE, d]))
                state[b, top + y + SIDE, d] = s
        weights[y, x] = change
        cuda.syncthreads()
        for row in range(thread, SIDE, THREADS):
            for j in range(SIDE):
                largest[row] = larger(largest[row], weights[row, j])
        cuda.syncthreads()
        if thread == 0:
            change, energy = real(0), 0.0
            for row in range(ROWS):
                change = larger(change, largest[row])
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
            change = larger(change, changes[b, tile])
        value[b], residual[b] = total, change


def attend(drive, memory, slots, phantoms, rows, scale, attention):
    """As `naive.attend`."""
    size, queries, width = drive.shape
    patterns = memory.shape[1]
    if not size:
        return
    keys, out = memory.reshape(size * patterns, width), attention.reshape(size * queries, patterns)
    multiply(drive.reshape(size * queries, width), keys, out, turn_b=True, count=size)
    kernel = _softmax_rows(real_of(drive))
    launch(kernel, (queries, size), LINE, attention, slots, phantoms, rows, drive.dtype.type(scale))


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
            peak = larger(peak, attention[b, row, j])
        sums[t] = peak
        find_largest(sums)
        peak = sums[0]
        cuda.syncthreads()
        total = real(0)
        for j in range(t, live, LINE):
            weight = math.exp(scale * (attention[b, row, j] - peak))
            attention[b, row, j] = weight
            total += weight
        sums[t] = total
        sum_up(sums)
        total = sums[0]
        if phantoms[b] > 0:
            total += phantoms[b] * math.exp(-scale * peak)
        for j in range(t, attention.shape[2], LINE):
            attention[b, row, j] = attention[b, row, j] / total if j < live else real(0)

    return kernel


def memory_update(drive, memory, slots, phantoms, rows, scale, coefficients, out):
    """As `naive.memory_update`, one phase after the other."""
    phases, size, queries, width = drive.shape
    patterns = memory.shape[1]
    if not size:
        return
    attention = scratch("attention", (size, queries, patterns), drive.dtype)
    for p in range(phases):
        attend(drive[p], memory, slots, phantoms, rows, scale, attention)
        multiply(
            attention.reshape(size * queries, patterns),
            drive[p].reshape(size * queries, width),
            out.reshape(size * patterns, width),
            turn_a=True,
            accumulate=p > 0,
            factor=coefficients[p],
            count=size,
        )
