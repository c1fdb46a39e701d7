"""Layers and the synapses between them: what they hold, what they add to a drive, and what is at their two ends.

A synapse is a bilinear term of Φ, ⟨s_post, W s_pre + b⟩. Its derivative by s_post is its forward part of the drive, its
derivative by s_pre the feedback, and its derivative by W the product of its ends, which is all that learning needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import NamedTuple

import numpy as np

from eqnp.machine.buffers import Room
from eqnp.machine.threads import Run
from eqnp.potentials import Elementwise, Hopfield, Softmax


class Segment(NamedTuple):
    """One text of every sample: token ids (B, N), 0 beyond each sample's ``lengths`` (B,)."""

    ids: np.ndarray
    lengths: np.ndarray

    def take(self, samples: slice) -> Segment:
        """Some of the samples."""
        return Segment(self.ids[samples], self.lengths[samples])


@dataclass
class State:
    """States and drives of every layer by name, (B, *shape) or (P, B, *shape) when several phases are held together.

    ``values`` is Λ at the drive, per sample. ``incoming`` keeps the part of each dense layer's drive that comes from
    below (``scratch`` is room for making it), and ``news`` names, for each layer, the neighbours that have moved since
    it last looked: a layer without news is where it would move to, and a product with a state that did not move need
    not be computed again. ``kernels`` are those that can reach the arrays, and ``run`` calls a function for several
    layers, like `map`, perhaps at the same time.
    """

    states: dict[str, np.ndarray]
    drives: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    incoming: dict[str, np.ndarray]
    scratch: dict[str, np.ndarray]
    news: dict[str, set[str]]
    kernels: ModuleType
    run: Run = map

    def phase(self, p: int) -> State:
        """A view of one of several phases."""
        parts = (self.states, self.drives, self.values, self.incoming, self.scratch)
        views = ({name: array[p] for name, array in part.items()} for part in parts)
        return State(*views, self._same_news(), self.kernels, self.run)

    def assign(self, other: State) -> None:
        """Copy another state of the same shapes into this one."""
        list(self.run(self.kernels.copy, other._per_sample(), self._per_sample()))
        self.news = other._same_news()

    def take(self, index: np.ndarray) -> State:
        """A copy of some of the samples."""
        copies = iter(list(self.run(lambda array: array[index], self._per_sample())))
        states, drives, values, incoming = (dict(zip(part, copies, strict=False)) for part in self._parts())
        scratch = {name: _first(array, (*array.shape[:-1], len(index))) for name, array in self.scratch.items()}
        return State(states, drives, values, incoming, scratch, self._same_news(), self.kernels, self.run)

    def put(self, index: np.ndarray, other: State) -> None:
        """Copy samples taken before into their places."""

        def write(source: np.ndarray, out: np.ndarray) -> None:
            out[index] = source

        list(self.run(write, other._per_sample(), self._per_sample()))

    def _parts(self) -> tuple[dict[str, np.ndarray], ...]:
        return self.states, self.drives, self.values, self.incoming

    def _per_sample(self) -> list[np.ndarray]:
        """The arrays with a row for every sample, in a fixed order."""
        return [array for part in self._parts() for array in part.values()]

    def _same_news(self) -> dict[str, set[str]]:
        return {layer: set(moved) for layer, moved in self.news.items()}


@dataclass
class Clamped:
    """What a batch holds fixed while the states settle.

    ``tokens`` are the embedded segments (B, M, D); ``potentials`` one per layer, with the memory of the attention
    layers in it; ``static`` the part of a layer's drive that comes from tokens or queries, (B, R, D) for attention and
    (B, R, H) for compare layers; ``shares`` (B, R) what each row of a compare layer counts for in the mean over its
    sample's tokens; ``shapes`` the shape of every layer's state per sample.
    """

    tokens: dict[str, np.ndarray]
    potentials: dict[str, Elementwise | Softmax | Hopfield]
    static: dict[str, np.ndarray]
    shares: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    size: int

    def take(self, index: np.ndarray, run: Run = map) -> Clamped:
        """What some of the samples need to settle on; the tokens stay with the whole."""
        potentials = {name: potential.take(index) for name, potential in self.potentials.items()}
        static = dict(zip(self.static, run(lambda array: array[index], self.static.values()), strict=True))
        shares = {name: array[index] for name, array in self.shares.items()}
        return Clamped({}, potentials, static, shares, self.shapes, len(index))


