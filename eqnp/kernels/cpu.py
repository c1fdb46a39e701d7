"""The kernels of `naive` in Numba: serial, without the GIL, one compilation per float dtype.

Nothing here starts a thread. A batch is settled shard by shard on threads of the caller, and a kernel that brought a
pool of its own would fight with them (and with BLAS) for the same cores. Shapes and formulas are those of `naive`.

They are in one file because they call each other: Numba's cache looks at the file of a kernel alone, and would go on
with what it had compiled when a kernel that is called from another file changes.
"""

from __future__ import annotations

import math

import numpy as np

from eqnp.kernels import naive
from eqnp.kernels.arrays import *  # noqa: F403  (whole arrays, the same for all kernels of the host)
from eqnp.kernels.cache import compiled

# Sums may be reordered and multiply-adds fused. The flags that assume NaN and infinity away are never set: the guards
# against a diverging network look for exactly those.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
ROW_BLOCK = 64  # attention rows handled at a time, so that their logits are still in cache when they retrieve
SLOT_BLOCK = 128  # slots handled at a time where rows are few, so that a slot is read from memory once, and not twice
FEW_ROWS = 32  # with more of them, retrieval is bound by its products, and slots in blocks only make these smaller


kernel = compiled(fastmath=FASTMATH)
exact = compiled()  # root finding and the optimiser: same operations, same order as `naive`


# --- states of dense layers -------------------------------------------------------------------------------------------


@kernel
def clipped(drive, state, residual, value):
    half, none, full = drive.dtype.type(0.5), drive.dtype.type(0), drive.dtype.type(1)
    change = np.empty(state.shape[1], state.dtype)
    for b in range(state.shape[0]):
        change[:] = 0
        total = 0.0
        for h in range(state.shape[1]):
            u = drive[b, h]
            s = min(max(half * u, none), full)
            total += s * (u - s)
            _replace(state[b], h, s, change)
        value[b] = total
        _raise_to(residual, b, change)


