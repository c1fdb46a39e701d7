"""Gradients by independent routes: finite differences, implicit differentiation, BPTT, and EP of several orders."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eqnp import kernels
from eqnp.dynamics import SettlingConfig
from eqnp.errors import ConfigError
from eqnp.learning import LearningConfig, estimate, phases
from eqnp.network import EMBEDDING
from eqnp.oracles import bptt, finite_difference, gdu, implicit
from eqnp.potentials import elementwise
from eqnp.testing import KINDS, kink_distance, problem, problems, relative_error
from tests.theory.test_gradients import dense

EXACT = SettlingConfig("even-odd", 1e-14, 4000, 4000)
SMOOTH = ("logistic", "tanh")


def exact(p) -> dict[str, np.ndarray]:
    """By implicit differentiation."""
    return dense(p, implicit.estimate(p.network, p.batch, p.target, EXACT).gradients)


def ep(p, estimator: str, beta: float) -> dict[str, np.ndarray]:
    """By EP."""
    learning = LearningConfig(estimator, beta)
    return dense(p, estimate(p.network, p.batch, p.target, learning, EXACT).gradients)


def error(estimated, truth) -> float:
    """The largest relative error of a parameter."""
    assert set(estimated) == set(truth)
    return max(relative_error(estimated[name], truth[name]) for name in truth)


@pytest.mark.parametrize("padding", ["masked", "zeros"])
@pytest.mark.parametrize("activation", ["clipped", "logistic", "tanh"])
@pytest.mark.parametrize("kind", KINDS)
def test_implicit_differentiation_is_the_slope_of_the_loss(kind, activation, padding):
    """If this fails, the reference that EP is measured against is wrong."""
    drawn = (
        problem(seed=seed, kind=kind, activation=activation, padding=padding, hidden=(5, 4), batch=2)
        for seed in range(3, 20)
    )
    p = next(p for p in drawn if kink_distance(p) > 1e-3)
    truth = exact(p)
    rng = np.random.default_rng(0)
    for name, value in p.network.parameters.items():
        direction = rng.standard_normal(value.shape)
        direction *= name != "embedding.weight" or np.arange(len(value))[:, None] > 0
        slope = finite_difference.directional(p.network, p.batch, p.target, EXACT, name, direction)
        assert (truth[name] * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-9)


@given(problems(gains=(0.5, 1.2)))
def test_long_bptt_is_implicit_differentiation(p):
    """If this fails, one of the two adjoints is wrong: they share the linearisation, but not the way it is used."""
    result = implicit.estimate(p.network, p.batch, p.target, EXACT)
    assume((result.residual <= 1e-14).all() and result.sweeps.max() < 60)
    unrolled = bptt.estimate(p.network, p.batch, p.target, EXACT, steps=400)
    for name, value in dense(p, result.gradients).items():
        np.testing.assert_allclose(
            dense(p, unrolled.gradients)[name], value, rtol=0, atol=1e-8 * (1e-3 + abs(value).max())
        )


@pytest.mark.parametrize("route", [implicit.estimate, bptt.estimate])
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_that_are_not_trained_change_no_other_gradient(kind, route):
    """If this fails, a network with fixed embeddings learns something else by the oracles."""
    p = problem(seed=3, kind=kind)
    every = dense(p, route(p.network, p.batch, p.target, EXACT).gradients)
    found = route(p.network, p.batch, p.target, EXACT, train_embeddings=False).gradients
    assert set(found) == set(every) - {EMBEDDING}
    for name, value in dense(p, found).items():
        np.testing.assert_array_equal(value, every[name])


def test_truncated_bptt_is_not_the_gradient():
    """If this fails, the number of steps is not used."""
    p = problem(seed=3, gain=2.0)
    short = bptt.estimate(p.network, p.batch, p.target, EXACT, steps=2)
    assert error(dense(p, short.gradients), exact(p)) > 1e-2


@pytest.mark.parametrize(
    ("estimator", "betas", "order", "at", "bound"),
    [
        ("one-sided", (0.005, 0.01, 0.02), (1, 0.2), 0.01, 0.02),
        ("symmetric", (0.02, 0.05, 0.1), (2, 0.2), 0.01, 1e-3),
        ("richardson", (0.05, 0.1, 0.2), (4, 0.4), 0.05, 1e-5),
        ("holomorphic", (0.3, 0.5, 0.8), (8, 1.0), 0.05, 1e-8),  # from where the error is above that of the truth, 1e-8
    ],
)
@pytest.mark.parametrize(
    ("activation", "output"), [("logistic", "logistic"), ("tanh", "logistic"), ("tanh", "softmax")]
)
@pytest.mark.parametrize("kind", KINDS)
def test_orders_of_the_estimators(kind, activation, output, estimator, betas, order, at, bound):
    """If this fails, an estimator is not what its name promises."""
    p = problem(seed=3, kind=kind, activation=activation, output_activation=output, padding="zeros", hidden=(5, 4))
    if output == "softmax":  # it bears β < 1 only
        betas, at = np.array(betas) / 2, at if estimator != "one-sided" else at / 2
    truth = exact(p)
    assert error(ep(p, estimator, at), truth) <= bound
    errors = [error(ep(p, estimator, beta), truth) for beta in betas]
    assert np.polyfit(np.log(betas), np.log(errors), 1)[0] == pytest.approx(order[0], abs=order[1])


def test_a_nudge_moves_a_unit_off_its_bound():
    """If this fails, a clipped output that is 0 for every text learns by exact gradients, or does not by EP."""
    p = problem(seed=3, activation="clipped", output_activation="clipped")
    p.target[...] = np.eye(p.target.shape[1])[np.arange(len(p.target)) % 2]
    p.network.parameters["output.weight"][0], p.network.parameters["output.bias"][0] = 0, -0.01
    for route in (implicit.estimate, bptt.estimate):
        result = route(p.network, p.batch, p.target, EXACT)
        assert (result.output[:, 0] == 0).all()
        assert result.gradients["output.bias"][0] == 0
        assert result.gradients["output.bias"][1] != 0
    assert ep(p, "symmetric", 0.1)["output.bias"][0] < 0
    assert ep(p, "symmetric", 0.005)["output.bias"][0] == 0  # a pull of less than 0.01 does not reach it


def test_random_sign_averages_to_the_symmetric_estimate():
    """If this fails, the sign changes more than the sign of β."""
    p = problem(seed=3)
    up, down, symmetric = (ep(p, estimator, 0.1) for estimator in ("one-sided", "other-side", "symmetric"))
    for name, value in symmetric.items():
        np.testing.assert_allclose((up[name] + down[name]) / 2, value, rtol=0, atol=1e-10)
        assert np.abs(up[name] - down[name]).max() > 1e-6
    rng, learning = np.random.default_rng(0), LearningConfig("random-sign", 0.1)
    assert {learning.drawn(rng).estimator for _ in range(20)} == {"one-sided", "other-side"}
    assert LearningConfig("symmetric").drawn(rng) == LearningConfig("symmetric")


def test_estimators_refuse_what_they_cannot_bear():
    """If this fails, a nudge too strong for the output, or a kink, gives a meaningless estimate without a word."""
    with pytest.raises(ConfigError, match="single minimum"):
        phases(LearningConfig("richardson", 0.6), (-1.0, np.inf))
    phases(LearningConfig("richardson", 0.4), (-1.0, np.inf))
    with pytest.raises(ConfigError, match="single minimum"):
        phases(LearningConfig("random-sign", 1.2), (-1.0, np.inf))
    with pytest.raises(ConfigError, match="at least 2"):
        phases(LearningConfig("holomorphic", 0.1, points=1), (-1.0, np.inf))
    p = problem(activation="clipped")
    with pytest.raises(ConfigError, match="kinks"):
        ep(p, "holomorphic", 0.1)


@given(st.sampled_from(("logistic", "tanh", "softmax")), st.integers(0, 2**16))
def test_the_analytic_kernels_are_the_definitions_on_the_real_line(name, seed):
    """If this fails, holomorphic EP follows other dynamics than the network."""
    naive, analytic, rng = kernels.load("naive"), kernels.load("analytic"), np.random.default_rng(seed)
    drive, target = rng.normal(0, 3, (3, 2)), rng.random((3, 2))
    for kernel, rest in ((name, ()), (f"{name}_nudged", (0.3, target))):
        outcomes = []
        for twin, dtype in ((naive, float), (analytic, complex)):
            u, s = drive.astype(dtype), np.zeros((3, 2), dtype)
            getattr(twin, kernel)(u, s, *rest, np.zeros(3), np.zeros(3))
            outcomes.append((u, s))
        np.testing.assert_allclose(outcomes[1], outcomes[0], rtol=0, atol=1e-12)


def test_an_analytic_activation_from_outside_leaves_the_real_line_too():
    """If this fails, a holomorphic estimate of a user's own layer stops, or brackets a complex root."""
    p = problem(seed=3, activation="logistic", output_activation="tanh", hidden=(5, 4))
    expected = ep(p, "holomorphic", 0.05)
    tanh = replace(elementwise("tanh"), kernel="")
    logistic = replace(elementwise("logistic"), kernel="", activation=lambda u: 1 / (1 + np.exp(-u)))
    logistic = replace(logistic, slope=lambda u: logistic.state(u) * (1 - logistic.state(u)))
    for layer in p.network.layers:
        own = {"tanh": tanh, "logistic": logistic}.get(layer.potential.name, layer.potential)
        object.__setattr__(layer, "potential", own)
    assert error(ep(p, "holomorphic", 0.05), expected) <= 1e-9


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_of_ep_is_a_step_of_bptt(kind, activation):
    """If this fails, EP and BPTT agree in sum at best (GDU: Ernoult et al. 2019)."""
    p = problem(seed=3, kind=kind, activation=activation, output_activation="logistic", hidden=(5, 4))
    weights, neurons = gdu.increments(p.network, p.batch, p.target, EXACT, beta=1e-4, steps=12)
    for increments in (weights, neurons):
        for name, backward in increments.bptt.items():
            size = np.linalg.norm(backward.reshape(12, -1), axis=1)
            away = np.linalg.norm((increments.ep[name] - backward).reshape(12, -1), axis=1)
            # News comes every other step; where BPTT has none, EP's bias of order β² is compared with the rest.
            assert (away <= 1e-3 * size + 1e-6 * size.max()).all(), name


