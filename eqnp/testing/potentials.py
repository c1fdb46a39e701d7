"""Is it a potential, and is it a cost? See `eqnp.testing`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eqnp.costs import Cost, Nudge
from eqnp.kernels import load
from eqnp.potentials import Potential
from eqnp.states import Clamped, Layer, Segment
from eqnp.testing.compare import SAMPLES, STEP, assert_agree, dots, rounding, slopes, slopes_by, smooth_samples


def check_potential(
    potential: Potential,
    cost: Cost | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> None:
    """Raise AssertionError unless a potential is what `Potential` promises, at random drives of so many units.

    State = ∇Λ, convexity, the Hessian, `move` and `take`; of a separable one Λ* and ``max_slope``; with a memory ∂Λ/∂X
    and the rest of what is learned from it; with a ``cost`` the nudged block (`check_cost`).
    """
    rng = np.random.default_rng(seed)
    shape = shape or ((3, 4) if potential.memory else (5,))
    x, bound = _bound(potential, shape, rng)
    u, v, w = 2 * rng.standard_normal((3, x.size, *shape))
    state = bound.state(u)
    name = potential.name or type(potential).__name__
    assert_agree(f"{name}: the state", state, slopes(bound.value, u), tolerance, rounding(bound.value(u)))
    _check_move(name, bound.move, u, state, bound.value(u), rng, tolerance)
    index = np.array([2, 0])
    part = bound.take(index)
    _check_move(f"{name}, some samples", part.move, u[index], state[index], bound.value(u)[index], rng, tolerance)
    gap = bound.value(w) - bound.value(u) - dots(state, w - u)
    assert (gap >= -1e-9 * (1 + np.abs(bound.value(w)))).all(), (
        f"{name}: Λ lies {-gap.min():.3g} below its own tangent (sample {gap.argmin()}), so it is not convex"
    )
    smooth = smooth_samples(lambda t: bound.state(u + t * v))
    hv, difference = bound.hessian(u)(v), (bound.state(u + STEP * v) - bound.state(u - STEP * v)) / (2 * STEP)
    noise = rounding(state) + potential_error(potential, v)
    assert_agree(f"{name}: the Hessian times v", hv[smooth], difference[smooth], 10 * tolerance, noise)
    turned = dots(v, bound.hessian(u)(w))
    assert_agree(f"{name}: ⟨w, Hv⟩", dots(w, hv)[smooth], turned[smooth], 10 * tolerance, noise * w[0].size)
    if potential.separable:
        _check_separable(name, bound, u, state, tolerance)
    if potential.analytic:
        _check_analytic(name, potential, shape, seed, tolerance)
    if potential.memory:
        _check_memory(name, lambda: potential.bind(Layer("layer", shape, potential), x), x, u, v, tolerance)
    if cost is not None:
        check_cost(cost, potential, units=shape[0], seed=seed, tolerance=tolerance)


def _check_separable(name: str, bound: Potential, u: np.ndarray, state: np.ndarray, tolerance: float) -> None:
    grid = np.linspace(-12, 12, 481)[:, None]
    slopes_there = bound.hessian(grid)(np.ones_like(grid))
    steepest = float(max(slopes_there.max(), (np.diff(bound.state(grid), axis=0) / np.diff(grid, axis=0)).max()))
    assert steepest <= bound.max_slope + 10 * tolerance, (
        f"{name}: σ rises by {steepest:.6g}, and max_slope is {bound.max_slope:.6g}"
    )
    value = bound.value(u)
    assert_agree(f"{name}: Λ*(s)", bound.conjugate(state), dots(u, state) - value, tolerance, rounding(value, 1e-3))


def _check_analytic(name: str, potential: Potential, shape: tuple[int, ...], seed: int, tolerance: float) -> None:
    """Off the real line the state goes on as its power series does: Im s(u + i h v) / h is the Hessian times v."""
    rng, step = np.random.default_rng(seed + 1), 1e-20
    x, bound = _bound(potential, shape, rng, "analytic")
    u, v = 2 * rng.standard_normal((2, x.size, *shape))
    state = np.zeros(u.shape, complex)
    bound.move(u + 1j * step * v, state, np.zeros(x.size), np.zeros(x.size))
    assert_agree(f"{name}: the analytic state along iv", state.imag / step, bound.hessian(u)(v), 10 * tolerance)


def _check_memory(name: str, bind: Callable, x: Clamped, u: np.ndarray, v: np.ndarray, tolerance: float) -> None:
    bound = bind()
    memory, value = x.tokens[bound.memory], bound.value(u)
    truth = slopes_by(lambda: bind().value(u), memory, per_sample=True)
    assert_agree(f"{name}: ∂Λ/∂X", bound.memory_gradient(u), truth, tolerance, rounding(value))
    update, c = np.empty_like(memory), np.array([1.5, -0.5])
    bound.memory_update(np.stack([u, v]), c, update)
    truth = c[0] * bound.memory_gradient(u) + c[1] * bound.memory_gradient(v)
    assert_agree(f"{name}: the contrast of ∂Λ/∂X", update, truth, tolerance)
    smooth = smooth_samples(lambda t: bound.state(u + t * v))
    truth = slopes_by(lambda: dots(v, bind().state(u)), memory, per_sample=True)
    noise = rounding(dots(v, bound.state(u))) + potential_error(bound, v)
    assert_agree(f"{name}: vᵀ ∂s/∂X", bound.memory_adjoint(u, v)[smooth], truth[smooth], 10 * tolerance, noise)


def potential_error(potential: Potential, v: np.ndarray) -> float:
    """What the central differences that stand in for a derivative may be off by, along v."""
    return potential.hessian_error * float(np.abs(v).max())


def check_cost(cost: Cost, potential: Potential, *, units: int = 4, seed: int = 0, tolerance: float = 1e-6) -> None:
    """Raise AssertionError unless a cost nudges an output as `Cost` promises: Λ_β and its gradient, on both sides.

    ∂C/∂s; the nudged state = ∇Λ_β; Λ_β is −F at its minimum, and falls with β as C says; `move` agrees.
    """
    rng = np.random.default_rng(seed)
    x, bound = _bound(potential, (units,), rng)
    a, other = 2 * rng.standard_normal((2, x.size, units))
    target, free = np.eye(units)[rng.integers(0, units, x.size)], bound.state(a)
    name = cost.name or type(cost).__name__
    value = cost.value(free, target)
    inner = bound.state(a / 4)  # where no state is so near its bound that a step is long
    truth = slopes(lambda s: cost.value(s, target), inner)
    assert_agree(f"{name}: ∂C/∂s", cost.slope(inner, target), truth, 10 * tolerance)
    assert_agree(f"{name}: the state at β = 0", cost.nudged_state(bound, a, Nudge(0.0, target)), free, tolerance)
    low, high = cost.betas(potential)
    for beta in (0.5 * max(low, -1.0), 0.5 * min(high, 1.0)):
        nudge = Nudge(beta, target)
        state, best = cost.nudged_state(bound, a, nudge), cost.nudged_value(bound, a, nudge)
        truth = slopes(lambda drive, nudge=nudge: cost.nudged_value(bound, drive, nudge), a)
        assert_agree(f"{name}, β = {beta:g}: the nudged state", state, truth, tolerance, rounding(best))
        assert_agree(f"{name}, β = {beta:g}: F at its minimum", -cost.energy(bound, a, state, nudge), best, tolerance)
        above = cost.energy(bound, a, bound.state(other), nudge) + best
        assert (above >= -1e-9 * (1 + np.abs(best))).all(), (
            f"{name}, β = {beta:g}: F has a lower state than the nudged one"
        )

        def move(drive, state, residual, value, nudge=nudge):
            cost.move(bound, drive, state, nudge, residual, value)

        _check_move(f"{name}, β = {beta:g}", move, a, state, best, rng, tolerance)
    step = 1e-4
    values = [cost.nudged_value(bound, a, Nudge(beta, target)) for beta in (step, -step)]
    assert_agree(f"{name}: −∂Λ_β/∂β, which is C,", (values[1] - values[0]) / (2 * step), value, 10 * tolerance)


def _bound(potential: Potential, shape: tuple[int, ...], rng, kernels: str = "cpu") -> tuple[Clamped, Potential]:
    """A batch of random tokens for the memory of a potential, one text without any, and the potential bound to it."""
    slots, width = 5, shape[-1]
    lengths = np.array([slots, 3, 1, 0])
    inside = np.arange(slots) < lengths[:, None]
    name = potential.memory or "text"
    segments = {name: Segment(inside.astype(np.int32), lengths)}
    tokens = {name: rng.standard_normal((SAMPLES, slots, width)) * inside[:, :, None]}
    fixed = ({name: slots}, {"layer": shape}, SAMPLES, np.dtype(float), load(kernels))
    x = Clamped(segments, tokens, {name: lengths}, *fixed)
    return x, potential.bind(Layer("layer", shape, potential), x)


def _check_move(name, move: Callable, drive, state, value, rng, tolerance: float) -> None:
    before = rng.standard_normal(state.shape)
    moved, residual, values = before.copy(), np.zeros(len(state)), np.empty(len(state))
    move(drive.copy(), moved, residual, values)
    assert_agree(f"{name}: the state that `move` leaves", moved, state, tolerance)
    assert_agree(f"{name}: the value that `move` leaves", values, value, tolerance)
    change = np.abs(state - before).reshape(len(state), -1).max(axis=1)
    assert_agree(f"{name}: the residual that `move` leaves", residual, change, tolerance)
