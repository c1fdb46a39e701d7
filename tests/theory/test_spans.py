"""A network in the span of its queries and of the weights above them: the same outputs and energies, from less."""

from dataclasses import replace

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.architecture import AttentionConfig, NetworkConfig, build_network
from eqnp.dynamics import SettlingConfig, settle
from eqnp.network import EMBEDDING
from eqnp.runs import model as models
from eqnp.spans import in_span
from eqnp.states import Segment

TIGHT = SettlingConfig("even-odd", 1e-12, 500, 500)
QUERIES = NetworkConfig((AttentionConfig("a", 2), AttentionConfig("b", 1)), hidden=(), scale=0.3, initial_bias=0.5)
WIDTH, CLASSES = 40, 3


def network_of(config, width=WIDTH):
    """A network with weights that matter, float64."""
    rng = np.random.default_rng(0)
    embedding = rng.standard_normal((30, width))
    embedding[0] = 0
    made = build_network(config, embedding, CLASSES, {"a": 9, "b": 7}, rng, features=20)
    for name, value in made.parameters.items():
        if name != EMBEDDING:
            value += 0.2 * rng.standard_normal(value.shape)
    return made


def settled(network):
    """Outputs and energies of a batch of random texts, one of them empty."""
    rng, batch = np.random.default_rng(1), {}
    for name, positions, ids in (("a", 9, 30), ("b", 7, 30), ("a features", 5, 20), ("b features", 5, 20)):
        lengths = rng.integers(0, positions + 1, 6)
        inside = np.arange(positions) < lengths[:, None]
        batch[name] = Segment(np.where(inside, rng.integers(1, ids, inside.shape), 0).astype(np.int32), lengths)
    x = network.clamp(batch)
    state = network.zero_state(x)
    settle(network, x, state, TIGHT)
    return state.states["output"], network.energy(x, state)


@pytest.mark.parametrize("padding", ["masked", "zeros"])
@pytest.mark.parametrize("changes", [{}, {"hidden": (4,)}, {"votes": 1.0, "output_activation": "softmax"}])
def test_what_nothing_asks_for_changes_nothing(changes, padding):
    """If this fails, texts by the thousand are predicted by another network than the one that was trained."""
    config = replace(QUERIES, padding=padding, **changes)
    whole = network_of(config)
    narrow = in_span(whole, config)
    heard = config.hidden[0] if config.hidden else CLASSES
    assert narrow.parameters[EMBEDDING].shape == (30, 3 * (1 + heard))
    assert np.ptp(settled(whole)[0]) > 0.1
    for of_narrow, of_whole in zip(settled(narrow), settled(whole), strict=True):
        np.testing.assert_allclose(of_narrow, of_whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("attention", "changes", "width"),
    [
        (AttentionConfig("a", "b"), {}, 400),
        (AttentionConfig("a", 2, window=1), {}, 400),
        (AttentionConfig("a", 2), {"hidden": (100,)}, 400),
        (AttentionConfig("a", 2), {}, 15),
    ],
    ids=["tokens query", "windows", "a wide layer above", "few dimensions"],
)
def test_where_there_is_nothing_to_leave_out(attention, changes, width):
    """If this fails, a network is narrowed that hears more of its memory, or work is done that saves none."""
    config = replace(QUERIES, attention=(attention,), **changes)
    assert in_span(network_of(config, width), config) is None


TEXTS = [f"{sky} and {wind}" for sky in ("sun", "hot", "snow", "ice") for wind in ("calm", "wind", "storm", "rain")]
FEW = {"network.attention": [{"queries": 2, "memory": "text"}], "network.hidden": [], "network.votes": 0.0}
TRAINED = {"vectors.dimension": 24, "training.epochs": 9, "optimizer.learning_rate": 0.03}


@pytest.fixture
def weather(monkeypatch):
    """A classifier that knows two classes, what it says of each text, and the widths of networks that it makes."""
    learner, widths = SequenceClassifier("text", settings=FEW | TRAINED), []
    learner.fit(TEXTS * 4, (["warm"] * 8 + ["cold"] * 8) * 4)
    each = learner.predict_proba(TEXTS)

    def told(*arguments):
        found = in_span(*arguments)
        widths.append(found.parameters[EMBEDDING].shape[1])
        return found

    monkeypatch.setattr(models, "in_span", told)
    return learner, each, widths


def test_many_texts_are_given_the_scores_of_each(weather):
    """If this fails, what is predicted of a text depends on how many others there are, or many are no quicker."""
    learner, each, widths = weather
    many = learner.predict_proba(TEXTS * 20)
    assert widths == [6]
    np.testing.assert_allclose(many, np.tile(each, (20, 1)), atol=1e-3)
    assert np.ptp(many[:, 0]) > 0.2


def test_a_network_of_ones_own_is_settled_as_it_is(weather):
    """If this fails, many texts are predicted by the network of the configuration, where somebody built another."""
    learner, each, widths = weather
    model = learner.model_
    model.config = replace(model.config, network=replace(model.config.network, scale=9.0))
    np.testing.assert_allclose(model.scores({"text": TEXTS * 20})[0], np.tile(each, (20, 1)), atol=1e-3)
    assert widths == []
