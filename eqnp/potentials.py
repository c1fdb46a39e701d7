"""Potentials: every kind of layer is a convex function Λ of its drive u, and its state is s = ∇Λ(u).

With s = ∇Λ(u), Fenchel's equality gives the convex conjugate of the energy, Λ*(s) = ⟨u, s⟩ − Λ(u). The potential of an
output layer also knows the cost C that it is nudged by: squared error for units of their own, cross-entropy for a
softmax. ``value`` and ``energy`` are for diagnosis and proofs and are plain NumPy; ``move`` and ``move_nudged``, which
training calls millions of times, are kernels (formulas: `eqnp.kernels.values` and `eqnp.kernels.naive`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import NamedTuple

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.kernels import values


class Nudge(NamedTuple):
    """The pull β·C on the output: strength and targets (B, C)."""

    beta: float
    target: np.ndarray

    def take(self, index: np.ndarray) -> Nudge:
        """The pull on some of the samples."""
        return Nudge(self.beta, self.target[index])


@dataclass(frozen=True)
class Elementwise:
    """Λ(u) = Σ_units λ(u) for a dense layer; drive and state have shape (B, H), or (B, R, H) with rows of units.

    ``scalar`` is λ, ``conjugate`` is λ*, and ``slope`` is λ'' = σ', per unit. As an output it is nudged by the squared
    error C = ½ ‖s − y‖². ``max_slope`` is max σ': under a nudge −β the output block stays convex only while
    |β| · max_slope < 1. ``analytic`` says whether λ may be continued to complex drives.
    """

    name: str
    scalar: Callable[[np.ndarray], np.ndarray]
    conjugate: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    max_slope: float
    analytic: bool
    kernels: ModuleType

    def take(self, index: np.ndarray) -> Elementwise:
        """Itself: nothing in it belongs to a sample."""
        return self

    @property
    def betas(self) -> tuple[float, float]:
        """The nudges between which the output block has a single minimum."""
        return -1 / self.max_slope, np.inf

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, shape (B,)."""
        return _per_sample(self.scalar(drive))

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """state ← ∇Λ(drive) in place, ``residual`` (B,) raised to the largest change, ``value`` (B,) ← Λ(drive)."""
        size = len(drive)
        getattr(self.kernels, self.name)(drive.reshape(size, -1), state.reshape(size, -1), residual, value)

    def move_nudged(self, drive, state, nudge: Nudge, residual, value) -> None:
        """state ← argmin_s Λ*(s) − ⟨drive, s⟩ + βC, exactly; ``value`` ← minus that minimum."""
        getattr(self.kernels, f"{self.name}_nudged")(drive, state, *nudge, residual, value)

    def step_nudged(self, drive, state, nudge: Nudge, residual, value) -> None:
        """The paper's nudge, with the previous state on the right: s ← ∇Λ(a − β(s − y)); the drive becomes that."""
        self.kernels.pull(drive, state, *nudge)
        self.move(drive, state, residual, value)

    def cost(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """C = ½ ‖s − y‖² per sample, (B,)."""
        difference = state - target
        return (difference * difference).sum(axis=1) / 2

    def cost_slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """∂C/∂s, (B, C)."""
        return state - target

    def energy(self, drive: np.ndarray, state: np.ndarray, nudge: Nudge | None) -> np.ndarray:
        """The output layer's part of F at any state, Λ*(s) − ⟨a, s⟩ + βC per sample, for the drive a from below."""
        energy = _per_sample(self.conjugate(state)) - _dot(drive, state)
        return energy if nudge is None else energy + nudge.beta * self.cost(state, nudge.target)

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → ∇²Λ(u) v."""
        slope = self.slope(drive)
        return lambda v: slope * v


@dataclass(frozen=True)
class Softmax:
    """Λ(u) = logsumexp(u) over the classes: an output layer whose states are probabilities; drive and state (B, C).

    It is nudged by the cross-entropy C = logsumexp(a) − ⟨y, a⟩ of its drive a from below, and then
    Λ_β(a) = (1 − β) logsumexp(a) + β ⟨y, a⟩: the state (1 − β) softmax(a) + β y feeds back and is contrasted like any
    other, and the block has its exact minimum for every β < 1 of either sign. At the free state C = −Σ y log s.
    """

    kernels: ModuleType
    name: str = "softmax"
    analytic: bool = True
    betas: tuple[float, float] = (-np.inf, 1.0)

    def take(self, index: np.ndarray) -> Softmax:
        """Itself: nothing in it belongs to a sample."""
        return self

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, shape (B,)."""
        return values.softmax(drive)

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """As `Elementwise.move`."""
        self.kernels.softmax(drive, state, residual, value)

    def move_nudged(self, drive, state, nudge: Nudge, residual, value) -> None:
        """As `Elementwise.move_nudged`."""
        self.kernels.softmax_nudged(drive, state, *nudge, residual, value)

    step_nudged = move_nudged  # the pull does not depend on the layer's own state

    def cost(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """C = −Σ y log s per sample, (B,), for free states s."""
        return -(target * np.log(np.maximum(state, np.finfo(state.dtype).tiny))).sum(axis=1)

    def cost_slope(self, state: np.ndarray, target: np.ndarray) -> np.ndarray:
        """∂C/∂s, (B, C)."""
        return -target / np.maximum(state, np.finfo(state.dtype).tiny)

    def energy(self, drive: np.ndarray, state: np.ndarray, nudge: Nudge | None) -> np.ndarray:
        """The output layer's part of F at its minimum over s, −Λ_β(a) per sample, for the drive a from below."""
        if nudge is None:
            return -self.value(drive)
        return (nudge.beta - 1) * self.value(drive) - nudge.beta * _dot(drive, nudge.target)

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → ∇²Λ(u) v = s ∘ (v − ⟨s, v⟩)."""
        s = np.exp(drive - values.softmax(drive)[:, None])
        return lambda v: s * (v - (s * v).sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Hopfield:
    """Λ(u) = (1/κ) Σ_rows logsumexp(κ u Xᵀ): a modern Hopfield network whose keys and values are one memory X.

    It belongs to one batch, because the memory does: ``memory`` (B, M, D); the first ``slots[b]`` patterns are
    stored, ``phantoms[b]`` all-zero patterns follow them (the paper's padding; 0 when masked), and the first
    ``rows[b]`` rows of the drive (B, R, D) are live. ``samples`` are those that `move` is for, all or some of the
    batch. Ramsauer et al. 2021, eq. 3; design, section 2.
    """

    memory: np.ndarray
    slots: np.ndarray
    phantoms: np.ndarray
    rows: np.ndarray
    scale: float
    samples: np.ndarray
    kernels: ModuleType

    def take(self, index: np.ndarray) -> Hopfield:
        """The same memory for some of the samples."""
        return replace(self, samples=self.samples[index])

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, shape (B,); a sample without any pattern has Λ = 0."""
        return values.hopfield(drive, *self._content())

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """state ← softmax(κ u Xᵀ) X in place, ``residual`` (B,) raised to the largest change, ``value`` ← Λ(drive)."""
        self.kernels.retrieve(drive, *self._content(), self.samples, state, residual, value)

    def attention(self, drive: np.ndarray) -> np.ndarray:
        """The weights softmax(κ u Xᵀ), shape (B, R, M)."""
        weights = np.empty((*drive.shape[:2], self.memory.shape[1]), drive.dtype)
        self.kernels.attend(drive, *self._content(), weights)
        return weights

    def memory_update(self, drive: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
        """out (B, M, D) = Σ_p c_p A_pᵀ u_p, the contrast of −∂E/∂X over phases; drive (P, B, R, D)."""
        self.kernels.memory_update(drive, *self._content(), coefficients, out)

    def _content(self):
        return self.memory, self.slots, self.phantoms, self.rows, self.memory.dtype.type(self.scale)


_KINDS = {  # name: λ, λ*, λ'', max λ'', analytic
    "clipped": (values.clipped, values.clipped_conjugate, values.clipped_slope, 0.5, False),
    "logistic": (values.logistic, values.logistic_conjugate, values.logistic_slope, 0.25, True),
    "tanh": (values.tanh, values.tanh_conjugate, values.tanh_slope, 1.0, True),
}
ACTIVATIONS = tuple(_KINDS)
OUTPUTS = (*ACTIVATIONS, "softmax")


def elementwise(name: str, kernels: ModuleType) -> Elementwise:
    """The potential of a dense layer with the activation ``name``; raises ConfigError for an unknown one."""
    if name not in _KINDS:
        raise ConfigError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return Elementwise(name, *_KINDS[name], kernels)


def output(name: str, kernels: ModuleType) -> Elementwise | Softmax:
    """The potential of the output layer; raises ConfigError for an unknown one."""
    if name not in OUTPUTS:
        raise ConfigError(f"unknown output activation {name!r}{nearest(name, OUTPUTS)}")
    return Softmax(kernels) if name == "softmax" else elementwise(name, kernels)


def _per_sample(units: np.ndarray) -> np.ndarray:
    return units.reshape(len(units), -1).sum(axis=1)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)
