"""``eqnp watch``: one text as a network settles on it, sweep by sweep, free and nudged, and what its synapses learn.

All of it is recorded here, in float64 and with the run's own settings: `eqnp.app.player` draws what it is given, and
computes nothing. Shapes: S sweeps, R rows (queries) and M slots of an attention layer, U units that are shown, P phases
that are contrasted, h and k units that are shown of the two ends of a synapse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from eqnp.costs import Nudge
from eqnp.dynamics import Trace, settle
from eqnp.errors import DataError, nearest, some
from eqnp.learning import phases
from eqnp.machine import Machine
from eqnp.network import Network
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model, Prediction
from eqnp.states import Clamped, Layer, State
from eqnp.text.store import Split
from eqnp.text.tokens import UNKNOWN

CLASSES = 5  # to nudge towards, at most
WORDS, FEWEST = 48, 6  # of a text that are settled on: at most, and however much there is to record of each
UNITS, POST, PRE = 48, 12, 32  # that are shown of a layer, and of either end of a synapse
NUMBERS = 620_000  # that a page holds at most: 3.3 MB


@dataclass(frozen=True)
class Phase:
    """How one phase settled, sweep by sweep: the energy F and the residual, (S,), the attention of every query under
    their mean, (S, 1 + R, M) by layer, and the states of units of the other layers, (S, U). ``sweeps`` (S,) are their
    numbers; the last may end between blocks."""

    beta: float
    sweeps: np.ndarray
    energy: np.ndarray
    residual: np.ndarray
    attention: dict[str, np.ndarray]
    states: dict[str, np.ndarray]


@dataclass(frozen=True)
class Ends:
    """What some synapses of one parameter saw at their two ends, and what they learn of it.

    ``post`` (P, rows, h) and ``pre`` (P, rows, k) are the end states of the phases that are contrasted, ``products``
    (P, h, k) the sums over rows of post · pre, and ``update`` (h, k) those times the coefficients, added up: an
    estimate of −∂L/∂W for this text and class.
    """

    post: np.ndarray
    pre: np.ndarray
    products: np.ndarray
    update: np.ndarray


@dataclass(frozen=True)
class Synapses:
    """Which synapses of a parameter, seen as a matrix of ``size`` (H, K), are shown; and their `Ends` by class.

    ``post`` and ``pre`` say which units, ``units`` where they stand in the matrix, ``rows`` which positions share the
    weight (one without a name where none do).
    """

    parameter: str
    size: tuple[int, int]
    post: list[str]
    pre: list[str]
    units: tuple[np.ndarray, np.ndarray]
    rows: list[str]
    ends: dict[str, Ends] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A text by segment as it was settled on, and all that is shown of it.

    ``notes`` are sentences about what is not shown as it is: words that were left out, windows, padding. ``queries``
    and ``slots`` name the rows and columns of each attention layer, ``units`` the shown ones of every other layer,
    whose number is in ``sizes``. ``nudged`` has the phases under each nudge, by class; ``plan`` the (β, c) of those
    that are contrasted.
    """

    texts: dict[str, str]
    prediction: Prediction
    notes: list[str]
    queries: dict[str, list[str]]
    slots: dict[str, list[str]]
    units: dict[str, list[str]]
    sizes: dict[str, int]
    output: str
    free: Phase
    nudged: dict[str, list[Phase]]
    plan: tuple[tuple[float, float], ...]
    synapses: list[Synapses]

    @property
    def numbers(self) -> int:
        """How many numbers a page of it holds."""
        every = [self.free, *(phase for phases in self.nudged.values() for phase in phases)]
        arrays = [a for phase in every for part in (phase.attention, phase.states) for a in part.values()]
        ends = [ends for synapses in self.synapses for ends in synapses.ends.values()]
        arrays += [a for each in ends for a in (each.post, each.pre, each.products, each.update)]
        return sum(array.size for array in arrays)


