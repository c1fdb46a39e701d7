"""Settling: sweeps of s = ∇Λ(∂Φ/∂s) until the states stop moving.

One sweep updates every layer once. *Even-odd* sweeps update all layers of even level given the odd ones, then all odd
given the even: each half is the exact minimum of F over its block, so F never increases. *Synchronous* sweeps update
all layers at once from the previous states, as in the paper; they have no such guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from eqnp.acceleration import Anderson
from eqnp.errors import ConfigError, SettlingError, nearest
from eqnp.network import Network
from eqnp.potentials import Nudge
from eqnp.synapses import Clamped, Layer, State

FEW = 0.6  # samples are left behind once no more than this share still moves: copying the rest has its price
ORDERS = ("even-odd", "synchronous")
LOOK = 2  # sweeps between two looks at the residual, where a look means waiting for a device
GLANCE = 10  # and where nothing but NaN would end the phase


@dataclass(frozen=True)
class SettlingConfig:
    """How a phase settles: update order, tolerance on the residual, and the caps T (free) and K (nudged) on sweeps.

    The residual of a sample is the largest absolute change of any of its units in the last update of its layer. A
    tolerance of 0 always runs the full T and K sweeps, as the paper does. The tolerance is meant for a nudge of 1: what
    a nudge of β < 1 moves is smaller by β, and so is the tolerance of the phases contrasted (see `for_nudge`).
    """

    order: str = "even-odd"
    tolerance: float = 1e-3
    free_sweeps: int = 60
    nudged_sweeps: int = 30
    accelerate: bool = True

    def __post_init__(self):
        if self.order not in ORDERS:
            raise ConfigError(f"unknown settling.order {self.order!r}{nearest(self.order, ORDERS)}")
        if not 0 <= self.tolerance < np.inf:
            raise ConfigError(f"settling.tolerance is {self.tolerance}; it must be 0 or greater")
        if self.free_sweeps < 1 or self.nudged_sweeps < 1:
            raise ConfigError("settling.free_sweeps and settling.nudged_sweeps must be 1 or greater")

    def for_nudge(self, beta: float) -> SettlingConfig:
        """The settings of all phases of an estimate with nudge β: the tolerance times min(1, β)."""
        return replace(self, tolerance=self.tolerance * min(1.0, beta))


class Settled(NamedTuple):
    """What a phase took, per sample (B,): sweeps (ending in .5 between blocks), and the last residual."""

    sweeps: np.ndarray
    residual: np.ndarray


@dataclass
class Trace:
    """Filled by `settle` on request: per sweep the residual and the energy F of each sample, lists of (B,), and the
    states. There are no energies of a device."""

    residual: list[np.ndarray] = field(default_factory=list)
    energy: list[np.ndarray] = field(default_factory=list)
    states: list[dict[str, np.ndarray]] = field(default_factory=list)


def settle(
    network: Network,
    clamped: Clamped,
    state: State,
    sweeps: int,
    *,
    nudge: Nudge | None = None,
    order: str = "even-odd",
    tolerance: float = 0.0,
    accelerate: bool = False,
    trace: Trace | None = None,
) -> Settled:
    """Settle ``state`` in place: at most ``sweeps`` sweeps, until the residual of every sample is within tolerance.

    Without a nudge this is the free phase, else the nudged one; the state it starts from is the one passed in. Layers
    whose neighbours have not moved since their last update are where an update would put them, and are left alone.
    An even–odd phase may end with either half of a sweep, as soon as the last update of every layer was small. Samples
    that have settled are left behind, in groups: how many others are in the batch matters to a sample only within the
    tolerance.
    ``accelerate`` extrapolates between even–odd sweeps (see `eqnp.acceleration`).
    On a device with kernels that return before they are done, all samples settle together, and the residual is looked
    at every `LOOK` sweeps (`GLANCE` with a tolerance of 0); nothing is extrapolated.
    Raises SettlingError, naming the layer, as soon as a state is seen that is no longer finite.
    """
    if network.kernels.ASYNCHRONOUS:
        return _settle_together(network, clamped, state, sweeps, nudge, order, tolerance, trace)
    live = _Live.all(network, clamped, state, nudge, order, accelerate)
    blocks = network.blocks if order == "even-odd" else (network.layers,)
    taken, final = np.zeros(clamped.size), np.empty(clamped.size)
    for step in range(sweeps * len(blocks)):
        ends_sweep = (step + 1) % len(blocks) == 0
        live.update(blocks[step % len(blocks)], ends_sweep)
        residual = np.max(list(live.change.values()), axis=0)
        taken[live.rows], final[live.rows] = (step + 1) / len(blocks), residual
        moving = ~(residual <= tolerance)  # NaN moves
        if trace is not None and (ends_sweep or not moving.any()):
            _record(trace, network, clamped, state, nudge, residual)
        # Layers that wait for their first update stand at infinity until the end of the first sweep.
        if np.isnan(residual).any() or (ends_sweep and not np.isfinite(residual).all()):
            raise SettlingError(_blame(network, live.state.states, nudge, step // len(blocks) + 1))
        if not moving.any():
            live.state.news = {name: set() for name in state.news}
            break
        # A trace is of whole batches.
        if trace is None and moving.sum() <= FEW * len(moving):
            live.leave_behind(state, moving)
        if ends_sweep:
            live.extrapolate()
    live.return_to(state)
    return Settled(taken, final)


def _settle_together(
    network: Network, clamped: Clamped, state: State, sweeps: int, nudge, order, tolerance, trace: Trace | None
) -> Settled:
    """All samples to the end of the phase, on a device that is asked for the residuals every few sweeps only."""
    kernels, layers = network.kernels, network.layers
    blocks = network.blocks if order == "even-odd" else (layers,)
    changes = kernels.empty((len(layers), clamped.size), network.dtype)
    change = {layer.name: changes[i] for i, layer in enumerate(layers)}
    for sweep in range(1, sweeps + 1):
        kernels.fill(changes, 0)
        for block in blocks:
            state.news = {name: set(near) for name, near in network.neighbours.items()}
            for layer in block:
                network.compute_drive(layer, clamped, state)
            for layer in block:
                _move(network, clamped, state, layer, nudge, order, change[layer.name])
        if trace is not None:
            trace.residual.append(kernels.host(changes).max(axis=0))
            trace.states.append({name: kernels.host(s) for name, s in state.states.items()})
        if sweep % (LOOK if tolerance else GLANCE) == 0 or sweep == sweeps:
            residual = kernels.host(changes).max(axis=0)
            if not np.isfinite(residual).all():
                on_host = {name: kernels.host(s) for name, s in state.states.items()}
                raise SettlingError(_blame(network, on_host, nudge, sweep))
            if (residual <= tolerance).all():
                break
    return Settled(np.full(clamped.size, float(sweep)), residual)


@dataclass
class _Live:
    """The samples that still settle: their places in the batch, their states, and the last change of each layer.

    While these are all samples of the batch, the state is the caller's own.
    """

    network: Network
    rows: np.ndarray
    clamped: Clamped
    state: State
    nudge: Nudge | None
    order: str
    change: dict[str, np.ndarray]
    anderson: Anderson | None

    @classmethod
    def all(cls, network, clamped, state, nudge, order, accelerate) -> _Live:
        size, dtype = clamped.size, np.empty(0, network.dtype).real.dtype
        change = {name: np.full(size, np.inf if news else 0, dtype) for name, news in state.news.items()}
        if nudge is not None:
            change[network.output.name][:] = np.inf
        anderson = Anderson(network, clamped, state, nudge) if accelerate and order == "even-odd" else None
        return cls(network, np.arange(size), clamped, state, nudge, order, change, anderson)

    def update(self, block, ends_sweep: bool) -> None:
        """Update a block; after an extrapolation, update it again where that was a mistake."""
        if self.anderson and ends_sweep:
            self.anderson.remember(self.state)
        active = self._update(block)
        if self.anderson:
            self.anderson.saw(active)
            if not ends_sweep and self.anderson.take_back(self.state, self.change):
                self._update(block)

    def _update(self, block) -> list[Layer]:
        return _update(self.network, self.clamped, self.state, block, self.nudge, self.order, self.change)

    def extrapolate(self) -> None:
        """At the end of a sweep."""
        if self.anderson:
            self.anderson.extrapolate(self.state, self.change)

    def leave_behind(self, whole: State, moving: np.ndarray) -> None:
        """Return all samples to their places, and go on with copies of those that move."""
        self.return_to(whole)
        index = np.flatnonzero(moving)
        self.rows = self.rows[index]
        self.clamped, self.state = self.clamped.take(index, self.state.run), self.state.take(index)
        self.nudge = self.nudge and self.nudge.take(index)
        self.change = {name: change[index] for name, change in self.change.items()}
        if self.anderson:
            self.anderson.take(index, self.clamped, self.nudge)

    def return_to(self, whole: State) -> None:
        """Copy the states to their places in the whole batch."""
        if self.state is not whole:
            whole.put(self.rows, self.state)
            whole.news = self.state.news


def _update(network: Network, clamped: Clamped, state: State, block, nudge, order: str, change) -> list[Layer]:
    """Update the layers of a block that have news, record the change of each sample, and tell the neighbours."""
    nudged = network.output if nudge is not None else None
    active = [layer for layer in block if layer is nudged or state.news[layer.name]]

    def look(layer: Layer) -> None:
        network.compute_drive(layer, clamped, state)
        state.news[layer.name] = set()

    def move(layer: Layer) -> None:
        change[layer.name][:] = 0
        _move(network, clamped, state, layer, nudge, order, change[layer.name])

    def look_and_move(layer: Layer) -> None:
        look(layer)
        move(layer)

    # Layers of an even–odd block are no neighbours: each may move while its drive is still in cache.
    for step in (look_and_move,) if order == "even-odd" else (look, move):
        list(state.run(step, active))
    for layer in active:
        if change[layer.name].any():
            for neighbour in network.neighbours[layer.name]:
                state.news[neighbour].add(layer.name)
    return active


def _move(network: Network, clamped: Clamped, state: State, layer: Layer, nudge, order: str, residual) -> None:
    """s ← ∇Λ(u) of one layer, or the minimum under the nudge."""
    potential, name = clamped.potentials[layer.name], layer.name
    drive, units, value = state.drives[name], state.states[name], state.values[name]
    if nudge is None or layer is not network.output:
        potential.move(drive, units, residual, value)
    elif order == "even-odd":
        potential.move_nudged(drive, units, nudge, residual, value)
    else:
        potential.step_nudged(drive, units, nudge, residual, value)


def _record(trace: Trace, network, clamped, state: State, nudge, residual) -> None:
    trace.residual.append(residual.copy())
    trace.energy.append(network.energy(clamped, state, nudge))
    trace.states.append({name: s.copy() for name, s in state.states.items()})


def _blame(network: Network, states: dict[str, np.ndarray], nudge: Nudge | None, sweep: int) -> str:
    layer = next((n for n, s in states.items() if not np.isfinite(s).all()), network.output.name)
    phase = "the free phase" if nudge is None else f"the phase nudged by β = {nudge.beta:g}"
    return (
        f"the state of {layer!r} is not a finite number after sweep {sweep} of {phase}; "
        "look for NaN in the word vectors, or lower the learning rate or network.scale"
    )
