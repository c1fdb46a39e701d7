"""The states of dense layers, s = ∇Λ(u), and of outputs under a nudge."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import cuda, float64

from eqnp.kernels.cuda.blocks import LINE, find_largest, larger, launch, over, real_of, sum_up
from eqnp.kernels.naive import NEWTON_STEPS

HALF, NONE, FULL = np.float32(0.5), np.float32(0), np.float32(1)  # they widen nothing: 1 + float32 would be float64


@cuda.jit(device=True)
def _clip(u):
    return min(max(HALF * u, NONE), FULL) if u == u else u  # a device's max and min would lose NaN


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
                change = larger(change, abs(s - state[b, h]))
                state[b, h] = s
                total += potential(u)
            sums[t], largest[t] = total, change
            sum_up(sums)
            find_largest(largest)
            if t == 0:
                value[b], residual[b] = sums[0], larger(residual[b], largest[0])

        return kernel

    def move(drive, state, residual, value):
        if len(drive):
            launch(of_type(real_of(drive)), len(drive), LINE, drive, state, residual, value)

    move.__name__, move.__doc__ = name, f"As `naive.{name}`."
    return move


clipped = _move_units("clipped", _clip, _clip_value)
logistic = _move_units("logistic", _sigmoid, _softplus)
tanh = _move_units("tanh", _tanh, _log_cosh)


# The output has a few units only: a thread for every sample.


def softmax(drive, state, residual, value):
    """As `naive.softmax`."""
    over(len(drive), _softmax_output, drive, state, drive.dtype.type(0), state, residual, value)


def softmax_nudged(drive, state, beta, target, residual, value):
    """As `naive.softmax_nudged`."""
    over(len(drive), _softmax_output, drive, state, drive.dtype.type(beta), target, residual, value)


@cuda.jit
def _softmax_output(drive, state, beta, target, residual, value):
    b = cuda.grid(1)
    if b < drive.shape[0]:
        peak = drive[b, 0]
        for c in range(1, drive.shape[1]):
            peak = larger(peak, drive[b, c])
        total = 0.0
        for c in range(drive.shape[1]):
            total += math.exp(drive[b, c] - peak)
        energy, change = (1 - beta) * (peak + math.log(total)), residual[b]
        for c in range(drive.shape[1]):
            s = (1 - beta) * (math.exp(drive[b, c] - peak) / total)
            if beta != 0:
                s += beta * target[b, c]
                energy += beta * drive[b, c] * target[b, c]
            change = larger(change, abs(s - state[b, c]))
            state[b, c] = s
        value[b], residual[b] = energy, change


def clipped_nudged(drive, state, beta, target, residual, value):
    """As `naive.clipped_nudged`."""
    over(len(drive), _clipped_nudged, drive, state, drive.dtype.type(beta), target, residual, value)


@cuda.jit
def _clipped_nudged(drive, state, beta, target, residual, value):
    b = cuda.grid(1)
    if b < drive.shape[0]:
        energy, change = 0.0, residual[b]
        for c in range(drive.shape[1]):
            a, y = drive[b, c], target[b, c]
            s = min(max((a + beta * y) / (2 + beta), a * 0), a * 0 + 1)
            energy += s * (a - s) - beta / 2 * (s - y) ** 2
            change = larger(change, abs(s - state[b, c]))
            state[b, c] = s
        value[b], residual[b] = energy, change


def logistic_cross_entropy(drive, state, beta, target, residual, value):
    """As `naive.logistic_cross_entropy`."""
    over(len(drive), _logistic_cross_entropy, drive, state, float(beta), target, residual, value)


@cuda.jit
def _logistic_cross_entropy(drive, state, beta, target, residual, value):
    b = cuda.grid(1)
    if b < drive.shape[0]:
        energy, change = 0.0, residual[b]
        for c in range(drive.shape[1]):
            a, y = float64(drive[b, c]), float64(target[b, c])
            s = state.dtype.type((1 - beta) * _sigmoid(a) + beta * y)
            energy += (1 - beta) * _softplus(a) + beta * a * y
            change = larger(change, abs(s - state[b, c]))
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
                reach = abs(beta) * (1 + max(1.0, abs(y)))
                low, high, u = a - reach, a + reach, a
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
                change = larger(change, abs(state.dtype.type(s) - state[b, c]))
                state[b, c] = s
            value[b], residual[b] = energy, change

    def move(drive, state, beta, target, residual, value):
        over(len(drive), kernel, drive, state, float(beta), target, residual, value)

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
    over(drive.size, _pull, drive.reshape(-1), state.reshape(-1), drive.dtype.type(beta), target.reshape(-1))


@cuda.jit
def _pull(drive, state, beta, target):
    i = cuda.grid(1)
    if i < drive.size:
        drive[i] -= beta * (state[i] - target[i])
