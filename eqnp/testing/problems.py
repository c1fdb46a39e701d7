"""Whole small networks with a batch, drawn by hypothesis. See `eqnp.testing`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eqnp.architecture import AttentionConfig, NetworkConfig, build_network
from eqnp.dynamics import settle
from eqnp.network import EMBEDDING, Network
from eqnp.states import Segment
from eqnp.testing.networks import EXACT

KINDS = ("pooling", "tokens", "both", "two texts", "compare", "windows", "compared windows", "products", "votes")
COMPARING = ("compare", "compared windows", "products")
FEATURES = 12


@dataclass(repr=False)
class Problem:
    """A network, a batch of token ids and its targets (B, C)."""

    config: NetworkConfig
    network: Network
    batch: dict[str, Segment]
    target: np.ndarray

    def __repr__(self):
        return f"Problem({self.config}, lengths={[s.lengths.tolist() for s in self.batch.values()]})"


def problem(
    seed: int = 0,
    kind: str = "pooling",
    activation: str = "logistic",
    output_activation: str = "",
    padding: str = "masked",
    hidden: tuple[int, ...] = (5,),
    scale: float = 0.5,
    gain: float = 1.0,
    batch: int = 3,
    positions: int = 5,
    width: int = 4,
    shortest: int = 1,
    device: str = "cpu",
    several: bool = False,
) -> Problem:
    """A network of a kind (`KINDS`) whose weights are ``gain`` times the usual size, on random ids of random lengths.

    Clipped units start in the middle of their slope, where finite differences meet no kink. Three classes; float64.
    ``several``: logistic outputs under a cross-entropy for each class, whatever the output activation, and none to
    three classes to a sample.
    """
    rng = np.random.default_rng(seed)
    names = ("premise", "hypothesis") if kind in ("two texts", *COMPARING) else ("text",)
    attention = {
        "pooling": (AttentionConfig("text", 2),),
        "votes": (AttentionConfig("text", 2),),
        "tokens": (AttentionConfig("text", "text"),),
        "both": (AttentionConfig("text", "text"), AttentionConfig("text", 2)),
        "two texts": (AttentionConfig("hypothesis", "premise"), AttentionConfig("premise", 2)),
        "compare": (AttentionConfig("hypothesis", "premise"), AttentionConfig("premise", "hypothesis")),
        "products": (AttentionConfig("hypothesis", "premise"), AttentionConfig("premise", "premise")),
        "windows": (AttentionConfig("text", 2, window=1), AttentionConfig("text", "text", window=2)),
        "compared windows": (
            AttentionConfig("hypothesis", "premise", window=1, query_window=1),
            AttentionConfig("premise", "hypothesis", query_window=2),
        ),
    }[kind]
    compare, padding = (3, "masked") if kind in COMPARING else (0, padding)
    bias = 1.0 if "clipped" in (activation, output_activation) else 0.0
    output, cost = ("logistic", "cross-entropy") if several else (output_activation, "")
    config = NetworkConfig(attention, compare, hidden, activation, output, scale, padding, bias)
    config = replace(config, votes=float(kind == "votes"), products=0.3 * (kind == "products"), cost=cost)
    table = rng.standard_normal((9, width))
    table[0] = 0
    words = 7 if kind == "windows" else None  # beside n-grams
    network = build_network(config, table, 3, dict.fromkeys(names, positions), rng, words=words, features=FEATURES)
    for synapse in network.features.values():
        network.parameters[synapse.weight][1:] = rng.standard_normal((FEATURES - 1, 3))
    for name, value in network.parameters.items():
        if value.ndim == 2 and name != EMBEDDING:
            value *= gain
        if value.ndim == 1:
            value += 0.2 * rng.standard_normal(value.shape)
    segments = {}
    for name in (*names, *network.features):
        lengths = rng.integers(shortest, positions + 1, batch)
        ids = rng.integers(1, len(table) if name in names else FEATURES, (batch, positions)).astype(np.int32)
        segments[name] = Segment(np.where(np.arange(positions) < lengths[:, None], ids, 0), lengths)
    target = rng.integers(0, 2, (batch, 3)).astype(float) if several else np.eye(3)[rng.integers(0, 3, batch)]
    return Problem(config, network.to(device), segments, target)


def problems(activations=("clipped", "logistic", "tanh"), gains=(0.5, 1.5), **fixed):
    """A hypothesis strategy of `problem`: attention, activation, padding, depth, scale, weight size, lengths (0 too).

    What is ``fixed`` is as given. Raises ImportError without hypothesis.
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise ImportError("eqnp.testing.problems needs hypothesis: pip install 'eqnp[testing]'") from error
    drawn = {
        "seed": st.integers(0, 2**16),
        "kind": st.sampled_from(KINDS),
        "activation": st.sampled_from(activations),
        "output_activation": st.sampled_from((*activations, "softmax")),
        "padding": st.sampled_from(("masked", "zeros")),
        "hidden": st.lists(st.integers(1, 6), min_size=0, max_size=3).map(tuple),
        "scale": st.floats(0.1, 1.0),
        "gain": st.floats(*gains),
        "shortest": st.integers(0, 2),
        "several": st.booleans(),
    }
    return st.builds(problem, **(drawn | {name: st.just(value) for name, value in fixed.items()}))


def kink_distance(p: Problem) -> float:
    """How far the settled drives of dense layers stay from the kinks of the clipped activation, at 0 and 2."""
    x = p.network.clamp(p.batch)
    state = p.network.zero_state(x)
    settle(p.network, x, state, EXACT)
    clipped = [layer for layer in p.network.layers if layer.potential.name == "clipped"]
    drives = [
        state.drives[layer.name][np.arange(x.shapes[layer.name][0]) < x.live_rows(layer)[:, None]]
        if layer.segment  # rows without a token have drive 0 and no part
        else state.drives[layer.name]
        for layer in clipped
    ]
    return min((float(np.minimum(np.abs(u), np.abs(u - 2)).min()) for u in drives if u.size), default=np.inf)
