"""Λ of every kind of layer in plain NumPy, for any float dtype: states are its gradients, and energies made of it."""

from __future__ import annotations

import numpy as np


def clipped(u):
    """λ(u) = u²/4 on [0, 2], 0 below and u − 1 above, per unit; its slope is clip(u/2, 0, 1)."""
    return np.where(u < 0, 0, np.where(u > 2, u - 1, u * u / 4))


def clipped_state(u):
    """σ(u) = clip(u/2, 0, 1) per unit."""
    return np.clip(u / 2, 0, 1)


def clipped_conjugate(s):
    """λ*(s) = s² per unit, for s in [0, 1]."""
    return s * s


def clipped_slope(u):
    """λ''(u) = ½ on (0, 2), else 0."""
    return np.where((u > 0) & (u < 2), u.dtype.type(0.5), u.dtype.type(0))


def logistic(u):
    """λ(u) = log(1 + exp u) per unit."""
    return np.logaddexp(0, u)


def logistic_state(u):
    """σ(u) = 1/(1 + exp(−u)) per unit."""
    small = np.exp(-np.abs(u))  # never overflows
    return np.where(u >= 0, 1, small) / (1 + small)


def logistic_conjugate(s):
    """λ*(s) = s log s + (1 − s) log(1 − s) per unit, for s in [0, 1]."""
    return _s_log_s(s) + _s_log_s(1 - s)


def logistic_slope(u):
    """λ''(u) = σ(u)(1 − σ(u)), written so that nothing overflows."""
    small = np.exp(-np.abs(u))
    return small / (1 + small) ** 2


def tanh(u):
    """λ(u) = log cosh u per unit."""
    return np.logaddexp(u, -u) - np.log(u.dtype.type(2))


def tanh_conjugate(s):
    """λ*(s) = ½ (1 + s) log(1 + s) + ½ (1 − s) log(1 − s) per unit, for s in [−1, 1]."""
    return (_s_log_s(1 + s) + _s_log_s(1 - s)) / 2


def tanh_slope(u):
    """λ''(u) = 1 − tanh² u."""
    return 1 - np.tanh(u) ** 2


def softmax(u):
    """Λ(u) = logsumexp(u) per sample, (B,); its gradient is softmax(u)."""
    peak = u.real.max(axis=1)
    return peak + np.log(np.exp(u - peak[:, None]).sum(axis=1))


def _s_log_s(s):
    return s * np.log(np.where(s > 0, s, 1))


def hopfield(drive, memory, slots, phantoms, rows, scale):
    """Λ(u) = (1/κ) Σ_rows logsumexp(κ u Xᵀ) per sample, (B,), zero patterns included; shapes as in `naive.retrieve`."""
    values = np.zeros(len(drive))
    for b, (m, zeros, r) in enumerate(zip(slots, phantoms, rows, strict=True)):
        if m + zeros:
            logits = np.zeros((r, m + zeros), drive.dtype)
            logits[:, :m] = scale * drive[b, :r] @ memory[b, :m].T
            values[b] = np.logaddexp.reduce(logits, axis=1).sum() / scale
    return values
