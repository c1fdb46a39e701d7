"""Settling: sweeps of s = ∇Λ(∂Φ/∂s) until the states stop moving.

One sweep updates every layer once; how is said by a step (`eqnp.steps`), and here is the loop over it, which decides
when to stop. docs/theory.md, facts 4 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from eqnp.acceleration import Accelerated
from eqnp.costs import Nudge
from eqnp.errors import ConfigError, SettlingError, nearest
from eqnp.network import Network
from eqnp.states import Clamped, State
from eqnp.steps import EvenOdd, Step, Synchronous

FEW = 0.6  # samples are left behind once no more than this share still moves: copying the rest has its price
ORDERS: dict[str, type[Step]] = {"even-odd": EvenOdd, "synchronous": Synchronous}


@dataclass(frozen=True)
class SettlingConfig:
    """How a phase settles: update order, tolerance on the residual, and the caps T (free) and K (nudged) on sweeps.

    The residual of a sample is the largest absolute change of any of its units in the last update of its layer. A
    tolerance of 0 always runs the full T and K sweeps, as the paper does. The tolerance is meant for a nudge of 1: what
    a nudge of β < 1 moves is smaller by β, and so is the tolerance of the phases contrasted (see `for_nudge`).

    order (even-odd or synchronous) : blocks in turn, so that the energy never rises, or all at once, as in the paper
    tolerance (0 or greater) : the residual at which a sample is settled; 0: run all sweeps
    free_sweeps (1 or greater) : T, sweeps of the free phase at most
    nudged_sweeps (1 or greater) : K, sweeps of a nudged phase at most
    accelerate : whether even–odd sweeps over two blocks are extrapolated (`eqnp.acceleration`)
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

    def step(self, network: Network) -> type[Step]:
        """The kind of step that moves the states of a network."""
        kind = ORDERS[self.order]
        may_extrapolate = self.accelerate and len(network.blocks) == 2 and network.machine.sees_energy
        return Accelerated if kind is EvenOdd and may_extrapolate else kind


class Settled(NamedTuple):
    """What a phase took, per sample (B,): sweeps (ending in .5 between two blocks), and the last residual."""

    sweeps: np.ndarray
    residual: np.ndarray


@dataclass
class Trace:
    """Filled by `settle` on request: per sweep the residual and the energy F of each sample, lists of (B,), and the
    states by layer, (B, *shape); ``with_drives`` the drives u too, s = ∇Λ(u). There are no energies of a device."""

    with_drives: bool = False
    residual: list[np.ndarray] = field(default_factory=list)
    energy: list[np.ndarray] = field(default_factory=list)
    states: list[dict[str, np.ndarray]] = field(default_factory=list)
    drives: list[dict[str, np.ndarray]] = field(default_factory=list)

    def record(self, step: Step, residual: np.ndarray) -> None:
        """Add a sweep."""
        network, host = step.network, step.network.kernels.host
        self.residual.append(residual.copy())
        if network.machine.sees_energy:
            self.energy.append(network.energy(step.x, step.state, step.nudge))
        self.states.append({name: host(s).copy() for name, s in step.state.states.items()})
        if self.with_drives:
            self.drives.append({name: host(u).copy() for name, u in step.state.drives.items()})


def settle(
    network: Network,
    x: Clamped,
    state: State,
    settling: SettlingConfig,
    nudge: Nudge | None = None,
    trace: Trace | None = None,
) -> Settled:
    """Settle ``state`` in place: at most T or K sweeps, until the residual of every sample is within tolerance.

    Without a nudge this is the free phase, else the nudged one; the state it starts from is the one passed in. Layers
    whose neighbours have not moved since their last update are where an update would put them, and are left alone.
    A phase in blocks may end after any of them, as soon as the last update of every layer was small. Samples that have
    settled are left behind, in groups (unless there is a ``trace``, which is of whole batches): how many others are in
    the batch matters to a sample only within the tolerance. On a device all samples settle together, and the residual
    is looked at every few sweeps. Raises SettlingError, naming the layer, as soon as a state is seen that is not
    finite.
    """
    machine, step = network.machine, settling.step(network)(network, x, state, nudge)
    sweeps = settling.free_sweeps if nudge is None else settling.nudged_sweeps
    taken, final, blocks = np.zeros(x.size), np.full(x.size, np.inf), len(step.blocks)
    for number in range(1, sweeps * blocks + 1):
        ends_sweep = number % blocks == 0
        step.update(step.blocks[(number - 1) % blocks])
        if machine.looks(number / blocks, sweeps, settling.tolerance) or (ends_sweep and trace is not None):
            residual = step.residual()
            taken[step.rows], final[step.rows] = number / blocks, residual
            moving = ~(residual <= settling.tolerance)  # NaN moves
            if trace is not None and (ends_sweep or not moving.any()):
                trace.record(step, residual)
            # Layers that wait for their first update stand at infinity until the end of the first sweep.
            if np.isnan(residual).any() or (ends_sweep and not np.isfinite(residual).all()):
                raise SettlingError(_blame(step, (number - 1) // blocks + 1))
            if not moving.any():
                step.state.news = {name: set() for name in state.news}
                break
            if machine.leaves_samples and trace is None and moving.sum() <= FEW * len(moving):
                step.leave_behind(state, moving)
        if ends_sweep:
            step.end_sweep()
    step.return_to(state)
    return Settled(taken, final)


def _blame(step: Step, sweep: int) -> str:
    network, host = step.network, step.network.kernels.host
    states = {name: host(s) for name, s in step.state.states.items()}
    layer = next((n for n, s in states.items() if not np.isfinite(s).all()), network.output.name)
    phase = "the free phase" if step.nudge is None else f"the phase nudged by β = {step.nudge.beta:g}"
    return (
        f"the state of {layer!r} is not a finite number after sweep {sweep} of {phase}; "
        "look for NaN in the word vectors, or lower the learning rate or network.scale"
    )
