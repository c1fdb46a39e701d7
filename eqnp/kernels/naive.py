"""The definitions: one obvious NumPy function per formula, for any float dtype.

Notation of shapes: B batch, R attention rows (queries), M memory slots, D embedding, H units, C classes, P phases.

Every ``move`` of a layer overwrites its state with ∇Λ(drive), raises ``residual[b]`` to the largest absolute change
of any unit of sample b, and sets ``value[b]`` (float64) to Λ(drive[b]), from which energies are made.

Padding never enters an array: sample b of an attention layer uses its first ``slots[b]`` memory slots and its first
``rows[b]`` rows, and ``phantoms[b]`` counts the all-zero patterns that the paper's zero-padded memory holds beyond
them. A zero pattern has logit 0 and adds nothing to the retrieved vector, so it only adds exp(0) to the softmax
denominator.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels import values
from eqnp.kernels.arrays import *  # noqa: F403  (whole arrays, the same for all kernels of the host)

NEWTON_STEPS = 60  # a bracketed Newton step at least halves the bracket, so 60 reach float64 rounding from width 4


# --- states of dense layers: s = ∇Λ(u) ------------------------------------------------------------------------------


def clipped(drive, state, residual, value):
    """s = clip(u/2, 0, 1), the paper's "hard sigmoid"; drive, state (B, H), residual, value (B,)."""
    value[:] = values.clipped(drive).sum(axis=1)
    _move(state, values.clipped_state(drive), residual)


def logistic(drive, state, residual, value):
    """s = 1/(1 + exp(−u)); drive, state (B, H), residual, value (B,)."""
    value[:] = values.logistic(drive).sum(axis=1)
    _move(state, values.logistic_state(drive), residual)


def tanh(drive, state, residual, value):
    """s = tanh(u); drive, state (B, H), residual, value (B,)."""
    value[:] = values.tanh(drive).sum(axis=1)
    _move(state, np.tanh(drive), residual)


def softmax(drive, state, residual, value):
    """s = exp(u)/Σ exp(u) over the classes: one layer with Λ = logsumexp; drive, state (B, C), residual, value (B,)."""
    value[:] = values.softmax(drive)
    _move(state, _softmax(drive), residual)


# --- the output block under a nudge: s = argmin Λ*(s) − ⟨a, s⟩ + βC, solved exactly -----------------------------------
# The minimum is −Λ_β(a), which `value` is set to, and the state is ∇Λ_β(a): a nudge is another potential. With
# C = ½‖s − y‖², s = ∇Λ(u) at u = a − β(s − y).


def clipped_nudged(drive, state, beta, target, residual, value):
    """Closed form s = clip((a + βy)/(2 + β), 0, 1), for β > −2; drive, state, target (B, C)."""
    _move(state, np.clip((drive + beta * target) / (2 + beta), 0, 1), residual)
    value[:] = _nudged_value(values.clipped, drive, state, beta, target)


def logistic_nudged(drive, state, beta, target, residual, value):
    """Bracketed Newton on u + β(σ(u) − y) = a, for β > −4; drive, state, target (B, C)."""
    _solve_nudged(drive, state, beta, target, residual, values.logistic_state, lambda s: s * (1 - s))
    value[:] = _nudged_value(values.logistic, drive, state, beta, target)


def tanh_nudged(drive, state, beta, target, residual, value):
    """Bracketed Newton on u + β(tanh u − y) = a, for β > −1; drive, state, target (B, C)."""
    _solve_nudged(drive, state, beta, target, residual, np.tanh, lambda s: 1 - s * s)
    value[:] = _nudged_value(values.tanh, drive, state, beta, target)


def softmax_nudged(drive, state, beta, target, residual, value):
    """s = (1 − β) softmax(a) + βy, for β < 1: with C = logsumexp(a) − ⟨y, a⟩, Λ_β(a) = (1 − β) logsumexp(a) + β⟨y, a⟩.

    drive, state, target (B, C); the targets of a sample sum to 1.
    """
    _move(state, (1 - beta) * _softmax(drive) + beta * target, residual)
    value[:] = (1 - beta) * values.softmax(drive) + beta * (drive * target).sum(axis=1)


