"""What a network holds while it settles: a batch with what it clamps, its layers, and their states.

Shapes: B samples, P phases, and of a layer its own shape, (H,) units or (R, D) rows of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import prod
from types import ModuleType
from typing import NamedTuple

import numpy as np

from eqnp.costs import Cost
from eqnp.errors import DataError
from eqnp.machine.threads import MapOver
from eqnp.potentials import Potential


class Segment(NamedTuple):
    """One text of every sample: token ids (B, N), 0 beyond each sample's ``lengths`` (B,)."""

    ids: np.ndarray
    lengths: np.ndarray

    def take(self, samples: slice) -> Segment:
        """Some of the samples."""
        return Segment(self.ids[samples], self.lengths[samples])


Batch = Mapping[str, Segment]  # by the name of the segment


def check_batch(batch: Batch, vocabulary: int, limits: Mapping[str, int], tables: Mapping[str, int]) -> None:
    """Raise DataError for texts that are not as many in all segments, or have ids without a vector or wrong lengths.

    ``limits`` are the numbers of tokens of those segments that may not have more; ``tables`` is how many ids there are
    of those that are no words.
    """
    sizes = {name: len(segment.ids) for name, segment in batch.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"the segments have {sizes} texts; give equally many of each")
    for name, (ids, lengths) in batch.items():
        rows = tables.get(name, vocabulary)
        if ids.size and not 0 <= ids.min() <= ids.max() < rows:
            raise DataError(f"segment {name!r} has ids {ids.min()} … {ids.max()}, and there are {rows} vectors")
        most = min(ids.shape[1], limits.get(name, ids.shape[1]))
        if len(lengths) != len(ids) or (len(lengths) and not 0 <= lengths.min() <= lengths.max() <= most):
            raise DataError(f"segment {name!r} needs one length a text, of 0 … {most} tokens; it has {lengths!r:.80}")


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: its name, the shape of its state per sample, its potential, and the cost of the one that is the output.

    Where the rows of the state are the tokens of a segment, ``segment`` names it. The number of rows may then be None:
    as many as the batch has tokens, whatever their number, for layers that are only read row by row.
    """

    name: str
    shape: tuple[int | None, ...]
    potential: Potential
    cost: Cost | None = None
    segment: str = ""


@dataclass
class Clamped:
    """What a batch holds fixed while the states settle.

    ``segments`` are its texts, ``tokens`` their embeddings (B, M, D), ``lengths`` (B,) the number of them and ``ids``
    (B, M) what they are, where the kernels can reach it; ``positions`` how many tokens a segment has at most.
    ``shapes`` has the shape of every layer's state per sample. ``potentials`` are those of the layers, bound to the
    batch; ``static`` is the part of a layer's drive that comes from no layer, (B, *shape); ``prepared`` is what
    synapses keep of the batch, (B, …) by keys of their own. ``read_again`` names the segments whose tokens are needed
    while states settle. ``map`` calls a function for several layers, perhaps at the same time.
    """

    segments: Batch
    tokens: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    positions: Mapping[str, int]
    shapes: dict[str, tuple[int, ...]]
    size: int
    dtype: np.dtype
    kernels: ModuleType
    read_again: tuple[str, ...] = ()
    map: MapOver = map
    prepared: dict[Hashable, np.ndarray] = field(default_factory=dict)
    potentials: dict[str, Potential] = field(default_factory=dict)
    static: dict[str, np.ndarray] = field(default_factory=dict)
    ids: dict[str, np.ndarray] = field(default_factory=dict)

    def live_rows(self, layer: Layer) -> np.ndarray:
        """How many rows of a layer each sample uses, (B,): those of its tokens, or all."""
        if layer.segment:
            return np.asarray(self.segments[layer.segment].lengths, np.int64)
        return np.full(self.size, self.shapes[layer.name][0], np.int64)

    def take(self, index: np.ndarray) -> Clamped:
        """What some of the samples need to settle on; tokens that are not read again, and ids, stay with the whole."""
        potentials = {name: potential.take(index) for name, potential in self.potentials.items()}
        static = dict(zip(self.static, self.map(lambda array: array[index], self.static.values()), strict=True))
        prepared = {key: array[index] for key, array in self.prepared.items()}
        segments = {name: Segment(ids[index], lengths[index]) for name, (ids, lengths) in self.segments.items()}
        tokens = {name: self.tokens[name][index] for name in self.read_again}
        lengths = {name: length[index] for name, length in self.lengths.items()}
        fixed = (self.positions, self.shapes, len(index), self.dtype, self.kernels, self.read_again, self.map)
        return Clamped(segments, tokens, lengths, *fixed, prepared, potentials, static)


@dataclass
class State:
    """States and drives of every layer by name, (B, *shape) or (P, B, *shape) when several phases are held together.

    ``values`` is Λ at the drive, per sample, (B,) float64. ``incoming`` keeps the part of each layer's drive that its
    own synapses make of other layers, (B, *shape), and ``scratch`` is room for making it, (…, B), by synapse and layer;
    ``news`` names, for each layer, the layers that have moved since it last looked, itself among them if its drive was
    changed from outside: a layer without news is where it would move to, and a product with a state that did not move
    need not be computed again. ``kernels`` are those that can reach the arrays, ``map`` is as in `Clamped`.
    """

    states: dict[str, np.ndarray]
    drives: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    incoming: dict[str, np.ndarray]
    scratch: dict[tuple[str, str], np.ndarray]
    news: dict[str, set[str]]
    kernels: ModuleType
    map: MapOver = map

    def phase(self, p: int) -> State:
        """A view of one of several phases."""
        parts = (self.states, self.drives, self.values, self.incoming, self.scratch)
        views = ({name: array[p] for name, array in part.items()} for part in parts)
        return State(*views, self._same_news(), self.kernels, self.map)

    def assign(self, other: State) -> None:
        """Copy another state of the same shapes into this one."""
        list(self.map(self.kernels.copy, other._per_sample(), self._per_sample()))
        self.news = other._same_news()

    def take(self, index: np.ndarray) -> State:
        """A copy of some of the samples."""
        copies = iter(list(self.map(lambda array: array[index], self._per_sample())))
        states, drives, values, incoming = (dict(zip(part, copies, strict=False)) for part in self._parts())
        scratch = {key: _first(array, (*array.shape[:-1], len(index))) for key, array in self.scratch.items()}
        return State(states, drives, values, incoming, scratch, self._same_news(), self.kernels, self.map)

    def put(self, index: np.ndarray, other: State) -> None:
        """Copy samples taken before into their places."""

        def write(source: np.ndarray, out: np.ndarray) -> None:
            out[index] = source

        list(self.map(write, other._per_sample(), self._per_sample()))

    def _parts(self) -> tuple[dict[str, np.ndarray], ...]:
        return self.states, self.drives, self.values, self.incoming

    def _per_sample(self) -> list[np.ndarray]:
        """The arrays with a row for every sample, in a fixed order."""
        return [array for part in self._parts() for array in part.values()]

    def _same_news(self) -> dict[str, set[str]]:
        return {layer: set(moved) for layer, moved in self.news.items()}


def flat(state: np.ndarray) -> np.ndarray:
    """The states of each sample in one row, (B, units)."""
    return state.reshape(len(state), -1)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """⟨a, b⟩ per sample, (B,)."""
    return np.einsum("bi,bi->b", flat(a), flat(b))


def _first(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The beginning of an array's memory in a smaller shape."""
    return array.reshape(-1)[: prod(shape)].reshape(shape)
