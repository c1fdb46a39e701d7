"""The network: layers and synapses given as data, the primitive function Φ, the energy E, and the blocks of the graph.

    Φ(s; x, θ) = Σ_synapses φ, as ⟨s_post, W s_pre + b⟩
    E(s; x, θ) = Σ_layers Λ*(s) − Φ,        F_β = E + β C

A fixed point of the dynamics is s = ∇Λ(u) with the drive u = ∂Φ/∂s of every layer, which is a stationary point of F.
Layers that no synapse joins form a block, which settles in one step given the others (`eqnp.graph`). Which layers and
synapses there are is said by who makes a network; `eqnp.architecture` makes those of a configuration. docs/theory.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from eqnp.costs import Nudge
from eqnp.errors import ConfigError, nearest
from eqnp.graph import Graph
from eqnp.machine import Machine
from eqnp.machine.buffers import Buffers
from eqnp.memories import Memory
from eqnp.parameters import EMBEDDING, Parameter, drawn, normal
from eqnp.states import Batch, Clamped, Layer, State, check_batch, dot
from eqnp.synapses import Synapse


class Network(Graph):
    """Layers, synapses, memories, and the parameters that they declare.

    embedding: (V, D) word vectors with a zero row 0, which become the parameter ``embedding.weight``. ``positions``
    gives the number of tokens that each segment has at most. ``rng`` draws the weights in the order of the synapses;
    other ``parameters`` by name may be given instead, and are used as they are, or copied to the device of the
    ``machine``. dtype is that of the embedding. Raises ConfigError, naming the layer, for a graph that cannot work, and
    for parameters of other shapes. Of several ranks each holds its own rows of tables (`eqnp.tables`).
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        synapses: Sequence[Synapse],
        embedding: np.ndarray,
        positions: Mapping[str, int],
        rng: np.random.Generator | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
        machine: Machine | None = None,
        memories: Sequence[Memory] = (),
    ):
        super().__init__(layers, synapses, positions, memories)
        self.machine, self.dtype = machine or Machine(), embedding.dtype
        self.check_kernels(self.machine)
        self.check_width(embedding.shape[1])
        if parameters is None:
            parameters = drawn(self.declared, rng or np.random.default_rng(), self.dtype)
        own = {name: np.asarray(value, order="C") for name, value in parameters.items() if name != EMBEDDING}
        if {name: value.shape for name, value in own.items()} != {n: p.shape for n, p in self.declared.items()}:
            raise ConfigError("the parameters are not those of the configuration; train again")
        self.declared[EMBEDDING] = Parameter(embedding.shape, normal, "embedding", "embedding", decays=False)
        own[EMBEDDING] = np.asarray(embedding, order="C")
        held = self.machine.held
        self.parameters = {name: self.kernels.device(held(value, self.rows_of(name))) for name, value in own.items()}

    @property
    def kernels(self):
        """The kernels of its machine."""
        return self.machine.kernels

    # --- the same network elsewhere ----------------------------------------------------------------------------------

    def analytic(self) -> Network:
        """The same parameters with complex states, for nudges off the real line.

        Raises ConfigError for a layer whose potential is not analytic, and on a device other than the CPU.
        """
        machine = self.machine.analytic()
        self.check_analytic()
        return self._with(self.parameters, machine, np.dtype(np.complex128))

    def astype(self, dtype: np.dtype | type) -> Network:
        """A copy in another precision, on the CPU."""
        return self._with({n: v.astype(dtype) for n, v in self.host_parameters().items()}, Machine(), np.dtype(dtype))

    def to(self, device: str) -> Network:
        """The same network on another device; on the CPU it shares the parameters. Raises ConfigError."""
        machine, here = Machine(device), self.host_parameters().items()
        return self._with({name: machine.kernels.device(value) for name, value in here}, machine, self.dtype)

    def on(self, machine: Machine) -> Network:
        """The same network and parameters, run by another machine with the same kernels: by one at work, say."""
        return self._with(self.parameters, machine, self.dtype)

    def _with(self, parameters: Mapping[str, np.ndarray], machine: Machine, dtype: np.dtype) -> Network:
        other = copy.copy(self)
        other.parameters, other.machine, other.dtype = dict(parameters), machine, dtype
        other.check_kernels(machine)
        return other

    def host_parameters(self) -> dict[str, np.ndarray]:
        """All parameters in the host's memory: on the CPU they themselves, else copies."""
        return {name: self.kernels.host(value) for name, value in self.parameters.items()}

    def assign(self, parameters: Mapping[str, np.ndarray]) -> None:
        """Overwrite all parameters with those of another network of the same shapes, in the host's memory."""
        for name, value in self.parameters.items():
            self.kernels.write(self.machine.held(parameters[name], self.rows_of(name)), value)

    # --- a batch and its states --------------------------------------------------------------------------------------

    def clamp(self, batch: Batch, buffers: Buffers | None = None) -> Clamped:
        """Embed a batch and compute everything that stays fixed while its states settle.

        The arrays are taken from ``buffers``, if given. Raises ConfigError when a segment of the network is missing.
        """
        buffers, x = buffers or Buffers(self.kernels.empty), self.unclamped(batch)
        table, there = self.parameters[EMBEDDING], self.kernels.device
        tables = {name: len(self.parameters[synapse.weight]) for name, synapse in self.features.items()}
        check_batch(x.segments, len(table), self.limits, tables)
        for name, (ids, lengths) in x.segments.items():
            if name not in self.features:
                x.tokens[name] = buffers((name, "tokens"), (*ids.shape, table.shape[1]), self.dtype)
            x.lengths[name] = there(lengths)
        x.ids.update((name, there(x.segments[name].ids)) for name in (*self.positions, *self.features))
        embedded = ((x.ids[name], x.tokens[name]) for name in self.positions)
        list(x.map(lambda pair: self.kernels.gather(table, *pair), embedded))
        for memory in self.memories:
            memory.patterns(self.parameters, x, x.tokens[memory.name])
        for layer in self.layers:
            x.potentials[layer.name] = layer.potential.bind(layer, x)
        for synapse in self.synapses:
            synapse.prepare(x)
        inputs = [synapse for synapse in self.synapses if not synapse.pres]
        drives = x.map(lambda synapse: synapse.static(self.parameters, x, buffers), inputs)
        for synapse, drive in zip(inputs, drives, strict=True):
            if (name := synapse.post.name) in x.static:
                several = self.kernels.empty(drive.shape, self.dtype)
                self.kernels.copy(x.static[name], several)
                self.kernels.add(drive, several)
                drive = several
            x.static[name] = drive
        return x

    def unclamped(self, batch: Batch) -> Clamped:
        """A batch of which nothing is clamped yet: its texts, and the shapes of all states."""
        for name in (*self.positions, *self.features):
            if name not in batch:
                raise ConfigError(f"the batch has no segment {name!r}{nearest(name, batch)}")
        segments, shapes = self.fitted(batch, self.machine.padded), self.shapes(batch)
        size = len(next(iter(batch.values())).ids)
        again = tuple({segment for synapse in self.synapses if synapse.pres for segment in synapse.segments})
        together = self.machine.map_layers(size * self.largest_product)
        return Clamped(segments, {}, {}, self.slots, shapes, size, self.dtype, self.kernels, again, together)

    def zero_state(
        self,
        x: Clamped,
        phases: int | None = None,
        buffers: Buffers | None = None,
        states: Mapping[str, np.ndarray] | None = None,
    ) -> State:
        """All states zero, with leading shape (B,), or (P, B) for P ``phases``; every layer has news of all.

        The arrays are taken from ``buffers``, if given; those of the states may be given instead, as ``states``.
        """
        buffers, several = buffers or Buffers(self.kernels.empty), () if phases is None else (phases,)
        shapes = {name: (*several, x.size, *shape) for name, shape in x.shapes.items()}
        states = states or {name: buffers((name, "state"), shape, self.dtype) for name, shape in shapes.items()}
        list(x.map(lambda state: self.kernels.fill(state, 0), states.values()))
        drives = {name: buffers((name, "drive"), shape, self.dtype) for name, shape in shapes.items()}
        values = {name: buffers((name, "value"), (*several, x.size), np.float64) for name in shapes}
        heard = [name for name, into in self._into.items() if into]
        incoming = {name: buffers((name, "incoming"), shapes[name], self.dtype) for name in heard}
        scratch = {
            (synapse.name, name): buffers((synapse.name, name, "scratch"), (*several, *shape), self.dtype)
            for synapse in self.synapses
            for name, shape in synapse.scratch(x.size).items()
        }
        return State(states, drives, values, incoming, scratch, self.all_news(), self.kernels, x.map)

    # --- drives and energy -------------------------------------------------------------------------------------------

    def compute_drive(self, layer: Layer, x: Clamped, state: State) -> None:
        """drive ← ∂Φ/∂s of one layer at the present states, without the nudge."""
        name, drive, add = layer.name, state.drives[layer.name], self.kernels.add
        source, into = x.static.get(name), self._into[name]
        if into:
            self._listen(layer, x, state)
            source = state.incoming[name]
        # A silent layer feeds nothing back: at the start of a free phase this saves the largest product of all.
        above = [s for s in self._out_of[name] if self.kernels.may_speak(state.states[s.post.name])]
        for i, synapse in enumerate(above):
            out = self.kernels.scratch("more", drive.shape, drive.dtype) if i else drive
            synapse.feedback(self.parameters, x, state.states, name, out)
            if i:
                add(out, drive)
        if not above:
            self.kernels.fill(drive, 0) if source is None else self.kernels.copy(source, drive)
        elif source is not None:
            add(source, drive)

    def _listen(self, layer: Layer, x: Clamped, state: State) -> None:
        """incoming ← what the layer's own synapses bring, where one of their pre layers has moved."""
        name, out = layer.name, state.incoming[layer.name]
        into = self._into[name]
        if all(state.news[name].isdisjoint(pre.name for pre in synapse.pres) for synapse in into):
            return
        for i, synapse in enumerate(into):
            part = self.kernels.scratch("more", out.shape, out.dtype) if i else out
            synapse.forward(self.parameters, x, state, part)
            if i:
                self.kernels.add(part, out)
        if name in x.static:
            self.kernels.add(x.static[name], out)

    def drive(self, layer: Layer, x: Clamped, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """∂Φ/∂s of one layer at any states, (B, *shape), in plain NumPy."""
        total = np.zeros((x.size, *x.shapes[layer.name]), self.dtype)
        total += x.static.get(layer.name, 0)
        for synapse in self._into[layer.name] + self._out_of[layer.name]:
            total += synapse.drive(layer.name, self.parameters, x, states)
        return total

    def constant_dot(self, layer: Layer, x: Clamped, state: np.ndarray) -> np.ndarray:
        """⟨b, s⟩ per sample, (B,), for the part b of a layer's drive that does not depend on any state."""
        total = dot(x.static[layer.name], state) if layer.name in x.static else 0.0
        for synapse in self._into[layer.name]:
            if (b := synapse.constant(self.parameters, x)) is not None:
                total = total + (state @ b if b.ndim == 1 else dot(np.broadcast_to(b, state.shape), state))
        return total

    def phi(self, x: Clamped, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """The primitive function Φ per sample, (B,)."""
        total = np.zeros(x.size, self.dtype)
        for name, static in x.static.items():
            total += dot(states[name], static)
        for synapse in self.synapses:
            if synapse.pres:
                total += synapse.phi(self.parameters, x, states)
        return total

    def energy(self, x: Clamped, state: State, nudge: Nudge | None = None) -> np.ndarray:
        """F = Σ Λ*(s) − Φ + β C per sample, (B,), with Λ*(s) = ⟨u, s⟩ − Λ(u) by Fenchel's equality.

        It needs states that are ∇Λ of the stored drives, which every sweep leaves behind (the zero state is not); only
        the output may be in any state, and under the cross-entropy it is taken at its minimum.
        """
        name, states = self.output.name, state.states
        a = self.drive(self.output, x, states)
        total = dot(a, states[name]) - self.phi(x, states)
        total += self.output.cost.energy(x.potentials[name], a, states[name], nudge)
        for layer in self.layers:
            if layer is not self.output:
                u = state.drives[layer.name]
                total += dot(u, states[layer.name]) - x.potentials[layer.name].value(u)
        return total

    def cost(self, output: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        """C per sample, (B,), at free states (B, C) of the output; times the ``weight`` (B,) of samples, if given."""
        cost = self.output.cost.value(output, target)
        return cost if weight is None else cost * weight
