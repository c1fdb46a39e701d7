"""The graph as data: any layers, any synapses between them, and one line for what cannot work."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eqnp import (
    Adam,
    Bundle,
    Dense,
    Hopfield,
    Layer,
    LearningConfig,
    Mean,
    Network,
    OptimizerConfig,
    Queries,
    Segment,
    SquaredError,
    Synapse,
    elementwise,
    estimate,
)
from eqnp.acceleration import Accelerated
from eqnp.dynamics import SettlingConfig
from eqnp.errors import ConfigError, DataError
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


@settings(max_examples=5, phases=[Phase.generate])  # a seed is as good as any smaller one
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
    elif case == "called as a segment":
        layers[1] = dense("text")
        synapses[1:] = [Dense("hidden", (a,), layers[1]), Dense("output", (layers[1],), last)]
    elif case == "rows of nothing":
        layers[0] = Layer("attention", (None, WIDTH), Hopfield("text", 0.5))
        synapses[:2] = [Queries("queries", layers[0]), Mean("hidden", (layers[0],), hidden)]
    elif case == "all rows of a text":
        layers[0] = Layer("attention", (None, WIDTH), Hopfield("text", 0.5), segment="text")
        synapses[1] = Dense("hidden", (layers[0],), hidden)
    elif case == "too few rows":
        layers[0] = Layer("attention", (4, WIDTH), Hopfield("text", 0.5), segment="text")
        synapses[:2] = [Queries("queries", layers[0]), Dense("hidden", (layers[0],), hidden)]
    elif case == "another width":
        layers[0] = Layer("attention", (2, WIDTH + 1), Hopfield("text", 0.5))
        synapses[:2] = [Queries("queries", layers[0]), Dense("hidden", (layers[0],), hidden)]
    elif case == "the word table":
        synapses[0] = Queries("embedding", a)
    elif case == "no single minimum":
        layers[2] = Layer("output", (2,), Hopfield("text", 0.5), SquaredError())
        synapses[2] = Dense("output", (hidden,), layers[2])
    return layers, synapses


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no output", "none of 'attention', 'hidden', 'output' has a cost"),
        ("two outputs", "'hidden' and 'output' have a cost"),
        ("unreachable", "no synapse joins layer 'island'"),
        ("itself", "synapse 'loop' joins layer 'hidden' to itself"),
        ("foreign layer", "synapse 'far' joins layer 'elsewhere', which the network does not have"),
        ("same layer name", "two layers are called 'hidden'"),
        ("same synapse name", "two synapses are called 'output'"),
        ("unknown segment", "layer 'attention' names the segment 'txet'.*did you mean 'text'"),
        ("called as a segment", "layer 'text' is called as a segment is"),
        ("rows of nothing", "layer 'attention' has None rows"),
        ("all rows of a text", "layer 'attention' has as many rows as its text.*use Mean"),
        ("too few rows", "layer 'attention' has 4 rows for up to 5 tokens of 'text'"),
        ("another width", "layer 'attention' of shape .2, 5. stores word vectors of 4 dimensions"),
        ("the word table", "synapse 'embedding' declares 'embedding.weight'"),
        ("no single minimum", "the squared error needs an output of separate units"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(case, message):
    """If this fails, a graph that settles to nothing meaningful trains without a word, or fails far from its fault."""
    with pytest.raises(ConfigError, match=message) as error:
        Network(*broken(case), np.zeros((9, WIDTH)), {"text": 5})
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


def test_parameters_that_are_drawn_in_another_order_of_memory_learn():
    """If this fails, a weight drawn as a transpose gets gradients and never moves."""

    class Orthogonal(Dense):
        def __init__(self, *given):
            super().__init__(*given)
            self.declare("weight", (3, 8), lambda rng, shape, dtype: np.linalg.qr(rng.normal(size=shape[::-1]))[0].T)

    a, hidden, last, synapses = parts()
    synapses[1] = Orthogonal("hidden", (a,), hidden)
    network, batch, target = with_batch([a, hidden, last], synapses, 0)
    before = network.parameters["hidden.weight"].copy()
    result = estimate(network, batch, target, LearningConfig(), SettlingConfig())
    Adam(network, OptimizerConfig()).step(network, result.gradients)
    assert np.abs(network.parameters["hidden.weight"] - before).max() > 1e-4


def test_a_draw_of_another_shape_is_told():
    """If this fails, a weight of a wrong shape is found far from where it was drawn."""

    class Turned(Dense):
        def __init__(self, *given):
            super().__init__(*given)
            self.declare("weight", (3, 8), lambda rng, shape, dtype: np.ones(shape[::-1], dtype))

    a, hidden, last, synapses = parts()
    synapses[1] = Turned("hidden", (a,), hidden)
    with pytest.raises(ConfigError, match=r"'hidden.weight' was drawn as \(8, 3\), and is declared as \(3, 8\)"):
        with_batch([a, hidden, last], synapses, 0)


def test_a_parameter_without_ends_is_told():
    """If this fails, a synapse that forgets a Bundle stops training in a sum of nothing."""

    class Frozen(Dense):
        def ends(self, x, states):
            yield next(super().ends(x, states))

    a, hidden, last, synapses = parts()
    synapses[1] = Frozen("hidden", (a,), hidden)
    p = with_batch([a, hidden, last], synapses, 0)
    with pytest.raises(ConfigError, match=r"no ends are given of parameter 'hidden.bias'"):
        estimate(*p, LearningConfig(), SettlingConfig())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch, y: (batch, y[:2]), "2 rows, and the batch 3 texts"),
        (lambda batch, y: (batch, y[:, :1]), "shape .3, 1.; it needs a row of 2 numbers"),
        (lambda batch, y: (batch, y[:, 0]), "shape .3,."),
        (lambda batch, y: ({"text": batch["text"].take(slice(0, 0))}, y[:0]), "shape .0, 2."),
        (lambda batch, y: ({"text": Segment(batch["text"].ids + 9, batch["text"].lengths)}, y), "there are 9 vectors"),
        (lambda batch, y: ({"text": Segment(batch["text"].ids, batch["text"].lengths + 5)}, y), "one length a text"),
    ],
)
def test_a_batch_that_does_not_fit_its_target_or_network_is_told(spoil, message):
    """If this fails, texts without a target learn from what was in memory, or ids read beyond the vectors."""
    network, batch, target = alone(3)
    with pytest.raises(DataError, match=message):
        estimate(network, *spoil(batch, target), LearningConfig(), SettlingConfig())


def test_what_a_layer_with_rows_is_driven_by_for_ever():
    """If this fails, a bias for each row of a layer stops acceleration, or is taken for another sample's."""

    class Offset(Dense):
        def drive(self, at, parameters, x, states):
            raised = 1.0 * np.arange(8).reshape(2, 4)
            if at == self.post.name:
                return raised + (states[self.pres[0].name] @ parameters[self.weight].T)[:, None, :]
            return states[self.post.name].sum(axis=1) @ parameters[self.weight]

        def forward(self, parameters, x, state, out):
            Synapse.forward(self, parameters, x, state, out)

        def feedback(self, parameters, x, states, pre, out):
            Synapse.feedback(self, parameters, x, states, pre, out)

        def constant(self, parameters, x):
            return 1.0 * np.arange(8).reshape(2, 4)

        def ends(self, x, states):
            post, pre = states[self.post.name].sum(axis=2), states[self.pres[0].name]
            yield Bundle(self.weight, slice(None), post, pre)

        drive_change, gradient_change = Synapse.drive_change, Synapse.gradient_change

    rows, hidden, last = Layer("rows", (2, 4), TANH), dense("hidden"), output()
    offset = Offset("offset", (hidden,), Layer("rows", (4,), TANH))
    offset.post = rows
    del offset.parameters["offset.bias"]
    a = attention()
    synapses = [Queries("queries", a), Dense("hidden", (a,), hidden), offset, Dense("output", (hidden,), last)]
    p = with_batch([hidden, a, rows, last], synapses, 0)
    check_synapse(offset, p[0], p[1])
    assert check_energy(*p) <= 1e-10


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"drive": lambda self, at, *rest: Convolved.drive(self, at, *rest)[:, :1]},
            "synapse 'own' gives 'hidden' a drive",
        ),
        ({"drive": lambda self, at, *rest: None}, r"synapse 'own' gives 'hidden' a drive of shape \(\)"),
        (
            {"ends": lambda self, x, states: iter([Bundle("own.wieght", slice(None), *ENDS)])},
            "did you mean 'own.weight'",
        ),
        (
            {"ends": lambda self, x, states: iter([Bundle("own.weight", slice(None), *ENDS)])},
            "the ends of 'own.weight'",
        ),
    ],
)
def test_shapes_of_a_synapse_are_told_by_its_name(spoil, message):
    """If this fails, a wrong shape is broadcast, or stops inside NumPy without a word of where it came from."""
    a, hidden, last, synapses = parts()
    own = type("Own", (Convolved,), spoil)("own", hidden, (a,))
    p = with_batch([a, hidden, last], [synapses[0], own, synapses[2]], 0)
    with pytest.raises(ConfigError, match=message):
        estimate(*p, LearningConfig(), SettlingConfig())


ENDS = (np.zeros((2, 3, 3)), np.zeros((2, 3, 5)))


class Convolved(Synapse):
    """⟨s_post, W mean_r s_pre[r]⟩, in plain NumPy."""

    def __init__(self, name, post, pres):
        super().__init__(name, post, pres)
        self.declare("weight", (3, WIDTH), uniform)

    def drive(self, at, parameters, x, states):
        """W times the mean, or its transpose for each row."""
        weight = parameters[f"{self.name}.weight"]
        if at == self.post.name:
            return states[self.pres[0].name].mean(axis=1) @ weight.T
        return np.repeat((states[self.post.name] @ weight / 2)[:, None], 2, axis=1)

    def ends(self, x, states):
        """The state, and the mean."""
        yield Bundle(f"{self.name}.weight", slice(None), states[self.post.name], states[self.pres[0].name].mean(axis=2))
