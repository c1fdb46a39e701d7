"""Configurations: what is written can be read back, and settings reach the key they name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp.architecture import build_network
from eqnp.config import from_tree, load_config, presets, to_toml, to_tree
from eqnp.machine.gradients import RowGradient
from eqnp.optim import Adam, OptimizerConfig
from eqnp.testing import problem


@pytest.mark.parametrize("name", presets())
def test_a_preset_survives_the_way_to_disk(name, tmp_path):
    """If this fails, a run cannot be repeated from its own folder."""
    config = load_config(name, ['data.columns.text="the \\"text\\""', "optimizer.learning_rates.queries=2e-3"])
    (tmp_path / "config.toml").write_text(to_toml(config), encoding="utf-8")
    assert load_config(str(tmp_path / "config.toml")) == config
    assert from_tree(to_tree(config)) == config


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_survives_the_way_to_disk(tmp_path_factory, label, column):
    """If this fails, a column name in another script or with odd characters makes a run that cannot be repeated."""
    config = load_config("mini-sentiment", given={"data.label": label, "data.columns": {"text": column}})
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_bytes(to_toml(config).encode("utf-8"))
    assert load_config(str(path)) == config


@given(st.floats(1e-6, 0.99), st.integers(1, 9))
def test_settings_reach_their_key(beta, queries):
    """If this fails, --set changes something else, or nothing."""
    config = load_config(
        "mini-sentiment",
        [f"learning.beta={beta}", f"network.attention.0.queries={queries}", "vectors.source=some/file.txt"],
    )
    assert config.learning.beta == beta
    assert config.network.attention[0].queries == queries
    assert config.vectors.source == "some/file.txt"
    assert config.data == load_config("mini-sentiment").data


def test_learning_rates_by_name_family_and_default():
    """If this fails, a preset's per-synapse learning rates go to the wrong weights."""
    rates = {"hidden": 2.0, "hidden1": 3.0, "embedding": 4.0}
    config, declared = OptimizerConfig(learning_rate=1.0, learning_rates=rates), problem(hidden=(5, 4)).network.declared
    names = ("output.weight", "hidden0.bias", "hidden1.weight", "embedding.weight")
    assert [config.rate(declared[name]) for name in names] == [1.0, 2.0, 3.0, 4.0]


def test_schedule_and_rates_scale_the_step():
    """If this fails, the cosine schedule does not bring the learning rate to zero, or the first step is not Adam's."""
    moved = []
    for progress in (0.0, 0.5, 1.0):
        p = problem()
        optimizer = Adam(p.network, OptimizerConfig(learning_rate=0.1, learning_rates={"output": 0.01}))
        before = {name: value.copy() for name, value in p.network.parameters.items()}
        gradients = {name: np.full_like(value, -2.0) for name, value in before.items()}
        gradients["embedding.weight"] = RowGradient(np.array([2, 5]), np.full((2, 4), -2.0))
        optimizer.step(p.network, gradients, progress)
        moved.append({name: p.network.parameters[name] - before[name] for name in before})
    # Adam's first step has the size of the learning rate, whatever the gradient.
    for change, factor in zip(moved, (1.0, 0.5, 0.0), strict=True):
        np.testing.assert_allclose(change["hidden0.weight"], 0.1 * factor, atol=1e-8)
        np.testing.assert_allclose(change["output.bias"], 0.01 * factor, atol=1e-8)
        np.testing.assert_allclose(change["embedding.weight"][[2, 5]], 0.1 * factor, atol=1e-8)
        assert (np.delete(change["embedding.weight"], [2, 5], axis=0) == 0).all()


@pytest.mark.parametrize(("preset", "millions", "classes"), [("imdb-paper", 180.1, 2), ("snli-paper", 12.4, 3)])
def test_the_papers_networks_have_the_papers_sizes(preset, millions, classes, monkeypatch):
    """If this fails, a preset of the paper is another network than the paper's."""
    for draw in ("uniform", "normal"):
        monkeypatch.setattr(f"eqnp.synapses.{draw}", lambda rng, shape, dtype: np.broadcast_to(dtype.type(0), shape))
    config = load_config(preset)
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    network = build_network(config.network, np.zeros((2, 300), np.float32), classes, positions)
    own = sum(value.size for name, value in network.parameters.items() if name != "embedding.weight")
    assert own / 1e6 == pytest.approx(millions, abs=0.05)
