"""The networks of a configuration: attention, compare layers, dense layers, and the synapses between them.

Attention layers stand side by side and read clamped tokens. A network that *compares* has a layer above each of them
whose units see, token by token, the token that queried and what it retrieved, and whose mean over the tokens the dense
layers above read; else the dense layers read the attention itself.

Layers are named attention0, …, compare0, …, hidden0, …, output; parameters ``<synapse>.weight`` and ``<synapse>.bias``
with the synapses queries<i> or projection<i> (into attention<i>), compare<i> (from attention<i>), products<i> (from it
times the tokens that query) and tokens<i> (into compare<i>), votes<i> (from the features of segment i), hidden<i> and
output; and ``embedding.weight``. A synapse's family is its name without the number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from eqnp.costs import BinaryCrossEntropy, Cost, CrossEntropy, SquaredError
from eqnp.errors import ConfigError, nearest
from eqnp.machine import Machine
from eqnp.memories import Memory, Window
from eqnp.network import Network
from eqnp.parameters import identity
from eqnp.potentials import ACTIVATIONS, Hopfield, Potential, Softmax, elementwise
from eqnp.products import Product
from eqnp.states import Layer
from eqnp.synapses import Compare, Dense, Mean, Projection, Queries, Synapse
from eqnp.votes import VOTES, Votes, features_of

PADDINGS = ("masked", "zeros")
OUTPUTS = (*ACTIVATIONS, "softmax")
COSTS = ("squared error", "cross-entropy")


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer: the segment it stores as memory, and what queries it.

    memory : the segment whose slots are stored
    queries (1 or greater, or a segment) : a number of learned queries, or the segment whose tokens query
    window (0 to 10) : words before and after that the slot of a word sees too
    query_window (0 to 10) : the same for tokens that query, and for what a compare layer sees beside what was retrieved
    """

    memory: str
    queries: int | str
    window: int = 0
    query_window: int = 0

    @property
    def by_tokens(self) -> bool:
        """Whether tokens query, and not learned queries."""
        return isinstance(self.queries, str)


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture: attention layers side by side, then compare layers, then dense layers, then one unit per class.

    Large ``initial_projection`` with small ``scale`` makes attention heed its tokens more than the feedback from above.

    attention : the attention layers, a list of tables
    compare (0 or greater) : units for each token of the compare layers; 0: none. With them tokens query
    hidden : units of each dense layer, a list
    activation (clipped, logistic or tanh) : that of hidden layers, and of an output without its own
    output_activation (clipped, logistic, tanh, softmax or empty) : that of the output; softmax brings cross-entropy
    scale (above 0) : κ, the inverse temperature of attention
    padding (masked or zeros) : padded tokens take no part, or, as in the paper, padded keys keep the weight exp(0)
    initial_bias : where biases of hidden and compare units start, and of outputs that are no softmax
    initial_projection : where projections start, times the identity: a token retrieves its like; 0: drawn as others
    products (0 or greater) : compare units see x ∘ s of a token and its retrieval too, at first ⟨x, s⟩ by ± up to this
    votes (0 or greater) : features of a text drive the output, at first by so many log-count ratios; 0: no votes
    cost (squared error, cross-entropy or empty) : of the output; cross-entropy of logistic units is one for each class
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
    products: float = 0.0
    votes: float = 0.0
    cost: str = ""


def build_network(
    config: NetworkConfig,
    embedding: np.ndarray,
    classes: int,
    positions: Mapping[str, int],
    rng: np.random.Generator | None = None,
    parameters: Mapping[str, np.ndarray] | None = None,
    machine: Machine | None = None,
    words: int | None = None,
    features: int = 0,
    cost: Cost | None = None,
) -> Network:
    """The `Network` of a configuration, with one output unit per class; embedding (V, D), and all else as there.

    Ids from ``words`` on are n-grams, which windows pass over; None: all V are words. With ``config.votes``, each of so
    many ``features`` votes, from 0, for the classes. ``cost`` takes the place of that of the configuration. Raises
    ConfigError for a configuration that cannot be built over these segments.
    """
    check_network(config, positions)
    words = len(embedding) if words is None else words
    layers, synapses, memories = graph_of(config, embedding.shape[1], classes, positions, words, features, cost)
    return Network(layers, synapses, embedding, positions, rng, parameters, machine, memories)


