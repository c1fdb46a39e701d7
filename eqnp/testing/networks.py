"""Is the estimate the gradient, and does the energy fall? See `eqnp.testing`."""

from __future__ import annotations

from functools import partial

import numpy as np

from eqnp.costs import Nudge
from eqnp.dynamics import SettlingConfig, Trace, settle
from eqnp.errors import ConfigError, nearest
from eqnp.learning import LearningConfig, estimate
from eqnp.machine.gradients import RowGradient, entries
from eqnp.network import Network
from eqnp.oracles import bptt, finite_difference, implicit
from eqnp.states import Batch
from eqnp.testing.compare import assert_agree

EXACT = SettlingConfig("even-odd", 1e-13, 4000, 4000)


def check_gradients(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    estimator: str = "symmetric",
    beta: float = 1e-3,
    *,
    against: str = "implicit",
    tolerance: float = 1e-4,
    weight: np.ndarray | None = None,
) -> float:
    """Raise AssertionError unless EP's estimate is the gradient of the loss; returns the worst parameter's error.

    ``against`` is "implicit", "finite differences" (every entry: for small networks) or "bptt" (400 steps). Errors are
    relative to the largest entry of a parameter's gradient; expect O(β) of one-sided estimates, O(β²) of symmetric
    ones. The loss is the mean of w C where samples have a ``weight`` w, (B,).
    """
    network = network.astype(np.float64)
    if against == "finite differences":
        names = network.parameters
        truth = {name: finite_difference.gradient(network, batch, target, EXACT, name, weight=weight) for name in names}
    else:
        routes = {"implicit": implicit.estimate, "bptt": partial(bptt.estimate, steps=400)}
        if against not in routes:
            raise ConfigError(f"unknown route {against!r}{nearest(against, (*routes, 'finite differences'))}")
        truth = routes[against](network, batch, target, EXACT, weight=weight).gradients
    largest = max(float(np.abs(entries(g)).max(initial=0)) for g in truth.values())
    for weaker in (1, 10, 100):
        result = estimate(network, batch, target, LearningConfig(estimator, beta / weaker), EXACT, weight=weight)
        residual = result.residual.max()
        assert residual <= 1e-9, f"the phases did not settle: the last residual is {residual:.1e}"
        what = f"{estimator}, β = {beta / weaker:g}, against {against}"
        worst = 0.0
        try:
            for name, gradient in result.gradients.items():
                value, exact = (dense(g, network.parameters[name]) for g in (gradient, truth[name]))
                off = assert_agree(f"{what}: {name}", value, exact, tolerance, 1e-8 * largest)
                worst = max(worst, off)
            return worst
        except AssertionError:
            if weaker == 100:
                raise
    raise AssertionError("unreachable")


def dense(gradient, table: np.ndarray) -> np.ndarray:
    """A gradient in the shape of its parameter, also one of rows."""
    return gradient.dense(table) if isinstance(gradient, RowGradient) else gradient


def check_energy(network: Network, batch: Batch, target: np.ndarray, beta: float = 0.1, *, sweeps: int = 25) -> float:
    """Raise AssertionError if F rises in any sweep of blocks, free or nudged by ±β, plain or accelerated.

    Returns the largest rise, relative to 1 + |F|, which is rounding.
    """
    network = network.astype(np.float64)
    x, worst = network.clamp(batch), 0.0
    for accelerate in (False, True):
        settling = SettlingConfig("even-odd", 0.0, sweeps, sweeps, accelerate)
        free, trace = network.zero_state(x), Trace()
        settle(network, x, free, settling, trace=trace)
        what = f"{'accelerated' if accelerate else 'plain'} sweeps"
        worst = max(worst, assert_falls(trace.energy, f"{what}, free phase"))
        # A cost that counts at its minimum (cross-entropy) is compared from a settled state on: docs/theory.md, fact 4.
        settle(network, x, free, SettlingConfig("even-odd", 1e-14, 4000, 1))
        for nudge in (Nudge(beta, target), Nudge(-beta, target)):
            state, trace = network.zero_state(x), Trace()
            state.assign(free)
            start = network.energy(x, state, nudge)
            settle(network, x, state, settling, nudge, trace)
            worst = max(worst, assert_falls([start, *trace.energy], f"{what}, β = {nudge.beta:g}"))
    return worst


def assert_falls(energy: list[np.ndarray], what: str = "settling", slack: float = 1e-10) -> float:
    """Raise AssertionError if the energy (B,) of a sample rises from one sweep to the next, beyond rounding."""
    path = np.array(energy)
    rises = np.diff(path, axis=0) / (1 + np.abs(path[:-1]))
    sweep, sample = np.unravel_index(rises.argmax(), rises.shape) if rises.size else (0, 0)
    worst = float(rises.max(initial=0))
    assert worst <= slack, f"{what}: F of sample {sample} rises by {worst:.2e} of 1 + |F| in sweep {sweep + 1}"
    return worst
