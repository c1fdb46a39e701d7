"""Steps: how a phase moves its states, one block at a time, and which samples still move.

*Even–odd* steps update the blocks in turn, each given the others: every update is the exact minimum of F over its
block, so F never increases (under a cross-entropy from where docs/theory.md, fact 4, says). *Synchronous* steps update
all layers at once from the previous states, as in the paper; they have no such guarantee. `eqnp.acceleration` is a
third kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eqnp.costs import Nudge
from eqnp.network import Network
from eqnp.states import Clamped, Layer, State


class Step:
    """One phase of one batch under way.

    ``rows`` (b,) are the places in the batch of the samples that still settle, ``x``, ``state`` and ``nudge`` are
    theirs; while these are all samples, the state is the caller's own. ``changes`` (L, b) is the largest change of each
    layer in its last update, by layer and sample: infinite for a layer that still waits for its first.
    """

    def __init__(self, network: Network, x: Clamped, state: State, nudge: Nudge | None):
        self.network, self.x, self.state, self.nudge = network, x, state, nudge
        self.rows, self.blocks = np.arange(x.size), network.blocks
        kernels, dtype = network.kernels, np.empty(0, network.dtype).real.dtype
        self.changes = kernels.empty((len(network.layers), x.size), dtype)
        for i, layer in enumerate(network.layers):
            waits = state.news[layer.name] or self.nudged(layer)
            kernels.fill(self.changes[i], np.inf if waits else 0)

    @property
    def change(self) -> dict[str, np.ndarray]:
        """The changes (b,) by layer."""
        return {layer.name: self.changes[i] for i, layer in enumerate(self.network.layers)}

    def nudged(self, layer: Layer) -> bool:
        """Whether the nudge pulls at a layer."""
        return self.nudge is not None and layer is self.network.output

    def residual(self) -> np.ndarray:
        """The largest change of any unit of each sample in the last update of its layer, (b,)."""
        return self.network.kernels.host(self.changes).max(axis=0)

    def update(self, block: Sequence[Layer]) -> list[Layer]:
        """Update the layers of a block that have news, and tell their neighbours; returns those layers."""
        change, near, moved = self.change, self.network.neighbours, self.network.kernels.may_speak
        active = [layer for layer in block if self.nudged(layer) or self.state.news[layer.name]]
        self._move_all(active, change)
        for layer in active:
            if moved(change[layer.name]):
                for neighbour in near[layer.name]:
                    self.state.news[neighbour].add(layer.name)
        for layer in block:  # what has no news because all around it rests, rests too, however far it moved last
            if layer not in active and not any(moved(change[neighbour]) for neighbour in near[layer.name]):
                self.network.kernels.fill(change[layer.name], 0)
        return active

    def _move_all(self, layers: list[Layer], change: dict[str, np.ndarray]) -> None:
        raise NotImplementedError

    def _look(self, layer: Layer) -> None:
        self.network.compute_drive(layer, self.x, self.state)
        self.state.news[layer.name] = set()

    def _move(self, layer: Layer, change: np.ndarray) -> None:
        """s ← ∇Λ(u) for the present drive, or the minimum under the nudge; ``change`` (b,) becomes how far that was."""
        name, state = layer.name, self.state
        self.network.kernels.fill(change, 0)
        potential, parts = self.x.potentials[name], (state.drives[name], state.states[name])
        if self.nudged(layer):
            self._pull(layer.cost, potential, *parts, self.nudge, change, state.values[name])
        else:
            potential.move(*parts, change, state.values[name])

    def _pull(self, cost, *arguments) -> None:
        cost.move(*arguments)

    def end_sweep(self) -> None:
        """What comes between two sweeps: nothing."""

    def leave_behind(self, whole: State, moving: np.ndarray) -> None:
        """Return all samples to their places in the ``whole``, and go on with copies of those that move, (b,) bool."""
        self.return_to(whole)
        self.take(np.flatnonzero(moving))

    def take(self, index: np.ndarray) -> None:
        """Go on with some of the samples."""
        self.rows, self.changes = self.rows[index], np.take(self.changes, index, axis=1)
        self.x, self.state = self.x.take(index), self.state.take(index)
        self.nudge = self.nudge and self.nudge.take(index)

    def return_to(self, whole: State) -> None:
        """Copy the states to their places in the whole batch."""
        if self.state is not whole:
            whole.put(self.rows, self.state)
            whole.news = self.state.news


class EvenOdd(Step):
    """Blocks take turns."""

    def _move_all(self, layers: list[Layer], change: dict[str, np.ndarray]) -> None:
        def look_and_move(layer: Layer) -> None:  # those of a block are no neighbours: while the drive is in cache
            self._look(layer)
            self._move(layer, change[layer.name])

        list(self.state.map(look_and_move, layers))


class Synchronous(Step):
    """All layers at once, and the paper's own pull."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.blocks = (self.network.layers,)

    def _move_all(self, layers: list[Layer], change: dict[str, np.ndarray]) -> None:
        list(self.state.map(self._look, layers))
        list(self.state.map(lambda layer: self._move(layer, change[layer.name]), layers))

    def _pull(self, cost, *arguments) -> None:
        cost.step(*arguments)
