"""The gradient-descending updates property: EP's updates step by step against backpropagation's, not just their sums.

From the fixed point, step t of a synchronous nudged phase changes ∂Φ/∂θ by as much as step T − t of the free phase adds
to the gradient of backpropagation through time (Ernoult et al. 2019, theorem 1). For the neurons the same holds of the
adjoint of the drives, λ; that of the states differs from it by the factor ∇²Λ (σ' for a dense layer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eqnp.dynamics import SettlingConfig, settle
from eqnp.learning import free_phase
from eqnp.network import Network
from eqnp.oracles.bptt import backward, unroll
from eqnp.potentials import Nudge
from eqnp.synapses import Clamped, Segment, State


@dataclass
class Increments:
    """What each step adds to the gradient of the mean loss, by EP and by BPTT: (steps, *shape) by name."""

    ep: dict[str, np.ndarray]
    bptt: dict[str, np.ndarray]


def increments(
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    beta: float = 1e-4,
    steps: int = 10,
) -> tuple[Increments, Increments]:
    """Per-step increments of the parameters (but the embeddings), and of the neurons, by layer.

    EP's are those of the symmetric estimate with nudge ``beta``; the neurons' are compared with BPTT's λ.
    """
    clamped = network.clamp(segments)
    state, _ = free_phase(network, clamped, settling)
    weights, neurons = _ep(network, clamped, state, target, beta, steps)
    history = unroll(network, clamped, state, steps)
    backwards = list(backward(history, target))
    around = history[0][1]  # the same at every step: the state is a fixed point
    lam = [around.hessian(v) for _, _, v in backwards]
    return (
        Increments(weights, {name: np.stack([g[name] for g, _, _ in backwards]) for name in weights}),
        Increments(neurons, {name: np.stack([step[name] for step in lam]) for name in neurons}),
    )


def _ep(network: Network, clamped: Clamped, free: State, target, beta: float, steps: int):
    phases = []
    for strength in (beta, -beta):
        state = network.zero_state(clamped)
        state.assign(free)
        state.news = {name: set(near) for name, near in network.neighbours.items()}
        path = [{name: s.copy() for name, s in state.states.items()}]
        for _ in range(steps):
            settle(network, clamped, state, 1, nudge=Nudge(strength, target), order="synchronous")
            path.append({name: s.copy() for name, s in state.states.items()})
            state.news = {name: set(near) for name, near in network.neighbours.items()}
        phases.append(path)
    scale = -1 / (2 * beta * len(target))
    neurons = {name: scale * _steps([p[name] - m[name] for p, m in zip(*phases, strict=True)]) for name in free.states}
    plus, minus = ([_phi_gradient(network, clamped, states) for states in path] for path in phases)
    weights = {name: scale * _steps([p[name] - m[name] for p, m in zip(plus, minus, strict=True)]) for name in plus[0]}
    return weights, neurons


def _phi_gradient(network: Network, clamped: Clamped, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """∂Φ/∂θ summed over the batch: the product of the two ends of every synapse."""
    one_phase = {name: s[None] for name, s in states.items()}
    bundles = [b for synapse in (*network.inputs, *network.synapses) for b in synapse.ends(one_phase, clamped)]
    result: dict[str, np.ndarray] = {}
    for name, columns, post, pre in bundles:
        shape = network.parameters[name].shape
        result.setdefault(name, np.empty(shape, network.dtype))
        result[name].reshape(post.shape[-1], -1)[:, columns] = post[0].T @ pre[0]
    return result


def _steps(path: list[np.ndarray]) -> np.ndarray:
    return np.diff(np.stack(path), axis=0)
