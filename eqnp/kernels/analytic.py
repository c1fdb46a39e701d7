"""The definitions continued to complex drives, for holomorphic EP; as in `naive`, of the functions that are analytic.

Nothing here takes a modulus but the residual: C and every ⟨·, ·⟩ are products without conjugation. There is no clipped
activation (it has kinks), no peak is searched among complex logits, and no root is bracketed: the nudges are small, and
Newton starts at the drive.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.naive import NEWTON_STEPS, _memory_update, _move, gather, local_update, scatter_add

__all__ = ["attend", "gather", "local_update", "logistic", "logistic_nudged", "memory_update", "retrieve",
           "scatter_add", "tanh", "tanh_nudged"]  # fmt: skip


def logistic(drive, state, residual, value):
    """As `naive.logistic`; Λ is not kept, since no energy is compared."""
    _move(state, _sigmoid(drive), residual)


def tanh(drive, state, residual, value):
    """As `naive.tanh`."""
    _move(state, np.tanh(drive), residual)


def logistic_nudged(drive, state, beta, target, residual, value):
    """Newton on u + β(σ(u) − y) = a for complex β."""
    _solve_nudged(drive, state, beta, target, residual, _sigmoid, lambda s: s * (1 - s))


def tanh_nudged(drive, state, beta, target, residual, value):
    """Newton on u + β(tanh u − y) = a for complex β."""
    _solve_nudged(drive, state, beta, target, residual, np.tanh, lambda s: 1 - s * s)


def _solve_nudged(drive, state, beta, target, residual, function, slope):
    u = drive.copy()
    for _ in range(NEWTON_STEPS):
        s = function(u)
        step = (u + beta * (s - target) - drive) / (1 + beta * slope(s))
        u -= step
        if np.abs(step).max(initial=0) <= 4 * np.finfo(u.dtype).eps:
            break
    _move(state, function(u), residual)
    drive[...] = u


def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    """As `naive.retrieve`."""
    memory, slots, phantoms, rows = (array[samples] for array in (memory, slots, phantoms, rows))
    attention = np.zeros((*drive.shape[:2], memory.shape[1]), drive.dtype)
    attend(drive, memory, slots, phantoms, rows, scale, attention)
    _move(state, attention @ memory, residual)


def attend(drive, memory, slots, phantoms, rows, scale, attention):
    """As `naive.attend`, with the largest real part taken out of the exponentials."""
    attention[...] = 0
    for b, (m, r) in enumerate(zip(slots, rows, strict=True)):
        if m == 0:
            continue
        logits = scale * drive[b, :r] @ memory[b, :m].T
        peak = np.maximum(logits.real.max(axis=1, keepdims=True), 0)
        weights = np.exp(logits - peak)
        attention[b, :r, :m] = weights / (weights.sum(axis=1, keepdims=True) + phantoms[b] * np.exp(-peak))


def memory_update(drive, memory, slots, phantoms, rows, scale, coefficients, out):
    """As `naive.memory_update`."""
    _memory_update(attend, drive, memory, slots, phantoms, rows, scale, coefficients, out)


def _sigmoid(u):
    # The real part decides which of the two forms cannot overflow; both are the same analytic function.
    small = np.exp(np.where(u.real >= 0, -u, u))
    return np.where(u.real >= 0, 1, small) / (1 + small)
