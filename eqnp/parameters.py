"""What a parameter is, how it is drawn, (rng, shape, dtype) → array, and what is at its two ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from eqnp.errors import ConfigError

EMBEDDING = "embedding.weight"  # the word vectors, a parameter that no synapse declares
Draw = Callable[[np.random.Generator, tuple[int, ...], np.dtype], np.ndarray]


@dataclass(frozen=True)
class Parameter:
    """What a parameter is: its shape, how it is drawn, the ``synapse`` that it belongs to and the ``family`` of that,
    both for learning rates, and whether weight decay takes from it."""

    shape: tuple[int, ...]
    draw: Draw
    synapse: str
    family: str = ""
    decays: bool = True


class Bundle(NamedTuple):
    """The two ends of the synapses in some columns of a parameter, seen as a matrix (H, K): ∂φ/∂θ = Σ_rows post ⊗ pre.

    post (P, rows, H) and pre (P, rows, K), over samples or positions that share the weight; pre is (1, rows, K) where
    it is the same in all phases, which must then cancel to the last bit. Rows go
    sample after sample, equally many of each.
    """

    parameter: str
    columns: slice
    post: np.ndarray
    pre: np.ndarray


def drawn(declared: Mapping[str, Parameter], rng: np.random.Generator, dtype: np.dtype) -> dict[str, np.ndarray]:
    """The first value of every parameter, drawn in their order; raises ConfigError for one of another shape."""
    values = {name: np.asarray(each.draw(rng, each.shape, dtype), dtype) for name, each in declared.items()}
    for name, value in values.items():
        if value.shape != declared[name].shape:
            raise ConfigError(
                f"parameter {name!r} was drawn as {value.shape}, and is declared as {declared[name].shape}"
            )
    return values


def uniform(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uniform in ±1/√fan-in."""
    weight = rng.random(shape, dtype)  # in the network's own type: the paper's largest layer has 1.4 GB in float64
    weight -= 0.5
    weight *= 2 / np.sqrt(max(1, prod(shape[1:])))
    return weight


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Standard normal."""
    return rng.standard_normal(shape, dtype)


def constant(value: float) -> Draw:
    """All the same; nothing is drawn."""
    return lambda rng, shape, dtype: np.full(shape, value, dtype)


def even_rows(gain: float) -> Draw:
    """In each row one number, uniform in ±``gain``."""
    return lambda rng, shape, dtype: np.full(shape, gain, dtype) * rng.uniform(-1, 1, (shape[0], 1)).astype(dtype)


def identity(gain: float) -> Draw:
    """``gain`` times the identity; nothing is drawn."""
    return lambda rng, shape, dtype: np.eye(*shape, dtype=dtype) * dtype.type(gain)
