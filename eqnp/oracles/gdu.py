"""The gradient-descending updates property: EP's updates step by step against backpropagation's, not just their sums.

From the fixed point, step t of a synchronous nudged phase changes ∂Φ/∂θ by as much as step T − t of the free phase adds
to the gradient of backpropagation through time (Ernoult et al. 2019, theorem 1). For the neurons the same holds of the
adjoint of the drives, λ; that of the states differs from it by the factor ∇²Λ (σ' for a dense layer).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from eqnp.costs import Nudge
from eqnp.dynamics import SettlingConfig, settle
from eqnp.network import Network
from eqnp.oracles.bptt import ONE_STEP, backward, unroll
from eqnp.states import Batch, Clamped, State


@dataclass
class Increments:
    """What a step adds to the gradient of the mean loss, by EP and by BPTT, by name; stacked: (steps, *shape)."""

    ep: dict[str, np.ndarray]
    bptt: dict[str, np.ndarray]


def increments(*arguments, **options) -> tuple[Increments, Increments]:
    """All of `each_step`, whose arguments these are, stacked: of the parameters, and of the neurons."""
    every = list(each_step(*arguments, **options))
    return _stacked([weights for weights, _ in every]), _stacked([neurons for _, neurons in every])


def norms(every: Iterable[tuple[Increments, Increments]]) -> dict[str, dict[str, list[float]]]:
    """By parameter, the norms of `each_step`'s increments by "ep" and by "bptt", and of how far they are "apart"."""
    result: dict[str, dict[str, list[float]]] = {}
    for weights, _ in every:
        for name, ep in weights.ep.items():
            lists = result.setdefault(name, {"ep": [], "bptt": [], "apart": []})
            for which, value in (("ep", ep), ("bptt", weights.bptt[name]), ("apart", ep - weights.bptt[name])):
                lists[which].append(float(np.linalg.norm(value)))
    return result


def each_step(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    beta: float = 1e-4,
    steps: int = 10,
) -> Iterator[tuple[Increments, Increments]]:
    """Per-step increments of the parameters (but the embeddings), and of the neurons, by layer; one is kept at a time.

    EP's are those of the symmetric estimate with nudge ``beta``; the neurons' are compared with BPTT's λ.
    """
    x = network.clamp(batch)
    free = network.zero_state(x)
    settle(network, x, free, settling)
    paths = [_nudged(network, x, free, Nudge(strength, target)) for strength in (beta, -beta)]
    before = _contrast(network, x, *(next(path) for path in paths))
    history = unroll(network, x, free, steps)
    around = history[0][1]  # the same at every step: the state is a fixed point
    scale = -1 / (2 * beta * len(target))
    for gradients, _, v in backward(history, target):
        after = _contrast(network, x, *(next(path) for path in paths))
        weights, neurons = ({n: scale * (a[n] - b[n]) for n in a} for a, b in zip(after, before, strict=True))
        before, lam = after, around.hessian(v)
        yield Increments(weights, {n: gradients[n] for n in weights}), Increments(neurons, {n: lam[n] for n in neurons})


def _nudged(network: Network, x: Clamped, free: State, nudge: Nudge) -> Iterator[dict[str, np.ndarray]]:
    """The states of a nudged phase before its first step, after it, after the second, …"""
    state = network.zero_state(x)
    state.assign(free)
    while True:
        yield {name: s.copy() for name, s in state.states.items()}
        state.news = network.all_news()
        settle(network, x, state, ONE_STEP, nudge)


def _contrast(network: Network, x: Clamped, plus: Mapping, minus: Mapping) -> tuple[dict, dict]:
    """∂Φ/∂θ at the states under +β less that under −β, by parameter, and the states of the two, by layer."""
    weights = phi_gradient(network, x, plus)
    for name, value in phi_gradient(network, x, minus).items():
        weights[name] -= value
    return weights, {name: plus[name] - minus[name] for name in plus}


def _stacked(every: list[Increments]) -> Increments:
    return Increments(
        *({name: np.stack([getattr(one, by)[name] for one in every]) for name in every[0].ep} for by in ("ep", "bptt"))
    )


def phi_gradient(network: Network, x: Clamped, states: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """∂Φ/∂θ summed over the batch, by parameter: the product of the two ends of every synapse."""
    one_phase = {name: s[None] for name, s in states.items()}
    result: dict[str, np.ndarray] = {}
    for synapse in network.synapses:
        for name, columns, post, pre in synapse.ends(x, one_phase):
            result.setdefault(name, np.zeros(network.parameters[name].shape, network.dtype))
            result[name].reshape(post.shape[-1], -1)[:, columns] += post[0].T @ pre[0]
    return result
