"""Kernels compiled before the first batch, with a word about it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from eqnp.architecture import build_network
from eqnp.config import Config
from eqnp.kernels import cache, load
from eqnp.learning import estimate
from eqnp.machine import Machine
from eqnp.optim import make_optimizer
from eqnp.runs.loop import one_hot
from eqnp.states import Segment


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
    on_gpu = device == "cuda" and not load(device).SIMULATED
    if device == "cuda":
        compiling()
    rng, tokens, width = np.random.default_rng(0), 2, 2
    if on_gpu:  # whose kernels are made for a number of queries, and a width of vectors
        tokens, width = config.data.max_tokens, config.vectors.dimension + config.vectors.topics
    positions = dict.fromkeys(config.data.columns, tokens)
    small = dataclasses.replace(config.network, hidden=tuple(2 for _ in config.network.hidden))
    embedding = rng.standard_normal((3, width), np.float32)
    with cache.listening(compiling):
        network = build_network(small, embedding, classes, positions, rng, machine=Machine(device))
        segments = {name: Segment(np.ones((1, 2), np.int32), np.full(1, 2)) for name in positions}
        settling = dataclasses.replace(config.settling, free_sweeps=3, nudged_sweeps=3)
        result = estimate(network, segments, one_hot(np.zeros(1, int), network), config.learning, settling)
        make_optimizer(network, config.optimizer).step(network, result.gradients)
        if on_gpu:  # large products have a kernel of their own
            a, b, out = (network.kernels.zeros(shape, np.float32) for shape in ((100, 2000), (2000, 100), (100, 100)))
            network.kernels.product(a, b, out)
    seconds = time.perf_counter() - started
    if told:
        say(f"compiled in {seconds:.1f} s")
    return seconds
