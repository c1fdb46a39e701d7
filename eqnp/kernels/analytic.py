"""The definitions continued to complex drives, for holomorphic EP; as in `naive`, of the functions that are analytic.

Nothing here takes a modulus but the residual: C and every ⟨·, ·⟩ are products without conjugation. There is no clipped
activation (it has kinks), and no root is bracketed: the nudges are small, and Newton starts at the drive. What `naive`
writes without comparing states serves as it is.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.arrays import *  # noqa: F403  (whole arrays, the same for all kernels of the host)
from eqnp.kernels.naive import (
    NEWTON_STEPS,
    _move,
    _softmax,
    attend,
    fold,
    gather,
    local_update,
    memory_update,
    neighbours,
    scatter_add,
)

__all__ = ["attend", "fold", "gather", "local_update", "logistic", "logistic_cross_entropy", "logistic_nudged",
           "memory_update", "neighbours", "retrieve", "scatter_add", "softmax", "softmax_nudged", "tanh",
           "tanh_nudged"]  # fmt: skip


def logistic(drive, state, residual, value):
    """As `naive.logistic`; Λ is not kept, since no energy is compared."""
    _move(state, _sigmoid(drive), residual)


def tanh(drive, state, residual, value):
    """As `naive.tanh`."""
    _move(state, np.tanh(drive), residual)


def softmax(drive, state, residual, value):
    """As `naive.softmax`."""
    _move(state, _softmax(drive), residual)


def softmax_nudged(drive, state, beta, target, residual, value):
    """As `naive.softmax_nudged`."""
    _move(state, (1 - beta) * _softmax(drive) + beta * target, residual)


def logistic_cross_entropy(drive, state, beta, target, residual, value):
    """As `naive.logistic_cross_entropy`."""
    _move(state, (1 - beta) * _sigmoid(drive) + beta * target, residual)


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


def retrieve(drive, memory, slots, phantoms, rows, scale, samples, state, residual, value):
    """As `naive.retrieve`, without Λ."""
    memory, slots, phantoms, rows = (array[samples] for array in (memory, slots, phantoms, rows))
    attention = np.zeros((*drive.shape[:2], memory.shape[1]), drive.dtype)
    attend(drive, memory, slots, phantoms, rows, scale, attention)
    _move(state, attention @ memory, residual)


def _sigmoid(u):
    # The real part decides which of the two forms cannot overflow; both are the same analytic function.
    small = np.exp(np.where(u.real >= 0, -u, u))
    return np.where(u.real >= 0, 1, small) / (1 + small)