def record(model: Model, texts: Mapping[str, str], towards: str | None = None) -> Recording:
    """A text (a string per segment) as the network of a run settles on it: free, then nudged towards classes.

    The classes are the five with the largest free outputs, ``towards`` among them if it is named; every nudge of the
    run's estimator is settled from the free state. A text of more words than can be shown, 48, is cut, and further
    where there are many queries or sweeps. Raises DataError for an unknown class, texts that do not fit, and a text
    without a known word.
    """
    if towards is not None and towards not in model.classes:
        raise DataError(f"unknown class {towards!r}{nearest(towards, model.classes)}")
    model.check({name: [text] for name, text in texts.items()})
    for name, text in texts.items():
        if not any(token != UNKNOWN for token, _, _ in model.tokenizer.places(text)):
            what = "no word of it is known to this run" if text.strip() else "it is empty"
            raise DataError(f"segment {name!r}: there is nothing to settle on, {what}; give a text with known words")
    recorder, words = _Recorder(model, towards), min(WORDS, model.config.data.max_tokens - len(model.tokenizer.start))
    while True:
        recording = recorder.record(texts, words)
        if recording.numbers <= NUMBERS or words <= FEWEST:
            return recording
        fits = int(words * (NUMBERS / recording.numbers) ** 0.5)  # attention grows as the square where tokens query
        words = max(FEWEST, min(words - 1, fits))


def network_of(model: Model) -> Network:
    """The network that is watched: that of a model in float64, by the definitions in NumPy, which are there at once."""
    return model.network.astype(np.float64).on(Machine("naive"))