@dataclass(frozen=True)
class Layer:
    """A layer's name, its level in the graph (0 for attention) and the shape of its state per sample.

    Where the rows of the state are the tokens of a segment, ``segment`` names it; `Network.shapes` gives their number.
    """

    name: str
    level: int
    shape: tuple[int, ...]
    segment: str = ""


class Dense:
    """Synapses ⟨s_post, Σ_i W_i s_pre_i + b⟩ from all layers of one level to a dense layer; W is (H, Σ K_i)."""

    wide = True  # so many that their contrast is one product over the whole batch, and not one a shard

    def __init__(self, name: str, pres: tuple[Layer, ...], post: Layer, kernels: ModuleType):
        self.name, self.pres, self.post, self.kernels = name, pres, post, kernels
        edges = np.cumsum([0, *(self.units(layer) for layer in pres)])
        self.columns = {layer.name: slice(a, b) for layer, a, b in zip(pres, edges, edges[1:], strict=False)}
        self.shapes = {f"{name}.weight": (post.shape[0], int(edges[-1])), f"{name}.bias": post.shape}
        self._cut: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @staticmethod
    def units(pre: Layer) -> int:
        """How many units of a pre layer each unit of the post layer sees."""
        return prod(pre.shape)

    def forward(self, parameters, clamped: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, H) ← Σ_i W_i s_pre_i + b, its part of the drive of the post layer."""
        self.kernels.copy(parameters[f"{self.name}.bias"], out)
        weights = [self._weight(parameters, pre) for pre in self.columns]
        seen = [self.seen(pre, state.states[pre], clamped) for pre in self.columns]
        self.kernels.add_products(weights, seen, [state.scratch[pre] for pre in self.columns], out, state.run)

    def _weight(self, parameters, pre: str) -> np.ndarray:
        """The columns of the weight that see one pre layer; they are cut once, which takes long on a device."""
        weight = parameters[f"{self.name}.weight"]
        if pre not in self._cut or self._cut[pre][0] is not weight:
            self._cut[pre] = weight, weight[:, self.columns[pre]]
        return self._cut[pre][1]

    def seen(self, pre: str, state: np.ndarray, clamped: Clamped) -> np.ndarray:
        """What a post unit sees of a pre layer, (B, K): all of its units."""
        return flat(state)

    def feedback(self, parameters, clamped: Clamped, post: np.ndarray, pre: str, out: np.ndarray) -> None:
        """out (B, K) ← s_post W, its part of the drive of one pre layer, flattened; s_post (B, H)."""
        self.kernels.product(post, self._weight(parameters, pre), out)

    def ends(
        self, states: Mapping[str, np.ndarray], clamped: Clamped | None = None
    ) -> Iterator[tuple[str, slice, np.ndarray, np.ndarray]]:
        """(parameter, columns, post, pre) of each bundle; post (P, rows, H), pre (P, rows, K).

        states: the end states of all phases by layer, (P, B, *shape). What is the same in all phases at the pre end is
        there once, (1, rows, K).
        """
        post = states[self.post.name]
        for pre, columns in self.columns.items():
            s_pre = states[pre]
            yield f"{self.name}.weight", columns, post, s_pre.reshape(*s_pre.shape[:2], -1)
        yield f"{self.name}.bias", slice(None), post, _ones(post, self.kernels)


class Mean(Dense):
    """Synapses ⟨s_post, Σ_i W_i mean_n(s_pre_i[n]) + b⟩ from the rows of compare layers, one for each token n."""

    wide = False

    @staticmethod
    def units(pre: Layer) -> int:
        """The units of a row."""
        return pre.shape[-1]

    def seen(self, pre: str, state: np.ndarray, clamped: Clamped) -> np.ndarray:
        """The mean over the tokens of each sample, (B, K)."""
        mean = self.kernels.scratch(("mean", pre), (len(state), state.shape[2]), state.dtype)
        self.kernels.mean_rows(clamped.shares[pre], state, mean)
        return mean

    def feedback(self, parameters, clamped: Clamped, post: np.ndarray, pre: str, out: np.ndarray) -> None:
        """out (B, R·K): every row gets s_post W by its share in the mean."""
        shares, weight = clamped.shares[pre], self._weight(parameters, pre)
        back = self.kernels.scratch("back", (len(post), weight.shape[1]), post.dtype)
        self.kernels.product(post, weight, back)
        self.kernels.spread_rows(shares, back, out.reshape(*shares.shape, weight.shape[1]))

    def ends(
        self, states: Mapping[str, np.ndarray], clamped: Clamped
    ) -> Iterator[tuple[str, slice, np.ndarray, np.ndarray]]:
        """As `Dense.ends`, with the mean at the pre end."""
        means = {}
        for name in self.columns:
            phases, size, _, units = states[name].shape
            means[name] = self.kernels.empty((phases, size, units), states[name].dtype)
            for p in range(phases):
                self.kernels.mean_rows(clamped.shares[name], states[name][p], means[name][p])
        return super().ends({**means, self.post.name: states[self.post.name]}, clamped)


class Compare:
    """Synapses ⟨s_post[n], W s_pre[n]⟩ from each row of an attention layer to that of a compare layer; W is (H, D)."""

    wide = False

    def __init__(self, name: str, pre: Layer, post: Layer, kernels: ModuleType):
        self.name, self.pres, self.post, self.kernels = name, (pre,), post, kernels
        self.columns = {pre.name: slice(None)}
        self.shapes = {f"{name}.weight": (post.shape[1], pre.shape[1])}

    def forward(self, parameters, clamped: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, R, H) ← W s_pre, with what the tokens drive added."""
        pre, weight = _rows(state.states[self.pres[0].name]), parameters[f"{self.name}.weight"]
        self.kernels.product(pre, weight, _rows(out), turned=True)
        self.kernels.add(clamped.static[self.post.name], out)

    def seen(self, pre: str, state: np.ndarray, clamped: Clamped) -> np.ndarray:
        """What each row of post units sees of the pre layer, (B, R, D): its own row."""
        return state

    def feedback(self, parameters, clamped: Clamped, post: np.ndarray, pre: str, out: np.ndarray) -> None:
        """out (B, R·D) ← s_post[n] W for every row; s_post (B, R, H)."""
        weight = parameters[f"{self.name}.weight"]
        self.kernels.product(_rows(post), weight, out.reshape(-1, weight.shape[1]))

    def ends(
        self, states: Mapping[str, np.ndarray], clamped: Clamped
    ) -> Iterator[tuple[str, slice, np.ndarray, np.ndarray]]:
        """As `Dense.ends`; every row of every sample shares the weight."""
        post, pre = states[self.post.name], states[self.pres[0].name]
        yield f"{self.name}.weight", slice(None), _phase_rows(post), _phase_rows(pre)


