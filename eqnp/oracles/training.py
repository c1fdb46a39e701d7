"""The same network trained by another route to its gradient, so that EP against backpropagation is one option."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor

import numpy as np

from eqnp.dynamics import SettlingConfig
from eqnp.learning import Estimate
from eqnp.machine.gradients import RowGradient, total
from eqnp.network import Network
from eqnp.oracles import bptt, implicit
from eqnp.synapses import Segment

ROUTES = {"bptt": bptt.estimate, "implicit": implicit.estimate}


def estimate(
    algorithm: str,
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    settling: SettlingConfig,
    *,
    train_embeddings: bool = True,
    executor: Executor | None = None,
    shard: int | None = None,
) -> Estimate:
    """The gradient of the mean loss of a batch by ``"bptt"`` (through the last K steps) or ``"implicit"``.

    Shards, threads and the result are as in `eqnp.learning.estimate`; plain NumPy, so slower.
    """
    width = shard or len(target)
    slices = [slice(start, start + width) for start in range(0, len(target), width)]

    def run(samples: slice) -> Estimate:
        part = {name: segment.take(samples) for name, segment in segments.items()}
        result = ROUTES[algorithm](network, part, target[samples], settling)
        share = len(target[samples]) / len(target)
        result.gradients = {name: _scaled(gradient, share) for name, gradient in result.gradients.items()}
        return result

    parts = list((executor.map if executor else map)(run, slices))
    names = [name for name in parts[0].gradients if train_embeddings or name != "embedding.weight"]
    output = np.concatenate([part.output for part in parts])
    return Estimate(
        {name: total([part.gradients[name] for part in parts], network.kernels) for name in names},
        sum(part.loss * len(part.output) for part in parts) / len(target),
        output,
        np.concatenate([part.sweeps for part in parts], axis=1),
        np.concatenate([part.residual for part in parts], axis=1),
        [],
    )


def _scaled(gradient, share: float):
    if isinstance(gradient, RowGradient):
        return RowGradient(gradient.rows, gradient.values * gradient.values.dtype.type(share))
    return gradient * gradient.dtype.type(share)
