"""Anderson acceleration of settling, with memory one, sample by sample, and never at the price of energy.

One even–odd sweep maps the states x of the odd block to g(x). Near the fixed point the map is almost linear, so two
sweeps tell how the residual f = g(x) − x shrinks. With γ = ⟨f − f', f⟩ / ‖f − f'‖², f' being that of the sweep before,

    u ← u − γ (u − u')

extrapolates the drives u of the odd block to where the residual would be least (Anderson 1965; Walker & Ni 2011); their
states are ∇Λ(u) as ever. Fixed points are those of the plain sweeps. What it costs is vectors of the odd block alone.

A sample takes the plain sweep instead where its residual grew, and goes back to it where the next half-sweep shows that
the extrapolation raised F. So F falls from sweep to sweep as it does without acceleration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eqnp.costs import Nudge
from eqnp.network import Network
from eqnp.states import Clamped, Layer, State, dot
from eqnp.steps import EvenOdd

ROUNDING = 16  # units in the last place of the even block's Λ that a comparison of energies may be off by


class Accelerated(EvenOdd):
    """Even–odd steps on two blocks, the odd one extrapolated after each sweep, and taken back where that raised F.

    By name of an odd layer, (b, *shape): ``start`` are the states that the sweep began from, ``sweep_change`` and
    ``last_change`` the residuals f and f', ``plain_drive`` and ``last_drive`` the drives u and u' without
    extrapolation. Per sample, (b,): ``before`` is what the even block adds to −F at the start, ``bound`` what it must
    reach.
    """

    PARTS = ("start", "sweep_change", "last_change", "last_drive", "plain_drive")

    def __init__(self, network: Network, x: Clamped, state: State, nudge: Nudge | None):
        super().__init__(network, x, state, nudge)
        self.even, self.odd = self.blocks
        self.updated: set[str] = set()  # layers whose Λ is that of the present states
        self.begun = self.extrapolated = False
        for part in self.PARTS:
            setattr(self, part, {layer.name: np.empty_like(state.states[layer.name]) for layer in self.odd})
        self.before = self.bound = np.zeros(x.size)

    def take(self, index: np.ndarray) -> None:
        """Go on with some of the samples."""
        super().take(index)
        for part in self.PARTS:
            setattr(self, part, {name: array[index] for name, array in getattr(self, part).items()})
        self.before = self.before[index]

    def update(self, block: Sequence[Layer]) -> list[Layer]:
        """Update a block; after an extrapolation, update the even one again where that was a mistake."""
        odd = block is self.odd
        if odd:
            self._remember()
        active = super().update(block)
        self.updated.update(layer.name for layer in active)
        if not odd and self.take_back():
            super().update(block)
        return active

    def _remember(self) -> None:
        """Keep where the odd block starts from, and what the even block, at its minimum, adds to −F there."""
        for name, start in self.start.items():
            start[...] = self.state.states[name]
        self.before = self._even_value()

    def end_sweep(self) -> None:
        """Move the odd block on from g(x); its change becomes that of the whole step, from x."""
        now, across, last = np.zeros((3, self.x.size))
        for name, start in self.start.items():
            f, before = self.sweep_change[name], self.last_change[name]
            np.subtract(self.state.states[name], start, out=f)
            now += dot(f, f)
            if self.begun:
                across += dot(f, before)
                last += dot(before, before)
        curvature = now - 2 * across + last
        ready = self.begun and all(layer.name in self.updated for layer in self.even)
        gamma = np.zeros_like(now)
        np.divide(now - across, curvature, out=gamma, where=(now < last) & (curvature > 0) & ready)
        self.extrapolated = bool(gamma.any())
        if self.extrapolated:
            self.bound = self.before + self._odd_energy_at_start()
        for layer in self.odd:
            self._extrapolate(layer, gamma)
        if self.extrapolated:
            self.bound += self._odd_energy()
        self.sweep_change, self.last_change = self.last_change, self.sweep_change
        self.begun = True

    def _extrapolate(self, layer: Layer, gamma: np.ndarray) -> None:
        """u ← (1 − γ) u + γ u', s ← ∇Λ(u), and keep the plain u; gamma (b,)."""
        name, drive = layer.name, self.state.drives[layer.name]
        plain, last = self.plain_drive[name], self.last_drive[name]
        plain[...] = drive
        if self.extrapolated:
            weight = gamma.astype(drive.dtype).reshape(-1, *[1] * (drive.ndim - 1))
            drive *= 1 - weight
            last *= weight
            drive += last
            self._move_again(layer)
        self.plain_drive[name], self.last_drive[name] = last, plain

    def take_back(self) -> bool:
        """Whether F has risen in some samples, now that the even block has followed; they return to the plain step."""
        if not self.extrapolated:
            return False
        self.extrapolated = False
        value = self._even_value()
        slack = ROUNDING * np.finfo(self.network.dtype).eps * (1 + np.abs(value))
        risen = ~(self.bound - value <= slack)
        if not risen.any():
            return False
        for layer in self.odd:
            self.state.drives[layer.name][risen] = self.last_drive[layer.name][risen]
            self._move_again(layer)
            self.change[layer.name][risen] = np.inf  # not settled, whatever the size of the step that was taken back
        return True

    def _move_again(self, layer: Layer) -> None:
        """s ← ∇Λ(u) for the present drive; the change is counted from the start of the sweep, and all get the news."""
        name, news = layer.name, self.state.news
        self.state.states[name][...] = self.start[name]
        self._move(layer, self.change[name])
        news[name].add(name)
        for neighbour in self.network.neighbours[name]:
            news[neighbour].add(name)

    # F at states x of the odd block, minimised over the even, is Λ*(x) − ⟨b, x⟩ − Σ_even max_s(⟨a, s⟩ − Λ*(s)), where
    # the Λ of a nudged output is Λ_β. The odd half-sweep to g, with drive a, lowers it by the gap of Fenchel,
    # Λ*(x) − Λ*(g) − ⟨a, x − g⟩. So arrays of the odd block and Λ of the even one are all that is needed.

    def _even_value(self) -> np.ndarray:
        """Σ_even max_s(⟨a, s⟩ − Λ*(s)) per sample."""
        return sum((self.state.values[layer.name] for layer in self.even), start=np.zeros(self.x.size))

    def _odd_energy(self) -> np.ndarray:
        """Λ*(s) − ⟨b, s⟩ of the odd block per sample."""
        total = self._conjugate()
        for layer in self.odd:
            total -= self.network.constant_dot(layer, self.x, self.state.states[layer.name])
        return total

    def _odd_energy_at_start(self) -> np.ndarray:
        """⟨b, x⟩ − Λ*(g) + ⟨a, g − x⟩ per sample, for the plain g in the state."""
        total = -self._conjugate()
        for layer in self.odd:
            total += self.network.constant_dot(layer, self.x, self.start[layer.name])
            total += dot(self.state.drives[layer.name], self.sweep_change[layer.name])
        return total

    def _conjugate(self) -> np.ndarray:
        """Λ*(s) = ⟨u, s⟩ − Λ(u) of the odd block per sample."""
        total, state = np.zeros(self.x.size), self.state
        for layer in self.odd:
            total += dot(state.drives[layer.name], state.states[layer.name]) - state.values[layer.name]
        return total
