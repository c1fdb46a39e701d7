"""The graph of a network: layers and synapses as data, which layers are neighbours, and which form a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

from eqnp.errors import ConfigError, nearest
from eqnp.machine import Machine
from eqnp.machine.exchange import Need
from eqnp.memories import Memory
from eqnp.parameters import EMBEDDING
from eqnp.states import Batch, Layer, Segment
from eqnp.synapses import Synapse


class Graph:
    """Any layers, and synapses that join them; any number of synapses may lead into a layer, and out of it.

    ``memories`` are what attention layers store that is not the tokens of a segment themselves; ``segment_of`` says of
    which one each is made, and ``slots`` how many it has at most. ``positions`` gives the number of tokens that each
    segment has at most. ``output`` is the layer with a cost, ``neighbours`` the names of the layers that some synapse
    multiplies with each layer, ``blocks`` the colours of that graph, and ``declared`` what each parameter is, by name;
    ``limits`` are the positions of those segments whose texts may not be longer. ``tables`` are the parameters with a
    row for each id, and whose ids these are; ``needs`` says which rows are there, where not all are (`eqnp.tables`).
    Raises ConfigError, naming the layer, for what cannot work.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        synapses: Sequence[Synapse],
        positions: Mapping[str, int],
        memories: Sequence[Memory] = (),
    ):
        self.layers, self.synapses, self.positions = tuple(layers), tuple(synapses), dict(positions)
        self.memories = tuple(memories)
        self.features = {s.features: s for s in self.synapses if s.features}
        voting = {s.weight: (s.features,) for s in self.features.values()}
        self.tables = {EMBEDDING: tuple(self.positions), **voting}
        self.needs: Mapping[str, Need] = {}
        self.segment_of = {**{name: name for name in positions}, **{each.name: each.segment for each in memories}}
        self.slots = {name: self.positions.get(segment, 0) for name, segment in self.segment_of.items()}
        self.output = output_of(self.layers)
        self.neighbours = neighbours_of(self.layers, self.synapses)
        self.blocks = blocks_of(self.layers, self.neighbours)
        owners = (*self.synapses, *self.memories)
        self.declared = {name: each for owner in owners for name, each in owner.parameters.items()}
        self._into = {layer.name: [s for s in self.synapses if s.pres and s.post is layer] for layer in self.layers}
        self._out_of = {layer.name: [s for s in self.synapses if layer in s.pres] for layer in self.layers}
        self.output.cost.betas(self.output.potential)
        for layer in self.layers:
            self._check_layer(layer)
        fixed = {layer.segment for layer in self.layers if layer.segment and layer.shape[0] is not None}
        filled = {layer.potential.memory for layer in self.layers if layer.potential.fills_up}
        self.limits = {segment: self.positions[segment] for segment in fixed | {self.segment_of[m] for m in filled}}
        for memory in self.memories:
            self._check_memory(memory)
        for synapse in self.synapses:
            self._check_reads(synapse)
            if EMBEDDING in synapse.parameters:
                raise ConfigError(
                    f"synapse {synapse.name!r} declares {EMBEDDING!r}, the word vectors; name it otherwise"
                )

    def rows_of(self, name: str) -> int | None:
        """The number of rows of a parameter that is a table; None for others."""
        return self.declared[name].shape[0] if name in self.tables else None

    def rows_of_all(self, prefix: str = "") -> dict[str, int]:
        """The number of rows of every table, by its name after a ``prefix``."""
        return {prefix + name: self.rows_of(name) for name in self.tables}

    def _check_layer(self, layer: Layer) -> None:
        memory = layer.potential.memory
        self._check_segments("layer", layer.name, (layer.segment, self.segment_of.get(memory, memory)))
        rows = layer.shape[0]
        if layer.name in self.positions:
            raise ConfigError(f"layer {layer.name!r} is called as a segment is; give it a name of its own")
        if rows is None and not layer.segment:
            raise ConfigError(
                f"layer {layer.name!r} has None rows; name the segment whose tokens they are, or a number"
            )
        if layer.segment and rows is not None and rows < self.positions[layer.segment]:
            most = self.positions[layer.segment]
            raise ConfigError(f"layer {layer.name!r} has {rows} rows for up to {most} tokens of {layer.segment!r}")

    def _check_memory(self, memory: Memory) -> None:
        self._check_segments("memory", memory.name, (memory.segment,))
        if memory.name in self.positions or [each.name for each in self.memories].count(memory.name) > 1:
            raise ConfigError(f"memory {memory.name!r} is called as another one, or a segment; give it its own name")
        stored = {layer.potential.memory for layer in self.layers}
        if memory.name not in stored.union(*(synapse.segments for synapse in self.synapses)):
            raise ConfigError(f"nothing reads the memory {memory.name!r}; leave it out")

    def _check_reads(self, synapse: Synapse) -> None:
        self._check_segments("synapse", synapse.name, [self.segment_of.get(name, name) for name in synapse.segments])
        beyond = [name for name in synapse.segments if name not in self.positions]
        if beyond and synapse.post.potential.fills_up:
            raise ConfigError(
                f"synapse {synapse.name!r} reads the memory {beyond[0]!r} into {synapse.post.name!r}, whose rows go on "
                'beyond the text, where a memory has no meaning; use padding = "masked"'
            )

    def _check_segments(self, kind: str, name: str, segments: Sequence[str]) -> None:
        for segment in filter(None, segments):
            if segment not in self.positions:
                hint = nearest(segment, self.positions)
                raise ConfigError(f"{kind} {name!r} names the segment {segment!r}, which there is not{hint}")

    def check_width(self, width: int) -> None:
        """Raise ConfigError for a layer that stores word vectors of another number of dimensions."""
        for layer in self.attention:
            if len(layer.shape) != 2 or layer.shape[1] != width:
                raise ConfigError(
                    f"layer {layer.name!r} of shape {layer.shape} stores word vectors of {width} dimensions; "
                    f"its shape must be (rows, {width})"
                )

    def check_kernels(self, machine: Machine) -> None:
        """Raise ConfigError for what is plain NumPy where the CPU cannot reach the arrays of a machine."""
        for layer in self.layers:
            for thing in filter(None, (layer.potential, layer.cost)):
                machine.needs_kernels("layer", layer.name, thing)
        for kind, owners in (("synapse", self.synapses), ("memory", self.memories)):
            for owner in owners:
                machine.needs_kernels(kind, owner.name, owner)

    def check_analytic(self) -> None:
        """Raise ConfigError for a layer that cannot be nudged off the real line."""
        for layer in self.layers:
            if not layer.potential.analytic:
                raise ConfigError(
                    f"holomorphic estimates need analytic activations, and {layer.potential.name!r} has kinks; "
                    "use logistic or tanh, or another estimator"
                )

    def outline(self) -> list[tuple]:
        """What it is made of, in a form that can be compared: layers, potentials and costs, synapses and shapes."""
        layers = [
            (layer.name, layer.shape, layer.segment, type(layer.potential), vars(layer.potential), type(layer.cost))
            for layer in self.layers
        ]
        synapses = [
            (type(s), s.name, s.post.name, [pre.name for pre in s.pres], s.segments, n, p.shape)
            for s in self.synapses
            for n, p in s.parameters.items()
        ]
        memories = [
            (type(m), {**vars(m), "parameters": {name: each.shape for name, each in m.parameters.items()}})
            for m in self.memories
        ]
        return layers + synapses + memories

    @property
    def attention(self) -> list[Layer]:
        """The layers that store a memory, in their order."""
        return [layer for layer in self.layers if layer.potential.memory]

    @property
    def betas(self) -> tuple[float, float]:
        """The nudges between which the output has a single minimum."""
        return self.output.cost.betas(self.output.potential)

    @property
    def largest_product(self) -> int:
        """Multiply-adds a sample of the largest product between layers."""
        return max((prod(p.shape) for s in self.synapses if s.pres for p in s.parameters.values()), default=0)

    def shapes(self, batch: Batch) -> dict[str, tuple[int, ...]]:
        """The shape of each layer's state per sample, where the number of rows may be that of the batch's tokens."""
        return {
            layer.name: (batch[layer.segment].ids.shape[1], *layer.shape[1:]) if layer.shape[0] is None else layer.shape
            for layer in self.layers
        }

    def fitted(self, batch: Batch, padded: Callable) -> dict[str, Segment]:
        """The segments, ``padded`` to as many tokens as there are rows for them, and again by the names of memories."""
        fitted = {name: batch[name] for name in (*self.positions, *self.features)}
        for layer in self.layers:
            if layer.segment and layer.shape[0] is not None:
                ids, lengths = fitted[layer.segment]
                fitted[layer.segment] = Segment(padded(ids, layer.shape[0]), lengths)
        return fitted | {memory.name: fitted[memory.segment] for memory in self.memories}

    def all_news(self) -> dict[str, set[str]]:
        """As if every layer had moved."""
        return {name: {name, *near} for name, near in self.neighbours.items()}