def logistic_cross_entropy(drive, state, beta, target, residual, value):
    """s = (1 − β) σ(a) + βy, for β < 1: with C = Σ softplus(a) − y a, Λ_β(a) = Σ (1 − β) softplus(a) + β y a.

    drive, state, target (B, C), any number of classes to a sample.
    """
    _move(state, (1 - beta) * values.logistic_state(drive) + beta * target, residual)
    value[:] = ((1 - beta) * values.logistic(drive) + beta * drive * target).sum(axis=1)


def _solve_nudged(drive, state, beta, target, residual, function, slope):
    # |σ(u) − y| ≤ 1 + |y| for states in [−1, 1], so the root lies within |β| (1 + max(1, |y|)) of the drive, however
    # large the target is; within 2|β| for targets in [−1, 1].
    reach = abs(beta) * (1 + np.maximum(1, np.abs(target)))
    low, high, u = drive - reach, drive + reach, drive.copy()
    for _ in range(NEWTON_STEPS):
        s = function(u)
        excess = u + beta * (s - target) - drive
        low, high = np.where(excess < 0, u, low), np.where(excess > 0, u, high)
        u = u - excess / (1 + beta * slope(s))
        u = np.where((u < low) | (u > high), (low + high) / 2, u)
    _move(state, function(u), residual)


def _nudged_value(potential, drive, state, beta, target):
    """Λ_β(a) = Λ(u) + β/2 (‖s‖² − ‖y‖²), from ⟨a, s⟩ − Λ*(s) − βC and Λ*(s) = ⟨u, s⟩ − Λ(u)."""
    at = drive - beta * (state - target)
    return (potential(at) + beta / 2 * (state * state - target * target)).sum(axis=1)


