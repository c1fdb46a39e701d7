"""The same network trained by another route to its gradient, so that EP against backpropagation is one option."""

from __future__ import annotations

import numpy as np

from eqnp.dynamics import SettlingConfig
from eqnp.learning import Estimate
from eqnp.machine.gradients import entries, total, with_entries
from eqnp.network import Network
from eqnp.oracles import bptt, implicit
from eqnp.states import Batch

ROUTES = {"bptt": bptt.estimate, "implicit": implicit.estimate}


def estimate(
    algorithm: str,
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    weight: np.ndarray | None = None,
    train_embeddings: bool = True,
) -> Estimate:
    """The gradient of the mean loss of a batch by ``"bptt"`` (through the last K steps) or ``"implicit"``.

    Shards, threads and the result are as in `eqnp.learning.estimate`; plain NumPy, so slower.
    """
    _, slices = network.machine.shards(len(target))

    def by_route(samples: slice) -> Estimate:
        part = {name: segment.take(samples) for name, segment in batch.items()}
        given = {"weight": None if weight is None else weight[samples], "train_embeddings": train_embeddings}
        result = ROUTES[algorithm](network, part, target[samples], settling, **given)
        share = len(target[samples]) / len(target)
        result.gradients = {name: _scaled(gradient, share) for name, gradient in result.gradients.items()}
        return result

    parts = list(network.machine.map(by_route, slices))
    output = np.concatenate([part.output for part in parts])
    return Estimate(
        {name: total([part.gradients[name] for part in parts], network.kernels) for name in parts[0].gradients},
        sum(part.loss * len(part.output) for part in parts) / len(target),
        output,
        np.concatenate([part.sweeps for part in parts], axis=1),
        np.concatenate([part.residual for part in parts], axis=1),
        [],
    )


def _scaled(gradient, share: float):
    return with_entries(gradient, entries(gradient) * entries(gradient).dtype.type(share))
