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

import numpy as np

from eqnp.network import Network
from eqnp.potentials import Nudge
from eqnp.synapses import Clamped, Layer, State

ROUNDING = 16  # units in the last place of the even block's Λ that a comparison of energies may be off by


class Anderson:
    """Extrapolates the odd block of one phase of one batch after each sweep, and takes back what raised F.

    `settle` calls `saw` after every half, `remember` between the halves, `extrapolate` at the end of a sweep, and
    `take_back` after the first half of the next.
    """

    def __init__(self, network: Network, clamped: Clamped, state: State, nudge: Nudge | None):
        self.network, self.clamped, self.nudge = network, clamped, nudge
        self.even, self.odd = network.blocks
        self.updated: set[str] = set()
        self.begun = self.extrapolated = False
        block = {layer.name: state.states[layer.name] for layer in self.odd}
        self.start, self.residual, self.last_residual, self.last_drive, self.plain_drive = (
            {name: np.empty_like(s) for name, s in block.items()} for _ in range(5)
        )
        self.before = self.bound = np.zeros(clamped.size)

    def take(self, index: np.ndarray, clamped: Clamped, nudge: Nudge | None) -> None:
        """Go on with some of the samples only."""
        self.clamped, self.nudge = clamped, nudge
        for part in ("start", "residual", "last_residual", "last_drive", "plain_drive"):
            setattr(self, part, {name: array[index] for name, array in getattr(self, part).items()})
        self.before = self.before[index]

    def saw(self, layers: list[Layer]) -> None:
        """These layers were updated: Λ at their drive is that of the present states."""
        self.updated.update(layer.name for layer in layers)

    def remember(self, state: State) -> None:
        """Keep where the odd block starts from, and what the even block, at its minimum, adds to −F there."""
        for name, start in self.start.items():
            start[...] = state.states[name]
        self.before = self._even_value(state)

    def extrapolate(self, state: State, change: dict[str, np.ndarray]) -> None:
        """Move the odd block on from g(x); ``change`` becomes that of the whole step, from x."""
        now, across, last = np.zeros((3, self.clamped.size))
        for name, start in self.start.items():
            f, before = self.residual[name], self.last_residual[name]
            np.subtract(state.states[name], start, out=f)
            now += _dot(f, f)
            if self.begun:
                across += _dot(f, before)
                last += _dot(before, before)
        curvature = now - 2 * across + last
        ready = self.begun and all(layer.name in self.updated for layer in self.even)
        gamma = np.zeros_like(now)
        np.divide(now - across, curvature, out=gamma, where=(now < last) & (curvature > 0) & ready)
        self.extrapolated = bool(gamma.any())
        if self.extrapolated:
            self.bound = self.before + self._odd_energy_at_start(state)
        for layer in self.odd:
            self._step(layer, state, gamma, change)
        if self.extrapolated:
            self.bound += self._odd_energy(state)
        self.residual, self.last_residual = self.last_residual, self.residual
        self.begun = True

    def _step(self, layer: Layer, state: State, gamma: np.ndarray, change) -> None:
        """u ← (1 − γ) u + γ u', s ← ∇Λ(u), and keep the plain u."""
        name, drive = layer.name, state.drives[layer.name]
        plain, last = self.plain_drive[name], self.last_drive[name]
        plain[...] = drive
        if self.extrapolated:
            weight = gamma.astype(drive.dtype).reshape(-1, *[1] * (drive.ndim - 1))
            drive *= 1 - weight
            last *= weight
            drive += last
            self._move(layer, state, change)
        self.plain_drive[name], self.last_drive[name] = last, plain

    def take_back(self, state: State, change: dict[str, np.ndarray]) -> bool:
        """Whether F has risen in some samples, now that the even block has followed; they return to the plain step."""
        if not self.extrapolated:
            return False
        self.extrapolated = False
        value = self._even_value(state)
        slack = ROUNDING * np.finfo(self.network.dtype).eps * (1 + np.abs(value))
        risen = ~(self.bound - value <= slack)
        if not risen.any():
            return False
        for layer in self.odd:
            state.drives[layer.name][risen] = self.last_drive[layer.name][risen]
            self._move(layer, state, change)
            change[layer.name][risen] = np.inf  # not settled, whatever the size of the step that was taken back
        return True

    def _move(self, layer: Layer, state: State, change) -> None:
        """s ← ∇Λ(u) for the present drive; the change is counted from the start of the sweep, and all get the news."""
        name = layer.name
        state.states[name][...] = self.start[name]
        change[name][:] = 0
        parts, rest = (state.drives[name], state.states[name]), (change[name], state.values[name])
        if self.nudge is not None and layer is self.network.output:
            self.clamped.potentials[name].move_nudged(*parts, self.nudge, *rest)
        else:
            self.clamped.potentials[name].move(*parts, *rest)
        state.news[name].add(name)
        for neighbour in self.network.neighbours[name]:
            state.news[neighbour].add(name)

    # F at states x of the odd block, minimised over the even, is Λ*(x) − ⟨b, x⟩ − Σ_even max_s(⟨a, s⟩ − Λ*(s)), where
    # the Λ of a nudged output is Λ_β. The odd half-sweep to g, with drive a, lowers it by the gap of Fenchel,
    # Λ*(x) − Λ*(g) − ⟨a, x − g⟩. So arrays of the odd block and Λ of the even one are all that is needed.

    def _even_value(self, state: State) -> np.ndarray:
        """Σ_even max_s(⟨a, s⟩ − Λ*(s)) per sample."""
        return sum((state.values[layer.name] for layer in self.even), start=np.zeros(self.clamped.size))

    def _odd_energy(self, state: State) -> np.ndarray:
        """Λ*(s) − ⟨b, s⟩ of the odd block per sample."""
        total = self._conjugate(state)
        for layer in self.odd:
            total -= self._constant(layer, state.states[layer.name])
        return total

    def _odd_energy_at_start(self, state: State) -> np.ndarray:
        """⟨b, x⟩ − Λ*(g) + ⟨a, g − x⟩ per sample, for the plain g in ``state``."""
        total = -self._conjugate(state)
        for layer in self.odd:
            total += self._constant(layer, self.start[layer.name])
            total += _dot(state.drives[layer.name], self.residual[layer.name])
        return total

    def _conjugate(self, state: State) -> np.ndarray:
        """Λ*(s) = ⟨u, s⟩ − Λ(u) of the odd block per sample."""
        total = np.zeros(self.clamped.size)
        for layer in self.odd:
            total += _dot(state.drives[layer.name], state.states[layer.name]) - state.values[layer.name]
        return total

    def _constant(self, layer: Layer, state: np.ndarray) -> np.ndarray:
        """⟨b, s⟩ per sample, for the part b of the drive that does not depend on any state."""
        if layer.name in self.clamped.static:
            return _dot(self.clamped.static[layer.name], state)
        return state @ self.network.parameters[f"{layer.name}.bias"]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bi,bi->b", a.reshape(len(a), -1), b.reshape(len(b), -1))
