"""Costs: what an output is nudged by. A nudge βC is another potential Λ_β, whose state ∇Λ_β is the nudged minimum.

`Cost` is the protocol: from outside, five plain NumPy functions are enough. The package's own, the squared error, the
cross-entropy of a softmax and that of each logistic unit, use the kernels of the potential that they nudge.
docs/theory.md, facts 7 and 8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eqnp.errors import ConfigError
from eqnp.potentials import Potential, per_sample, replace_state

NEWTON_STEPS = 60  # a bracketed Newton step at least halves the bracket


class Nudge(NamedTuple):
    """The pull β·C on the output: strength and targets (B, C)."""

    beta: float
    target: np.ndarray

    def take(self, index: np.ndarray) -> Nudge:
        """The pull on some of the samples."""
        return Nudge(self.beta, self.target[index])


class Cost:
    """C of the output layer, whose ``potential`` every method is handed, bound to the batch.

    ``nudged_state`` and ``nudged_value`` are ∇Λ_β(a) and Λ_β(a) = max_s ⟨a, s⟩ − Λ*(s) − βC for the drive a from below;
    between the two ``betas`` that maximum must be one. Shapes: drives, states and targets (B, C), values (B,).
    """

    name = ""
    compiled = False

    def betas(self, potential: Potential) -> tuple[float, float]:
        """The nudges between which the output has a single minimum; ConfigError for a potential it is not made for."""
        raise NotImplementedError(f"{type(self).__name__} has no betas(potential)")

    def value(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """C per sample, (B,), at free states."""
        raise NotImplementedError(f"{type(self).__name__} has no value(state, target)")

    def slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """∂C/∂s at free states, (B, C)."""
        raise NotImplementedError(f"{type(self).__name__} has no slope(state, target)")

    def nudged_state(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """∇Λ_β(a), the exact minimum of the output block under the nudge."""
        raise NotImplementedError(f"{type(self).__name__} has no nudged_state(potential, drive, nudge)")

    def nudged_value(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """Λ_β(a) per sample."""
        raise NotImplementedError(f"{type(self).__name__} has no nudged_value(potential, drive, nudge)")

    def move(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """As `Potential.move`, under the nudge: state ← ∇Λ_β(drive), ``value`` ← Λ_β(drive)."""
        replace_state(state, self.nudged_state(potential, drive, nudge), residual)
        if drive.dtype.kind != "c":  # off the real line no energies are compared
            value[:] = self.nudged_value(potential, drive, nudge)

    def step(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """The update of the paper's synchronous sweeps, where the pull may come from the state before."""
        self.move(potential, drive, state, nudge, residual, value)

    def energy(self, potential: Potential, drive: np.ndarray, state: np.ndarray, nudge: Nudge | None) -> np.ndarray:
        """The output's part of F per sample, for the drive a from below: at its minimum over s, −Λ_β(a)."""
        return -potential.value(drive) if nudge is None else -self.nudged_value(potential, drive, nudge)


