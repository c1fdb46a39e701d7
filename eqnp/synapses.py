"""Synapses: the terms of Φ, what each adds to the drive of the layers that it joins, and what is at its two ends.

A term φ is linear in the state of each layer that it joins. Its derivative by s_post is its forward part of that drive,
its derivative by s_pre the feedback, and its derivative by a parameter a product of two ends, a `Bundle`, which is all
that learning needs. `Synapse` is the protocol: ``drive`` and ``ends`` in plain NumPy are one from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np

from eqnp.errors import ConfigError
from eqnp.machine.gradients import RowGradient
from eqnp.parameters import Bundle, Draw, Parameter, constant, normal, uniform
from eqnp.states import Clamped, Layer, State, dot, flat

States = Mapping[str, np.ndarray]  # (B, *shape) by layer


class Synapse:
    """A term φ of Φ that drives ``post`` and joins the layers ``pres`` and the clamped tokens of ``segments``.

    A memory is read as a segment is, by its name. With no ``pres`` its part of the drive is the same throughout a
    phase, and computed once. ``parameters`` says what they are, by name. From outside, `drive` and `ends` are enough,
    in plain NumPy. A synapse must promise that φ is linear in each layer and in the tokens, that no sample sees
    another, and that `ends` are ∂φ/∂θ at any state, settled or not; `eqnp.testing.check_synapse` holds it to that.
    """

    wide = (
        False  # whether it has so many weights that their contrast is one product over the whole batch, not one a shard
    )
    features = ""  # the segment of ids without vectors that it reads, if it does
    compiled = False  # whether it has kernels for a GPU
    crossed = True  # whether φ may have products of pre layers, and not only of the post layer with each of them

    def __init__(self, name: str, post: Layer, pres: tuple[Layer, ...] = (), segments: tuple[str, ...] = ()):
        self.name, self.post, self.pres, self.segments = name, post, pres, segments
        self.parameters: dict[str, Parameter] = {}

    def declare(self, part: str, shape: tuple[int, ...], draw: Draw, family: str = "", decays: bool = True) -> None:
        """Have a parameter ``<name>.<part>``."""
        self.parameters[f"{self.name}.{part}"] = Parameter(shape, draw, self.name, family or self.name, decays)

    # --- the protocol ------------------------------------------------------------------------------------------------

    def drive(self, at: str, parameters: Mapping[str, np.ndarray], x: Clamped, states: States) -> np.ndarray:
        """∂φ/∂s of the layer named ``at``, (B, *shape), or ∂φ/∂x of the tokens of that segment, (B, M, D)."""
        raise NotImplementedError(f"{type(self).__name__} has no drive(at, parameters, x, states)")

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """The two ends of all parameters, at the states (P, B, *shape) of several phases by layer."""
        raise NotImplementedError(f"{type(self).__name__} has no ends(x, states)")

    # --- while states settle -----------------------------------------------------------------------------------------

    def prepare(self, x: Clamped) -> None:
        """Have what it needs of a batch before its states settle, (B, …), in ``x.prepared`` under keys of its own."""

    def scratch(self, size: int) -> dict[str, tuple[int, ...]]:
        """Shapes (…, B) of room for intermediate results, by the name of a layer; `State.scratch` has the arrays."""
        return {}

    def static(self, parameters, x: Clamped, buffers: Callable) -> np.ndarray:
        """The drive of the post layer by tokens alone, (B, *shape); ``buffers(key, shape, dtype)`` gives memory."""
        return self.drive(self.post.name, parameters, x, {})

    def forward(self, parameters, x: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, *shape) ← its part of the drive of the post layer."""
        out[...] = shaped(self, self.post.name, self.drive(self.post.name, parameters, x, state.states), out.shape)

    def feedback(self, parameters, x: Clamped, states: States, pre: str, out: np.ndarray) -> None:
        """out (B, *shape) ← its part of the drive of one pre layer."""
        out[...] = shaped(self, pre, self.drive(pre, parameters, x, states), out.shape)

    def constant(self, parameters, x: Clamped) -> np.ndarray | None:
        """The part of the post layer's drive that depends on no state, (*shape,) or (B, *shape); None for nothing."""
        silent = {layer.name: np.zeros((x.size, *x.shapes[layer.name]), x.dtype) for layer in self.pres}
        return self.drive(self.post.name, parameters, x, silent)

    def phi(self, parameters, x: Clamped, states: States) -> np.ndarray:
        """φ per sample, (B,): ⟨s_post, ∂φ/∂s_post⟩."""
        return dot(states[self.post.name], self.drive(self.post.name, parameters, x, states))

    # --- learning ----------------------------------------------------------------------------------------------------

    def token_update(self, parameters, x: Clamped, states: States, coefficients: np.ndarray, out: States) -> None:
        """out[segment] (B, M, D) += Σ_p c_p ∂φ/∂x(s_p): the contrast of −∂E/∂x at the end of the tokens."""
        for segment in self.segments:
            for p, c in enumerate(coefficients):
                phase = {layer.name: states[layer.name][p] for layer in (self.post, *self.pres)}
                out[segment] += c * self.drive(segment, parameters, x, phase)

    def row_updates(
        self, parameters, x: Clamped, states: States, coefficients: np.ndarray, empty: Callable
    ) -> Iterator[tuple[str, RowGradient]]:
        """Σ_p c_p ∂φ/∂θ(s_p) of tables of which a batch touches some rows, by parameter; `ends` do not have them.

        Asked of synapses that read ``features``.
        """
        return iter(())

    # --- derivatives along a change of the states, for oracles: exact, since φ is linear in each layer ----------------

    def drive_change(self, at: str, by: str, parameters, x: Clamped, states: States, v: np.ndarray) -> np.ndarray:
        """How the drive at a layer (or at a segment's tokens) changes as the states of the layer ``by`` change by v."""
        ahead, behind = ({**states, by: states[by] + v}, {**states, by: states[by] - v})
        return (self.drive(at, parameters, x, ahead) - self.drive(at, parameters, x, behind)) / 2

    def gradient_change(self, x: Clamped, states: States, by: States) -> Iterator[tuple[str, slice, np.ndarray]]:
        """How ∂φ/∂θ changes as the states change by ``by``: (parameter, columns, (H, K)), to be added up."""
        for layer in (self.post, *self.pres):
            ahead, behind = states[layer.name] + by[layer.name], states[layer.name] - by[layer.name]
            both = {**{name: np.stack([s, s]) for name, s in states.items()}, layer.name: np.stack([ahead, behind])}
            for name, columns, post, pre in self.ends(x, both):
                yield name, columns, (post[0].T @ pre[0] - post[1].T @ pre[-1]) / 2


