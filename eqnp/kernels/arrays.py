"""What layers and synapses do to whole arrays beside their kernels, in NumPy; `eqnp.kernels.cuda` has its own.

Notation of shapes as in `eqnp.kernels.naive`.
"""

from __future__ import annotations

import time

import numpy as np

ASYNCHRONOUS = False  # a call returns when its work is done
PRODUCTS = "NumPy's BLAS"


def empty(shape, dtype):
    """An uninitialised array."""
    return np.empty(shape, dtype)


def scratch(purpose, shape, dtype):
    """An uninitialised array, good until the next call for the same purpose."""
    return np.empty(shape, dtype)


def zeros(shape, dtype):
    """An array of zeros."""
    return np.zeros(shape, dtype)


def device(array):
    """The array where the kernels can reach it: itself."""
    return array


def host(array):
    """The array in the host's memory: itself."""
    return array


def write(source, out):
    """out[...] = source, from the host's memory, and perhaps another precision."""
    out[...] = source


def timed(call) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def fill(array, value):
    """array[...] = value."""
    array[...] = value


def copy(source, out):
    """out[...] = source; a smaller source is repeated along the first axes."""
    out[...] = source


def add(source, out):
    """out += source; a smaller source is repeated along the first axes."""
    out += source


def scale(array, factor):
    """array *= factor."""
    array *= array.dtype.type(factor)


def weigh(array, weight, out):
    """out ← the array (P, rows, …) with the rows of each sample times its weight (B,): so many rows each, in order."""
    parts = len(array), len(weight), -1
    np.multiply(array.reshape(parts), weight[:, None], out=out.reshape(parts))


def repeated(array, count):
    """The array for each of ``count`` samples, (count, *array.shape)."""
    return np.broadcast_to(array, (count, *array.shape))


def may_speak(state) -> bool:
    """Whether any unit is not 0."""
    return bool(state.any())


def finite(array) -> bool:
    """Whether all entries are finite: then their squares have a finite sum, or at least the extremes are finite."""
    if np.isfinite(squared_norm(array)):  # BLAS reads once, and quickly
        return True
    return bool(np.isfinite(array.min()) and np.isfinite(array.max()))


def squared_norm(array) -> float:
    """The sum of all squares."""
    return float(np.vdot(array, array))


def product(a, b, out, *, turned=False):
    """out ← A B, or A Bᵀ; a (M, K), b (K, N) or ``turned`` (N, K), out (M, N)."""
    np.matmul(a, b.T if turned else b, out=out)


def add_products(weights, pres, scratch, out, map_over=map):
    """out (B, H) += Σ_i pre_i W_iᵀ in this order; weights (H, K_i), pres (B, K_i); ``map_over`` makes the products.

    Each is made as W preᵀ, in its own scratch (H, B): BLAS is an eighth quicker with the units of the weight along its
    long side.
    """
    list(map_over(lambda weight, pre, turned: np.matmul(weight, pre.T, out=turned), weights, pres, scratch))
    for turned in scratch:
        out += turned.T


def pull(drive, state, beta, target):
    """drive −= β(state − target), the paper's nudge; all (B, C)."""
    drive -= beta * (state - target)


def project(x, lengths, weight, bias, out):
    """out[b, n] (B, R, H) ← W x[b, n] + b for the first ``lengths[b]`` tokens, and zero in the rows from there on.

    x (B, M, K) with M ≤ R; lengths (B,), at most M; weight (H, K); bias (H,) or None. One product for all, and none for
    the padding.
    """
    real = np.arange(x.shape[1]) < lengths[:, None]
    projected = x[real] @ weight.T
    if bias is not None:
        projected += bias
    out[...] = 0
    out[:, : x.shape[1]][real] = projected


def mean_rows(shares, state, out):
    """out (B, K) ← the rows of state (B, R, K) added up by their shares (B, R)."""
    out[...] = np.matmul(shares[:, None], state)[:, 0]


def spread_rows(shares, back, out):
    """out (B, R, K) ← back (B, K) times the share of each row; shares (B, R)."""
    np.multiply(shares[:, :, None], back[:, None], out=out)


def times(left, right, out):
    """out ← left ∘ right, entry by entry; all of one shape, and ``out`` may be one of them."""
    np.multiply(left, right, out=out)


def add_times(left, right, factor, out):
    """out += factor · left ∘ right, entry by entry; all of one shape, factor a number."""
    out += out.dtype.type(factor) * left * right


def add_contrast(post, weight, coefficients, out):
    """out (B, M, K) += Σ_p c_p post_p W for the first M rows of post (P, B, R, H); weight (H, K)."""
    out += np.tensordot(coefficients, post[:, :, : out.shape[1]], axes=1) @ weight
