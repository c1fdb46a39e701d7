"""Hypothesis strategies: whole small networks with a batch, in float64, of every kind that the package has."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from eqnp.dynamics import SettlingConfig
from eqnp.learning import free_phase
from eqnp.network import AttentionConfig, Network, NetworkConfig
from eqnp.synapses import Segment

SETTLED = SettlingConfig("even-odd", 1e-13, 4000, 4000)
CONTRASTED = SettlingConfig("even-odd", 1e-10, 4000, 4000)  # for estimates, which settle to this times β
KINDS = ("pooling", "tokens", "both", "two texts", "compare")


@dataclass(repr=False)
class Problem:
    """A network, a batch of token ids and its targets."""

    network: Network
    segments: dict[str, Segment]
    target: np.ndarray

    def __repr__(self):
        return f"Problem({self.network.config}, lengths={[s.lengths.tolist() for s in self.segments.values()]})"


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
) -> Problem:
    """A network whose weights are ``gain`` times the usual size, on random token ids of random lengths.

    Clipped units start in the middle of their slope, where finite differences meet no kink.
    """
    rng = np.random.default_rng(seed)
    names = ("premise", "hypothesis") if kind in ("two texts", "compare") else ("text",)
    padding = "masked" if kind == "compare" else padding
    attention = {
        "pooling": (AttentionConfig("text", 2),),
        "tokens": (AttentionConfig("text", "text"),),
        "both": (AttentionConfig("text", "text"), AttentionConfig("text", 2)),
        "two texts": (AttentionConfig("hypothesis", "premise"), AttentionConfig("premise", 2)),
        "compare": (AttentionConfig("hypothesis", "premise"), AttentionConfig("premise", "hypothesis")),
    }[kind]
    compare = 3 if kind == "compare" else 0
    bias = 1.0 if "clipped" in (activation, output_activation) else 0.0
    config = NetworkConfig(attention, compare, hidden, activation, output_activation, scale, padding, bias)
    table = rng.standard_normal((9, width))
    table[0] = 0
    network = Network(config, table, 3, dict.fromkeys(names, positions), rng)
    for name, value in network.parameters.items():
        if name.endswith(".weight") and name != "embedding.weight":
            value *= gain
        if name.endswith(".bias"):
            value += 0.2 * rng.standard_normal(value.shape)
    segments = {}
    for name in names:
        lengths = rng.integers(shortest, positions + 1, batch)
        ids = rng.integers(1, len(table), (batch, positions)).astype(np.int32)
        segments[name] = Segment(np.where(np.arange(positions) < lengths[:, None], ids, 0), lengths)
    return Problem(network.to(device), segments, np.eye(3)[rng.integers(0, 3, batch)])


@st.composite
def problems(draw, activations=("clipped", "logistic", "tanh"), gains=(0.5, 1.5), **fixed) -> Problem:
    """Networks of every kind: attention, activation, padding, depth, scale, weight size, lengths (0 included)."""
    drawn = {
        "seed": draw(st.integers(0, 2**16)),
        "kind": draw(st.sampled_from(KINDS)),
        "activation": draw(st.sampled_from(activations)),
        "output_activation": draw(st.sampled_from((*activations, "softmax"))),
        "padding": draw(st.sampled_from(("masked", "zeros"))),
        "hidden": tuple(draw(st.lists(st.integers(1, 6), min_size=0, max_size=3))),
        "scale": draw(st.floats(0.1, 1.0)),
        "gain": draw(st.floats(*gains)),
        "shortest": draw(st.integers(0, 2)),
    }
    return problem(**(drawn | fixed))


def kink_distance(p: Problem) -> float:
    """How far the settled drives of dense layers stay from the kinks of the clipped activation, at 0 and 2."""
    clamped = p.network.clamp(p.segments)
    state, _ = free_phase(p.network, clamped, SETTLED)
    clipped = [
        layer.name
        for layer in p.network.layers
        if layer not in p.network.attention and clamped.potentials[layer.name].name == "clipped"
    ]
    live = {name: share > 0 for name, share in clamped.shares.items()}  # other rows have drive 0 and no part
    drives = [state.drives[name][live.get(name, ...)] for name in clipped]
    return min((float(np.minimum(np.abs(u), np.abs(u - 2)).min()) for u in drives if u.size), default=np.inf)
