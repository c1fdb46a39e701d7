"""What tokens, weights and embeddings do at the edges of settling: rows of tokens, contrasts, tables, optimisers."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import cuda
from scipy.sparse import csr_array

from eqnp.kernels.cuda.array import device
from eqnp.kernels.cuda.blocks import LINE, launch, over
from eqnp.kernels.cuda.memory import add, scratch
from eqnp.kernels.cuda.products import multiply


def project(x, lengths, weight, bias, out):
    """As `naive.project`; padding is multiplied too."""
    size, tokens, width = x.shape
    projected = scratch("projected", (size * tokens, len(weight)), out.dtype)
    multiply(x.reshape(-1, width), weight, projected, turn_b=True)
    if bias is not None:
        add(bias, projected)
    over(out.size, _place, projected.reshape(size, tokens, len(weight)), lengths, out)


@cuda.jit
def _place(source, lengths, out):
    i = cuda.grid(1)
    if i < out.size:
        b, row, column = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        out[b, row, column] = source[b, row, column] if row < min(source.shape[1], lengths[b]) else 0


def mean_rows(shares, state, out):
    """As `naive.mean_rows`."""
    over(out.size, _mean_rows, shares, state, out)


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
    over(out.size, _spread_rows, shares, back, out)


@cuda.jit
def _spread_rows(shares, back, out):
    i = cuda.grid(1)
    if i < out.size:
        b, row, column = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        out[b, row, column] = shares[b, row] * back[b, column]


def times(left, right, out):
    """As `naive.times`."""
    over(out.size, _times, left.reshape(-1), right.reshape(-1), out.reshape(-1))


@cuda.jit
def _times(left, right, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = left[i] * right[i]


def add_times(left, right, factor, out):
    """As `naive.add_times`."""
    over(out.size, _add_times, left.reshape(-1), right.reshape(-1), out.dtype.type(factor), out.reshape(-1))


@cuda.jit
def _add_times(left, right, factor, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] += factor * left[i] * right[i]


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
    over(contrasted.size, _contrast, post.reshape(phases, -1), factors, together, contrasted.reshape(-1))
    multiply(contrasted, pre.reshape(-1, pre.shape[2]), out, turn_a=True)


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
    over(contrasted.size, _contrast, post.reshape(phases, -1), factors, True, contrasted.reshape(-1))
    multiply(contrasted, weight, out.reshape(size * rows, -1), accumulate=True)


def gather(table, ids, out):
    """As `naive.gather`."""
    over(out.size, _gather, table, ids.reshape(-1), out.reshape(-1, out.shape[2]))


@cuda.jit
def _gather(table, ids, out):
    i = cuda.grid(1)
    if i < out.size:
        row, d = i // out.shape[1], i % out.shape[1]
        out[row, d] = table[ids[row], d]


def neighbours(tokens, ids, words, reach, out):
    """As `naive.neighbours`."""
    over(out.size, _neighbours, tokens, ids, words, reach, out)


@cuda.jit
def _neighbours(tokens, ids, words, reach, out):
    i = cuda.grid(1)
    if i < out.size:
        b, n, column = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        number = column // tokens.shape[2]
        there, d = n + number - reach, column - number * tokens.shape[2]
        out[b, n, column] = tokens[b, there, d] if _hears(ids, words, b, n, there) else 0


def fold(told, ids, words, reach, out):
    """As `naive.fold`."""
    over(out.size, _fold, told, ids, words, reach, out)


@cuda.jit
def _fold(told, ids, words, reach, out):
    i = cuda.grid(1)
    if i < out.size:
        b, m, d = i // (out.shape[1] * out.shape[2]), i // out.shape[2] % out.shape[1], i % out.shape[2]
        total = out[b, m, d]
        for number in range(2 * reach + 1):
            n = m + reach - number
            if _hears(ids, words, b, n, m):
                total += told[b, n, number * out.shape[2] + d]
        out[b, m, d] = total


@cuda.jit(device=True)
def _hears(ids, words, b, n, there):
    """Whether place n hears another, of which one may be beyond the array."""
    if n == there:
        return True
    inside = min(n, there) >= 0 and max(n, there) < ids.shape[1]
    return inside and 0 < ids[b, n] < words and 0 < ids[b, there] < words


def scatter_add(values, index, out):
    """As `naive.scatter_add`, with ``index`` on the host: a block adds up all that belongs to a row, in order."""
    places = np.flatnonzero(index >= 0)
    if not len(places):
        return
    # Turned from rows to columns, a sparse matrix is sorted by counting, which takes a tenth of the time of comparing.
    by_place = csr_array((places, index.reshape(-1)[places], [0, len(places)]), shape=(1, len(out)))
    by_row = by_place.tocsc()
    blocks, order, starts = (len(out), -(-out.shape[1] // LINE)), device(by_row.data), device(by_row.indptr)
    launch(_scatter_add, blocks, LINE, values.reshape(-1, out.shape[1]), order, starts, out)


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
    numbers = _numbers(parameter.dtype.type, rate, decay_mean, decay_square, epsilon, step)
    over(parameter.size, _adam, parameter, gradient, mean, square, *numbers)


def adam_rows(table, rows, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    """As `naive.adam_rows`, with ``rows`` on the host."""
    numbers = _numbers(table.dtype.type, rate, decay_mean, decay_square, epsilon, step)
    over(gradient.size, _adam_rows, table, device(rows), gradient, mean, square, *numbers)


def _numbers(kind, rate, decay_mean, decay_square, epsilon, step):
    """What every entry's step needs, in the type of the parameters."""
    means = decay_mean, 1 - decay_mean, decay_square, 1 - decay_square
    correct = 1 / (1 - decay_mean**step), 1 / (1 - decay_square**step)
    return [kind(number) for number in (rate, *means, epsilon, *correct)]