@exact
def logistic(drive, state, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for h in range(state.shape[1]):
            value[b] += _softplus(drive[b, h])
            _move(state[b], h, _sigmoid(drive[b, h]), residual, b)


@exact
def tanh(drive, state, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for h in range(state.shape[1]):
            value[b] += _log_cosh(drive[b, h])
            _move(state[b], h, math.tanh(drive[b, h]), residual, b)


@exact
def softmax(drive, state, residual, value):
    for b in range(state.shape[0]):
        peak, total = _softmax_sum(drive[b])
        value[b] = peak + math.log(total)
        for c in range(state.shape[1]):
            _move(state[b], c, math.exp(drive[b, c] - peak) / total, residual, b)


@exact
def _softmax_sum(drive):
    """The largest drive, and the sum of exp over what the others fall short of it by."""
    peak = drive[0]
    for c in range(1, len(drive)):
        peak = max(peak, drive[c])
    total = 0.0
    for c in range(len(drive)):
        total += math.exp(drive[c] - peak)
    return peak, total


# --- the output block under a nudge -----------------------------------------------------------------------------------


@exact
def clipped_nudged(drive, state, beta, target, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for c in range(state.shape[1]):
            s = min(max((drive[b, c] + beta * target[b, c]) / (2 + beta), 0.0), 1.0)
            _move(state[b], c, s, residual, b)
            # Λ_β(a) = ⟨a, s⟩ − Λ*(s) − βC, with Λ*(s) = s²; see `naive`
            value[b] += s * (drive[b, c] - s) - beta / 2 * (s - target[b, c]) ** 2


@exact
def logistic_nudged(drive, state, beta, target, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for c in range(state.shape[1]):
            a, y = drive[b, c], target[b, c]
            reach = abs(beta) * (1 + max(1.0, abs(y)))
            low, high, u = a - reach, a + reach, float(a)
            for _ in range(naive.NEWTON_STEPS):
                s = _sigmoid(u)
                low, high, u, done = _newton(u, u + beta * (s - y) - a, 1 + beta * s * (1 - s), low, high)
                if done:
                    break
            s = _sigmoid(u)
            _move(state[b], c, s, residual, b)
            value[b] += _softplus(u) + beta / 2 * (s * s - y * y)


@exact
def tanh_nudged(drive, state, beta, target, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for c in range(state.shape[1]):
            a, y = drive[b, c], target[b, c]
            reach = abs(beta) * (1 + max(1.0, abs(y)))
            low, high, u = a - reach, a + reach, float(a)
            for _ in range(naive.NEWTON_STEPS):
                s = math.tanh(u)
                low, high, u, done = _newton(u, u + beta * (s - y) - a, 1 + beta * (1 - s * s), low, high)
                if done:
                    break
            s = math.tanh(u)
            _move(state[b], c, s, residual, b)
            value[b] += _log_cosh(u) + beta / 2 * (s * s - y * y)


@exact
def softmax_nudged(drive, state, beta, target, residual, value):
    for b in range(state.shape[0]):
        peak, total = _softmax_sum(drive[b])
        value[b] = (1 - beta) * (peak + math.log(total))
        for c in range(state.shape[1]):
            value[b] += beta * drive[b, c] * target[b, c]
            s = (1 - beta) * math.exp(drive[b, c] - peak) / total + beta * target[b, c]
            _move(state[b], c, s, residual, b)


@exact
def logistic_cross_entropy(drive, state, beta, target, residual, value):
    for b in range(state.shape[0]):
        value[b] = 0
        for c in range(state.shape[1]):
            a, y = drive[b, c], target[b, c]
            value[b] += (1 - beta) * _softplus(a) + beta * a * y
            _move(state[b], c, (1 - beta) * _sigmoid(a) + beta * y, residual, b)


@exact
def _newton(u, excess, slope, low, high):
    if excess < 0:
        low = u
    elif excess > 0:
        high = u
    following = u - excess / slope
    if following < low or following > high:
        following = (low + high) / 2
    return low, high, following, following == u


# --- Hopfield attention -----------------------------------------------------------------------------------------------


@kernel
def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    _, R, D = drive.shape
    height = min(R, ROW_BLOCK)
    weights = np.empty(height * memory.shape[1], drive.dtype)
    retrieved, part = np.empty((height, D), drive.dtype), np.empty((height, D), drive.dtype)
    change = np.empty(D, drive.dtype)
    for b in range(drive.shape[0]):
        a = samples[b]
        m, r, zeros, stored = slots[a], rows[a], phantoms[a], memory[a]
        change[:] = 0
        value[b] = r * math.log(zeros) / scale if m == 0 and zeros > 0 else 0.0
        for start in range(0, R, ROW_BLOCK):
            stop = min(start + ROW_BLOCK, R)
            live = max(min(stop, r) - start, 0) if m > 0 else 0
            if live > 0 and live <= FEW_ROWS and m > SLOT_BLOCK:
                given = drive[b, start : start + live]
                value[b] += _retrieve_by_blocks(given, stored[:m], zeros, scale, weights, part, retrieved[:live])
            elif live > 0:
                block = weights[: live * m].reshape(live, m)
                value[b] += _softmax(drive[b, start : start + live], stored[:m], zeros, scale, block)
                np.dot(block, stored[:m], retrieved[:live])
            if live < stop - start:
                retrieved[live : stop - start] = 0
            for i in range(stop - start):
                _overwrite(state[b, start + i], retrieved[i], change)
        _raise_to(residual, b, change)


@kernel
def _retrieve_by_blocks(drive, memory, phantoms, scale, weights, part, out):
    """out (R, D) = softmax(scale · drive memoryᵀ) memory in one pass over the slots; returns Λ(drive).

    What a block adds is weighted against the largest logit so far; when a larger one is met, all before it shrinks.
    ``weights`` and ``part`` are room for R · SLOT_BLOCK and R · D numbers.
    """
    R, D = out.shape
    peak, total = np.empty(R, drive.dtype), np.empty(R)
    peak[:] = 0 if phantoms > 0 else -np.inf
    total[:] = phantoms
    out[...] = 0
    for start in range(0, memory.shape[0], SLOT_BLOCK):
        block = memory[start : start + SLOT_BLOCK]
        logits = weights[: R * len(block)].reshape(R, len(block))
        np.dot(drive, block.T, logits)
        for i in range(R):
            highest = peak[i]
            for j in range(logits.shape[1]):
                highest = max(highest, logits[i, j])
            if highest > peak[i]:
                shrunk = math.exp(scale * (peak[i] - highest))
                total[i] *= shrunk
                for d in range(D):
                    out[i, d] *= shrunk
                peak[i] = highest
            for j in range(logits.shape[1]):
                logits[i, j] = scale * (logits[i, j] - highest)
        _exponentiate(logits.reshape(-1))
        for i in range(R):
            for j in range(logits.shape[1]):
                total[i] += logits[i, j]
        np.dot(logits, block, part[:R])
        for i in range(R):
            for d in range(D):
                out[i, d] += part[i, d]
    value = 0.0
    for i in range(R):
        value += peak[i] + math.log(total[i]) / scale
        share = out.dtype.type(1 / total[i])
        for d in range(D):
            out[i, d] *= share
    return value


@kernel
def attend(drive, memory, slots, phantoms, rows, scale, attention):
    attention[...] = 0
    weights = np.empty(drive.shape[1] * memory.shape[1], drive.dtype)
    for b in range(drive.shape[0]):
        m, r = slots[b], rows[b]
        if m > 0 and r > 0:
            block = weights[: r * m].reshape(r, m)
            _softmax(drive[b, :r], memory[b, :m], phantoms[b], scale, block)
            attention[b, :r, :m] = block


@kernel
def _softmax(drive, memory, phantoms, scale, out):
    """out (R, M) = softmax of scale · drive memoryᵀ over slots and `phantoms` zero patterns; returns Λ(drive)."""
    value, peaks = 0.0, np.empty(len(out), out.dtype)
    np.dot(drive, memory.T, out)
    for i in range(out.shape[0]):
        peak = out[i, 0]
        for j in range(1, out.shape[1]):
            peak = max(peak, out[i, j])
        if phantoms > 0:
            peak = max(peak, out.dtype.type(0))
        peaks[i] = peak
        for j in range(out.shape[1]):
            out[i, j] = scale * (out[i, j] - peak)
    _exponentiate(out.reshape(-1))
    for i in range(out.shape[0]):
        # Without zero patterns the peak may be far below 0, and exp(−peak) infinite.
        total = phantoms * math.exp(-scale * peaks[i]) if phantoms > 0 else 0.0
        for j in range(out.shape[1]):
            total += out[i, j]
        value += peaks[i] + math.log(total) / scale
        share = out.dtype.type(1 / total)
        for j in range(out.shape[1]):
            out[i, j] *= share
    return value


@kernel
def _exponentiate(x):
    """x ← exp(x) for x ≤ 0.

    In float32, exp(x) = 2ᵏ exp(r) with |r| ≤ ln(2)/2: a polynomial of degree 6, fitted to exp(r) within 4e-9, and 2ᵏ by
    its bits. That is within 4e-7 of the value, and fills vector registers, which the library's function does not. Below
    −87, where numbers end, it stays at exp(−87).
    """
    if x.itemsize != 4:
        for j in range(len(x)):
            x[j] = math.exp(x[j])
        return
    least, per_doubling, half, one = np.float32(-87), np.float32(1 / math.log(2)), np.float32(0.5), np.float32(1)
    doubling, rest = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)  # k times the first is exact
    c2, c3, c4 = np.float32(0.49999989), np.float32(0.16666518), np.float32(0.04166954)
    c5, c6 = np.float32(0.00836899), np.float32(0.00137512)
    for j in range(len(x)):
        y = least if x[j] < least else np.float32(x[j])  # NaN stays
        k = np.floor(y * per_doubling + half)
        r = y - k * doubling - k * rest
        power = one + r * (one + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * c6)))))
        x[j] = power * np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)


