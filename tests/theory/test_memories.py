"""Memories made of tokens: windows are what their formula says, learn at two ends, and see the order of words."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eqnp import (
    AttentionConfig,
    Layer,
    Network,
    NetworkConfig,
    Queries,
    Segment,
    SettlingConfig,
    Softmax,
    build_network,
)
from eqnp.architecture import check_network
from eqnp.config import load_config
from eqnp.costs import CrossEntropy
from eqnp.dynamics import settle
from eqnp.errors import ConfigError
from eqnp.memories import Memory, Window
from eqnp.potentials import Hopfield
from eqnp.synapses import Dense, Projection
from eqnp.testing import check_energy, check_gradients, check_memory, problem

SMOOTH = {"activation": "logistic", "output_activation": "softmax"}


@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(1, 3), st.integers(0, 999), st.integers(1, 9))
def test_a_window_keeps_what_a_memory_promises(reach, seed, words):
    """If this fails, slots see beyond their text, or weights and words learn something else than their slope."""
    check_memory(Window("window0", "text", 4, reach, words=words), seed=seed)


def test_a_window_is_its_formula():
    """If this fails, the neighbours of a word are those on the other side, or n-grams have some."""
    rng, p = np.random.default_rng(0), problem(kind="windows")
    x, weight = p.network.clamp(p.batch), p.network.parameters["window0.weight"]
    weight[...] = rng.standard_normal(weight.shape)
    x = p.network.clamp(p.batch)
    tokens, width = x.tokens["text"], x.tokens["text"].shape[2]
    words = (p.batch["text"].ids > 0) & (p.batch["text"].ids < 7)
    assert (p.batch["text"].ids >= 7).any()
    for b, n in np.ndindex(tokens.shape[:2]):
        y = np.zeros(width)
        for number, k in enumerate((-1, 0, 1)):
            if k == 0 or (0 <= n + k < tokens.shape[1] and words[b, n] and words[b, n + k]):
                y += weight[:, number * width : (number + 1) * width] @ tokens[b, n + k]
        np.testing.assert_allclose(x.tokens["window0"][b, n], y)


@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a smaller seed is no simpler network
@given(st.integers(0, 2**16))
def test_networks_with_windows_learn_the_gradient(seed):
    """If this fails, windows learn something else than the slope of the loss, or settling raises the energy."""
    p = problem(seed, kind="windows", **SMOOTH)
    check_gradients(p.network, p.batch, p.target, against="finite differences")
    check_energy(p.network, p.batch, p.target)


@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 2**16))
def test_what_queries_and_compares_may_be_windows_too(seed):
    """If this fails, a memory that synapses read learns something else than the slope of the loss."""
    p = problem(seed, kind="compared windows", **SMOOTH)
    read = {name for synapse in p.network.synapses for name in synapse.segments}
    assert len(p.network.memories) == 3
    assert read <= {memory.name for memory in p.network.memories}
    check_gradients(p.network, p.batch, p.target, against="finite differences")
    check_energy(p.network, p.batch, p.target)


def test_windows_that_are_compared_see_order():
    """If this fails, what queries, or what the compare layer sees beside it, is a bag of words all the same."""
    vectors = np.random.default_rng(0).standard_normal((9, 4))
    vectors[0] = 0
    ids, other = np.array([[1, 2, 3], [3, 2, 1]]), np.array([[4, 5], [4, 5]])
    for reach, differ in ((0, False), (1, True)):
        attention = (AttentionConfig("other", "text", query_window=reach),)
        config = NetworkConfig(attention, compare=3, hidden=(), output_activation="softmax")
        network = build_network(config, vectors, 2, {"text": 3, "other": 2}, np.random.default_rng(1))
        x = network.clamp({"text": Segment(ids, np.array([3, 3])), "other": Segment(other, np.array([2, 2]))})
        state = network.zero_state(x)
        settle(network, x, state, SettlingConfig(tolerance=1e-12))
        one, two = state.states["output"]
        assert (np.abs(one - two).max() > 1e-6) == differ


def test_a_network_with_a_window_sees_order():
    """If this fails, a window changes nothing: two orders of the same words are one text to it."""
    vectors = np.random.default_rng(0).standard_normal((9, 4))
    vectors[0] = 0
    ids = np.array([[1, 2, 3], [3, 2, 1]])
    for window, differ in ((0, False), (1, True)):
        config = NetworkConfig((AttentionConfig("text", 2, window),), hidden=(), output_activation="softmax")
        network = build_network(config, vectors, 2, {"text": 3}, np.random.default_rng(1))
        x = network.clamp({"text": Segment(ids, np.array([3, 3]))})
        state = network.zero_state(x)
        settle(network, x, state, SettlingConfig(tolerance=1e-12))
        one, other = state.states["output"]
        assert (np.abs(one - other).max() > 1e-6) == differ


class Doubled(Window):
    """A window that tells its tokens twice what they should hear."""

    def back(self, parameters, x, slots, out):
        """Wrong by a factor of two."""
        super().back(parameters, x, 2 * slots, out)


class Leaking(Memory):
    """Every slot stores the mean over the batch."""

    def patterns(self, parameters, x, out):
        """Of all samples."""
        out[...] = x.tokens[self.segment].mean(axis=0)

    def ends(self, x, slots):
        """None."""
        return iter(())

    def back(self, parameters, x, slots, out):
        """Of all samples too."""
        out += slots.mean(axis=0)


@pytest.mark.parametrize("wrong", [Doubled("w", "text", 4, 1), Leaking("w", "text")])
def test_a_wrong_memory_is_told(wrong):
    """If this fails, a memory of one's own may be wrong and pass."""
    with pytest.raises(AssertionError, match="w: "):
        check_memory(wrong)