class Bilinear(Synapse):
    """⟨s_post, Σ_i W_i s_pre_i (+ b)⟩: the base of the package's own synapses, whose changes are single products."""

    crossed = False

    def drive_change(self, at: str, by: str, parameters, x: Clamped, states: States, v: np.ndarray) -> np.ndarray:
        """As `Synapse.drive_change`; other states do not matter."""
        return self.drive(at, parameters, x, {by: v})

    def gradient_change(self, x: Clamped, states: States, by: States) -> Iterator[tuple[str, slice, np.ndarray]]:
        """λ_post ⊗ pre + post ⊗ λ_pre of every bundle, as one product; a pre end that does not move is there once."""
        both = {layer.name: np.stack([states[layer.name], by[layer.name]]) for layer in self.pres}
        both[self.post.name] = np.stack([by[self.post.name], states[self.post.name]])
        for name, columns, post, pre in self.ends(x, both):
            post = post[: len(pre)]
            yield name, columns, post.reshape(-1, post.shape[2]).T @ pre.reshape(-1, pre.shape[2])


class Dense(Bilinear):
    """Synapses ⟨s_post, Σ_i W_i s_pre_i + b⟩ from all units of several layers to a dense layer; W is (H, Σ K_i)."""

    wide = True
    compiled = True

    def __init__(self, name: str, pres: tuple[Layer, ...], post: Layer, family: str = "", initial_bias: float = 0.0):
        super().__init__(name, post, pres)
        edges = np.cumsum([0, *(self.units(layer) for layer in pres)])
        self.columns = {layer.name: slice(a, b) for layer, a, b in zip(pres, edges, edges[1:], strict=False)}
        self.weight, self.bias = f"{name}.weight", f"{name}.bias"
        self.declare("weight", (post.shape[0], int(edges[-1])), uniform, family)
        self.declare("bias", post.shape, constant(initial_bias), family, decays=False)
        self._cut: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @staticmethod
    def units(pre: Layer) -> int:
        """How many units of a pre layer each unit of the post layer sees."""
        if pre.shape[0] is None:
            raise ConfigError(f"layer {pre.name!r} has as many rows as its text, and all are read at once; use Mean")
        return prod(pre.shape)

    def seen(self, pre: str, state: np.ndarray, x: Clamped) -> np.ndarray:
        """What a post unit sees of a pre layer, (B, K): all of its units."""
        return flat(state)

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """As `Synapse.drive`."""
        if at == self.post.name:
            weights = {pre: self._weight(parameters, pre) for pre in self.columns}
            return parameters[self.bias] + sum(self.seen(pre, states[pre], x) @ w.T for pre, w in weights.items())
        out = np.empty((x.size, *x.shapes[at]), x.dtype)
        self.feedback(parameters, x, states, at, out)
        return out

    def scratch(self, size: int) -> dict[str, tuple[int, ...]]:
        """Of each pre layer its product, turned: (H, B)."""
        return {pre.name: (*self.post.shape, size) for pre in self.pres}

    def forward(self, parameters, x: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, H) ← Σ_i W_i s_pre_i + b."""
        x.kernels.copy(parameters[self.bias], out)
        weights = [self._weight(parameters, pre) for pre in self.columns]
        seen = [self.seen(pre, state.states[pre], x) for pre in self.columns]
        x.kernels.add_products(weights, seen, [state.scratch[self.name, pre] for pre in self.columns], out, state.map)

    def _weight(self, parameters, pre: str) -> np.ndarray:
        """The columns of the weight that see one pre layer; they are cut once, which takes long on a device."""
        weight = parameters[self.weight]
        if pre not in self._cut or self._cut[pre][0] is not weight:
            self._cut[pre] = weight, weight[:, self.columns[pre]]
        return self._cut[pre][1]

    def feedback(self, parameters, x: Clamped, states: States, pre: str, out: np.ndarray) -> None:
        """out ← s_post W_i, its part of the drive of one pre layer."""
        x.kernels.product(states[self.post.name], self._weight(parameters, pre), flat(out))

    def constant(self, parameters, x: Clamped) -> np.ndarray:
        """The bias."""
        return parameters[self.bias]

    def ends(self, x: Clamped | None, states: States) -> Iterator[Bundle]:
        """All units of post and pre layers, and the bias."""
        post = states[self.post.name]
        for pre, columns in self.columns.items():
            s_pre = states[pre]
            yield Bundle(self.weight, columns, post, s_pre.reshape(*s_pre.shape[:2], -1))
        yield Bundle(self.bias, slice(None), post, _ones(post, x))

    def drive_change(self, at: str, by: str, parameters, x: Clamped, states: States, v: np.ndarray) -> np.ndarray:
        """As `Synapse.drive_change`; φ is bilinear, so other states do not matter."""
        if at == self.post.name:
            return self.seen(by, v, x) @ self._weight(parameters, by).T
        return self.drive(at, parameters, x, {self.post.name: v})


class Mean(Dense):
    """Synapses ⟨s_post, Σ_i W_i mean_n(s_pre_i[n]) + b⟩ from layers with a row for each token n; W is (H, Σ K_i)."""

    wide = False
    compiled = True

    @staticmethod
    def units(pre: Layer) -> int:
        """The units of a row."""
        return pre.shape[-1]

    def prepare(self, x: Clamped) -> None:
        """The shares (B, R) of the rows in the mean: 1/length for each token, the same for all rows without; else 0."""
        for pre in self.pres:
            if (pre.name, "shares") not in x.prepared:
                live = x.live_rows(pre)
                inside = np.arange(x.shapes[pre.name][0]) < live[:, None]
                shares = (inside / np.maximum(live, 1)[:, None]).astype(x.dtype)
                x.prepared[pre.name, "shares"] = x.kernels.device(shares)

    def seen(self, pre: str, state: np.ndarray, x: Clamped) -> np.ndarray:
        """The mean over the tokens of each sample, (B, K)."""
        mean = x.kernels.scratch(("mean", pre), (len(state), state.shape[2]), state.dtype)
        x.kernels.mean_rows(x.prepared[pre, "shares"], state, mean)
        return mean

    def feedback(self, parameters, x: Clamped, states: States, pre: str, out: np.ndarray) -> None:
        """out (B, R, K): every row gets s_post W_i by its share in the mean."""
        weight, post, shares = self._weight(parameters, pre), states[self.post.name], x.prepared[pre, "shares"]
        back = x.kernels.scratch("back", (len(post), weight.shape[1]), post.dtype)
        x.kernels.product(post, weight, back)
        x.kernels.spread_rows(shares, back, out.reshape(*shares.shape, weight.shape[1]))

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """As `Dense.ends`, with the mean at the pre end."""
        means = {}
        for name in self.columns:
            phases, size, _, units = states[name].shape
            means[name] = x.kernels.empty((phases, size, units), states[name].dtype)
            for p in range(phases):
                x.kernels.mean_rows(x.prepared[name, "shares"], states[name][p], means[name][p])
        return super().ends(x, {**means, self.post.name: states[self.post.name]})


class Compare(Bilinear):
    """Synapses ⟨s_post[n], W s_pre[n]⟩ from each row of a layer to the same row of another; W is (H, D)."""

    compiled = True

    def __init__(self, name: str, pre: Layer, post: Layer, family: str = ""):
        super().__init__(name, post, (pre,))
        self.weight = f"{name}.weight"
        self.declare("weight", (post.shape[1], pre.shape[1]), uniform, family)

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """As `Synapse.drive`: s_pre Wᵀ, or s_post W, row by row."""
        if at == self.post.name:
            return states[self.pres[0].name] @ parameters[self.weight].T
        out = np.empty((x.size, *x.shapes[at]), x.dtype)
        self.feedback(parameters, x, states, at, out)
        return out

    def forward(self, parameters, x: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, R, H) ← W s_pre."""
        x.kernels.product(rows(state.states[self.pres[0].name]), parameters[self.weight], rows(out), turned=True)

    def feedback(self, parameters, x: Clamped, states: States, pre: str, out: np.ndarray) -> None:
        """out (B, R, D) ← s_post[n] W for every row."""
        x.kernels.product(rows(states[self.post.name]), parameters[self.weight], rows(out))

    def constant(self, parameters, x: Clamped) -> None:
        """Nothing."""

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """Every row of every sample shares the weight."""
        post, pre = states[self.post.name], states[self.pres[0].name]
        yield Bundle(self.weight, slice(None), phase_rows(post), phase_rows(pre))


