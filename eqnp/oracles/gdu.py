"""The gradient-descending updates property: EP's updates step by step against backpropagation's, not just their sums.

From the fixed point, step t of a synchronous nudged phase changes ∂Φ/∂θ by as much as step T − t of the free phase adds
to the gradient of backpropagation through time (Ernoult et al. 2019, theorem 1). For the neurons the same holds of the
adjoint of the drives, λ; that of the states differs from it by the factor ∇²Λ (σ' for a dense layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eqnp.costs import Nudge
from eqnp.dynamics import SettlingConfig, settle
from eqnp.network import Network
from eqnp.oracles.bptt import ONE_STEP, backward, unroll
from eqnp.states import Batch, Clamped, State


@dataclass
class Increments:
    """What each step adds to the gradient of the mean loss, by EP and by BPTT: (steps, *shape) by name."""

    ep: dict[str, np.ndarray]
    bptt: dict[str, np.ndarray]


def increments(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    beta: float = 1e-4,
    steps: int = 10,
) -> tuple[Increments, Increments]:
    """Per-step increments of the parameters (but the embeddings), and of the neurons, by layer.

    EP's are those of the symmetric estimate with nudge ``beta``; the neurons' are compared with BPTT's λ.
    """
    x = network.clamp(batch)
    state = network.zero_state(x)
    settle(network, x, state, settling)
    weights, neurons = _ep(network, x, state, target, beta, steps)
    history = unroll(network, x, state, steps)
    backwards = list(backward(history, target))
    around = history[0][1]  # the same at every step: the state is a fixed point
    lam = [around.hessian(v) for _, _, v in backwards]
    return (
        Increments(weights, {name: np.stack([g[name] for g, _, _ in backwards]) for name in weights}),
        Increments(neurons, {name: np.stack([step[name] for step in lam]) for name in neurons}),
    )


def _ep(network: Network, x: Clamped, free: State, target, beta: float, steps: int):
    phases = []
    for strength in (beta, -beta):
        state = network.zero_state(x)
        state.assign(free)
        state.news = network.all_news()
        path = [{name: s.copy() for name, s in state.states.items()}]
        for _ in range(steps):
            settle(network, x, state, ONE_STEP, Nudge(strength, target))
            path.append({name: s.copy() for name, s in state.states.items()})
            state.news = network.all_news()
        phases.append(path)
    scale = -1 / (2 * beta * len(target))
    neurons = {name: scale * _steps([p[name] - m[name] for p, m in zip(*phases, strict=True)]) for name in free.states}
    plus, minus = ([phi_gradient(network, x, states) for states in path] for path in phases)
    weights = {name: scale * _steps([p[name] - m[name] for p, m in zip(plus, minus, strict=True)]) for name in plus[0]}
    return weights, neurons


def phi_gradient(network: Network, x: Clamped, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """∂Φ/∂θ summed over the batch, by parameter: the product of the two ends of every synapse."""
    one_phase = {name: s[None] for name, s in states.items()}
    result: dict[str, np.ndarray] = {}
    for synapse in network.synapses:
        for name, columns, post, pre in synapse.ends(x, one_phase):
            result.setdefault(name, np.zeros(network.parameters[name].shape, network.dtype))
            result[name].reshape(post.shape[-1], -1)[:, columns] += post[0].T @ pre[0]
    return result


def _steps(path: list[np.ndarray]) -> np.ndarray:
    return np.diff(np.stack(path), axis=0)