@cuda.jit
def _adam(
    parameter, gradient, mean, square, rate, keep, add, keep_square, add_square, epsilon, correct, correct_square
):
    i = cuda.grid(1)
    if i < parameter.size:
        g = gradient[i]
        m, v = keep * mean[i] + add * g, keep_square * square[i] + add_square * g * g
        mean[i], square[i] = m, v
        parameter[i] -= rate * (correct * m) / (math.sqrt(correct_square * v) + epsilon)


@cuda.jit
def _adam_rows(
    table, rows, gradient, mean, square, rate, keep, add, keep_square, add_square, epsilon, correct, correct_square
):
    i = cuda.grid(1)
    if i < gradient.size:
        from_row, d = i // gradient.shape[1], i % gradient.shape[1]
        row, g = rows[from_row], gradient[from_row, d]
        m, v = keep * mean[row, d] + add * g, keep_square * square[row, d] + add_square * g * g
        mean[row, d], square[row, d] = m, v
        table[row, d] -= rate * (correct * m) / (math.sqrt(correct_square * v) + epsilon)


def momentum(parameter, gradient, velocity, rate, decay):
    """As `naive.momentum`."""
    kind = parameter.dtype.type
    over(parameter.size, _momentum, parameter, gradient, velocity, kind(rate), kind(decay))


def momentum_rows(table, rows, gradient, velocity, rate, decay):
    """As `naive.momentum_rows`, with ``rows`` on the host."""
    kind = table.dtype.type
    over(gradient.size, _momentum_rows, table, device(rows), gradient, velocity, kind(rate), kind(decay))


@cuda.jit
def _momentum(parameter, gradient, velocity, rate, keep):
    i = cuda.grid(1)
    if i < parameter.size:
        v = keep * velocity[i] + gradient[i]
        velocity[i] = v
        parameter[i] -= rate * v


@cuda.jit
def _momentum_rows(table, rows, gradient, velocity, rate, keep):
    i = cuda.grid(1)
    if i < gradient.size:
        from_row, d = i // gradient.shape[1], i % gradient.shape[1]
        row = rows[from_row]
        v = keep * velocity[row, d] + gradient[from_row, d]
        velocity[row, d] = v
        table[row, d] -= rate * v