class SquaredError(Cost):
    """C = ½ ‖s − y‖² of a separable output: s = ∇Λ(u) at u = a − β(s − y), convex while −β max λ'' < 1."""

    name = "squared error"
    compiled = True

    def betas(self, potential: Potential) -> tuple[float, float]:
        """(−1 / max λ'', ∞); raises ConfigError for an output that is no sum over units."""
        if not potential.separable:
            name = potential.name or type(potential).__name__
            raise ConfigError(f"the squared error needs an output of separate units, not {name!r}; use another cost")
        return -1 / potential.max_slope, np.inf

    def value(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """½ ‖s − y‖² per sample."""
        difference = state - target
        return (difference * difference).sum(axis=1) / 2

    def slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """s − y."""
        return state - target

    def nudged_state(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """By bracketed Newton on g(u) = u + β(σ(u) − y) − a, unit by unit, for any non-decreasing σ.

        g' is at least m = min(1, 1 + β max σ') > 0, so the root lies within |g(a)| / m of a, however large σ and y are.
        Off the real line nudges are small, and no root is bracketed.
        """
        (beta, target), u, real = nudge, drive.copy(), drive.dtype.kind != "c"
        least = 1 if not real or beta >= 0 else 1 + beta * potential.max_slope
        radius = np.abs(beta * (potential.state(drive) - target)) / least
        low, high = drive - radius, drive + radius
        for _ in range(NEWTON_STEPS):
            excess = u + beta * (potential.state(u) - target) - drive
            u, last = u - excess / (1 + beta * potential.hessian(u)(np.ones_like(u))), u
            if real:
                low, high = np.where(excess < 0, last, low), np.where(excess > 0, last, high)
                u = np.where((u < low) | (u > high) | ~np.isfinite(u), (low + high) / 2, u)
            if (np.abs(u - last) <= 2 * np.finfo(u.dtype).eps * (1 + np.abs(u))).all():
                break
        return potential.state(u)

    def nudged_value(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """Λ_β(a) = Λ(u) + β/2 (‖s‖² − ‖y‖²), from ⟨a, s⟩ − Λ*(s) − βC and Λ*(s) = ⟨u, s⟩ − Λ(u)."""
        return self._value_at(potential, drive, self.nudged_state(potential, drive, nudge), nudge)

    def _value_at(self, potential: Potential, drive, state, nudge: Nudge) -> np.ndarray:
        u = drive - nudge.beta * (state - nudge.target)
        return potential.value(u) + nudge.beta / 2 * per_sample(state * state - nudge.target * nudge.target)

    def move(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """As `Cost.move`, by the kernel of the potential, if it has one."""
        if kernel := getattr(potential, "kernel", ""):
            getattr(potential.kernels, f"{kernel}_nudged")(drive, state, *nudge, residual, value)
            return
        replace_state(state, self.nudged_state(potential, drive, nudge), residual)
        if drive.dtype.kind != "c":
            value[:] = self._value_at(potential, drive, state, nudge)

    def step(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """The paper's nudge, with the previous state on the right: s ← ∇Λ(a − β(s − y)); the drive becomes that."""
        if potential.compiled:
            potential.kernels.pull(drive, state, *nudge)
        else:
            drive -= nudge.beta * (state - nudge.target)
        potential.move(drive, state, residual, value)

    def energy(self, potential: Potential, drive: np.ndarray, state: np.ndarray, nudge: Nudge | None) -> np.ndarray:
        """Λ*(s) − ⟨a, s⟩ + βC per sample, at any state."""
        energy = potential.conjugate(state) - (drive * state).sum(axis=1)
        return energy if nudge is None else energy + nudge.beta * self.value(state, nudge.target)


class CrossEntropy(Cost):
    """C = logsumexp(a) − ⟨y, a⟩ of the drive a of a softmax; at the free state C = −Σ y log s. Targets sum to 1.

    Λ_β(a) = (1 − β) logsumexp(a) + β ⟨y, a⟩: the state (1 − β) softmax(a) + β y feeds back and is contrasted like any
    other, and the block has its exact minimum for every β < 1 of either sign.
    """

    name = "cross-entropy"
    compiled = True

    def betas(self, potential: Potential) -> tuple[float, float]:
        """(−∞, 1); raises ConfigError for an output that is no softmax."""
        if potential.name != "softmax":
            raise ConfigError(
                f"the cross-entropy needs a softmax output, not {potential.name!r}; use the squared error"
            )
        return -np.inf, 1.0

    def value(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """−Σ y log s per sample."""
        return -(target * np.log(np.maximum(state, np.finfo(state.dtype).tiny))).sum(axis=1)

    def slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """−y / s."""
        return -target / np.maximum(state, np.finfo(state.dtype).tiny)

    def nudged_state(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """(1 − β) softmax(a) + β y."""
        return (1 - nudge.beta) * potential.state(drive) + nudge.beta * nudge.target

    def nudged_value(self, potential: Potential, drive: np.ndarray, nudge: Nudge) -> np.ndarray:
        """(1 − β) logsumexp(a) + β ⟨y, a⟩ per sample."""
        return (1 - nudge.beta) * potential.value(drive) + nudge.beta * (drive * nudge.target).sum(axis=1)

    def move(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """As `Cost.move`, by a kernel."""
        potential.kernels.softmax_nudged(drive, state, *nudge, residual, value)


class BinaryCrossEntropy(CrossEntropy):
    """C = Σ softplus(a) − y a of the drive a of logistic units, one yes or no to each class; targets lie in [0, 1].

    At the free state C = −Σ y log s + (1 − y) log(1 − s), so a sample may have any number of classes. Λ_β(a) =
    Σ (1 − β) softplus(a) + β y a, and the state is (1 − β) σ(a) + β y, for every β < 1 of either sign.
    """

    name = "binary cross-entropy"
    compiled = True

    def betas(self, potential: Potential) -> tuple[float, float]:
        """(−∞, 1); raises ConfigError for an output that is not logistic."""
        if potential.name != "logistic":
            raise ConfigError(
                f"the cross-entropy needs a logistic or softmax output, not {potential.name!r}; use the squared error"
            )
        return -np.inf, 1.0

    def value(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """−Σ y log s + (1 − y) log(1 − s) per sample."""
        least = np.finfo(state.dtype).tiny
        yes, no = np.log(np.maximum(state, least)), np.log(np.maximum(1 - state, least))
        return -(target * yes + (1 - target) * no).sum(axis=1)

    def slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """(s − y) / (s (1 − s))."""
        return (state - target) / np.maximum(state * (1 - state), np.finfo(state.dtype).tiny)

    def move(self, potential: Potential, drive, state, nudge: Nudge, residual, value) -> None:
        """As `Cost.move`, by a kernel."""
        potential.kernels.logistic_cross_entropy(drive, state, *nudge, residual, value)
