"""The network: layers and synapses, the primitive function Φ, the energy E, and the blocks of the layer graph.

    Φ(s; x, θ) = Σ_synapses ⟨s_post, W s_pre + b⟩
    E(s; x, θ) = Σ_layers Λ*(s) − Φ,        F_β = E + β C

C is the squared error of the output, or the cross-entropy of a softmax output (`eqnp.potentials`). A fixed point of the
dynamics is s = ∇Λ(u) with the drive u = ∂Φ/∂s of every layer, which is a stationary point of F.
Attention layers stand side by side on level 0 and read clamped tokens. A network that *compares* has a layer above each
of them whose units see, token by token, the token that queried and what it retrieved, and whose mean over the tokens
the dense layers above read; else the dense layers read the attention itself. Synapses join neighbouring levels only, so
the layers of even level and those of odd level form the two blocks of a bipartite graph.

Layers are named attention0, …, compare0, …, hidden0, …, output; parameters ``<synapse>.weight`` and ``<synapse>.bias``
with the synapses queries<i> or projection<i> (into attention<i>), compare<i> (from attention<i>) and tokens<i> (into
compare<i>), hidden<i> and output; and ``embedding.weight``, whose row 0 is the zero vector of padding.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from eqnp import kernels as twins
from eqnp.errors import ConfigError, nearest
from eqnp.machine.buffers import Room
from eqnp.machine.threads import Run
from eqnp.potentials import Hopfield, Nudge, elementwise, output
from eqnp.synapses import Clamped, Compare, Dense, Layer, Mean, Projection, Queries, Segment, State, flat

PADDINGS = ("masked", "zeros")


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer: the segment it stores as memory, and what queries it.

    ``queries`` is a number of learned queries (Hopfield pooling), or the name of the segment whose tokens query.
    """

    memory: str
    queries: int | str


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture: attention layers side by side, then dense layers of ``hidden`` units, then one unit per class.

    ``compare`` is the number of units per token of the compare layers, 0 for none; with them every attention layer is
    queried by tokens. ``padding`` is "masked" (padded tokens take no part) or "zeros" (the paper: padded keys keep
    weight exp(0) and padded query rows stay live, up to the segment's full number of positions). ``activation`` is that
    of the hidden layers, and of the output unless ``output_activation`` names another; "softmax" there makes the cost
    cross-entropy. ``initial_bias`` is where the biases of hidden and compare units start, and of outputs that are no
    softmax. ``initial_projection`` c starts the projections at c times the identity, so that a token retrieves its
    like; with 0 they are drawn like other weights. Large c with small ``scale`` makes attention heed its tokens more
    than the feedback from above.
    """

    attention: tuple[AttentionConfig, ...]
    compare: int = 0
    hidden: tuple[int, ...] = (64,)
    activation: str = "clipped"
    output_activation: str = ""
    scale: float = 0.0577
    padding: str = "masked"
    initial_bias: float = 0.0
    initial_projection: float = 0.0


class Network:
    """Layers, synapses and parameters of one architecture.

    embedding: (V, D) word vectors with a zero row 0, which become the parameter ``embedding.weight``. ``positions``
    gives the fixed number of positions of every segment (needed where tokens query); ``rng`` draws the weights,
    uniform in ±1/√fan-in, and standard normal queries. Other ``parameters`` by name may be given instead, and are
    used as they are, or copied to the ``device`` whose kernels are used (`eqnp.kernels.load`). dtype is that of the
    embedding. Raises ConfigError, also where those have other shapes.
    """

    def __init__(
        self,
        config: NetworkConfig,
        embedding: np.ndarray,
        classes: int,
        positions: Mapping[str, int],
        rng: np.random.Generator | None = None,
        device: str = "cpu",
        parameters: Mapping[str, np.ndarray] | None = None,
    ):
        check_network(config, positions)
        self.config, self.dtype, self.device, self.kernels = config, embedding.dtype, device, twins.load(device)
        self.positions = dict(positions)
        self._lay_out(config, embedding.shape[1], classes)
        self.activation = elementwise(config.activation, self.kernels)
        self.output_activation = output(config.output_activation or config.activation, self.kernels)
        shapes = {k: shape for synapse in (*self.inputs, *self.synapses) for k, shape in synapse.shapes.items()}
        if parameters is None:
            self.parameters = {name: _draw(name, shape, config, rng, self.dtype) for name, shape in shapes.items()}
        else:
            self.parameters = {name: value for name, value in parameters.items() if name != "embedding.weight"}
            if {name: value.shape for name, value in self.parameters.items()} != shapes:
                raise ConfigError("the parameters are not those of the configuration; train again")
        self.parameters["embedding.weight"] = embedding
        self.parameters = {name: self.kernels.device(value) for name, value in self.parameters.items()}

    def _lay_out(self, config: NetworkConfig, width: int, classes: int) -> None:
        self.attention, self.compare, self.inputs, self.synapses = [], [], [], []
        for i, attention in enumerate(config.attention):
            if isinstance(attention.queries, int):
                layer = Layer(f"attention{i}", 0, (attention.queries, width))
                self.inputs.append(Queries(f"queries{i}", layer, self.kernels))
            else:
                segment = attention.queries
                layer = Layer(f"attention{i}", 0, (self.positions[segment], width), segment)
                self.inputs.append(Projection(f"projection{i}", segment, width, layer, self.kernels))
            self.attention.append(layer)
        if config.compare:
            for i, pre in enumerate(self.attention):
                layer = Layer(f"compare{i}", 1, (pre.shape[0], config.compare), pre.segment)
                self.compare.append(layer)
                self.synapses.append(Compare(f"compare{i}", pre, layer, self.kernels))
                self.inputs.append(Projection(f"tokens{i}", pre.segment, width, layer, self.kernels, bias=True))
        below = tuple(self.compare or self.attention)
        self.layers = [*self.attention, *self.compare]
        for i, units in enumerate((*config.hidden, classes)):
            name = "output" if i == len(config.hidden) else f"hidden{i}"
            layer = Layer(name, below[0].level + 1, (units,))
            self.layers.append(layer)
            kind = Mean if below[0] in self.compare else Dense
            self.synapses.append(kind(name, below, layer, self.kernels))
            below = (layer,)
        self.output = self.layers[-1]
        self.blocks = tuple([layer for layer in self.layers if layer.level % 2 == parity] for parity in (0, 1))
        self.neighbours: dict[str, set[str]] = {layer.name: set() for layer in self.layers}
        for synapse in self.synapses:
            for pre in synapse.pres:
                self.neighbours[pre.name].add(synapse.post.name)
                self.neighbours[synapse.post.name].add(pre.name)
        self._into = {synapse.post.name: synapse for synapse in self.synapses}
        self._out_of = {pre.name: synapse for synapse in self.synapses for pre in synapse.pres}

    def analytic(self) -> Network:
        """The same parameters with complex states, for nudges off the real line.

        Raises ConfigError for an activation that is not analytic, and on a device other than the CPU.
        """
        if self.kernels.ASYNCHRONOUS:
            raise ConfigError(f"holomorphic estimates need the CPU, not {self.device!r}; use another estimator")
        for potential in (self.activation, self.output_activation):
            if not potential.analytic:
                raise ConfigError(
                    f"holomorphic estimates need analytic activations, and {potential.name!r} has kinks; "
                    "use logistic or tanh, or another estimator"
                )
        other = copy.copy(self)
        other.dtype, other.kernels = np.dtype(np.complex128), twins.load("analytic")
        other.activation = replace(self.activation, kernels=other.kernels)
        other.output_activation = replace(self.output_activation, kernels=other.kernels)
        return other

    def astype(self, dtype: np.dtype | type) -> Network:
        """A copy in another precision, on the CPU."""
        return self._copy({name: value.astype(dtype) for name, value in self.host_parameters().items()}, "cpu")

    def to(self, device: str) -> Network:
        """The same network on another device; on the CPU it shares the parameters."""
        return self._copy(self.host_parameters(), device)

    def _copy(self, parameters: Mapping[str, np.ndarray], device: str) -> Network:
        embedding, classes = parameters["embedding.weight"], self.output.shape[0]
        return Network(self.config, embedding, classes, self.positions, device=device, parameters=parameters)

    def host_parameters(self) -> dict[str, np.ndarray]:
        """All parameters in the host's memory: on the CPU they themselves, else copies."""
        return {name: self.kernels.host(value) for name, value in self.parameters.items()}

    def assign(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Overwrite all parameters with those of another network of the same shapes, in the host's memory."""
        for name, value in self.parameters.items():
            self.kernels.write(parameters[name], value)

    def clamp(self, segments: Mapping[str, Segment], room: Room | None = None, run: Run = map) -> Clamped:
        """Embed a batch and compute everything that stays fixed while its states settle.

        The arrays are taken from ``room``, if given; ``run`` calls a function for several segments or layers. Raises
        ConfigError when a segment the architecture names is missing.
        """
        room = room or Room(self.kernels.empty)
        for name in self.positions:
            if name not in segments:
                raise ConfigError(f"the batch has no segment {name!r}{nearest(name, segments)}")
        segments = self.fitted(segments)
        shapes, tokens = self.shapes(segments), {}
        for name in self.positions:
            shape = (*segments[name].ids.shape, self.parameters["embedding.weight"].shape[1])
            tokens[name] = room((name, "tokens"), shape, self.dtype)
        list(run(lambda name: self._embed(segments[name], tokens[name]), self.positions))
        potentials = {layer.name: self.activation for layer in self.layers} | {self.output.name: self.output_activation}
        for layer, attention in zip(self.attention, self.config.attention, strict=True):
            rows = shapes[layer.name][0]
            potentials[layer.name] = self._hopfield(attention, rows, segments, tokens[attention.memory])
        lengths = {name: segments[name].lengths for name in self.positions}
        on_device = {name: self.kernels.device(length) for name, length in lengths.items()}
        posts = [synapse.post.name for synapse in self.inputs]
        drives = run(
            lambda synapse, post: synapse.static_drive(self.parameters, tokens, on_device, shapes[post], room),
            self.inputs,
            posts,
        )
        static = dict(zip(posts, drives, strict=True))
        shares = {layer.name: self._shares(lengths[layer.segment], shapes[layer.name][0]) for layer in self.compare}
        return Clamped(tokens, potentials, static, shares, shapes, len(next(iter(tokens.values()))))

    def _embed(self, segment: Segment, out: np.ndarray) -> None:
        self.kernels.gather(self.parameters["embedding.weight"], self.kernels.device(segment.ids), out)

    def shapes(self, segments: Mapping[str, Segment]) -> dict[str, tuple[int, ...]]:
        """The shape of each layer's state per sample; rows that are compared are as many as the batch has tokens."""
        shapes = {layer.name: layer.shape for layer in self.layers}
        if self.compare:
            for layer in (*self.attention, *self.compare):
                shapes[layer.name] = (segments[layer.segment].ids.shape[1], layer.shape[1])
        return shapes

    def fitted(self, segments: Mapping[str, Segment]) -> dict[str, Segment]:
        """The segments, padded on a device to as many tokens as rows are queried by them.

        Then no array has to be cut there, which leaves gaps in its memory.
        """
        fitted = dict(segments)
        if self.kernels.ASYNCHRONOUS:
            for layer in self.attention:
                if layer.segment:
                    ids, lengths = fitted[layer.segment]
                    more = self.shapes(segments)[layer.name][0] - ids.shape[1]
                    fitted[layer.segment] = Segment(np.pad(ids, ((0, 0), (0, more))), lengths)
        return fitted

    def _shares(self, lengths: np.ndarray, rows: int) -> np.ndarray:
        inside = np.arange(rows) < lengths[:, None]
        return self.kernels.device((inside / np.maximum(lengths, 1)[:, None]).astype(self.dtype))

    def _hopfield(self, attention: AttentionConfig, rows: int, segments, memory: np.ndarray) -> Hopfield:
        masked = self.config.padding == "masked"
        slots = np.asarray(segments[attention.memory].lengths, np.int64)
        phantoms = np.zeros_like(slots) if masked else self.positions[attention.memory] - slots
        live = np.full_like(slots, rows)
        if masked and isinstance(attention.queries, str):
            live = np.asarray(segments[attention.queries].lengths, np.int64)
        counts = (self.kernels.device(count) for count in (slots, phantoms, live))
        samples = self.kernels.device(np.arange(len(slots)))
        return Hopfield(memory, *counts, self.config.scale, samples, self.kernels)

    def zero_state(
        self,
        clamped: Clamped,
        phases: int | None = None,
        room: Room | None = None,
        states: dict[str, np.ndarray] | None = None,
        run: Run = map,
    ) -> State:
        """All states zero, with leading shape (B,), or (P, B) for P ``phases``; every layer has news of all.

        The arrays are taken from ``room``, if given; those of the states may be given instead, as ``states``. ``run``
        is what the state will be settled by (`State`).
        """
        room = room or Room(self.kernels.empty)
        several = () if phases is None else (phases,)
        shapes = {name: (*several, clamped.size, *shape) for name, shape in clamped.shapes.items()}
        states = states or {name: room((name, "state"), shape, self.dtype) for name, shape in shapes.items()}
        list(run(lambda state: self.kernels.fill(state, 0), states.values()))
        drives = {name: room((name, "drive"), shape, self.dtype) for name, shape in shapes.items()}
        values = {name: room((name, "value"), (*several, clamped.size), np.float64) for name in shapes}
        posts = [synapse.post.name for synapse in self.synapses]
        incoming = {name: room((name, "incoming"), shapes[name], self.dtype) for name in posts}
        pairs = [(pre, synapse.post) for synapse in self.synapses if isinstance(synapse, Dense) for pre in synapse.pres]
        across = {pre.name: (*several, *post.shape, clamped.size) for pre, post in pairs}
        scratch = {name: room((name, "scratch"), shape, self.dtype) for name, shape in across.items()}
        news = {name: set(near) for name, near in self.neighbours.items()}
        return State(states, drives, values, incoming, scratch, news, self.kernels, run)

    def compute_drive(self, layer: Layer, clamped: Clamped, state: State) -> None:
        """drive ← ∂Φ/∂s of one layer at the present states, without the nudge."""
        drive = state.drives[layer.name]
        above, below = self._out_of.get(layer.name), self._into.get(layer.name)
        source = state.incoming[layer.name] if below else clamped.static[layer.name]
        if below and not state.news[layer.name].isdisjoint(below.columns):
            below.forward(self.parameters, clamped, state, source)
        # A silent layer feeds nothing back: at the start of a free phase this saves the largest product of all.
        if above and self.kernels.may_speak(state.states[above.post.name]):
            above.feedback(self.parameters, clamped, state.states[above.post.name], layer.name, flat(drive))
            self.kernels.add(source, drive)
        else:
            self.kernels.copy(source, drive)

    def phi(self, clamped: Clamped, state: State) -> np.ndarray:
        """The primitive function Φ per sample, (B,)."""
        total = np.zeros(clamped.size, self.dtype)
        for synapse in self.inputs:
            if synapse.post in self.attention:  # what tokens drive in a compare layer comes with its other synapses
                total += _dot(state.states[synapse.post.name], clamped.static[synapse.post.name])
        for synapse in self.synapses:
            total += _dot(state.states[synapse.post.name], self._from_below(synapse, clamped, state))
        return total

    def _from_below(self, synapse, clamped: Clamped, state: State) -> np.ndarray:
        drive = np.empty((clamped.size, *clamped.shapes[synapse.post.name]), self.dtype)
        synapse.forward(self.parameters, clamped, state, drive)
        return drive

    def energy(self, clamped: Clamped, state: State, nudge: Nudge | None = None) -> np.ndarray:
        """F = Σ Λ*(s) − Φ + β C per sample, (B,), with Λ*(s) = ⟨u, s⟩ − Λ(u) by Fenchel's equality.

        It needs states that are ∇Λ of the stored drives, which every sweep leaves behind (the zero state is not); only
        the output may be in any state, and a softmax output is taken at its minimum.
        """
        name = self.output.name
        a = self._from_below(self._into[name], clamped, state)
        total = _dot(a, state.states[name]) - self.phi(clamped, state)
        total += self.output_activation.energy(a, state.states[name], nudge)
        for layer in self.layers[:-1]:
            drive = state.drives[layer.name]
            total += _dot(drive, state.states[layer.name]) - clamped.potentials[layer.name].value(drive)
        return total

    def cost(self, output: np.ndarray, target: np.ndarray) -> np.ndarray:
        """C per sample, (B,), at free states (B, C) of the output."""
        return self.output_activation.cost(output, target)


def _draw(
    name: str, shape: tuple[int, ...], config: NetworkConfig, rng: np.random.Generator, dtype: np.dtype
) -> np.ndarray:
    if name.endswith(".bias"):
        flat_start = name == "output.bias" and config.output_activation == "softmax"
        return np.full(shape, 0.0 if flat_start else config.initial_bias, dtype)
    if name.startswith("queries"):
        return rng.standard_normal(shape, dtype)
    if name.startswith("projection") and config.initial_projection:
        return np.eye(*shape, dtype=dtype) * dtype.type(config.initial_projection)
    weight = rng.random(shape, dtype)  # in the network's own type: the paper's largest layer has 1.4 GB in float64
    weight -= 0.5
    weight *= 2 / np.sqrt(shape[1])
    return weight


def check_network(config: NetworkConfig, segments: Collection[str]) -> None:
    """Raise ConfigError for an architecture that cannot be built over these segments."""
    if config.padding not in PADDINGS:
        raise ConfigError(f"unknown padding {config.padding!r}{nearest(config.padding, PADDINGS)}")
    if not config.scale > 0:
        raise ConfigError(f"network.scale is {config.scale}; it must be greater than 0")
    if not config.attention:
        raise ConfigError("network.attention is empty; name at least one attention layer")
    for attention in config.attention:
        if isinstance(attention.queries, int) and attention.queries < 1:
            raise ConfigError(f"an attention layer has {attention.queries} queries; it needs at least 1")
        for segment in (attention.memory, attention.queries):
            if isinstance(segment, str) and segment not in segments:
                raise ConfigError(f"unknown segment {segment!r} in network.attention{nearest(segment, segments)}")
    if config.compare < 0:
        raise ConfigError(f"network.compare is {config.compare}; it must be 0 (no compare layers) or greater")
    if config.compare and (config.padding != "masked" or any(isinstance(a.queries, int) for a in config.attention)):
        raise ConfigError(
            'network.compare needs tokens that query in every attention layer, and padding = "masked"; '
            "or leave network.compare at 0"
        )
    for units in config.hidden:
        if units < 1:
            raise ConfigError(f"network.hidden holds {units}; a dense layer needs at least 1 unit")


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("bi,bi->b", flat(a), flat(b))