class Projection:
    """Synapses ⟨s_post[n], P x[n] (+ b)⟩ from the clamped tokens of a segment to the rows of a layer; P is (H, D)."""

    wide, pres = False, ()

    def __init__(self, name: str, segment: str, width: int, post: Layer, kernels: ModuleType, bias: bool = False):
        self.name, self.segment, self.post, self.kernels, self.bias = name, segment, post, kernels, bias
        self.shapes = {f"{name}.weight": (post.shape[1], width)}
        if bias:
            self.shapes[f"{name}.bias"] = (post.shape[1],)

    def static_drive(self, parameters, tokens: Mapping[str, np.ndarray], lengths, shape, room: Room) -> np.ndarray:
        """X Pᵀ + b, zero beyond the tokens of a sample; (B, R, H), where ``shape`` is (R, H)."""
        x, weight, bias = tokens[self.segment], parameters[f"{self.name}.weight"], parameters.get(f"{self.name}.bias")
        drive = room((self.name, "static"), (len(x), *shape), x.dtype)
        self.kernels.project(x, lengths[self.segment], weight, bias, drive)
        return drive

    def ends(
        self, states: Mapping[str, np.ndarray], clamped: Clamped
    ) -> Iterator[tuple[str, slice, np.ndarray, np.ndarray]]:
        """As `Dense.ends`; every row of every sample shares the weight, and the tokens are the same in all phases."""
        x, post = clamped.tokens[self.segment], states[self.post.name]
        if x.shape[1] < post.shape[2]:  # rows beyond the longest text have no token
            post = post[:, :, : x.shape[1]]
        yield f"{self.name}.weight", slice(None), _phase_rows(post), x.reshape(1, -1, x.shape[2])
        if self.bias:  # the states of rows without a token are the same in all phases, and cancel
            yield f"{self.name}.bias", slice(None), _phase_rows(post), _ones(_phase_rows(post), self.kernels)

    def add_token_update(self, parameters, states, coefficients, tokens: Mapping[str, np.ndarray]) -> None:
        """tokens[segment] (B, M, D) += Σ_p c_p s_p P: the contrast of −∂E/∂x through the query path."""
        post, weight = states[self.post.name], parameters[f"{self.name}.weight"]
        self.kernels.add_contrast(post, weight, coefficients, tokens[self.segment])


