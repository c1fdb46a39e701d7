"""The same network over memories of fewer dimensions, where nothing asks for the others.

Learned queries ask a memory X through drives u_r = q_r + Σ_j s_j W_jr, with the weights W of the dense layer above, and
that layer hears W_jr · s_r of what they retrieve. So of a slot only its part in the span of all q_r and W_jr matters.
In an orthonormal basis U (D, n) of that span, the network with the memory X U, the queries q U and the weights W U has
the same logits, the same drives above attention and the same outputs (docs/theory.md, fact 22). Eight queries and two
classes span 24 dimensions of the 200 that a word may have. It is for settling alone, and has not what embeddings learn.
"""

from __future__ import annotations

import numpy as np

from eqnp.architecture import NetworkConfig, build_network
from eqnp.network import EMBEDDING, Network

PAYS = 2  # times fewer dimensions, from which on it is worth the product with all word vectors
ROWS = 1 << 14  # word vectors that a thread multiplies at a time


def in_span(network: Network, config: NetworkConfig) -> Network | None:
    """The network in the span of what its queries and the layer above ask for, on the same machine, with as many more
    samples in a shard as there are fewer dimensions. It must be what `build_network` makes of the configuration.

    The outputs are those of the network, but for rounding and the tolerance of settling: changes of attention are
    measured in other coordinates. None where that has no half of the dimensions or more to leave out: where tokens
    query, attention reads windows, or the layer above is wide.
    """
    if config.compare or any(each.by_tokens or each.window for each in config.attention):
        return None
    above = "hidden0.weight" if config.hidden else "output.weight"
    asking = {f"queries{i}.weight" for i in range(len(config.attention))} | {above}
    given = network.host_parameters()
    width = given[EMBEDDING].shape[1]
    directions = np.concatenate([given[name].reshape(-1, width) for name in sorted(asking)]).astype(np.float64)
    if PAYS * len(directions) > width:
        return None
    basis = np.linalg.qr(directions.T)[0].astype(network.dtype)

    parameters = dict(given)
    for name in asking:
        parameters[name] = (given[name].reshape(-1, width) @ basis).reshape(len(given[name]), -1)
    words = given[EMBEDDING]
    pieces = network.machine.map(lambda rows: words[rows] @ basis, network.machine.pieces(len(words), ROWS))
    parameters[EMBEDDING] = np.concatenate(list(pieces))
    shard = network.machine.shard and network.machine.shard * (width // len(directions))
    features = max((len(given[synapse.weight]) for synapse in network.features.values()), default=0)
    return build_network(
        config,
        parameters[EMBEDDING],
        network.output.shape[0],
        network.positions,
        parameters=parameters,
        machine=network.machine.of_shards(shard),
        features=features,
        cost=network.output.cost,
    )