def graph_of(
    config: NetworkConfig,
    width: int,
    classes: int,
    positions: Mapping[str, int],
    words: int,
    features: int = 0,
    cost: Cost | None = None,
) -> tuple[list[Layer], list[Synapse], list[Memory]]:
    """The graph of a configuration over vectors of ``width`` dimensions, with ``words``, ``features`` and ``cost`` as
    in `build_network`; synapses from tokens come first."""
    hidden, (readout, own_cost) = elementwise(config.activation), output(config)
    draw = identity(config.initial_projection) if config.initial_projection else None
    attention, compare, dense, inputs, synapses = [], [], [], [], []
    windows: dict[tuple[str, int], Memory] = {}

    def seen(segment: str, reach: int) -> str:
        """The name of the tokens of a segment, or of their windows: whoever reads the same windows shares them."""
        if reach and (segment, reach) not in windows:
            windows[segment, reach] = Window(f"window{len(windows)}", segment, width, reach, words=words)
        return windows[segment, reach].name if reach else segment

    for i, each in enumerate(config.attention):
        potential = Hopfield(seen(each.memory, each.window), config.scale, config.padding)
        if each.by_tokens:
            rows = None if config.compare else positions[each.queries]
            layer = Layer(f"attention{i}", (rows, width), potential, segment=each.queries)
            source = seen(each.queries, each.query_window)
            inputs.append(Projection(f"projection{i}", source, width, layer, "projection", draw))
        else:
            layer = Layer(f"attention{i}", (each.queries, width), potential)
            inputs.append(Queries(f"queries{i}", layer, "queries"))
        attention.append(layer)
    for i, pre in enumerate(attention if config.compare else ()):
        layer = Layer(f"compare{i}", (None, config.compare), hidden, segment=pre.segment)
        compare.append(layer)
        synapses.append(Compare(f"compare{i}", pre, layer, "compare"))
        if config.products:
            synapses.append(Product(f"products{i}", pre.segment, pre, layer, config.products, "products"))
        bias = config.initial_bias
        source = seen(pre.segment, config.attention[i].query_window)
        inputs.append(Projection(f"tokens{i}", source, width, layer, "tokens", initial_bias=bias))
    below, kind = tuple(compare or attention), Mean if compare else Dense
    for i, units in enumerate(config.hidden):
        layer = Layer(f"hidden{i}", (units,), hidden)
        synapses.append(kind(layer.name, below, layer, "hidden", config.initial_bias))
        dense.append(layer)
        below, kind = (layer,), Dense
    last = Layer("output", (classes,), readout, cost or own_cost)
    bias = 0.0 if config.output_activation == "softmax" else config.initial_bias
    synapses.append(kind("output", below, last, "output", bias))
    for i, segment in enumerate(positions if config.votes and features else ()):
        inputs.append(Votes(f"votes{i}", features_of(segment), features, last, VOTES))
    return [*attention, *compare, *dense, last], [*inputs, *synapses], list(windows.values())


def output(config: NetworkConfig) -> tuple[Potential, Cost]:
    """The potential and the cost of the output; raises ConfigError for those that are unknown or do not fit."""
    name = config.output_activation or config.activation
    if name not in OUTPUTS:
        raise ConfigError(f"unknown output activation {name!r}{nearest(name, OUTPUTS)}")
    if config.cost and config.cost not in COSTS:
        raise ConfigError(f"unknown network.cost {config.cost!r}{nearest(config.cost, COSTS)}")
    potential = Softmax() if name == "softmax" else elementwise(name)
    crossed = config.cost == "cross-entropy" or (name == "softmax" and not config.cost)
    cost = SquaredError() if not crossed else CrossEntropy() if name == "softmax" else BinaryCrossEntropy()
    cost.betas(potential)
    return potential, cost


def check_network(config: NetworkConfig, segments: Collection[str]) -> None:
    """Raise ConfigError for an architecture that cannot be built over these segments."""
    if config.padding not in PADDINGS:
        raise ConfigError(f"unknown padding {config.padding!r}{nearest(config.padding, PADDINGS)}")
    if not config.scale > 0:
        raise ConfigError(f"network.scale is {config.scale}; it must be greater than 0")
    if not config.votes >= 0:
        raise ConfigError(f"network.votes is {config.votes}; it must be 0 (no votes) or greater")
    if not config.attention:
        raise ConfigError("network.attention is empty; name at least one attention layer")
    for attention in config.attention:
        for key, reach in (("window", attention.window), ("query_window", attention.query_window)):
            if not 0 <= reach <= 10:
                raise ConfigError(f"an attention layer has the {key} {reach}; it must be 0 (none) to 10")
        if attention.query_window and not (attention.by_tokens and config.padding == "masked"):
            raise ConfigError('a query_window needs tokens that query, and network.padding = "masked"; leave it out')
        if not attention.by_tokens and attention.queries < 1:
            raise ConfigError(f"an attention layer has {attention.queries} queries; it needs at least 1")
        for segment in (attention.memory, attention.queries if attention.by_tokens else attention.memory):
            if segment not in segments:
                raise ConfigError(f"unknown segment {segment!r} in network.attention{nearest(segment, segments)}")
    if not config.products >= 0:
        raise ConfigError(f"network.products is {config.products}; it must be 0 (no products) or greater")
    if config.compare < 0:
        raise ConfigError(f"network.compare is {config.compare}; it must be 0 (no compare layers) or greater")
    if config.compare and (config.padding != "masked" or not all(a.by_tokens for a in config.attention)):
        raise ConfigError(
            'network.compare needs tokens that query in every attention layer, and padding = "masked"; '
            "or leave network.compare at 0"
        )
    for units in config.hidden:
        if units < 1:
            raise ConfigError(f"network.hidden holds {units}; a dense layer needs at least 1 unit")
