"""The options of the optimiser: weight decay, clipping, schedules."""

import numpy as np
import pytest

from eqnp.errors import ConfigError
from eqnp.machine.gradients import RowGradient
from eqnp.optim import SCHEDULES, Adam, OptimizerConfig
from eqnp.testing import problem


def test_weight_decay_shrinks_weights_between_layers_alone():
    """If this fails, weight decay is the reverse, goes through Adam, or eats biases and word vectors."""
    network = problem().network
    before = {name: value.copy() for name, value in network.parameters.items()}
    zero = {name: np.zeros_like(value) for name, value in before.items() if name != "embedding.weight"}
    rows = np.array([2, 3])
    zero["embedding.weight"] = RowGradient(rows, np.zeros((2, before["embedding.weight"].shape[1])))
    Adam(network, OptimizerConfig(learning_rate=0.5, schedule="constant", weight_decay=0.1)).step(network, zero)
    for name, value in network.parameters.items():
        shrinks = name.endswith(".weight") and not name.startswith(("queries", "embedding"))
        np.testing.assert_allclose(value, before[name] * (0.95 if shrinks else 1.0), rtol=1e-12)


def test_clipping_bounds_the_common_norm_and_keeps_the_direction():
    """If this fails, one wild batch still throws the weights, or ordinary batches are shortened."""
    for bound, factor in ((1e9, 1.0), (0.5, None)):
        network, taken = problem().network, {}
        rng = np.random.default_rng(0)
        gradients = {name: rng.standard_normal(p.shape) for name, p in network.parameters.items()}
        gradients["embedding.weight"] = RowGradient(np.array([1, 4]), rng.standard_normal((2, 4)))
        copies = {n: (g.values if isinstance(g, RowGradient) else g).copy() for n, g in gradients.items()}
        norm = np.sqrt(sum((g * g).sum() for g in copies.values()))
        Adam(network, OptimizerConfig(clip=bound)).step(network, gradients)
        for name, gradient in gradients.items():
            taken[name] = gradient.values if isinstance(gradient, RowGradient) else gradient
            np.testing.assert_allclose(taken[name], copies[name] * (factor or bound / norm), rtol=1e-12)


def test_schedules_start_at_one():
    """If this fails, the learning rate is not the one that was set."""
    for schedule in SCHEDULES.values():
        assert schedule(0.0) == 1.0
    assert SCHEDULES["cosine"](1.0) == pytest.approx(0)
    for wrong in ({"schedule": "cosin"}, {"weight_decay": -0.1}, {"clip": -1.0}, {"learning_rate": 0.0}):
        with pytest.raises(ConfigError):
            OptimizerConfig(**wrong)
