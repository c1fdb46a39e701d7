"""Facts 1 to 8: potentials give the states, F never rises under even–odd sweeps, and the output block is exact."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eqnp import kernels
from eqnp.costs import BinaryCrossEntropy, CrossEntropy, Nudge, SquaredError
from eqnp.dynamics import SettlingConfig, Trace, settle
from eqnp.errors import ConfigError
from eqnp.learning import LearningConfig, estimate, phases
from eqnp.potentials import ACTIVATIONS, Elementwise, Hopfield, Softmax, elementwise
from eqnp.testing import assert_falls, check_cost, check_energy, check_potential, check_synapse, problem, problems

DRIVES = st.lists(st.floats(-10, 10), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**16)


def compiled(name: str) -> Elementwise:
    """An activation as training has it, with the kernels of the CPU."""
    return replace(elementwise(name), kernels=kernels.load("cpu"))


def sweeps_of(number: int, accelerate: bool = False, order: str = "even-odd") -> SettlingConfig:
    """So many sweeps of any phase, to the last."""
    return SettlingConfig(order, 0.0, number, number, accelerate)


@given(st.sampled_from(ACTIVATIONS), DRIVES)
def test_state_is_the_gradient_of_the_potential(name, drives):
    """If this fails, the energy that is shown to go down is not the energy the states descend."""
    potential, u = compiled(name), np.array([drives])
    if name == "clipped":
        u = u[np.minimum(np.abs(u), np.abs(u - 2)) > 1e-3][None]
    state = np.zeros_like(u)
    potential.move(u, state, np.zeros(1), np.zeros(1))
    for h in range(u.shape[1]):
        e = np.zeros_like(u)
        e[0, h] = 1e-5
        slope = (potential.value(u + e) - potential.value(u - e)) / 2e-5
        assert slope[0] == pytest.approx(state[0, h], abs=1e-8)


@given(st.sampled_from(ACTIVATIONS), SEEDS)
def test_activations_and_their_nudge_keep_what_a_potential_promises(name, seed):
    """If this fails, Λ, its state, its Hessian, Λ* or the nudge by the squared error do not belong together."""
    check_potential(elementwise(name), SquaredError(), seed=seed)


@given(SEEDS)
def test_the_softmax_and_its_nudge_keep_what_a_potential_promises(seed):
    """If this fails, the cross-entropy nudge pulls at something else than the cross-entropy."""
    check_potential(Softmax(), CrossEntropy(), seed=seed)


@given(SEEDS)
def test_the_cross_entropy_of_each_class_keeps_what_a_potential_promises(seed):
    """If this fails, texts of several labels learn another loss than that of a yes or no to each."""
    check_potential(elementwise("logistic"), BinaryCrossEntropy(), seed=seed)
    rng = np.random.default_rng(seed)
    a, y = rng.normal(0, 3, (4, 5)), rng.integers(0, 2, (4, 5)).astype(float)
    expected = (np.logaddexp(0, a) - y * a).sum(axis=1)
    np.testing.assert_allclose(BinaryCrossEntropy().value(1 / (1 + np.exp(-a)), y), expected)


@given(st.sampled_from(("masked", "zeros")), st.floats(0.1, 2.0), SEEDS)
def test_attention_keeps_what_a_potential_promises(padding, scale, seed):
    """If this fails, keys and values are not one memory, or the memory learns from something else than ∂Λ/∂X."""
    check_potential(Hopfield("text", scale, padding), seed=seed)


def test_fenchel_conjugates_are_the_textbook_ones():
    """If this fails, ⟨u, s⟩ − Λ(u) is not Λ*(s): s² on [0, 1], minus the entropy, and so on."""
    u = np.array([[0.3, 1.0, 1.7]])
    conjugates = {
        "clipped": lambda s: s**2,
        "logistic": lambda s: s * np.log(s) + (1 - s) * np.log(1 - s),
        "tanh": lambda s: ((1 + s) * np.log(1 + s) + (1 - s) * np.log(1 - s)) / 2,
    }
    for name, conjugate in conjugates.items():
        potential, s = compiled(name), np.zeros_like(u)
        potential.move(u, s, np.zeros(1), np.zeros(1))
        assert (u * s).sum() - potential.value(u)[0] == pytest.approx(conjugate(s).sum(), abs=1e-12)
        for each in (potential, replace(potential, conjugate_scalar=None)):  # known, and by bisection
            assert each.conjugate(s).sum() == pytest.approx(conjugate(s).sum(), abs=1e-12)


@settings(max_examples=15)
@given(p=problems(batch=2), seed=SEEDS)
def test_synapses_keep_what_a_term_of_phi_promises(p, seed):
    """If this fails, a synapse feeds forward or back, or learns from, something else than the derivatives of its φ."""
    for synapse in p.network.synapses:
        check_synapse(synapse, p.network, p.batch, seed=seed)


@given(problems())
def test_drive_is_the_gradient_of_phi(p):
    """If this fails, a synapse feeds forward or back something that is not ∂Φ/∂s (a transposed or dropped feedback)."""
    network, x = p.network, p.network.clamp(p.batch)
    rng = np.random.default_rng(1)
    state = network.zero_state(x)
    for s in state.states.values():
        s[...] = rng.standard_normal(s.shape)
    for layer in network.layers:
        network.compute_drive(layer, x, state)
        np.testing.assert_allclose(
            state.drives[layer.name], network.drive(layer, x, state.states), rtol=1e-9, atol=1e-9
        )
        direction, s = rng.standard_normal(state.states[layer.name].shape), state.states[layer.name]
        s += direction
        above = network.phi(x, state.states)
        s -= 2 * direction
        slope = (above - network.phi(x, state.states)) / 2  # exact: Φ is linear in one layer
        s += direction
        expected = (state.drives[layer.name] * direction).reshape(x.size, -1).sum(axis=1)
        np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("accelerate", [False, True])
@settings(max_examples=max(200, settings().max_examples))
@given(p=problems(gains=(0.5, 4.0)), share=st.floats(0.01, 0.95))
def test_even_odd_sweeps_never_raise_the_energy(accelerate, p, share):
    """If this fails, a phase may wander or cycle instead of settling; checked in the free and both nudged phases."""
    network, x = p.network, p.network.clamp(p.batch)
    beta = min(2.0, *(share * abs(bound) for bound in network.betas))
    free, trace, settling = network.zero_state(x), Trace(), sweeps_of(25, accelerate)
    settle(network, x, free, settling, trace=trace)
    assert_falls(trace.energy)
    if network.output in network.blocks[1] and isinstance(network.output.cost, CrossEntropy):
        # Such an output counts at its minimum under the nudge, where one of the odd block comes at the end of the first
        # sweep only. What the even block has left of the free phase would be done before, against an output without
        # a nudge: that F is of another function.
        settle(network, x, free, SettlingConfig("even-odd", 1e-14, 4000, 1))
    for nudge in (Nudge(beta, p.target), Nudge(-beta, p.target)):
        state, trace = network.zero_state(x), Trace()
        state.assign(free)
        start = network.energy(x, state, nudge)
        settle(network, x, state, settling, nudge, trace)
        assert_falls([start, *trace.energy])


@given(problems(gains=(0.5, 2.0)))
def test_the_public_check_of_the_energy_passes_for_every_network(p):
    """If this fails, the checker of `eqnp.testing` blames networks whose energy falls."""
    beta = min(0.5, *(0.5 * abs(bound) for bound in p.network.betas))
    assert check_energy(p.network, p.batch, p.target, beta) <= 1e-10


def test_synchronous_sweeps_do_raise_the_energy_somewhere():
    """If this fails, the tests above could not tell an order with the guarantee from one without."""
    rises = []
    for seed in range(20):
        p = problem(seed=seed, gain=6.0, activation="tanh")
        x, trace = p.network.clamp(p.batch), Trace()
        settle(p.network, x, p.network.zero_state(x), sweeps_of(25, order="synchronous"), trace=trace)
        rises.append(np.diff(np.array(trace.energy), axis=0).max())
        if rises[-1] > 1e-3:
            with pytest.raises(AssertionError, match="rises"):
                assert_falls(trace.energy)
    assert max(rises) > 1e-3


@given(st.sampled_from(ACTIVATIONS), st.floats(-3, 3), st.floats(-5, 5), st.floats(-1, 3), st.booleans())
def test_nudged_output_solves_its_own_equation(name, beta, a, y, by_kernel):
    """If this fails, the output block is not at its minimum and F may rise: s = ∇Λ(a − β(s − y)) must hold."""
    potential, cost = compiled(name), SquaredError()
    if not by_kernel:  # an activation from outside has none
        potential = replace(potential, kernel="")
    beta = max(beta, 0.95 * cost.betas(potential)[0])
    drive, state, residual, value = np.array([[a]]), np.zeros((1, 1)), np.zeros(1), np.zeros(1)
    nudge = Nudge(beta, np.array([[y]]))
    cost.move(potential, drive, state, nudge, residual, value)
    s = state.copy()
    potential.move(np.array([[a - beta * (s[0, 0] - y)]]), s, residual, np.zeros(1))
    assert s[0, 0] == pytest.approx(state[0, 0], abs=1e-11)
    assert value[0] == pytest.approx(-cost.energy(potential, drive, state, nudge)[0], abs=1e-11)


@given(st.floats(-4, 4), st.floats(-30, 30), st.floats(-30, 30))
def test_an_unbounded_output_from_outside_is_solved_too(beta, a, y):
    """If this fails, the bracket of the root supposes states of [−1, 1], and leaves others silently wrong."""
    potential, cost = softplus(), SquaredError()
    beta = max(beta, -0.95)
    drive, state = np.array([[a]]), np.zeros((1, 1))
    cost.move(potential, drive, state, Nudge(beta, np.array([[y]])), np.zeros(1), np.zeros(1))
    assert potential.state(drive - beta * (state - y))[0, 0] == pytest.approx(state[0, 0], rel=1e-9, abs=1e-9)


def test_the_conjugate_of_an_unbounded_output_is_found_far_out():
    """If this fails, energies of large states are too small, and F seems to rise or fall."""
    u = np.array([[-300.0, -5.0, 40.0, 500.0, 9000.0]])
    relu = replace(softplus(), scalar=lambda u: np.maximum(u, 0) ** 2 / 2, activation=lambda u: np.maximum(u, 0))
    s = relu.state(u)
    assert relu.conjugate(s)[0] == pytest.approx((s * s / 2).sum(), rel=1e-9)


@given(SEEDS)
def test_an_unbounded_output_keeps_what_a_potential_promises(seed):
    """If this fails, a nudge of states beyond [−1, 1] is another than that of the squared error."""
    check_cost(SquaredError(), softplus(), seed=seed)


def softplus() -> Elementwise:
    """σ(u) = log(1 + exp u), which has no bound, with λ by its integral −Li₂(−exp u)."""
    from scipy.special import spence

    logistic = elementwise("logistic")
    return Elementwise("softplus", lambda u: -spence(1 + np.exp(u)), logistic.scalar, logistic.activation, 1.0)


@pytest.mark.parametrize(("name", "limit"), [("clipped", 2.0), ("logistic", 4.0), ("tanh", 1.0)])
def test_a_beta_that_makes_the_output_non_convex_is_refused(name, limit):
    """If this fails, −β lets the output jump between two minima and the estimate is meaningless."""
    betas = SquaredError().betas(elementwise(name))
    with pytest.raises(ConfigError, match="single minimum"):
        phases(LearningConfig("symmetric", limit), betas)
    phases(LearningConfig("symmetric", 0.99 * limit), betas)
    phases(LearningConfig("one-sided", 10 * limit), betas)
    with pytest.raises(ConfigError, match="single minimum"):
        phases(LearningConfig("other-side", limit), betas)


def test_a_beta_of_one_is_too_strong_for_a_softmax():
    """If this fails, a nudged softmax has no minimum: its own part of F turns over at β = 1."""
    betas = CrossEntropy().betas(Softmax())
    for estimator, limit in (("symmetric", 1.0), ("one-sided", 1.0), ("richardson", 0.5), ("random-sign", 1.0)):
        with pytest.raises(ConfigError, match="positive β"):
            phases(LearningConfig(estimator, limit), betas)
        phases(LearningConfig(estimator, 0.99 * limit), betas)


@pytest.mark.parametrize(
    ("cost", "potential"),
    [
        (SquaredError(), Softmax()),
        (CrossEntropy(), elementwise("tanh")),
        (BinaryCrossEntropy(), elementwise("clipped")),
    ],
)
def test_a_cost_that_is_not_for_an_output_says_so(cost, potential):
    """If this fails, an output is nudged by a formula that is not that of its minimum."""
    with pytest.raises(ConfigError, match="use"):
        cost.betas(potential)


@given(problems())
def test_both_orders_have_the_same_fixed_points(p):
    """If this fails, the even–odd network is not the paper's network."""
    x = p.network.clamp(p.batch)
    for first, second in (("even-odd", "synchronous"), ("synchronous", "even-odd")):
        state = p.network.zero_state(x)
        settled = settle(p.network, x, state, SettlingConfig(first, 1e-13, 4000, 4000))
        assume((settled.residual <= 1e-13).all())
        start = p.network.zero_state(x)  # it has news of all layers, so that all are updated
        for name, s in state.states.items():
            start.states[name][...] = s
        moved = settle(p.network, x, start, sweeps_of(1, order=second))
        assert (moved.residual <= 1e-11).all()


def test_even_odd_takes_half_the_sweeps():
    """If this fails, a sweep uses states of its own block that are a sweep old."""
    for tolerance in (1e-4, 1e-6, 1e-9):
        p = problem(seed=2, gain=2.0, hidden=(6, 5))
        x = p.network.clamp(p.batch)
        settlings = (SettlingConfig(order, tolerance, 1000, 1, False) for order in ("even-odd", "synchronous"))
        sweeps = [settle(p.network, x, p.network.zero_state(x), settling).sweeps.max() for settling in settlings]
        assert sweeps[0] <= 0.6 * sweeps[1]


def test_tolerance_stops_and_caps_hold():
    """If this fails, phases run on after they have settled, or beyond T and K."""
    p = problem(seed=2, gain=2.0)
    loose = estimate(p.network, p.batch, p.target, LearningConfig(), SettlingConfig("even-odd", 1e-2, 50, 20))
    capped = estimate(p.network, p.batch, p.target, LearningConfig(), SettlingConfig("even-odd", 0.0, 7, 4))
    assert (loose.residual <= 1e-2).all()
    assert (loose.sweeps[0] < 50).all()
    assert capped.sweeps.tolist() == [[7] * 3, [4] * 3, [4] * 3]
