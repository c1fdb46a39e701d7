"""The gradient by backpropagation through time: the last K synchronous steps of the free phase, written out by hand.

The states are settled first, so that all K steps start from, and stay at, the fixed point: with K large the result is
the gradient at the fixed point; with the paper's K it is what truncated backpropagation gives.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eqnp.dynamics import SettlingConfig, settle
from eqnp.learning import Estimate
from eqnp.network import Network
from eqnp.oracles.linearised import Layers, Linearised, rows_of
from eqnp.states import Batch, Clamped, State

ONE_STEP = SettlingConfig("synchronous", 0.0, 1, 1, accelerate=False)


def estimate(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    weight: np.ndarray | None = None,
    steps: int | None = None,
    train_embeddings: bool = True,
) -> Estimate:
    """The gradient of the mean loss through the last ``steps`` (default: K) steps, as an `Estimate`; weight (B,).

    Every step is stored with its attention weights: memory grows with ``steps``, which that of EP does not. Steps whose
    adjoint is less than rounding add nothing. Without ``train_embeddings`` there is no gradient of them.
    """
    x = network.clamp(batch)
    state = network.zero_state(x)
    settled = settle(network, x, state, settling)
    history = unroll(network, x, state, steps or settling.nudged_sweeps)
    total, tokens, least = {}, {}, 0.0
    for _, part, v in backward(history, target, weight, train_embeddings, total):
        tokens = {name: tokens.get(name, 0) + told for name, told in part.items()}
        largest = max(float(abs(value).max(initial=0)) for value in v.values())
        least = least or largest * np.finfo(network.dtype).eps
        if largest <= least:  # what the steps before would add is lost in rounding
            break
    total |= rows_of(network, batch, total, tokens if train_embeddings else {})
    output = state.states[network.output.name]
    loss = float(network.cost(output, target, weight).mean())
    return Estimate(total, loss, output, settled.sweeps[None], settled.residual[None], [])


def unroll(network: Network, x: Clamped, state: State, steps: int) -> list[tuple[Layers, Linearised]]:
    """Run synchronous steps from ``state``; for each, the states before it, and the dynamics around it.

    The last entry is that of the states after the last step, and has no dynamics.
    """
    history = []
    for _ in range(steps):
        before = {name: s.copy() for name, s in state.states.items()}
        state.news = network.all_news()
        settle(network, x, state, ONE_STEP)
        drives = {name: drive.copy() for name, drive in state.drives.items()}
        history.append((before, Linearised(network, x, before, drives)))
    history.append(({name: s.copy() for name, s in state.states.items()}, None))
    return history


def backward(
    history,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    of_tokens: bool = True,
    onto: Layers | None = None,
) -> Iterator[tuple[Layers, Layers, Layers]]:
    """From the last step to the first: the gradient's part by parameters, by tokens, and the adjoint of the states.

    With ``onto``, those of the parameters are added up there, which saves an array of all weights a step.
    """
    later, v = None, history[-2][1].output_adjoint(history[-1][0], target, weight)
    for states, around in reversed(history[:-1]):
        if later:
            v = later.coupling(later.hessian(v))
        yield (*around.gradients(v, states, of_tokens, onto), v)
        later = around