def test_only_memories_with_kernels_are_for_a_gpu(monkeypatch):
    """If this fails, a memory in plain NumPy is handed arrays that it cannot reach, or a window is refused."""
    network = problem(kind="windows").network
    monkeypatch.setattr(network.machine, "_waits", True)
    network.check_kernels(network.machine)
    for own in (Leaking("w", "text"), Doubled("w", "text", 4, 1)):
        network.memories = (own,)
        with pytest.raises(ConfigError, match="memory 'w' has no kernels for the device"):
            network.check_kernels(network.machine)


def test_an_ngram_stands_beside_nothing():
    """If this fails, a window reads n-grams as the words after a text, or the last word hears the first n-gram."""
    config = NetworkConfig((AttentionConfig("text", 2, window=1),), hidden=())
    vectors = np.random.default_rng(0).standard_normal((9, 4))
    vectors[0] = 0
    network = build_network(config, vectors, 2, {"text": 5}, np.random.default_rng(1), words=6)

    def stored(*ids):
        x = network.clamp({"text": Segment(np.array([ids]), np.array([len(ids)]))})
        return x.tokens["window0"][0]

    with_grams, words, grams = stored(2, 5, 3, 8, 7), stored(2, 5, 3), [stored(8)[0], stored(7)[0]]
    np.testing.assert_allclose(with_grams, np.concatenate([words, grams]))


def test_graphs_that_cannot_work():
    """If this fails, a memory that nobody reads, or of a segment that is not there, is found out late or never."""
    pooled = Layer("attention0", (2, 4), Hopfield("window0", 0.5))
    output = Layer("output", (2,), Softmax(), CrossEntropy())
    synapses = [Queries("queries0", pooled), Dense("output", (pooled,), output)]

    def network(*memories):
        return Network([pooled, output], synapses, np.zeros((3, 4)), {"text": 5}, memories=memories)

    network(Window("window0", "text", 4, 1))
    for memories, complaint in (
        ((), "'window0', which there is not"),
        ((Window("window0", "txt", 4, 1),), "names the segment 'txt'"),
        ((Window("window0", "text", 4, 1), Window("other", "text", 4, 1)), "nothing reads the memory 'other'"),
        ((Window("window0", "text", 4, 1), Window("window0", "text", 4, 2)), "called as another one"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            network(*memories)
    with pytest.raises(ConfigError, match="must be 0"):
        load_config("mini-sentiment", ["network.attention.0.window=11"])
    for wrong in ("query_window=11", "query_window=1"):
        with pytest.raises(ConfigError, match=r"must be 0|needs tokens that query"):
            load_config("mini-sentiment", [f"network.attention.0.{wrong}"])
    by_tokens = AttentionConfig("text", "text", query_window=1)
    with pytest.raises(ConfigError, match="needs tokens that query"):
        check_network(NetworkConfig((by_tokens,), padding="zeros"), ["text"])
    rows, memory = (
        Layer("attention0", (5, 4), Hopfield("text", 0.5, "zeros"), segment="text"),
        Window("w", "text", 4, 1),
    )
    into = [Projection("projection0", "w", 4, rows), Dense("output", (rows,), output)]
    with pytest.raises(ConfigError, match="go on beyond the text"):
        Network([rows, output], into, np.zeros((3, 4)), {"text": 5}, memories=[memory])
    with pytest.raises(ConfigError, match="reads words in their order"):
        load_config("text", ["network.attention.0.window=1", "data.distinct=true"])
    load_config("text", ["network.attention.0.window=1"])