def _softmax(u):
    weights = np.exp(u - u.real.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


# --- Hopfield attention: s = softmax(κ u Xᵀ) X ----------------------------------------------------------------------


def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    """One retrieval of a modern Hopfield network, s = softmax(κ u Xᵀ) X, per sample and row.

    drive, state (B, R, D); memory (A, M, D); slots, phantoms, rows (A,) int; scale κ > 0; residual, value (B,).
    samples (B,) int says which of the A memories each sample of the drive reads: those that still settle are B of A,
    in their order.
    Rows beyond ``rows[b]`` and samples without any pattern get the zero state, and add nothing to Λ.
    """
    memory, slots, phantoms, rows = (array[samples] for array in (memory, slots, phantoms, rows))
    attention = np.zeros((*drive.shape[:2], memory.shape[1]), drive.dtype)
    attend(drive, memory, slots, phantoms, rows, scale, attention)
    _move(state, attention @ memory, residual)
    value[:] = values.hopfield(drive, memory, slots, phantoms, rows, scale)


def attend(drive, memory, slots, phantoms, rows, scale, attention):
    """Attention weights softmax(κ u Xᵀ) of each row over the memory slots, written to ``attention`` (B, R, M)."""
    attention[...] = 0
    for b, (m, r) in enumerate(zip(slots, rows, strict=True)):
        if m == 0:
            continue
        logits = scale * drive[b, :r] @ memory[b, :m].T
        peak = logits.real.max(axis=1, keepdims=True)  # (real unless nudged off the real line: see `analytic`)
        if phantoms[b]:
            peak = np.maximum(peak, 0)
        weights = np.exp(logits - peak)
        total = weights.sum(axis=1, keepdims=True)
        if phantoms[b]:  # without them the peak may be far below 0, and exp(−peak) infinite
            total = total + phantoms[b] * np.exp(-peak)
        attention[b, :r, :m] = weights / total


# --- learning: every parameter sees its own two ends, and nothing else ------------------------------------------------


def local_update(post, pre, coefficients, out):
    """The update of a bundle of synapses from the states of their two ends: out = Σ_p c_p post_pᵀ pre_p.

    post (P, rows, H) and pre (P, rows, K) are the states at both ends in each of P phases, over ``rows`` samples or
    positions that share the weight, pre (1, rows, K) where it is the same in all phases; coefficients (P,) sum to zero,
    so that phases are contrasted; out (H, K).
    With phases (+β, −β) and coefficients ±1/2β this is the rule of the paper, and it is all that a synapse knows.
    """
    out[...] = 0
    for p, coefficient in enumerate(coefficients):
        out += coefficient * (post[p].T @ pre[p if len(pre) > 1 else 0])


def memory_update(drive, memory, slots, phantoms, rows, scale, coefficients, out):
    """`local_update` of the memory slots: slot j has the attention it received and the drive at its two ends.

    out[b] = Σ_p c_p A_pᵀ u_p, with drive (P, B, R, D), memory (B, M, D), out (B, M, D); docs/theory.md, fact 12.
    """
    attention = np.zeros((*drive.shape[:3], memory.shape[1]), drive.dtype)
    for p in range(len(coefficients)):
        attend(drive[p], memory, slots, phantoms, rows, scale, attention[p])
    for b in range(memory.shape[0]):
        local_update(attention[:, b], drive[:, b], coefficients, out[b])


# --- words beside words -----------------------------------------------------------------------------------------------
# A place n hears n + k if both are words, with ids from 1 to ``words`` − 1, and itself always. Ids from ``words`` on
# are n-grams, whose slots stand beside nothing; 0 is no token.


def neighbours(tokens, ids, words, reach, out):
    """out[b, n] ← x[n − w] … x[n + w] side by side, with zero for what n does not hear, as all beyond the array.

    tokens x (B, M, D), ids (B, M) int, reach w, out (B, M, (2w + 1) D).
    """
    out[...] = 0
    for columns, b, n, there in _heard(ids, words, reach, tokens.shape[2]):
        out[b, n, columns] = tokens[b, there]


def fold(told, ids, words, reach, out):
    """The adjoint of `neighbours`: out[b, m] += Σ_k told[b, m − k, columns of k], over all places that hear m.

    told (B, M, (2w + 1) D), out (B, M, D).
    """
    for columns, b, n, there in _heard(ids, words, reach, out.shape[2]):
        out[b, there] += told[b, n, columns]


def _heard(ids, words, reach, width):
    """For each k from −w to w: its columns, and sample, n and n + k of every place that hears n + k."""
    word = (ids > 0) & (ids < words)
    around = np.pad(word, ((0, 0), (reach, reach)))  # beyond the array is no word
    for number, k in enumerate(range(-reach, reach + 1)):
        both = word & around[:, number : number + ids.shape[1]]
        b, n = np.nonzero(both if k else np.ones_like(word))
        yield slice(number * width, (number + 1) * width), b, n, n + k


# --- embeddings and optimiser ----------------------------------------------------------------------------------------


def gather(table, ids, out):
    """out[b, m] = table[ids[b, m]]; table (V, D), ids (B, M) int, out (B, M, D)."""
    out[...] = table[ids]


def scatter_add(values, index, out):
    """out[index[b, m]] += values[b, m] in order, skipping negative indices; values (B, M, D), out (V, D)."""
    used = index >= 0
    np.add.at(out, index[used], values[used])


def adam(parameter, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    """One Adam step in place on flat arrays of one length, ``step`` counted from 1 (Kingma & Ba 2015, algorithm 1)."""
    mean *= decay_mean
    mean += (1 - decay_mean) * gradient
    square *= decay_square
    square += (1 - decay_square) * gradient * gradient
    unbiased_mean = mean / (1 - decay_mean**step)
    unbiased_square = square / (1 - decay_square**step)
    parameter -= rate * unbiased_mean / (np.sqrt(unbiased_square) + epsilon)


def adam_rows(table, rows, gradient, mean, square, rate, decay_mean, decay_square, epsilon, step):
    """`adam` on the given distinct rows of a table alone; table, mean, square (V, D), gradient (len(rows), D)."""
    for row, g in zip(rows, gradient, strict=True):
        adam(table[row], g, mean[row], square[row], rate, decay_mean, decay_square, epsilon, step)


def momentum(parameter, gradient, velocity, rate, decay):
    """One step with momentum in place on flat arrays of one length, v ← μ v + g and θ ← θ − rate · v (Polyak 1964)."""
    velocity *= decay
    velocity += gradient
    parameter -= rate * velocity


def momentum_rows(table, rows, gradient, velocity, rate, decay):
    """`momentum` on the given distinct rows of a table alone; table, velocity (V, D), gradient (len(rows), D)."""
    for row, g in zip(rows, gradient, strict=True):
        momentum(table[row], g, velocity[row], rate, decay)


def _move(state, new, residual):
    change = np.abs(new - state).reshape(len(state), -1)
    np.maximum(residual, change.max(axis=1, initial=0), out=residual)
    state[...] = new
