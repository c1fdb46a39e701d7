"""The gradient by backpropagation through time: the last K synchronous steps of the free phase, written out by hand.

The states are settled first, so that all K steps start from, and stay at, the fixed point: with K large the result is
the gradient at the fixed point; with the paper's K it is what truncated backpropagation gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from eqnp.dynamics import SettlingConfig, settle
from eqnp.learning import Estimate, by_word, free_phase
from eqnp.network import Network
from eqnp.oracles.linearised import Layers, Linearised
from eqnp.synapses import Clamped, Segment, State


def estimate(
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    steps: int | None = None,
) -> Estimate:
    """The gradient of the mean loss through the last ``steps`` (default: K) steps, as an `Estimate`.

    Every step is stored with its attention weights: memory grows with ``steps``, which that of EP does not.
    """
    clamped = network.clamp(segments)
    state, settled = free_phase(network, clamped, settling)
    history = unroll(network, clamped, state, steps or settling.nudged_sweeps)
    total, tokens = None, None
    for gradients, part, _ in backward(history, target):
        total = _add(total, gradients)
        tokens = _add(tokens, part)
    total["embedding.weight"] = by_word(network, segments, tokens)
    output = state.states[network.output.name]
    loss = float(network.cost(output, target).mean())
    return Estimate(total, loss, output, settled.sweeps[None], settled.residual[None], [])


def unroll(network: Network, clamped: Clamped, state: State, steps: int) -> list[tuple[Layers, Linearised]]:
    """Run synchronous steps from ``state``; for each, the states before it, and the dynamics around it.

    The last entry is that of the states after the last step, and has no dynamics.
    """
    history = []
    for _ in range(steps):
        before = {name: s.copy() for name, s in state.states.items()}
        state.news = {name: set(near) for name, near in network.neighbours.items()}
        settle(network, clamped, state, 1, order="synchronous")
        drives = {name: drive.copy() for name, drive in state.drives.items()}
        history.append((before, Linearised(network, clamped, drives)))
    history.append(({name: s.copy() for name, s in state.states.items()}, None))
    return history


def backward(history, target: np.ndarray) -> Iterator[tuple[Layers, Layers, Layers]]:
    """From the last step to the first: the gradient's part by parameters, by tokens, and the adjoint of the states."""
    around = history[-2][1]
    v = around.output_adjoint(history[-1][0], target)
    for states, around in reversed(history[:-1]):
        yield (*around.gradients(v, states), v)
        v = around.coupling(around.hessian(v))


def _add(total: Layers | None, part: Layers) -> Layers:
    return part if total is None else {name: value + part[name] for name, value in total.items()}