class Queries:
    """Synapses ⟨s_post, Q⟩ from a unit that is always 1 to the attention rows: R learned queries, Q (R, D)."""

    wide, pres = False, ()

    def __init__(self, name: str, post: Layer, kernels: ModuleType):
        self.name, self.post, self.kernels = name, post, kernels
        self.shapes = {f"{name}.weight": post.shape}

    def static_drive(self, parameters, tokens: Mapping[str, np.ndarray], lengths, shape, room: Room) -> np.ndarray:
        """Q for every sample; (B, R, D)."""
        size = len(next(iter(tokens.values())))
        return self.kernels.repeated(parameters[f"{self.name}.weight"], size)

    def ends(
        self, states: Mapping[str, np.ndarray], clamped: Clamped
    ) -> Iterator[tuple[str, slice, np.ndarray, np.ndarray]]:
        """As `Dense.ends`, with the state flattened to (P, B, R·D) and 1 at the other end."""
        post = states[self.post.name]
        post = post.reshape(*post.shape[:2], -1)
        yield f"{self.name}.weight", slice(None), post, _ones(post, self.kernels)

    def add_token_update(self, parameters, states, coefficients, tokens: Mapping[str, np.ndarray]) -> None:
        """Nothing: no token is at an end of these synapses."""


def flat(state: np.ndarray) -> np.ndarray:
    """The states of each sample in one row, (B, units)."""
    return state.reshape(len(state), -1)


def _rows(state: np.ndarray) -> np.ndarray:
    """(B, R, K) as (B·R, K)."""
    return state.reshape(-1, state.shape[2])


def _phase_rows(states: np.ndarray) -> np.ndarray:
    """(P, B, R, K) as (P, B·R, K)."""
    return states.reshape(len(states), -1, states.shape[3])


def _ones(post: np.ndarray, kernels: ModuleType) -> np.ndarray:
    """The pre end of a bias, (1, rows, 1): the same in all phases, so that these are contrasted before rows are added
    up, and what they have in common cancels to the last bit."""
    ones = kernels.empty((1, post.shape[1], 1), post.dtype)
    kernels.fill(ones, 1)
    return ones


def _first(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The beginning of an array's memory in a smaller shape."""
    return array.reshape(-1)[: prod(shape)].reshape(shape)
