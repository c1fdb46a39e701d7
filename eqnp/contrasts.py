"""Contrasts: the local update of every parameter from the end states of all phases, and of every word from its tokens.

What is computed here is −Σ_p c_p ∂E/∂θ(s_p) for phases with coefficients c_p. One kernel does it for every synapse, and
its arguments are the states of the two ends: that signature is the locality of the rule. Where samples have weights,
the contrast of each is multiplied by its own, at the post end of synapses and in what tokens are told. docs/theory.md,
facts 11 and 12; of weights, fact 19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain

import numpy as np

from eqnp.errors import ConfigError, SettlingError, nearest
from eqnp.machine.buffers import Buffers
from eqnp.machine.gradients import RowGradient, entries, rows_added_up
from eqnp.machine.threads import MapOver
from eqnp.network import EMBEDDING, Network
from eqnp.states import Batch, Clamped, State
from eqnp.synapses import Bundle

Gradients = dict[str, np.ndarray | RowGradient]


def contrast(
    network: Network,
    bundles: Iterable[Bundle],
    coefficients: np.ndarray,
    map_over: MapOver = map,
    buffers: Buffers | None = None,
    weight: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The local update of each bundle of synapses, (H, K) by parameter; coefficients (P,), weight of samples (B,).

    A wide bundle is cut into blocks of pre units, whose updates are independent, and made by ``map_over``. The updates
    are written into ``buffers``, if given. Raises ConfigError for ends that do not fit their parameter.
    """
    buffers = buffers or Buffers(network.kernels.empty)
    gradients: dict[str, np.ndarray] = {}
    tasks = []
    for name, columns, post, pre in bundles:
        if name not in network.parameters:
            raise ConfigError(
                f"ends are given of parameter {name!r}, which no synapse declares{nearest(name, network.parameters)}"
            )
        gradient = gradients.setdefault(name, buffers(name, network.parameters[name].shape, network.dtype))
        units, seen, post = post.shape[2], pre.shape[2], _weighed(network, name, post, weight)
        out = None if gradient.size % units else gradient.reshape(units, -1)[:, columns]
        if out is None or out.shape[1] != seen:
            raise ConfigError(f"the ends of {name!r} {gradient.shape} have {units} and {seen} units")
        for block in network.machine.columns(seen):
            tasks.append((post, pre[:, :, block], coefficients, out[:, block]))
    list(map_over(lambda task: network.kernels.local_update(*task), tasks))
    return gradients


def _weighed(network: Network, name: str, post: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """The post end (P, rows, H) with the rows of each sample times its weight."""
    if weight is None:
        return post
    if not len(weight) or post.shape[1] % len(weight):
        raise ConfigError(
            f"the ends of {name!r} have {post.shape[1]} rows for {len(weight)} samples that have weights; "
            "a Bundle must have equally many rows of each, sample after sample"
        )
    weighed = network.kernels.empty(post.shape, network.dtype)
    network.kernels.weigh(post, weight, weighed)
    return weighed


def contrast_tokens(
    network: Network,
    x: Clamped,
    state: State,
    coefficients: np.ndarray,
    buffers: Buffers,
    weight: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The contrast of −∂E/∂y of every token of every segment and every slot of every memory, (B, M, D), times the
    weight (B,) of their sample.

    They hear it from attention, which stores them, and from synapses, which read them. ``state`` has all phases,
    (P, B, *shape).
    """
    kernels = network.kernels
    told: dict[str, np.ndarray] = {}
    for layer in network.attention:
        segment = layer.potential.memory
        update = buffers((segment, "contrast", segment not in told), x.tokens[segment].shape, network.dtype)
        x.potentials[layer.name].memory_update(state.drives[layer.name], coefficients, update)
        if segment not in told:
            told[segment] = update
        else:
            kernels.add(update, told[segment])
    for name in network.segment_of.keys() - told.keys():
        told[name] = kernels.zeros(x.tokens[name].shape, network.dtype)
    for synapse in network.synapses:
        synapse.token_update(network.parameters, x, state.states, coefficients, told)
    for update in told.values() if weight is not None else ():
        phases = update.reshape(1, *update.shape)
        kernels.weigh(phases, weight, phases)
    return told


def contrast_memories(network: Network, x: Clamped, told: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The local update of what memories are made by, from the contrast of their slots."""
    bundles = chain.from_iterable(memory.ends(x, told[memory.name]) for memory in network.memories)
    return contrast(network, bundles, np.ones(1), x.map)


def contrast_words(network: Network, x: Clamped, told: dict[str, np.ndarray], kept: Callable) -> RowGradient:
    """The same of every word, from what its tokens are told, which is used up, and its memories hand on to them.

    The values are written into ``kept(shape, dtype)``.
    """
    for memory in network.memories:
        memory.back(network.parameters, x, told[memory.name], told[memory.segment])
    return by_word(network, x.segments, {name: told[name] for name in network.positions}, kept)


def by_word(
    network: Network, batch: Batch, tokens: Mapping[str, np.ndarray], empty: Callable | None = None
) -> RowGradient:
    """Gradients of the tokens (B, M, D) of each segment added up by word; the zero row never learns.

    The memory of the values is ``empty(shape, dtype)``.
    """
    told = [(batch[name].ids, update) for name, update in tokens.items()]
    return rows_added_up(network.kernels, network.parameters[EMBEDDING].shape, told, empty)


def contrast_rows(
    network: Network,
    x: Clamped,
    states: Mapping[str, np.ndarray],
    coefficients: np.ndarray,
    kept: Buffers,
    shard: int,
    weight: np.ndarray | None = None,
) -> Gradients:
    """The local update of the rows that a shard touched, of every table that a synapse has; weight of samples (B,).

    They are written into ``kept``, under a key of the shard: they are needed until all shards are done.
    """
    found: Gradients = {}
    for synapse in filter(lambda each: each.features, network.synapses):  # no other has a table
        memory, post = partial(kept, ("rows", synapse.name, shard)), synapse.post.name
        seen = states if weight is None else {**states, post: _weighed(network, post, states[post], weight)}
        found |= synapse.row_updates(network.parameters, x, seen, coefficients, memory)
    return found


def check_finite(gradients: Gradients, loss: float, network: Network) -> None:
    """Raise SettlingError if the loss or an update is not finite."""
    if not np.isfinite(loss):
        raise SettlingError("the loss is not a finite number, and nothing was learned from it; lower the learning rate")
    for name, gradient in gradients.items():
        if not network.kernels.finite(entries(gradient)):
            raise SettlingError(
                f"the update of {name!r} is not a finite number, and was not applied; lower the learning rate"
            )
