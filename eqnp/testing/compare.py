"""How far off is it? Errors, and the central differences that they are errors against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eqnp.learning import Estimate
from eqnp.machine.gradients import entries

STEP = 1e-6  # of central differences
SAMPLES = 4


def relative_error(value: np.ndarray, truth: np.ndarray) -> float:
    """‖value − truth‖ / ‖truth‖, or ‖value‖ if the truth is zero."""
    norm = np.linalg.norm(truth)
    return float(np.linalg.norm(value - truth) / norm) if norm else float(np.linalg.norm(value))


def cosine(value: np.ndarray, truth: np.ndarray) -> float:
    """The cosine of the angle between two arrays; 1 if either is zero."""
    norms = np.linalg.norm(value) * np.linalg.norm(truth)
    return float(value.ravel() @ truth.ravel() / norms) if norms else 1.0


def assert_agree(what: str, value: np.ndarray, truth: np.ndarray, tolerance: float, noise: float = 0.0) -> float:
    """Raise AssertionError for the entry that is furthest off; returns by how much, relative to the largest entry.

    ``noise`` is what rounding may add to any entry, whatever the size of the largest.
    """
    value, truth = np.asarray(value), np.asarray(truth)
    assert value.shape == truth.shape, f"{what} has shape {value.shape}, and must have {truth.shape}"
    if not truth.size:
        return 0.0
    scale = float(np.abs(truth).max()) or 1.0
    off = np.abs(value - truth)
    off = np.where(np.isfinite(off), off, np.inf) / scale
    worst = np.unravel_index(off.argmax(), off.shape)
    place = f" at {tuple(map(int, worst))}" if truth.ndim else ""
    assert off[worst] <= tolerance + noise / scale, (
        f"{what}{place} is {value[worst]:.8g}, and must be {truth[worst]:.8g}: "
        f"off by {off[worst]:.2%} of the largest entry"
    )
    return float(off[worst])


def errors_of(result: Estimate, exact: Estimate) -> tuple[dict[str, float], dict[str, float]]:
    """By parameter, the relative error and the cosine of an estimate against the exact one of the same batch."""
    pairs = {name: (entries(result.gradients[name]), entries(g)) for name, g in exact.gradients.items()}
    return (
        {name: relative_error(*pair) for name, pair in pairs.items()},
        {name: cosine(*pair) for name, pair in pairs.items()},
    )


def slopes(function: Callable, at: np.ndarray) -> np.ndarray:
    """∂/∂u of a function of (B, *shape) that gives (B,), by central differences; of that shape."""
    return np.stack([slope(function, at, i) for i in np.ndindex(at.shape[1:])], axis=1).reshape(at.shape)


def slope(function: Callable, at: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    """∂/∂u of one unit, (B,)."""
    ahead, behind = at.copy(), at.copy()
    ahead[:, *index] += STEP
    behind[:, *index] -= STEP
    return (function(ahead) - function(behind)) / (2 * STEP)


def slopes_by(function: Callable, array: np.ndarray, step: float = STEP, *, per_sample: bool) -> np.ndarray:
    """∂f/∂array, of a function (B,) of an array that is changed in place, by central differences.

    ``per_sample``: of an array (B, …) whose row b is of sample b alone, the slope of f[b], (B, …). Else of any array
    that all samples share: the slope of Σ_b f[b], of the array's shape.
    """
    result = np.empty(array.shape)
    for index in np.ndindex(array.shape[1:] if per_sample else array.shape):
        entry = (slice(None), *index) if per_sample else index
        kept = array[entry].copy()
        array[entry] = kept + step
        above = function()
        array[entry] = kept - step
        below = function()
        array[entry] = kept
        difference = above - below
        result[entry] = (difference if per_sample else difference.sum()) / (2 * step)
    return result


def rounding(values: np.ndarray, step: float = STEP) -> float:
    """What rounding may add to a central difference of such values."""
    return 8 * float(np.finfo(float).eps * np.abs(values).max(initial=0)) / step


def smooth_samples(state: Callable) -> np.ndarray:
    """The samples (B,) whose state has no kink within a step: there its second difference would be of first order."""
    bend = np.abs(state(STEP) - 2 * state(0) + state(-STEP)) / STEP
    return bend.reshape(len(bend), -1).max(axis=1) <= 1e-3 * (1 + np.abs(state(0)).max())


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """⟨a, b⟩ per sample, (B,)."""
    return (a * b).reshape(len(a), -1).sum(axis=1)
