"""Memories made of tokens: what attention stores, and synapses read, where it is not the tokens but what sees order.

A memory is a linear map of the clamped tokens x of one segment to as many patterns y. No state takes part in it: it is
computed once a batch, and nothing changes in the dynamics. What its slots are told as a network learns, G = −∂E/∂y,
by attention (Σ_rows A_rn u_r) or by a synapse from it (Pᵀ s[n]), the memory hands on: to its weights, a product of two
ends, and to the tokens.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from eqnp.parameters import Bundle, Draw, Parameter
from eqnp.states import Clamped

Parameters = Mapping[str, np.ndarray]


class Memory:
    """Patterns y (B, M, D) made of the tokens x (B, M, D) of ``segment``; attention and synapses read it by ``name``.

    From outside, `patterns`, `ends` and `back` are needed, in plain NumPy. A memory must promise that y is linear in
    the tokens and in each parameter, that no sample sees another, and none what lies beyond its own tokens.
    """

    compiled = False  # whether it has kernels for a GPU

    def __init__(self, name: str, segment: str):
        self.name, self.segment = name, segment
        self.parameters: dict[str, Parameter] = {}

    def declare(self, part: str, shape: tuple[int, ...], draw: Draw, family: str = "", decays: bool = True) -> None:
        """Have a parameter ``<name>.<part>``."""
        self.parameters[f"{self.name}.{part}"] = Parameter(shape, draw, self.name, family or self.name, decays)

    def among(self, ids: np.ndarray) -> Memory:
        """The same for batches whose ids are places in these, (1 + n,), the first of them 0."""
        return self

    def patterns(self, parameters: Parameters, x: Clamped, out: np.ndarray) -> None:
        """out (B, M, D) ← y."""
        raise NotImplementedError(f"{type(self).__name__} has no patterns(parameters, x, out)")

    def ends(self, x: Clamped, slots: np.ndarray) -> Iterator[Bundle]:
        """The two ends of all parameters for what the slots (B, M, D) were told, in one phase."""
        raise NotImplementedError(f"{type(self).__name__} has no ends(x, slots)")

    def back(self, parameters: Parameters, x: Clamped, slots: np.ndarray, out: np.ndarray) -> None:
        """out (B, M, D) += what the tokens are told by it: (∂y/∂x)ᵀ slots."""
        raise NotImplementedError(f"{type(self).__name__} has no back(parameters, x, slots, out)")


class Window(Memory):
    """y[n] = Σ_{|k| ≤ w} V_k x[n+k], with zero beyond the text; the weight is (D, (2w + 1) D), V_{−w} first.

    V_0 starts as the identity, the others small. The logit of a query is then a sum over neighbouring words, and its
    exponential a soft "and" of them. Ids below ``words`` are words; those from there on are n-grams, which stand beside
    nothing: y[n] = V_0 x[n], and no word hears them.
    """

    compiled = True

    def __init__(
        self, name: str, segment: str, width: int, reach: int, family: str = "window", words: int = sys.maxsize
    ):
        super().__init__(name, segment)
        self.reach, self.width, self.words, self.weight = reach, width, words, f"{name}.weight"
        self.kinds: np.ndarray | None = None  # of ids that are places: 0 padding, 1 a word, 2 an n-gram
        self.declare("weight", (width, (2 * reach + 1) * width), self._draw, family)

    def among(self, ids: np.ndarray) -> Window:
        """As `Memory.among`."""
        other = copy.copy(self)
        other.kinds, other.words = np.where(ids < self.words, ids > 0, 2).astype(np.int32), 2
        return other

    def _ids(self, x: Clamped) -> np.ndarray:
        ids = x.ids[self.segment]
        return ids if self.kinds is None else self.kinds[ids]

    def _draw(self, rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        weight = rng.standard_normal(shape).astype(dtype) * dtype.type(0.1 / np.sqrt(shape[1]))
        here = slice(self.reach * self.width, (self.reach + 1) * self.width)
        weight[:, here] = np.eye(self.width, dtype=dtype)
        return weight

    def patterns(self, parameters: Parameters, x: Clamped, out: np.ndarray) -> None:
        """As `Memory.patterns`: one product with the neighbours of every token side by side."""
        x.kernels.product(_rows(self._neighbours(x)), parameters[self.weight], _rows(out), turned=True)

    def ends(self, x: Clamped, slots: np.ndarray) -> Iterator[Bundle]:
        """Slots, and the neighbours of every token."""
        post, pre = _rows(slots), _rows(self._neighbours(x))
        yield Bundle(self.weight, slice(None), post.reshape(1, *post.shape), pre.reshape(1, *pre.shape))

    def back(self, parameters: Parameters, x: Clamped, slots: np.ndarray, out: np.ndarray) -> None:
        """As `Memory.back`: Σ_k V_kᵀ slots[m − k]."""
        told = x.kernels.scratch(("told", self.name), (*slots.shape[:2], (2 * self.reach + 1) * self.width), out.dtype)
        x.kernels.product(_rows(slots), parameters[self.weight], _rows(told))
        x.kernels.fold(told, self._ids(x), self.words, self.reach, out)

    def _neighbours(self, x: Clamped) -> np.ndarray:
        """x[n−w] … x[n+w] side by side, (B, M, (2w + 1) D)."""
        tokens = x.tokens[self.segment]
        shape = (*tokens.shape[:2], (2 * self.reach + 1) * self.width)
        side = x.kernels.scratch(("neighbours", self.name), shape, tokens.dtype)
        x.kernels.neighbours(tokens, self._ids(x), self.words, self.reach, side)
        return side


def _rows(array: np.ndarray) -> np.ndarray:
    """The rows of all samples, one after the other."""
    return array.reshape(-1, array.shape[-1])
