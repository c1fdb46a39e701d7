"""Potentials: every kind of layer is a convex function Λ of its drive u, and its state is s = ∇Λ(u).

With s = ∇Λ(u), Fenchel's equality gives the convex conjugate of the energy, Λ*(s) = ⟨u, s⟩ − Λ(u). `Potential` is the
protocol: two plain NumPy functions, ``value`` and ``state``, are a layer (and a third, ``memory_gradient``, one that
stores a memory); everything else has a default that is made of them. The package's own layers bring kernels for `move`,
which training calls millions of times (formulas: `eqnp.kernels.values` and `eqnp.kernels.naive`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.kernels import naive, values


class Potential:
    """Λ of one layer. Drives and states are (B, *shape), of one float dtype; shape is (H,), or (R, D): rows of units.

    From outside, `value` and `state` are needed, and `memory_gradient` with a memory. A potential must promise that Λ
    is convex and finite, that ``state`` is its gradient, and that no sample sees another;
    `eqnp.testing.check_potential` holds it to that. ``memory`` names the segment whose tokens it stores, if it does;
    ``analytic`` says whether Λ may be continued to complex drives, and ``compiled`` whether `move` has kernels for a
    GPU. As an output under the squared error it must be ``separable``, a sum over units, with ``max_slope`` ≥ λ''
    everywhere.
    """

    name = ""
    memory = ""
    fills_up = False  # whether it counts the positions that a text leaves empty, so that none may be longer
    analytic = False
    compiled = False
    separable = False
    max_slope = np.inf
    hessian_error = 1e-8  # of `hessian` in float64, relative to v: that of central differences; 0 if it is exact

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, (B,)."""
        raise NotImplementedError(f"{type(self).__name__} has no value(drive): Λ(u) per sample")

    def state(self, drive: np.ndarray) -> np.ndarray:
        """∇Λ(u), of the drive's shape."""
        raise NotImplementedError(f"{type(self).__name__} has no state(drive): the gradient of Λ")

    def bind(self, layer, x) -> Potential:
        """The potential for a batch: with the `eqnp.states.Clamped` memory of it, and the kernels of its network."""
        return self

    def take(self, index: np.ndarray) -> Potential:
        """The same for some of the samples of a batch; as it is, where nothing in it belongs to a sample."""
        return self

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """state ← ∇Λ(drive) in place, ``residual`` (B,) raised to the largest change, ``value`` (B,) ← Λ(drive)."""
        new = self.state(drive)
        if np.shape(new) != drive.shape:
            raise ConfigError(
                f"the state of {type(self).__name__} has shape {np.shape(new)}, and its drive {drive.shape}"
            )
        replace_state(state, new, residual)
        if drive.dtype.kind != "c":  # off the real line no energies are compared
            value[:] = self.value(drive)

    def conjugate(self, state: np.ndarray) -> np.ndarray:
        """Λ*(s) per sample, (B,), for a separable potential: by bisection on λ'(u) = s, unless it is known better."""
        low, high = np.full_like(state, -64), np.full_like(state, 64)
        for _ in range(12):  # of an activation that is not bounded, a large state comes of a large drive
            low, high = (
                np.where(self.state(low) > state, 2 * low, low),
                np.where(self.state(high) < state, 2 * high, high),
            )
        for _ in range(80):
            u = (low + high) / 2
            above = self.state(u) > state
            low, high = np.where(above, low, u), np.where(above, u, high)
        return per_sample(u * state) - self.value(u)

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → ∇²Λ(u) v, of the drive's shape, to ``hessian_error``."""
        return lambda v: _along(self.state, drive, v)

    # --- with a memory X (B, M, D) -----------------------------------------------------------------------------------

    def memory_gradient(self, drive: np.ndarray) -> np.ndarray:
        """∂Λ/∂X at fixed drive, (B, M, D): zero in the slots that a sample does not use."""
        raise NotImplementedError(f"{type(self).__name__} has no memory_gradient(drive): ∂Λ/∂X")

    def memory_update(self, drive: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
        """out (B, M, D) ← Σ_p c_p ∂Λ/∂X(u_p), the contrast of −∂E/∂X over phases; drive (P, B, R, D)."""
        out[...] = sum(c * self.memory_gradient(u) for c, u in zip(coefficients, drive, strict=True))

    def memory_adjoint(self, drive: np.ndarray, v: np.ndarray) -> np.ndarray:
        """vᵀ ∂s/∂X, (B, M, D), which is the derivative of ∂Λ/∂X along v, since s = ∂Λ/∂u."""
        return _along(self.memory_gradient, drive, v)


@dataclass(frozen=True)
class Elementwise(Potential):
    """Λ(u) = Σ_units λ(u) for a dense layer; drive and state (B, H), or (B, R, H) with rows of units.

    Per unit: ``scalar`` is λ, ``activation`` σ = λ' (non-decreasing), ``slope`` λ'' and ``max_slope`` its maximum;
    ``conjugate_scalar`` is λ*, if it is known in closed form. ``kernel`` names the compiled function of the package's
    own, and ``kernels`` are those of the network that it is bound to.
    """

    name: str = field()
    scalar: Callable[[np.ndarray], np.ndarray] = field()
    activation: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    max_slope: float = field()
    conjugate_scalar: Callable[[np.ndarray], np.ndarray] | None = None
    analytic: bool = False
    kernel: str = ""
    kernels: ModuleType = naive

    separable = True
    hessian_error = 0.0

    @property
    def compiled(self) -> bool:
        """Whether it has a kernel."""
        return bool(self.kernel)

    def bind(self, layer, x) -> Elementwise:
        """With the kernels of the batch."""
        return replace(self, kernels=x.kernels)

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, (B,)."""
        return per_sample(self.scalar(drive))

    def state(self, drive: np.ndarray) -> np.ndarray:
        """σ(u)."""
        return self.activation(drive)

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """As `Potential.move`."""
        if not self.kernel:
            return super().move(drive, state, residual, value)
        size = len(drive)
        getattr(self.kernels, self.kernel)(drive.reshape(size, -1), state.reshape(size, -1), residual, value)

    def conjugate(self, state: np.ndarray) -> np.ndarray:
        """Λ*(s) per sample, (B,)."""
        return per_sample(self.conjugate_scalar(state)) if self.conjugate_scalar else super().conjugate(state)

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → ∇²Λ(u) v."""
        slope = self.slope(drive)
        return lambda v: slope * v


@dataclass(frozen=True)
class Softmax(Potential):
    """Λ(u) = logsumexp(u) over the classes: an output layer whose states are probabilities; drive and state (B, C)."""

    kernels: ModuleType = naive

    name = "softmax"
    hessian_error = 0.0
    analytic = True
    compiled = True

    def bind(self, layer, x) -> Softmax:
        """With the kernels of the batch."""
        return replace(self, kernels=x.kernels)

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, (B,)."""
        return values.softmax(drive)

    def state(self, drive: np.ndarray) -> np.ndarray:
        """softmax(u)."""
        return np.exp(drive - values.softmax(drive)[:, None])

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """As `Potential.move`."""
        self.kernels.softmax(drive, state, residual, value)

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → ∇²Λ(u) v = s ∘ (v − ⟨s, v⟩)."""
        s = self.state(drive)
        return lambda v: s * (v - (s * v).sum(axis=1, keepdims=True))


class Attention(Potential):
    """A layer whose rows read one memory, keys and values alike: the base of those from outside, and of `Hopfield`.

    Bound to a batch it has ``X`` (B, M, D), of which sample b uses the first ``slots[b]`` rows, and ``rows`` (B,), the
    live rows of each sample's drive (B, R, D); others must get the zero state, and add nothing to Λ.
    """

    def __init__(self, memory: str, scale: float):
        self.memory, self.scale = memory, scale
        self.X = self.slots = self.rows = None

    def bind(self, layer, x) -> Attention:
        """With the memory of the batch."""
        bound = copy.copy(self)
        bound.X, bound.slots, bound.rows = x.tokens[self.memory], x.lengths[self.memory], x.live_rows(layer)
        return bound

    def take(self, index: np.ndarray) -> Attention:
        """The same for some of the samples."""
        part = copy.copy(self)
        part.X, part.slots, part.rows = self.X[index], self.slots[index], self.rows[index]
        return part

    def weights(self, drive: np.ndarray) -> np.ndarray:
        """What each row takes of each memory slot, (B, R, M), where that is known."""
        raise NotImplementedError(f"{type(self).__name__} has no weights(drive)")


class Hopfield(Attention):
    """Λ(u) = (1/κ) Σ_rows logsumexp(κ u Xᵀ): a modern Hopfield network whose keys and values are one memory X.

    With ``padding`` "masked", padded slots and rows take no part; with "zeros", all-zero patterns up to the segment's
    full number of positions keep their weight exp(0), and all rows are live, as in the paper. Ramsauer et al. 2021, eq.
    3; docs/theory.md, facts 2 and 13.
    """

    name = "attention"
    hessian_error = 0.0
    analytic = True
    compiled = True

    def __init__(self, memory: str, scale: float, padding: str = "masked"):
        super().__init__(memory, scale)
        self.padding = padding

    @property
    def fills_up(self) -> bool:
        """Whether zeros take part."""
        return self.padding == "zeros"

    def bind(self, layer, x) -> Hopfield:
        """With the memory of the batch, and its kernels."""
        bound = copy.copy(self)
        masked, slots = self.padding == "masked", np.asarray(x.segments[self.memory].lengths, np.int64)
        phantoms = np.zeros_like(slots) if masked else x.positions[self.memory] - slots
        rows = x.live_rows(layer) if masked else np.full_like(slots, x.shapes[layer.name][0])
        bound.X, bound.kernels = x.tokens[self.memory], x.kernels
        bound.slots, bound.phantoms, bound.rows, bound.samples = map(
            x.kernels.device, (slots, phantoms, rows, np.arange(len(slots)))
        )
        return bound

    def take(self, index: np.ndarray) -> Hopfield:
        """The same memory, which stays where it is, for some of the samples."""
        part = copy.copy(self)
        part.samples = self.samples[index]
        return part

    def value(self, drive: np.ndarray) -> np.ndarray:
        """Λ(u) per sample, (B,); a sample without any pattern has Λ = 0."""
        return values.hopfield(drive, *self._content_of_samples())

    def state(self, drive: np.ndarray) -> np.ndarray:
        """softmax(κ u Xᵀ) X."""
        return self.weights(drive) @ self._content_of_samples()[0]

    def move(self, drive: np.ndarray, state: np.ndarray, residual: np.ndarray, value: np.ndarray) -> None:
        """As `Potential.move`."""
        self.kernels.retrieve(drive, *self._content(), self.samples, state, residual, value)

    def weights(self, drive: np.ndarray) -> np.ndarray:
        """The attention softmax(κ u Xᵀ), (B, R, M)."""
        weights = np.empty((*drive.shape[:2], self.X.shape[1]), drive.dtype)
        self.kernels.attend(drive, *self._content_of_samples(), weights)
        return weights

    def memory_update(self, drive: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> None:
        """out (B, M, D) ← Σ_p c_p A_pᵀ u_p, the contrast of −∂E/∂X over phases; drive (P, B, R, D)."""
        self.kernels.memory_update(drive, *self._content(), coefficients, out)

    # What follows is for oracles, whose route to the gradient uses no compiled kernel but the definitions.

    def memory_gradient(self, drive: np.ndarray) -> np.ndarray:
        """Aᵀ u, (B, M, D)."""
        return self._attention(drive).transpose(0, 2, 1) @ drive

    def hessian(self, drive: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """v → κ (A ∘ (v Xᵀ − ⟨v, s⟩)) X per row, with weights A and s = A X."""
        attention = self._attention(drive)
        return lambda v: self.scale * self._logit_adjoint(attention, v) @ self.X

    def memory_adjoint(self, drive: np.ndarray, v: np.ndarray) -> np.ndarray:
        """vᵀ ∂(A X)/∂X: patterns are retrieved, and decide what is retrieved."""
        attention = self._attention(drive)
        retrieved = attention.transpose(0, 2, 1) @ v
        return retrieved + self.scale * self._logit_adjoint(attention, v).transpose(0, 2, 1) @ drive

    def _attention(self, drive: np.ndarray) -> np.ndarray:
        weights = np.zeros((*drive.shape[:2], self.X.shape[1]), drive.dtype)
        naive.attend(drive, self.X, self.slots, self.phantoms, self.rows, self.scale, weights)
        return weights

    def _logit_adjoint(self, attention: np.ndarray, v: np.ndarray) -> np.ndarray:
        """A ∘ (v Xᵀ − ⟨v, s⟩), (B, R, M): the softmax's own derivative."""
        agreement = v @ self.X.transpose(0, 2, 1)
        return attention * (agreement - (attention * agreement).sum(axis=2, keepdims=True))

    def _content(self):
        return self.X, self.slots, self.phantoms, self.rows, self.X.dtype.type(self.scale)

    def _content_of_samples(self):
        *arrays, scale = self._content()
        return (*(arrays if len(self.samples) == len(self.X) else (a[self.samples] for a in arrays)), scale)


ELEMENTWISE = {
    each.name: each
    for each in (
        Elementwise("clipped", values.clipped, values.clipped_state, values.clipped_slope, 0.5,
                    values.clipped_conjugate, False, "clipped"),
        Elementwise("logistic", values.logistic, values.logistic_state, values.logistic_slope, 0.25,
                    values.logistic_conjugate, True, "logistic"),
        Elementwise("tanh", values.tanh, np.tanh, values.tanh_slope, 1.0, values.tanh_conjugate, True, "tanh"),
    )
}  # fmt: skip
ACTIVATIONS = tuple(ELEMENTWISE)


def elementwise(name: str) -> Elementwise:
    """The potential of a dense layer with the activation ``name``; raises ConfigError for an unknown one."""
    if name not in ELEMENTWISE:
        raise ConfigError(f"unknown activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ELEMENTWISE[name]


def _along(function: Callable, drive: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The derivative of a function of the drive along v, whatever the size of either."""
    step = np.cbrt(np.finfo(drive.dtype).eps) * (1 + np.abs(drive).max(initial=0))
    step = drive.dtype.type(step / (np.abs(v).max(initial=0) or 1.0))
    return (function(drive + step * v) - function(drive - step * v)) / (2 * step)


def replace_state(state: np.ndarray, new: np.ndarray, residual: np.ndarray) -> None:
    """state ← new, and ``residual`` (B,) raised to the largest absolute change of each sample."""
    change = np.abs(new - state).reshape(len(state), -1)
    np.maximum(residual, change.max(axis=1, initial=0), out=residual)
    state[...] = new


def per_sample(units: np.ndarray) -> np.ndarray:
    """The sum over all units of each sample, (B,)."""
    return units.reshape(len(units), -1).sum(axis=1)
