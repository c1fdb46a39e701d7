"""Products of a token and what it retrieved: their formula, what they learn, and what a network sees by them."""

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.architecture import AttentionConfig, NetworkConfig, build_network
from eqnp.dynamics import SettlingConfig, settle
from eqnp.errors import ConfigError
from eqnp.learning import LearningConfig, estimate
from eqnp.optim import OptimizerConfig, make_optimizer
from eqnp.states import Segment
from eqnp.testing import check_energy, check_gradients, check_synapse, problem

SMOOTH = {"activation": "logistic", "output_activation": "softmax"}


@pytest.fixture
def comparing():
    """A small network whose compare layers see products, and a batch."""
    return problem(kind="products", **SMOOTH)


def products_of(p):
    return next(s for s in p.network.synapses if s.name == "products0")


def test_products_are_their_formula(comparing):
    """If this fails, compare units see something else than W (x ∘ s), row by row."""
    network, synapse = comparing.network, products_of(comparing)
    x, rng = network.clamp(comparing.batch), np.random.default_rng(0)
    retrieved = rng.standard_normal((x.size, *x.shapes["attention0"]))
    drive = synapse.drive("compare0", network.parameters, x, {"attention0": retrieved})
    weight, tokens = network.parameters["products0.weight"], x.tokens["premise"]
    for b, n in np.ndindex(drive.shape[:2]):
        np.testing.assert_allclose(drive[b, n], weight @ (tokens[b, n] * retrieved[b, n]))


@pytest.mark.parametrize("against", ["finite differences", "implicit", "bptt"])
def test_products_are_a_term_that_learns_the_gradient(comparing, against):
    """If this fails, products, or the words they are made of, learn something else than the slope of the loss."""
    check_synapse(products_of(comparing), comparing.network, comparing.batch)
    check_gradients(comparing.network, comparing.batch, comparing.target, against=against)
    check_energy(comparing.network, comparing.batch, comparing.target)


def test_products_start_as_how_alike_a_token_and_its_retrieval_are():
    """If this fails, a network has to find out that dimensions belong to each other before it can compare words."""
    weight = problem(kind="products").network.parameters["products0.weight"]
    assert (weight == weight[:, :1]).all()
    assert len(np.unique(weight)) == len(weight)
    assert np.abs(weight).max() <= 1


def accuracy_on_words_never_seen(products: float) -> float:
    """Two words, the same or not: trained on forty of them, asked about twenty others; vectors are drawn and fixed."""
    rng = np.random.default_rng(0)
    embedding = np.vstack([np.zeros(32), rng.standard_normal((60, 32)) / 2])
    attention = (AttentionConfig("b", "a"), AttentionConfig("a", "b"))
    config = NetworkConfig(attention, 16, (16,), "clipped", "softmax", 0.1, initial_bias=1.0, products=products)
    network = build_network(config, embedding, 2, {"a": 1, "b": 1}, rng)
    learning, settling = LearningConfig(beta=0.1, train_embeddings=False), SettlingConfig("even-odd", 1e-4, 60, 30)
    optimizer = make_optimizer(network, OptimizerConfig(learning_rate=1e-2))

    def pairs(words):
        ones, others = rng.choice(words, (2, 200))
        others = np.where(rng.random(200) < 0.5, ones, others)
        batch = {name: Segment(ids[:, None], np.ones(200, int)) for name, ids in (("a", ones), ("b", others))}
        return batch, np.eye(2)[(ones == others).astype(int)]

    for _ in range(60):
        optimizer.step(network, estimate(network, *pairs(np.arange(1, 41)), learning, settling).gradients)
    batch, target = pairs(np.arange(41, 61))
    x = network.clamp(batch)
    state = network.zero_state(x)
    settle(network, x, state, settling)
    return (state.states["output"].argmax(axis=1) == target.argmax(axis=1)).mean()


def test_products_tell_same_from_different_for_words_never_seen():
    """If this fails, pairs are compared by heart, word by word, and new words say nothing."""
    assert accuracy_on_words_never_seen(0.3) > 0.85
    assert accuracy_on_words_never_seen(0.0) < 0.65


def test_products_that_cannot_be():
    """If this fails, a network is built otherwise than its configuration says."""
    with pytest.raises(ConfigError, match="products is -1"):
        SequenceClassifier("mini-nli", settings={"network.products": -1.0}).fit(
            [("a b", "b"), ("b", "a")] * 9, ["x", "y"] * 9
        )