class Projection(Bilinear):
    """Synapses ⟨s_post[n], P x[n] (+ b)⟩ from the clamped tokens of a segment to the rows of a layer; P is (H, D)."""

    compiled = True

    def __init__(
        self, name: str, segment: str, width: int, post: Layer, family: str = "", draw: Draw | None = None,
        initial_bias: float | None = None,
    ):  # fmt: skip
        super().__init__(name, post, (), (segment,))
        self.segment, self.weight, self.bias = segment, f"{name}.weight", None
        self.declare("weight", (post.shape[1], width), draw or uniform, family)
        if initial_bias is not None:
            self.bias = f"{name}.bias"
            self.declare("bias", (post.shape[1],), constant(initial_bias), family, decays=False)

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """As `Synapse.drive`; at the tokens, s_post P of those rows that are tokens."""
        if at == self.post.name:
            return self.static(parameters, x, lambda key, shape, dtype: x.kernels.empty(shape, dtype))
        out = x.kernels.zeros(x.tokens[at].shape, x.dtype)
        one_phase = {self.post.name: states[self.post.name][None]}
        self.token_update(parameters, x, one_phase, np.ones(1), {at: out})
        return out

    def static(self, parameters, x: Clamped, buffers: Callable) -> np.ndarray:
        """X Pᵀ + b, zero beyond the tokens of a sample; (B, R, H)."""
        tokens, bias = x.tokens[self.segment], parameters[self.bias] if self.bias else None
        drive = buffers((self.name, "static"), (len(tokens), *x.shapes[self.post.name]), x.dtype)
        x.kernels.project(tokens, x.lengths[self.segment], parameters[self.weight], bias, drive)
        return drive

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """Every row of every sample shares the weight, and the tokens are the same in all phases."""
        tokens, post = x.tokens[self.segment], states[self.post.name]
        if tokens.shape[1] < post.shape[2]:  # rows beyond the longest text have no token
            post = post[:, :, : tokens.shape[1]]
        yield Bundle(self.weight, slice(None), phase_rows(post), tokens.reshape(1, -1, tokens.shape[2]))
        if self.bias:  # the states of rows without a token are the same in all phases, and cancel
            yield Bundle(self.bias, slice(None), phase_rows(post), _ones(phase_rows(post), x))

    def token_update(self, parameters, x: Clamped, states: States, coefficients: np.ndarray, out: States) -> None:
        """out[segment] (B, M, D) += Σ_p c_p s_p P: the contrast of −∂E/∂x through the query path."""
        x.kernels.add_contrast(states[self.post.name], parameters[self.weight], coefficients, out[self.segment])


