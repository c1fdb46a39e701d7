"""Hopfield attention: retrieval, by products or in one pass, its weights by themselves, and what the memory learns."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import config, cuda, float64
from numba import uint64 as at  # of an index that is never negative: it spares the code for those that are

from eqnp.kernels.cuda.blocks import LINE, SIDE, THREADS, find_largest, larger, launch, real_of, sum_up
from eqnp.kernels.cuda.memory import scratch
from eqnp.kernels.cuda.products import cublas, multiply

BY_PRODUCTS = cublas is not None  # whose products pay for weights that are written to memory, and read again
ABREAST = 2 if config.ENABLE_CUDASIM else 32  # threads on one row of weights
EACH = 2 if config.ENABLE_CUDASIM else 8  # entries that a thread moves
SUMS, TILES = 320, 16  # bytes of registers for the sums of a thread; and what the tiles of a block leave room for
STAGED = 1 << 14  # bytes of a block for the slots that it weighs


def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    """As `naive.retrieve`: with cupy, of a whole batch, by two products with the softmax between them; else at once."""
    if not len(drive):
        return
    whole = BY_PRODUCTS and len(drive) == len(memory)
    content = slots, phantoms, rows, drive.dtype.type(scale)
    parts = _by_products(drive, memory, *content, state) if whole else _at_once(drive, memory, *content, samples, state)
    launch(_finish_retrieval(real_of(drive)), len(drive), LINE, *parts, residual, value)


def _by_products(drive, memory, slots, phantoms, rows, scale, state):
    """Retrieval whose weights are written out; returns parts of the largest change and of Λ, (B, parts) each.

    That takes memory for the weight of every query and slot, where the one pass writes none; but a whole batch of the
    paper's networks is trained in three quarters of the time (docs/gpus.md).
    """
    (size, queries, width), patterns, dtype = drive.shape, memory.shape[1], drive.dtype
    weights = scratch("attention", (size, queries, patterns), dtype)
    retrieved = scratch("retrieved", state.shape, dtype)
    totals, values = scratch("totals", (size, queries), dtype), scratch("values", (size, queries), np.float64)
    keys, lines = memory.reshape(size * patterns, width), weights.reshape(size * queries, patterns)
    multiply(drive.reshape(size * queries, width), keys, lines, turn_b=True, count=size)
    grid = -(-queries // (LINE // ABREAST)), size
    launch(_weigh_slots(real_of(drive)), grid, LINE, weights, slots, phantoms, rows, scale, totals, values)
    multiply(lines, keys, retrieved.reshape(size * queries, width), count=size)
    pieces = -(-queries * width // (LINE * EACH))
    changes = scratch("changes", (size, pieces), dtype)
    flat = retrieved.reshape(-1), totals.reshape(-1), slots, rows, state.reshape(-1), queries, width, changes
    launch(_move_rows(real_of(drive)), (pieces, size), LINE, *flat)
    return changes, values


@cache
def _weigh_slots(real):
    """Logits to weights that do not add up to one yet, in place; their sum, and the part of Λ, of every row."""

    @cuda.jit
    def kernel(weights, slots, phantoms, rows, scale, totals, values):
        shared = cuda.shared.array(LINE, real)
        t, b, zeros = cuda.threadIdx.x, cuda.blockIdx.y, phantoms[cuda.blockIdx.y]
        lane, row = t % ABREAST, cuda.blockIdx.x * (LINE // ABREAST) + t // ABREAST
        inside = row < weights.shape[1]
        live = slots[b] if inside and row < rows[b] else 0
        peak = real(0) if zeros > 0 else real(-math.inf)  # zero patterns have logit 0
        for j in range(lane, live, ABREAST):
            peak = larger(peak, weights[b, row, j])
        shared[t] = peak
        cuda.syncthreads()
        near = ABREAST // 2
        while near > 0:
            if lane < near:
                shared[t] = larger(shared[t], shared[t + near])
            cuda.syncthreads()
            near //= 2
        peak = shared[t - lane]
        cuda.syncthreads()
        total = real(0)
        for j in range(lane, weights.shape[2] if inside else 0, ABREAST):
            weight = math.exp(scale * (weights[b, row, j] - peak)) if j < live else real(0)
            weights[b, row, j] = weight
            total += weight
        shared[t] = total
        cuda.syncthreads()
        near = ABREAST // 2
        while near > 0:
            if lane < near:
                shared[t] += shared[t + near]
            cuda.syncthreads()
            near //= 2
        if inside and lane == 0:
            total = shared[t] + (zeros * math.exp(-scale * peak) if zeros > 0 else real(0))
            counts = row < rows[b] and slots[b] + zeros > 0
            totals[b, row] = total
            values[b, row] = peak + math.log(float64(total)) / scale if counts else 0.0

    return kernel


@cache
def _move_rows(real):
    """state ← what was retrieved, over the sum of its weights; and the largest change of every block."""

    @cuda.jit
    def kernel(retrieved, totals, slots, rows, state, queries, width, changes):
        shared = cuda.shared.array(LINE, real)
        t, b = cuda.threadIdx.x, cuda.blockIdx.y
        live = rows[b] * width if slots[b] > 0 else 0
        change = real(0)
        for i in range(cuda.blockIdx.x * LINE + t, queries * width, cuda.gridDim.x * LINE):
            entry = at(b * queries * width + i)
            s = retrieved[entry] / totals[at(b * queries + i // width)] if i < live else real(0)
            change = larger(change, abs(s - state[entry]))
            state[entry] = s
        shared[t] = change
        find_largest(shared)
        if t == 0:
            changes[b, cuda.blockIdx.x] = shared[0]

    return kernel


def _at_once(drive, memory, slots, phantoms, rows, scale, samples, state):
    """Retrieval in one pass over the memory, tile by tile; returns as `_by_products`.

    A block has some queries of a sample. It keeps the largest logit and the sum so far of each, and shrinks what it has
    retrieved whenever a larger logit turns up (Milakov & Gimelshein 2018; Dao et al. 2022).
    """
    size, queries, width = drive.shape
    widths, item = -(-width // SIDE), drive.dtype.itemsize
    fits = (p for p in (4, 2) if p * item <= TILES and p * widths * item <= SUMS)
    per = next((p for p in fits if queries > SIDE * p // 2), 1)
    staged = max(1, min(SIDE, STAGED // (widths * SIDE * item)))
    tiles = -(-queries // (SIDE * per))
    changes, values = scratch("changes", (size, tiles), drive.dtype), scratch("values", (size, tiles), np.float64)
    content = memory.reshape(-1), slots, phantoms, rows, scale, samples
    arguments = drive.reshape(-1), *content, state.reshape(-1), changes, values, queries, memory.shape[1], width
    launch(_retrieve(real_of(drive), widths, per, staged), (tiles, size), (SIDE, SIDE), *arguments)
    return changes, values


@cache
def _retrieve(real, widths, per, staged):
    """For vectors of up to ``widths`` · SIDE entries: a block has ``per`` · SIDE queries, and as many slots at a time.

    Thread (x, y) has queries y, y + SIDE, … and of what they retrieve the entries x, x + SIDE, …, in registers. The
    slots that are weighed go through shared memory, ``staged`` of them at a time.
    """
    lines, wide, last = SIDE * per, SIDE * widths, SIDE - 1
    odd, even, odd_side = lines + 1, lines + 2, SIDE + 1  # so that the threads of a warp meet in different banks

    @cuda.jit
    def kernel(drive, memory, slots, phantoms, rows, scale, samples, state, changes, values, queries, patterns, width):
        query = cuda.shared.array((SIDE, even), real)
        key = cuda.shared.array((SIDE, even), real)
        weights = cuda.shared.array((lines, odd), real)
        stage = cuda.shared.array((staged, wide), real)
        partial = cuda.shared.array((lines, odd_side), real)
        peaks = cuda.shared.array(lines, real)
        totals = cuda.shared.array(lines, real)
        shrink = cuda.shared.array(lines, real)
        logits = cuda.local.array((per, per), real)
        sums = cuda.local.array((per, widths), real)
        x, y = cuda.threadIdx.x & last, cuda.threadIdx.y & last  # so that they are known not to be negative
        thread = y * SIDE + x
        b, top = cuda.blockIdx.y, cuda.blockIdx.x * lines
        place = samples[b]
        stored, zeros = slots[place], phantoms[place]
        live = rows[place] if stored > 0 else 0
        step = SIDE * width
        first_query, first_slot = (b * queries + top) * width, place * patterns * width
        for r in range(per):
            for c in range(widths):
                sums[r, c] = 0
        for row in range(thread, lines, THREADS):
            # Zero patterns have logit 0. Without them the peak may be far below 0.
            peaks[row], totals[row] = real(0) if zeros > 0 else real(-math.inf), real(zeros)
        for start in range(0, stored if top < live else 0, lines):
            count = min(lines, stored - start)
            for r in range(per):
                for c in range(per):
                    logits[r, c] = 0
            for begin in range(0, width, SIDE):
                d = begin + x
                of_query, of_slot = first_query + y * width + d, first_slot + (start + y) * width + d
                for r in range(per):
                    line = y + r * SIDE
                    inside = d < width and top + line < live
                    query[x, line] = drive[at(of_query + r * step)] if inside else real(0)
                    inside = d < width and line < count
                    key[x, line] = memory[at(of_slot + r * step)] if inside else real(0)
                cuda.syncthreads()
                for k in range(0, SIDE, 2):  # by two, which the compiler does not do by itself
                    even_k, odd_k = at(k), at(k + 1)
                    for r in range(per):
                        for c in range(per):
                            logits[r, c] += query[even_k, y + r * SIDE] * key[even_k, x + c * SIDE]
                            logits[r, c] += query[odd_k, y + r * SIDE] * key[odd_k, x + c * SIDE]
                cuda.syncthreads()
            for r in range(per):
                peak = real(-math.inf)
                for c in range(per):
                    if x + c * SIDE < count:
                        peak = larger(peak, logits[r, c])
                partial[y + r * SIDE, x] = peak
            cuda.syncthreads()
            for row in range(thread, lines, THREADS):
                peak = peaks[row]
                for j in range(SIDE):
                    peak = larger(peak, partial[row, j])
                shrink[row], peaks[row] = math.exp(scale * (peaks[row] - peak)), peak
            cuda.syncthreads()
            for r in range(per):
                peak, total = peaks[y + r * SIDE], real(0)
                for c in range(per):
                    inside = x + c * SIDE < count
                    weight = math.exp(scale * (logits[r, c] - peak)) if inside else real(0)
                    weights[y + r * SIDE, x + c * SIDE] = weight
                    total += weight
                partial[y + r * SIDE, x] = total
                for c in range(widths):
                    sums[r, c] *= shrink[y + r * SIDE]
            cuda.syncthreads()
            for row in range(thread, lines, THREADS):
                total = totals[row] * shrink[row]
                for j in range(SIDE):
                    total += partial[row, j]
                totals[row] = total
            for begin in range(0, count, staged):
                for j in range(y, min(staged, count - begin), SIDE):
                    for c in range(widths):
                        d = x + c * SIDE
                        from_slot = first_slot + (start + begin + j) * width
                        stage[j, d] = memory[at(from_slot + d)] if d < width else real(0)
                cuda.syncthreads()
                for j in range(min(staged, count - begin)):
                    for c in range(widths):
                        entry = stage[j, x + c * SIDE]
                        for r in range(per):
                            sums[r, c] += weights[y + r * SIDE, begin + j] * entry
                cuda.syncthreads()
        change = real(0)
        for r in range(per):
            row = top + y + r * SIDE
            if row < queries:
                for c in range(widths):
                    d = x + c * SIDE
                    if d < width:
                        s = sums[r, c] / totals[y + r * SIDE] if row < live else real(0)
                        entry = at(first_query + (y + r * SIDE) * width + d)
                        change = larger(change, abs(s - state[entry]))
                        state[entry] = s
        partial[y, x] = change
        cuda.syncthreads()
        if y == 0:
            for row in range(1, SIDE):
                change = larger(change, partial[row, x])
            partial[0, x] = change
        cuda.syncthreads()
        if thread == 0:
            energy = 0.0
            for j in range(1, SIDE):
                change = larger(change, partial[0, j])
            for row in range(lines):
                if top + row < rows[place] and stored + zeros > 0:
                    energy += peaks[row] + math.log(float64(totals[row])) / scale
            changes[b, cuda.blockIdx.x], values[b, cuda.blockIdx.x] = change, energy

    return kernel


@cache
def _finish_retrieval(real):
    """The parts of a sample put together, a block for each."""

    @cuda.jit
    def kernel(changes, values, residual, value):
        largest = cuda.shared.array(LINE, real)
        sums = cuda.shared.array(LINE, float64)
        b, t = cuda.blockIdx.x, cuda.threadIdx.x
        change, total = real(0), 0.0
        for part in range(t, changes.shape[1], LINE):
            change = larger(change, changes[b, part])
        for part in range(t, values.shape[1], LINE):
            total += values[b, part]
        largest[t], sums[t] = change, total
        find_largest(largest)
        sum_up(sums)
        if t == 0:
            value[b], residual[b] = sums[0], larger(residual[b], largest[0])

    return kernel


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
