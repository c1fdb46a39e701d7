"""The graph as data: any layers, any synapses between them, and one line for what cannot work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eqnp import Bundle, Dense, Hopfield, Layer, Network, Queries, Segment, SquaredError, Synapse, elementwise
from eqnp.acceleration import Accelerated
from eqnp.dynamics import SettlingConfig
from eqnp.errors import ConfigError
from eqnp.parameters import uniform
from eqnp.steps import EvenOdd, Synchronous
from eqnp.testing import check_energy, check_gradients, check_synapse

WIDTH, TANH, LOGISTIC = 4, elementwise("tanh"), elementwise("logistic")


def attention(name: str = "attention") -> Layer:
    return Layer(name, (2, WIDTH), Hopfield("text", 0.5))


def dense(name: str, units: int = 3) -> Layer:
    return Layer(name, (units,), TANH)


def output(name: str = "output") -> Layer:
    return Layer(name, (2,), LOGISTIC, SquaredError())


class Gate(Synapse):
    """φ = Σ_ijk W_ijk a_i b_j c_k: a term that joins three layers."""

    def __init__(self, name, post, pres):
        super().__init__(name, post, pres)
        self.declare("weight", (post.shape[0], pres[0].shape[0] * pres[1].shape[0]), uniform)

    def drive(self, at, parameters, x, states):
        """∂φ/∂ of one of the three, given the others."""
        names = [layer.name for layer in (self.post, *self.pres)]
        weight = parameters[f"{self.name}.weight"].reshape([layer.shape[0] for layer in (self.post, *self.pres)])
        letters = dict(zip(names, "ijk", strict=True))
        others = [name for name in names if name != at]
        sums = f"ijk,{','.join('B' + letters[name] for name in others)}->B{letters[at]}"
        return np.einsum(sums, weight, *(states[name] for name in others))

    def ends(self, x, states):
        """a at one end, and b ⊗ c at the other."""
        a, b, c = (states[layer.name] for layer in (self.post, *self.pres))
        both = np.einsum("PBj,PBk->PBjk", b, c)
        yield Bundle(f"{self.name}.weight", slice(None), a, both.reshape(*both.shape[:2], -1))


def with_batch(layers, synapses, seed: int) -> tuple[Network, dict, np.ndarray]:
    """The network with three texts of up to five words, in float64."""
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((9, WIDTH))
    table[0] = 0
    network = Network(layers, synapses, table, {"text": 5}, rng)
    lengths = rng.integers(0, 6, 3)
    ids = np.where(np.arange(5) < lengths[:, None], rng.integers(1, 9, (3, 5)), 0)
    return network, {"text": Segment(ids.astype(np.int32), lengths)}, np.eye(2)[rng.integers(0, 2, 3)]


def gated(seed: int):
    """Attention, two dense layers that read it, and an output that is driven by them and by their products."""
    a, one, two, last = attention(), dense("one"), dense("two"), output()
    synapses = [Queries("queries", a), Dense("to-one", (a,), one), Dense("to-two", (a,), two)]
    synapses += [Gate("gate", last, (one, two)), Dense("output", (one, two), last)]
    return with_batch([a, one, two, last], synapses, seed)


def shortcut(seed: int):
    """Attention that the hidden layer and the output both read, twice over: a triangle."""
    a, b, hidden, last = attention("a"), attention("b"), dense("hidden"), output()
    synapses = [Queries("query-a", a), Queries("query-b", b), Queries("more-a", a)]
    synapses += [Dense("first", (a, b), hidden), Dense("second", (a,), hidden, initial_bias=0.3)]
    synapses += [Dense("output", (hidden,), last), Dense("past-hidden", (b, a), last)]
    return with_batch([a, b, hidden, last], synapses, seed)


def alone(seed: int):
    """An output that reads the tokens' queries and nothing else has one block."""
    a, last = attention(), output()
    return with_batch([last, a], [Queries("queries", a), Dense("output", (a,), last)], seed)


GRAPHS = {"gated": (gated, 3), "shortcut": (shortcut, 3), "alone": (alone, 2)}