class Queries(Bilinear):
    """Synapses ⟨s_post, Q⟩ from a unit that is always 1 to the attention rows: R learned queries, Q (R, D)."""

    compiled = True

    def __init__(self, name: str, post: Layer, family: str = ""):
        super().__init__(name, post)
        self.weight = f"{name}.weight"
        self.declare("weight", post.shape, normal, family, decays=False)

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """Q for every sample; (B, R, D)."""
        return x.kernels.repeated(parameters[self.weight], x.size)

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """The state flattened to (P, B, R·D), and 1 at the other end."""
        post = states[self.post.name]
        post = post.reshape(*post.shape[:2], -1)
        yield Bundle(self.weight, slice(None), post, _ones(post, x))


def shaped(synapse: Synapse, at: str, drive: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A drive that has the shape of what it drives; raises ConfigError."""
    if np.shape(drive) != shape:
        raise ConfigError(f"synapse {synapse.name!r} gives {at!r} a drive of shape {np.shape(drive)}, not {shape}")
    return drive


def rows(state: np.ndarray) -> np.ndarray:
    """(B, R, K) as (B·R, K)."""
    return state.reshape(-1, state.shape[2])


def phase_rows(states: np.ndarray) -> np.ndarray:
    """(P, B, R, K) as (P, B·R, K)."""
    return states.reshape(len(states), -1, states.shape[3])


def _ones(post: np.ndarray, x: Clamped) -> np.ndarray:
    """The pre end of a bias, (1, rows, 1): the same in all phases, so that these are contrasted before rows are added
    up, and what they have in common cancels to the last bit."""
    ones = x.kernels.empty((1, post.shape[1], 1), post.dtype)
    x.kernels.fill(ones, 1)
    return ones