# --- learning ---------------------------------------------------------------------------------------------------------


def local_update(post, pre, coefficients, out):
    """All phases in one GEMM: stacked along the rows, or added up first where the pre end is the same in all."""
    phases, rows = post.shape[:2]
    weights = np.asarray(coefficients, post.dtype)
    if len(pre) == 1:
        post, pre = np.tensordot(weights, post, axes=1), pre[0]
    else:
        post = (post * weights[:, None, None]).reshape(phases * rows, -1)
        if pre.strides[0] != rows * pre.strides[1]:  # the phases of a shard do not follow each other in memory
            pre = np.ascontiguousarray(pre)
        pre = np.lib.stride_tricks.as_strided(pre, (phases * rows, pre.shape[2]), pre.strides[1:])
    np.matmul(post.T, pre, out=out)


@kernel
def memory_update(drive, memory, slots, phantoms, rows, scale, coefficients, out):
    P, _, R, D = drive.shape
    weights = np.empty(P * R * memory.shape[1], drive.dtype)
    stacked = np.empty((P * R, D), drive.dtype)
    for b in range(memory.shape[0]):
        m, r = slots[b], rows[b]
        out[b, m:] = 0
        if m == 0 or r == 0:
            out[b] = 0
            continue
        attention, phases = weights[: P * r * m].reshape(P * r, m), stacked[: P * r]
        for p in range(P):
            phases[p * r : (p + 1) * r] = drive[p, b, :r]
        _softmax(phases, memory[b, :m], phantoms[b], scale, attention)
        for p in range(P):
            phases[p * r : (p + 1) * r] *= coefficients[p]
        np.dot(attention.T, phases, out[b, :m])


# --- words beside words -----------------------------------------------------------------------------------------------


