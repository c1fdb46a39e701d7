"""Central finite differences of the loss at the settled free state: slow, obvious, independent of any rule."""

from __future__ import annotations

import numpy as np

from eqnp.dynamics import SettlingConfig, settle
from eqnp.network import EMBEDDING, Network
from eqnp.states import Batch


def loss(
    network: Network, batch: Batch, target: np.ndarray, settling: SettlingConfig, weight: np.ndarray | None = None
) -> float:
    """Mean cost C over the batch after a free phase; target (B, C), weight (B,)."""
    x = network.clamp(batch)
    state = network.zero_state(x)
    settle(network, x, state, settling)
    return float(network.cost(state.states[network.output.name], target, weight).mean())


def gradient(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    name: str,
    step: float = 1e-5,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """dL/dθ of every entry of one parameter, (L(θ + h) − L(θ − h)) / 2h; the zero row of the embedding stays zero.

    Its accuracy is about h² of truncation and (settling residual)/h of noise: settle to 1e-12 or better.
    """
    parameter = network.parameters[name]
    result = np.zeros_like(parameter)
    for index in np.ndindex(parameter.shape):
        if name == EMBEDDING and index[0] == 0:
            continue
        kept = parameter[index]
        parameter[index] = kept + step
        above = loss(network, batch, target, settling, weight)
        parameter[index] = kept - step
        below = loss(network, batch, target, settling, weight)
        parameter[index] = kept
        result[index] = (above - below) / (2 * step)
    return result


def directional(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    settling: SettlingConfig,
    name: str,
    direction: np.ndarray,
    step: float = 1e-5,
    weight: np.ndarray | None = None,
) -> float:
    """The derivative of L along ``direction`` (of the parameter's shape): two settlings, whatever the size."""
    parameter = network.parameters[name]
    kept = parameter.copy()
    parameter[...] = kept + step * direction
    above = loss(network, batch, target, settling, weight)
    parameter[...] = kept - step * direction
    below = loss(network, batch, target, settling, weight)
    parameter[...] = kept
    return (above - below) / (2 * step)
