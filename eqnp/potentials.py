"""Potentials: every kind of layer is a convex function Λ of its drive u, and its state is s = ∇Λ(u).

The convex conjugate Λ* that enters the energy needs no formula of its own: with s = ∇Λ(u), Fenchel's equality gives
Λ*(s) = ⟨u, s⟩ − Λ(u). ``value`` is for diagnosis and proofs and is plain NumPy; ``move``, which training calls
millions of times, is a kernel (formulas: `eqnp.kernels.values` and `eqnp.kernels.naive`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.kernels import values


@dataclass(frozen=True)
class Elementwise:
    """Λ(u) = Σ_units λ(u) for a dense layer; drive and state have shape (B, H).

    ``scalar`` is λ and ``slope`` is λ'' = σ', per unit. ``max_slope`` is max σ': under a nudge −β the output block
    stays convex only while |β| · max_slope < 1.
    ``analytic`` says whether λ may be continued to complex drives.
    """

    name: str
    scalar: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    max_slope: float
    analytic: bool
    kernels: ModuleType

    def take(self, index: np.ndarray) -> Elementwise:
        """Itself: nothing in it belongs to a sample."""
        return self

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, shape (B,)."""
        return self.scalar(drive).sum(axis=1)

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """state ← ∇Λ(drive) in place, ``residual`` (B,) raised to the largest change, ``value`` (B,) ← Λ(drive)."""
        getattr(self.kernels, self.name)(drive, state, residual, value)

    def move_nudged(self, drive, state, beta, target, residual, value) -> None:
        """state ← argmin_s Λ*(s) − ⟨drive, s⟩ + β/2 ‖s − target‖², exactly; the drive becomes u = a − β(s − y)."""
        getattr(self.kernels, f"{self.name}_nudged")(drive, state, beta, target, residual, value)


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


_KINDS = {  # name: λ, λ'', max λ'', analytic
    "clipped": (values.clipped, values.clipped_slope, 0.5, False),
    "logistic": (values.logistic, values.logistic_slope, 0.25, True),
    "tanh": (values.tanh, values.tanh_slope, 1.0, True),
}
ACTIVATIONS = tuple(_KINDS)


def elementwise(name: str, kernels: ModuleType) -> Elementwise:
    """The potential of a dense layer with the activation ``name``; raises ConfigError for an unknown one."""
    if name not in _KINDS:
        raise ConfigError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return Elementwise(name, *_KINDS[name], kernels)