@settings(max_examples=5)
@pytest.mark.parametrize("kind", GRAPHS)
@given(seed=st.integers(0, 2**16))
def test_any_graph_settles_and_learns(kind, seed):
    """If this fails, a graph that no preset has descends no energy, or learns a wrong gradient."""
    make, blocks = GRAPHS[kind]
    network, batch, _ = p = make(seed)
    assert len(network.blocks) == blocks
    for block in network.blocks:
        for layer in block:
            assert not network.neighbours[layer.name] & {other.name for other in block}
    for synapse in network.synapses:
        check_synapse(synapse, network, batch, seed=seed)
    assert check_energy(*p) <= 1e-10
    for against in ("implicit", "bptt"):
        check_gradients(*p, against=against)


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_gradient_of_any_graph_is_the_slope_of_its_loss(kind):
    """If this fails, the oracles and EP are wrong together on graphs that no preset has."""
    check_gradients(*GRAPHS[kind][0](1), against="finite differences")


def test_steps_are_chosen_by_the_graph():
    """If this fails, extrapolation is tried where it knows no energy, or the order of the settings is not heeded."""
    for make, blocks in GRAPHS.values():
        network = make(0)[0]
        assert SettlingConfig().step(network) is (Accelerated if blocks == 2 else EvenOdd)
        assert SettlingConfig(accelerate=False).step(network) is EvenOdd
        assert SettlingConfig("synchronous").step(network) is Synchronous


def parts():
    a, hidden, last = attention(), dense("hidden"), output()
    return a, hidden, last, [Queries("queries", a), Dense("hidden", (a,), hidden), Dense("output", (hidden,), last)]


def broken(case: str):
    a, hidden, last, synapses = parts()
    layers = [a, hidden, last]
    if case == "no output":
        layers[2] = Layer("output", (2,), LOGISTIC)
        synapses[2] = Dense("output", (hidden,), layers[2])
    elif case == "two outputs":
        layers[1] = Layer("hidden", (3,), TANH, SquaredError())
        synapses = [synapses[0], Dense("hidden", (a,), layers[1]), Dense("output", (layers[1],), last)]
    elif case == "unreachable":
        layers.insert(1, dense("island"))
    elif case == "itself":
        synapses.append(Dense("loop", (hidden,), hidden))
    elif case == "foreign layer":
        synapses.append(Dense("far", (dense("elsewhere"),), last))
    elif case == "same layer name":
        layers.append(dense("hidden"))
    elif case == "same synapse name":
        synapses.append(Dense("output", (a,), last))
    elif case == "unknown segment":
        layers[0] = Layer("attention", (2, WIDTH), Hopfield("txet", 0.5))
        synapses[:2] = [Queries("queries", layers[0]), Dense("hidden", (layers[0],), hidden)]
    elif case == "no single minimum":
        layers[2] = Layer("output", (2,), Hopfield("text", 0.5), SquaredError())
        synapses[2] = Dense("output", (hidden,), layers[2])
    return layers, synapses


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no output", "none of 'attention', 'hidden', 'output' has a cost"),
        ("two outputs", "'hidden' and 'output' has a cost"),
        ("unreachable", "no synapse joins layer 'island'"),
        ("itself", "synapse 'loop' joins layer 'hidden' to itself"),
        ("foreign layer", "synapse 'far' joins layer 'elsewhere', which the network does not have"),
        ("same layer name", "two layers are called 'hidden'"),
        ("same synapse name", "two synapses are called 'output'"),
        ("unknown segment", "layer 'attention' names the segment 'txet'.*did you mean 'text'"),
        ("no single minimum", "the squared error needs an output of separate units"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(case, message):
    """If this fails, a graph that settles to nothing meaningful trains without a word, or fails far from its fault."""
    layers, synapses = broken(case)
    with pytest.raises(ConfigError, match=message) as error:
        Network(layers, synapses, np.zeros((9, WIDTH)), {"text": 5})
    assert "\n" not in str(error.value)
    sound = parts()
    Network(sound[:3], sound[3], np.zeros((9, WIDTH)), {"text": 5})


def test_parameters_know_what_they_are():
    """If this fails, weight decay, learning rates or reports have to guess from names."""
    network = shortcut(0)[0]
    about = network.declared["past-hidden.weight"]
    assert (about.synapse, about.family, about.decays) == ("past-hidden", "past-hidden", True)
    assert not network.declared["second.bias"].decays
    assert not network.declared["query-a.weight"].decays
    assert not network.declared["embedding.weight"].decays
    assert network.parameters["second.bias"].tolist() == [0.3] * 3