def test_neuron_steps_need_the_slope():
    """If this fails, the adjoint of the states and that of the drives are taken for the same (theory, fact 15)."""
    p = problem(seed=3, hidden=(5, 4))
    _, neurons = gdu.increments(p.network, p.batch, p.target, EXACT, steps=3)
    output = p.network.output.name
    state = implicit.estimate(p.network, p.batch, p.target, EXACT).output
    v = (state - p.target) / len(p.target)
    slope = state * (1 - state)
    np.testing.assert_allclose(neurons.ep[output][0], slope * v, rtol=1e-4)
    assert np.abs(neurons.ep[output][0] - v).max() > 0.1 * np.abs(v).max()


def test_a_gradient_a_thousandth_off_is_found():
    """If this fails, the comparison itself is too weak to be believed."""
    p = problem(seed=3)
    truth = exact(p)
    wrong = {name: value * 1.001 for name, value in truth.items()}
    assert error(ep(p, "holomorphic", 0.05), truth) <= 1e-8
    assert error(wrong, truth) > 1e-4


def test_loose_states_are_reported():
    """If this fails, a reference of half-settled states passes for exact."""
    p = problem(seed=3, gain=2.0)
    result = implicit.estimate(p.network, p.batch, p.target, replace(EXACT, free_sweeps=2))
    assert result.residual.max() > 1e-6