@exact
def neighbours(tokens, ids, words, reach, out):
    places, width = tokens.shape[1:]
    for b in range(ids.shape[0]):
        for n in range(places):
            for number in range(2 * reach + 1):
                there, at = n + number - reach, number * width
                if _hears(ids, words, b, n, there):
                    for d in range(width):
                        out[b, n, at + d] = tokens[b, there, d]
                else:
                    for d in range(width):
                        out[b, n, at + d] = 0


@exact
def fold(told, ids, words, reach, out):
    places, width = out.shape[1:]
    for b in range(ids.shape[0]):
        for m in range(places):
            for number in range(2 * reach + 1):
                n, at = m + reach - number, number * width
                if _hears(ids, words, b, n, m):
                    for d in range(width):
                        out[b, m, d] += told[b, n, at + d]


@compiled(inline="always")
def _hears(ids, words, b, n, there):
    """Whether place n hears another, of which one may be beyond the array."""
    if n == there:
        return True
    inside = min(n, there) >= 0 and max(n, there) < ids.shape[1]
    return inside and 0 < ids[b, n] < words and 0 < ids[b, there] < words


# --- embeddings and optimiser -----------------------------------------------------------------------------------------


@exact
def gather(table, ids, out):
    for b in range(ids.shape[0]):
        for m in range(ids.shape[1]):
            row = ids[b, m]
            for d in range(table.shape[1]):  # a loop, and not a slice: twice as fast
                out[b, m, d] = table[row, d]


@exact
def scatter_add(values, index, out):
    for b in range(index.shape[0]):
        for m in range(index.shape[1]):
            if index[b, m] >= 0:
                row = out[index[b, m]]
                for d in range(row.shape[0]):
                    row[d] += values[b, m, d]


@exact
def adam(parameter, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    kind = parameter.dtype.type
    correct_mean, correct_square = kind(1 / (1 - decay_mean**step)), kind(1 / (1 - decay_square**step))
    keep_mean, keep_square, rate, epsilon = kind(decay_mean), kind(decay_square), kind(rate), kind(epsilon)
    one = kind(1)
    for i in range(parameter.size):
        g = gradient[i]
        mean[i] = keep_mean * mean[i] + (one - keep_mean) * g
        square[i] = keep_square * square[i] + (one - keep_square) * g * g
        parameter[i] -= rate * (correct_mean * mean[i]) / (math.sqrt(correct_square * square[i]) + epsilon)


@exact
def adam_rows(table, rows, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    for i in range(len(rows)):
        row = rows[i]
        adam(table[row], gradient[i], mean[row], square[row], rate, decay_mean, decay_square, epsilon, step)


@exact
def momentum(parameter, gradient, velocity, rate, decay):
    kind = parameter.dtype.type
    keep, rate = kind(decay), kind(rate)
    for i in range(parameter.size):
        velocity[i] = keep * velocity[i] + gradient[i]
        parameter[i] -= rate * velocity[i]


@exact
def momentum_rows(table, rows, gradient, velocity, rate, decay):
    for i in range(len(rows)):
        row = rows[i]
        momentum(table[row], gradient[i], velocity[row], rate, decay)


@exact
def _overwrite(row, new, change):
    """row ← new, with ``change`` raised to the absolute change of each unit; a loop that fills vector registers."""
    for d in range(row.shape[0]):
        _replace(row, d, new[d], change)


@compiled(inline="always")
def _replace(row, unit, new, change):
    """Overwrite one unit, and raise its ``change``; branch-free, unlike `_move`, so that a loop of it is vectorised."""
    c = abs(new - row[unit])
    keep = change[unit] >= c or change[unit] != change[unit]  # NaN, once seen, stays
    change[unit] = change[unit] if keep else c
    row[unit] = new


@exact
def _raise_to(residual, sample, change):
    """residual[sample] raised to the largest change."""
    for c in change:
        if c > residual[sample] or c != c:
            residual[sample] = c


@compiled(inline="always")
def _move(row, unit, new, residual, sample):
    """Overwrite one unit and let NaN through: a comparison with `max` would hide it and call the state settled."""
    change = abs(new - row[unit])
    if change > residual[sample] or change != change:
        residual[sample] = change
    row[unit] = new


@exact
def _softplus(u):
    return max(u, 0) + math.log1p(math.exp(-abs(u)))


@exact
def _log_cosh(u):
    return abs(u) + math.log1p(math.exp(-2 * abs(u))) - math.log(2.0)


@exact
def _sigmoid(u):
    small = math.exp(-abs(u))  # never overflows
    return 1 / (1 + small) if u >= 0 else small / (1 + small)