def output_of(layers: Sequence[Layer]) -> Layer:
    """The layer with a cost; raises ConfigError unless there is one, and no two layers share a name."""
    for name in (names := [layer.name for layer in layers]):
        if names.count(name) > 1:
            raise ConfigError(f"two layers are called {name!r}; every layer needs a name of its own")
    outputs = [layer for layer in layers if layer.cost is not None]
    if len(outputs) != 1:
        found = " and ".join(repr(layer.name) for layer in outputs) or f"none of {', '.join(map(repr, names))}"
        verb = "have" if len(outputs) > 1 else "has"
        raise ConfigError(f"{found} {verb} a cost; give one layer, the output, cost=SquaredError() or another")
    return outputs[0]


def neighbours_of(layers: Sequence[Layer], synapses: Sequence[Synapse]) -> dict[str, set[str]]:
    """The layers that a synapse joins to each layer; raises ConfigError for one that joins a layer to itself."""
    near: dict[str, set[str]] = {layer.name: set() for layer in layers}
    for name in (names := [synapse.name for synapse in synapses]):
        if names.count(name) > 1:
            raise ConfigError(f"two synapses are called {name!r}; every synapse needs a name of its own")
    for synapse in synapses:
        joined = (synapse.post, *synapse.pres)
        for layer in joined:
            if not any(layer is other for other in layers):
                raise ConfigError(
                    f"synapse {synapse.name!r} joins layer {layer.name!r}, which the network does not have"
                )
            if joined.count(layer) > 1:
                raise ConfigError(
                    f"synapse {synapse.name!r} joins layer {layer.name!r} to itself; no block could hold it"
                )
            if layer is synapse.post or synapse.crossed:
                near[layer.name] |= {other.name for other in joined} - {layer.name}
            else:  # φ has no product of two pre layers
                near[layer.name].add(synapse.post.name)
    return near


def blocks_of(layers: Sequence[Layer], near: Mapping[str, set[str]]) -> tuple[list[Layer], ...]:
    """The colour classes of the graph: two by distance from the first layer if it is bipartite, else greedily.

    Raises ConfigError for a layer that no path joins to the others.
    """
    distance, reached = {layers[0].name: 0}, [layers[0].name]
    for name in reached:  # grows meanwhile
        for other in sorted(near[name] - distance.keys()):
            distance[other] = distance[name] + 1
            reached.append(other)
    for layer in layers:
        if layer.name not in distance:
            raise ConfigError(f"no synapse joins layer {layer.name!r} to the layers of {layers[0].name!r}; add one")
    colours = {name: away % 2 for name, away in distance.items()}
    if any(colours[name] == colours[other] for name in near for other in near[name]):
        colours = {}
        for name in reached:
            taken = {colours.get(other) for other in near[name]}
            colours[name] = next(colour for colour in range(len(near)) if colour not in taken)
    return tuple([layer for layer in layers if colours[layer.name] == c] for c in range(1 + max(colours.values())))