class _Recorder:
    """A model made ready to settle on one text, perhaps several times."""

    def __init__(self, model: Model, towards: str | None):
        self.model, self.towards = model, towards
        self.network = network_of(model)
        learning, settling = model.config.learning.on_the_line(), model.config.settling
        self.settling = settling.for_nudge(learning.beta)
        self.plan = tuple((float(beta), float(c)) for beta, c in phases(learning, self.network.betas))

    def record(self, texts: Mapping[str, str], words: int) -> Recording:
        """As `record`, of the first ``words`` words of each segment."""
        read = {name: self._first(text, words) for name, text in texts.items()}
        one = {name: [text] for name, text in read.items()}
        split, network = self.model.encode(one), self.network
        batch, _ = split.batch(np.arange(1))
        x = network.clamp(batch)
        state = network.zero_state(x)
        every = [self._settle(x, state)]
        classes = self._classes(state.states[network.output.name][0])
        ends: dict[str, list[State]] = {}
        for name in classes:
            target, ends[name] = one_hot(np.array([self.model.classes.index(name)]), network), []
            for beta, _ in self.plan:
                nudged = network.zero_state(x)
                nudged.assign(state)
                if beta:
                    every.append(self._settle(x, nudged, Nudge(beta, target)))
                ends[name].append(nudged)
        shown = self._shown_units(every, classes)
        cut = [{name: phase.states[name][:, units] for name, units in shown.items()} for phase in every]
        every = [replace(phase, states=states) for phase, states in zip(every, cut, strict=True)]
        per_class = (len(every) - 1) // len(classes)
        names = self._slot_names(split)
        rows = {each.name: self._rows(each, names, x) for each in network.layers}
        return Recording(
            texts=read,
            prediction=self.model.in_numpy().predict(one)[0],
            notes=self._notes(texts, read),
            queries={each.name: ["mean of all", *rows[each.name]] for each in network.attention},
            slots={each.name: names[network.segment_of[each.potential.memory]] for each in network.attention},
            units={name: [self._unit_name(name, i, x, rows[name]) for i in units] for name, units in shown.items()},
            sizes={name: int(np.prod(x.shapes[name])) for name in shown},
            output=network.output.name,
            free=every[0],
            nudged={name: every[1 + i * per_class :][:per_class] for i, name in enumerate(classes)},
            plan=self.plan,
            synapses=self._synapses(x, ends, rows),
        )

    # --- the text ----------------------------------------------------------------------------------------------------

    def _places(self, text: str) -> list[tuple[int, int, int]]:
        return list(self.model.tokenizer.places(text))

    def _first(self, text: str, words: int) -> str:
        """The text up to its last known word that is settled on."""
        known = [stop for token, _, stop in self._places(text) if token != UNKNOWN]
        return text if len(known) <= words else text[: known[words - 1]]

    def _notes(self, texts: Mapping[str, str], read: Mapping[str, str]) -> list[str]:
        """What a reader must know of what is not shown as it is."""
        config, notes = self.model.config.network, []
        if cut := sum(len(self._places(text)) - len(self._places(read[name])) for name, text in texts.items()):
            notes.append(f"The last {cut} words of the text are left out here, and play no part in what is shown.")
        unknown = [
            text[start:stop] for text in read.values() for token, start, stop in self._places(text) if token == UNKNOWN
        ]
        if unknown:
            notes.append(f"Not known to this run, and left out: {some(dict.fromkeys(unknown))}.")
        if reach := max(each.window for each in config.attention):
            notes.append(f"A word stands for its window: attention to it sees the {reach} words on either side too.")
        if config.padding == "zeros":
            notes.append("Padding, which is not shown, takes the rest of the attention.")
        return notes

    def _slot_names(self, split: Split) -> dict[str, list[str]]:
        words = self.model.vocabulary()
        return {name: [words[i] for i in ids[0]] for name, ids in split.segments.items()}

    # --- phases ------------------------------------------------------------------------------------------------------

    def _settle(self, x: Clamped, state: State, nudge: Nudge | None = None) -> Phase:
        """Settle a state in place, and keep of its trace what may be shown: the states of dense layers are whole."""
        trace = Trace(with_drives=True)
        settled = settle(self.network, x, state, self.settling, nudge, trace)
        attention, states = {}, {}
        for layer in self.network.layers:
            if layer.potential.memory:
                rows, weights = int(x.live_rows(layer)[0]), x.potentials[layer.name].weights
                each = np.array([weights(drives[layer.name])[0, :rows] for drives in trace.drives])
                attention[layer.name] = np.concatenate([each.mean(axis=1, keepdims=True), each], axis=1)
            else:
                states[layer.name] = np.array([sweep[layer.name].ravel() for sweep in trace.states])
        sweeps = np.minimum(np.arange(1, len(trace.residual) + 1), settled.sweeps[0])
        energy, residual = (np.concatenate(part).astype(np.float64) for part in (trace.energy, trace.residual))
        return Phase(nudge.beta if nudge else 0.0, sweeps, energy, residual, attention, states)

    def _classes(self, output: np.ndarray) -> list[str]:
        """Those to nudge towards: that asked for, then by their free outputs (C,)."""
        names = [self.model.classes[i] for i in np.argsort(-output, kind="stable")]
        first = [self.towards] if self.towards else []
        return [*first, *(name for name in names if name != self.towards)][:CLASSES]

    def _shown_units(self, every: Sequence[Phase], classes: Sequence[str]) -> dict[str, np.ndarray]:
        """Of every layer but attention those units that move most in any phase, (U,); of the output the classes."""
        found = {}
        for name in every[0].states:
            moved = np.ptp(np.concatenate([phase.states[name] for phase in every]), axis=0)
            if name == self.network.output.name:
                moved[[self.model.classes.index(each) for each in classes]] = np.inf
            found[name] = np.sort(np.argsort(-moved, kind="stable")[:UNITS])
        return found

    # --- names -------------------------------------------------------------------------------------------------------

    def _rows(self, layer: Layer, names: Mapping[str, list[str]], x: Clamped) -> list[str]:
        """What the rows of a layer are: the tokens that query, or learned queries; one without a name for (H,)."""
        if len(layer.shape) == 1:
            return [""]
        live = int(x.live_rows(layer)[0])
        return names[layer.segment][:live] if layer.segment else [f"query {r}" for r in range(1, live + 1)]

    def _unit_name(self, layer: str, unit: int, x: Clamped, rows: Sequence[str]) -> str:
        """A unit by its place in the flattened state of a layer."""
        if layer == self.network.output.name:
            return self.model.classes[unit]
        row, unit = divmod(int(unit), x.shapes[layer][-1])
        of = f", {rows[row] if row < len(rows) else 'padding'}" if len(x.shapes[layer]) > 1 else ""
        return f"{layer} unit {unit + 1}{of}"

    # --- synapses ----------------------------------------------------------------------------------------------------

    def _synapses(self, x: Clamped, ends: Mapping[str, list[State]], rows: Mapping[str, list[str]]) -> list[Synapses]:
        """Of the bundles of every synapse those between the units that learn most, whatever the class."""
        c, found = np.array([c for _, c in self.plan]), []
        stacked = {
            name: {layer: np.stack([state.states[layer] for state in states]) for layer in x.shapes}
            for name, states in ends.items()
        }
        bundles = {name: list(self._bundles(x, states)) for name, states in stacked.items()}
        first = next(iter(stacked))
        for i, (synapse, bundle) in enumerate(bundles[first]):
            each = {name: _both(bundles[name][i][1]) for name in stacked}
            post = _most(sum(_share(c, post, pre) for post, pre in each.values()), POST)
            pre = _most(sum(_share(c, pre, post) for post, pre in each.values()), PRE)
            shared = rows[synapse.post.name] if len(bundle.post[0]) > 1 else [""]
            shown = {name: _ends(c, s[..., post], z[..., pre]) for name, (s, z) in each.items()}
            cut = getattr(synapse, "columns", {})  # where each layer below has its own
            below = [each.name for each in synapse.pres if cut.get(each.name, bundle.columns) == bundle.columns]
            found.append(
                Synapses(
                    bundle.parameter,
                    (bundle.post.shape[2], bundle.pre.shape[2]),
                    self._end_names(bundle.post, post, [synapse.post.name], x, rows),
                    self._end_names(bundle.pre, pre, below, x, rows),
                    (post, pre + (bundle.columns.start or 0)),
                    shared,
                    shown,
                )
            )
        return found

    def _bundles(self, x: Clamped, states: Mapping[str, np.ndarray]) -> Iterator[tuple]:
        """Every synapse and bundle, from the output down."""
        for synapse in reversed(self.network.synapses):
            for bundle in synapse.ends(x, states):
                yield synapse, bundle._replace(post=bundle.post.copy(), pre=bundle.pre.copy())

    def _end_names(self, end: np.ndarray, units: np.ndarray, layers: list[str], x: Clamped, rows: Mapping) -> list[str]:
        """What stands at one end: units of a layer, those of its rows one by one or in the mean, 1, or a token."""
        shape = x.shapes[layers[0]] if len(layers) == 1 else ()
        if end.shape[2] == np.prod(shape) and shape:
            return [self._unit_name(layers[0], unit, x, rows[layers[0]]) for unit in units]
        if shape and end.shape[2] == shape[-1]:
            mean = ", mean" if len(end[0]) == 1 else ""
            return [f"{layers[0]} unit {unit + 1}{mean}" for unit in units]
        return ["always 1"] if end.shape[2] == 1 else [f"number {unit + 1}" for unit in units]


def _both(bundle) -> tuple[np.ndarray, np.ndarray]:
    """The two ends, each with all phases."""
    return bundle.post, np.broadcast_to(bundle.pre, (len(bundle.post), *bundle.pre.shape[1:]))


def _share(c: np.ndarray, end: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The norm of the update Σ_p c_p end_p ⊗ other_p over the units of the ``other`` end, by unit of this one.

    It is made of the Gram matrix of the other end: the update itself may have 180 million numbers.
    """
    scaled = (c[:, None, None] * end).reshape(-1, end.shape[2])
    flat = other.reshape(-1, other.shape[2])
    return np.sqrt(np.maximum((scaled * ((flat @ flat.T) @ scaled)).sum(axis=0), 0))


def _most(shares: np.ndarray, count: int) -> np.ndarray:
    return np.sort(np.argsort(-shares, kind="stable")[:count])


def _ends(c: np.ndarray, post: np.ndarray, pre: np.ndarray) -> Ends:
    """The ends of those units that are shown, and what they make of them."""
    products = np.einsum("prh,prk->phk", post, pre)
    return Ends(post, pre, products, np.einsum("p,phk->hk", c, products))
