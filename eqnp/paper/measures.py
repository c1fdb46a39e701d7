"""What is measured on the paper's networks beside their accuracy: settling, steps of EP and BPTT, memory, bias."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from eqnp.dynamics import SettlingConfig
from eqnp.learning import LearningConfig, estimate
from eqnp.network import Network
from eqnp.oracles import bptt, gdu, implicit
from eqnp.states import Batch
from eqnp.testing import errors_of

TIGHT = SettlingConfig("even-odd", 1e-10, 400, 400)
NUDGES = (1e-4, None)  # of the steps: one that is nearly none, and that of training
STEPS = (10, 20, 40, 60)  # T = K of the memory
SETTLED = 1e-3  # a change of no unit is larger: what counts as settled, as in training
MIB = 2**20


def settling(network: Network, batch: Batch, target: np.ndarray, learning: LearningConfig, cap: SettlingConfig) -> dict:
    """By order of updates, of every phase: mean energy above its end, largest residual, and share settled by sweep.

    ``cap`` has T and K, and nothing stops before them.
    """
    result = {}
    for order in ("synchronous", "even-odd"):
        fixed = replace(cap, order=order, tolerance=0.0, accelerate=False)
        traced = estimate(network, batch, target, learning, fixed, trace=True)
        curves = []
        for beta, trace in zip((0.0, *(beta for beta, _ in traced.phases)), traced.traces, strict=True):
            if not trace.energy:  # a free phase that is contrasted as it is
                continue
            energy, residual = np.array(trace.energy), np.array(trace.residual)
            curves.append(
                {
                    "beta": beta,
                    "energy": (energy - energy[-1]).mean(axis=1).tolist(),
                    "rise": float((np.diff(energy, axis=0) / (1 + np.abs(energy[:-1]))).max(initial=0)),
                    "residual": residual.max(axis=1).tolist(),
                    "settled": (residual <= SETTLED * min(1, abs(beta) or 1)).mean(axis=1).tolist(),
                }
            )
        result[order] = curves
    return result


def steps(network: Network, batch: Batch, target: np.ndarray, learning: LearningConfig, number: int) -> list[dict]:
    """EP's updates against BPTT's, step by step: for each nudge the norms by synapse, and how far apart they are."""
    every = []
    for nudge in NUDGES:
        beta = nudge or learning.beta
        norms = gdu.norms(gdu.each_step(network, batch, target, TIGHT, beta=beta, steps=number))
        apart = {name: max(each["apart"]) / (max(each["bptt"]) or 1) for name, each in norms.items()}
        every.append({"beta": beta, "norms": norms, "error": apart})
    return every


def bias(network: Network, batch: Batch, target: np.ndarray, learning: LearningConfig, cap: SettlingConfig) -> dict:
    """How far EP's estimate, as trained, is from the exact gradient of the same network; of the worst weights."""
    exact = implicit.estimate(network, batch, target, TIGHT)
    trained = estimate(network, batch, target, replace(learning, train_embeddings=True), cap)
    errors, cosines = errors_of(trained, exact)
    weights = {name for name in errors if network.parameters[name].ndim > 1}
    return {"error": max(errors[name] for name in weights), "cosine": min(cosines[name] for name in weights)}


def memory(network: Network, batch: Batch, target: np.ndarray, learning: LearningConfig) -> dict:
    """What an estimate allocates at its peak, in MiB, by algorithm and number of steps T = K; and the formula's parts.

    EP keeps the states and drives of three phases, whatever T and K are; BPTT those of every step, with the attention
    weights, which is what its growth should be: K times "step".
    """
    by: dict[str, list[float]] = {"ep": [], "implicit": [], "bptt": []}
    for number in STEPS:
        fixed = SettlingConfig("synchronous", 0.0, number, number, accelerate=False)
        routes: Mapping[str, Callable] = {
            "ep": lambda fixed=fixed: estimate(network, batch, target, learning, fixed),
            "implicit": lambda fixed=fixed: implicit.estimate(network, batch, target, fixed, tolerance=1e-2),
            "bptt": lambda fixed=fixed: bptt.estimate(network, batch, target, fixed),
        }
        for name, route in routes.items():
            if number == STEPS[0]:
                route()  # what is made once, compiled code above all, is no part of it
            tracemalloc.start()
            route()
            by[name].append(tracemalloc.get_traced_memory()[1] / MIB)
            tracemalloc.stop()
    return {"steps": STEPS, "samples": len(target), **by, "layers": by_layer(network, batch)}


def by_layer(network: Network, batch: Batch) -> dict[str, dict[str, float]]:
    """By formula, in MiB for each layer: its state, and what BPTT keeps of a step (with drives, slopes, attention)."""
    x, item = network.clamp(batch), network.dtype.itemsize / MIB
    size = x.size
    result = {}
    for layer in network.layers:
        units = size * int(np.prod(layer.shape))
        slope = units  # of the activation; attention has its weights (B, R, M) instead
        if layer in network.attention:
            slope = size * layer.shape[0] * x.tokens[layer.potential.memory].shape[1]
        result[layer.name] = {"state": units * item, "step": (2 * units + slope) * item}
    return result
