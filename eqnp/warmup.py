"""Kernels compiled before the first batch, with a word about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from eqnp.config import Config
from eqnp.kernels import cache
from eqnp.learning import estimate
from eqnp.network import Network
from eqnp.optim import Adam
from eqnp.synapses import Segment
from eqnp.training import one_hot


def warm_up(config: Config, classes: int, say: Callable[[str], None], device: str = "cpu") -> float:
    """Have all kernels of a configuration ready, by one step of a network of its kind in miniature; returns seconds.

    Says so when that takes compiling, which happens once: compiled kernels are kept on disk (`eqnp.kernels.cache`).
    """
    told: list[bool] = []

    def compiling() -> None:
        if not told:
            kept = device == "cpu" and cache.enabled()
            say("compiling kernels, once" if kept else "compiling kernels (they are not kept on disk)")
            told.append(True)

    started = time.perf_counter()
    if device == "cuda":
        compiling()
    rng = np.random.default_rng(0)
    positions = dict.fromkeys(config.data.columns, 2)
    small = dataclasses.replace(config.network, hidden=tuple(2 for _ in config.network.hidden))
    embedding = rng.standard_normal((3, 2), np.float32)
    with cache.listening(compiling):
        network = Network(small, embedding, classes, positions, rng, device)
        segments = {name: Segment(np.ones((1, 2), np.int32), np.full(1, 2)) for name in positions}
        settling = dataclasses.replace(config.settling, free_sweeps=3, nudged_sweeps=3)
        result = estimate(network, segments, one_hot(np.zeros(1, int), network), config.learning, settling)
        Adam(network, config.optimizer).step(result.gradients, 0.0)
    seconds = time.perf_counter() - started
    if told:
        say(f"compiled in {seconds:.1f} s")
    return seconds
