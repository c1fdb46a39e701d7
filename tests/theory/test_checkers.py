"""The checkers of `eqnp.testing` reject an error of 0.1 %, wherever it is, and say where."""

from dataclasses import replace

import numpy as np
import pytest

from eqnp import kernels
from eqnp.costs import BinaryCrossEntropy, CrossEntropy, SquaredError
from eqnp.dynamics import SettlingConfig
from eqnp.learning import estimate
from eqnp.machine.gradients import entries, with_entries
from eqnp.oracles import implicit
from eqnp.potentials import Elementwise, Hopfield, Softmax, elementwise
from eqnp.products import Product
from eqnp.synapses import Bundle, Compare, Dense, Mean, Projection, Queries
from eqnp.testing import (
    assert_agree,
    assert_falls,
    check_cost,
    check_energy,
    check_gradients,
    check_potential,
    check_synapse,
    cosine,
    problem,
    relative_error,
)

OFF = 1.001


def spoiled(thing, method: str, argument: int | None = None):
    """A copy of a class whose method gives, or writes into an argument, 0.1 % too much."""

    def wrong(self, *given):
        result = getattr(super(kind, self), method)(*given)
        if argument is not None:
            given[argument][...] *= OFF
            return result
        if callable(result):
            return lambda v: OFF * result(v)
        return OFF * result

    kind = type(thing.__name__, (thing,), {method: wrong})
    return kind


@pytest.mark.parametrize(
    ("method", "argument", "message"),
    [
        ("value", None, "the state"),
        ("state", None, "the state at"),
        ("hessian", None, "Hessian"),
        ("memory_gradient", None, "∂Λ/∂X at"),
        ("memory_adjoint", None, "vᵀ ∂s/∂X"),
        ("memory_update", 2, "contrast of ∂Λ/∂X"),
    ],
)
def test_a_potential_off_by_a_thousandth(method, argument, message):
    """If this fails, a user's attention may be no gradient, or learn a wrong one, and pass."""
    check_potential(Hopfield("text", 0.7))
    with pytest.raises(AssertionError, match=rf"{message}.* off by 0\.1"):
        check_potential(spoiled(Hopfield, method, argument)("text", 0.7))


def test_a_move_off_by_a_thousandth():
    """If this fails, a compiled twin that a user brings may be another layer than its definition."""
    for argument, message in ((1, "state"), (2, "residual"), (3, "value")):
        kind = spoiled(Hopfield, "move", argument)
        with pytest.raises(AssertionError, match=f"the {message} that `move` leaves"):
            check_potential(kind("text", 0.7))


def test_a_potential_that_is_not_convex():
    """If this fails, F may have many minima in a block, and "settled" means nothing."""
    tanh = elementwise("tanh")
    hill = replace(
        tanh, kernel="", scalar=lambda u: -tanh.scalar(u), activation=lambda u: -np.tanh(u), slope=lambda u: 0
    )
    with pytest.raises(AssertionError, match="not convex"):
        check_potential(hill)


def test_a_max_slope_that_is_too_small():
    """If this fails, a nudge is allowed under which the output has two minima."""
    with pytest.raises(AssertionError, match="max_slope"):
        check_potential(replace(elementwise("tanh"), max_slope=0.3))


def test_samples_that_are_taken_wrong():
    """If this fails, samples that settle late read the memory of others."""

    class Shuffled(Hopfield):
        def take(self, index):
            return super().take(index[::-1])

    with pytest.raises(AssertionError, match="some samples"):
        check_potential(Shuffled("text", 0.7))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("slope", "∂C/∂s"),
        ("nudged_state", "the state at β = 0"),
        ("nudged_value", "the nudged state|F at its minimum"),
        ("value", "∂C/∂s|F at its minimum|which is C"),
        ("energy", "F at its minimum"),
    ],
)
@pytest.mark.parametrize(
    ("cost", "potential"),
    [(SquaredError, elementwise("logistic")), (CrossEntropy, Softmax()), (BinaryCrossEntropy, elementwise("logistic"))],
)
def test_a_cost_off_by_a_thousandth(cost, potential, method, message):
    """If this fails, a user's nudge may pull at something else than their cost, and pass."""
    check_cost(cost(), potential)
    with pytest.raises(AssertionError, match=message):
        check_cost(spoiled(cost, method)(), potential)


SYNAPSES = {
    Dense: ("pooling", "output"),
    Mean: ("compare", "hidden0"),
    Compare: ("compare", "compare0"),
    Product: ("products", "products0"),
    Projection: ("compare", "tokens0"),
    Queries: ("pooling", "queries0"),
}


def checked_with(kind, other, **options):
    """Check the synapse of that kind of a small network after its class is changed to another."""
    form, name = SYNAPSES[kind]
    p = problem(seed=3, kind=form, batch=2, shortest=2)
    (synapse,) = (s for s in p.network.synapses if s.name == name)
    assert type(synapse) is kind
    synapse.__class__ = other
    check_synapse(synapse, p.network, p.batch, **options)


@pytest.mark.parametrize("kind", SYNAPSES)
def test_ends_off_by_a_thousandth(kind):
    """If this fails, a synapse may learn something else than ∂Φ/∂θ, and pass."""
    checked_with(kind, kind)

    def ends(self, x, states):
        for bundle in kind.ends(self, x, states):
            yield Bundle(*bundle[:2], OFF * bundle.post, bundle.pre)

    with pytest.raises(AssertionError, match=f"{SYNAPSES[kind][1]}: the (ends|change)"):
        checked_with(kind, type(kind.__name__, (kind,), {"ends": ends}))


@pytest.mark.parametrize(
    ("kind", "method", "argument", "message"),
    [
        (Dense, "drive", None, "drive|forward|ends"),
        (Dense, "forward", 3, "forward"),
        (Dense, "feedback", 4, "drive of hidden0|feedback"),
        (Dense, "constant", None, "constant part"),
        (Dense, "drive_change", None, "the change of"),
        (Mean, "feedback", 4, "drive of|feedback"),
        (Compare, "forward", 3, "forward"),
        (Compare, "feedback", 4, "drive of|feedback"),
        (Product, "forward", 3, "forward"),
        (Product, "feedback", 4, "drive of|feedback"),
        (Product, "token_update", 4, "tokens of"),
        (Projection, "static", None, "static|drive|ends"),
        (Projection, "token_update", 4, "tokens of"),
    ],
)
def test_a_route_of_a_synapse_off_by_a_thousandth(kind, method, argument, message):
    """If this fails, settling may be handed another drive than the derivative of φ, and pass."""
    other = spoiled(kind, method, argument)
    if method == "token_update":

        def token_update(self, parameters, x, states, coefficients, out):
            kind.token_update(self, parameters, x, states, OFF * coefficients, out)

        other = type(kind.__name__, (kind,), {"token_update": token_update})
    with pytest.raises(AssertionError, match=message):
        checked_with(kind, other)


def test_a_synapse_that_reads_what_is_not_its_own():
    """If this fails, the locality claim is not checked."""

    class Nosy(Dense):
        def ends(self, x, states):
            for name, columns, post, pre in super().ends(x, states):
                yield Bundle(name, columns, post + 0 * states["attention0"].sum(), pre)

    with pytest.raises(AssertionError, match=r"ends of output\.weight at .* is nan"):
        checked_with(Dense, Nosy)


def test_samples_that_see_each_other():
    """If this fails, what one text does may depend on its batch, and pass."""

    class Chatty(Dense):
        def drive(self, at, parameters, x, states):
            own = super().drive(at, parameters, x, states)
            return own - own + own.mean(axis=0) if at == self.post.name else own

    with pytest.raises(AssertionError, match="drive of output in other samples"):
        checked_with(Dense, Chatty)


def test_a_term_that_is_not_linear():
    """If this fails, blocks are not minimised by one update, and nobody says so."""

    class Bent(Dense):
        def drive(self, at, parameters, x, states):
            post = self.post.name
            return super().drive(at, parameters, x, states) + (1e-2 * states[post] if at == post else 0)

    with pytest.raises(AssertionError, match="bends"):
        checked_with(Dense, Bent)


class Once(Dense):
    """The pre end of one phase for all: right for tokens, wrong for a layer, which no oracle would tell."""

    def ends(self, x, states):
        for name, columns, post, pre in super().ends(x, states):
            yield Bundle(name, columns, post, pre[:1])


class Affine(Dense):
    """A term in the pre layer alone, ⟨s_pre, 1⟩, that a silent post layer is not supposed to leave."""

    def phi(self, parameters, x, states):
        return super().phi(parameters, x, states) + states["hidden0"].sum(axis=1)

    def feedback(self, parameters, x, states, pre, out):
        super().feedback(parameters, x, states, pre, out)
        out += 1


class Crossing(Dense):
    """A product of two pre layers, of which the graph is not told."""

    def drive(self, at, parameters, x, states):
        a, b = (states.get(layer.name) for layer in self.pres)
        more = {self.pres[0].name: b, self.pres[1].name: a}.get(at)
        if at == self.post.name:
            return super().drive(at, parameters, x, states) + (a * b).sum(axis=(1, 2))[:, None]
        return super().drive(at, parameters, x, states) + more * states[self.post.name].sum(axis=1)[:, None, None]


class Broadcast(Dense):
    """Drives of one sample for all."""

    def drive(self, at, parameters, x, states):
        return (
            super().drive(at, parameters, x, states)[:1]
            if at == "hidden0"
            else super().drive(at, parameters, x, states)
        )


class Spoiling(Dense):
    """Ends that change what they were handed."""

    def ends(self, x, states):
        for bundle in super().ends(x, states):
            bundle.post[...] *= 2
            yield bundle


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Once, "ends of output.weight"),
        (Affine, "a silent output drives hidden0"),
        (Broadcast, "has shape"),
        (Spoiling, "changes the states of output"),
    ],
)
def test_what_settling_or_an_oracle_would_never_tell(other, message):
    """If this fails, a synapse passes that learns, or drives, something else while it trains."""
    with pytest.raises(AssertionError, match=message):
        checked_with(Dense, other)


def test_products_of_pre_layers_must_be_declared():
    """If this fails, layers that see each other share a block, and F may rise."""
    p = problem(seed=3, kind="both", hidden=(), positions=2, batch=2, shortest=2)
    (synapse,) = (s for s in p.network.synapses if s.name == "output")
    synapse.__class__ = Crossing
    with pytest.raises(AssertionError, match="is not crossed"):
        check_synapse(synapse, p.network, p.batch)


def test_samples_that_are_left_behind_keep_their_tokens():
    """If this fails, a synapse that reads tokens while states settle passes, and stops in the middle of a phase."""

    class Reader(Dense):
        def drive(self, at, parameters, x, states):
            live = x.live_rows(x_layer)
            assert len(x.segments["text"].ids) == x.size == len(live)
            return super().drive(at, parameters, x, states)

    p = problem(seed=3, kind="tokens", hidden=(), batch=3)
    x_layer = p.network.layers[0]
    (synapse,) = (s for s in p.network.synapses if s.name == "output")
    synapse.__class__ = Reader
    check_synapse(synapse, p.network, p.batch)


@pytest.mark.parametrize(("scale", "seeds"), [(5.0, 60), (1e-3, 5), (0.02, 5)])
def test_no_potential_is_blamed_for_rounding(scale, seeds):
    """If this fails, a potential that is right fails now and then: where it hardly moves, or has large values."""
    for seed in range(seeds):
        check_potential(Hopfield("text", scale), seed=seed)


def test_a_network_that_a_nudge_moves_far_is_not_blamed():
    """If this fails, a property test of gradients is red for one network in two hundred."""
    p = problem(seed=16667, activation="tanh", output_activation="softmax", gain=1.5, hidden=(4, 3))
    check_gradients(p.network, p.batch, p.target, beta=0.3, estimator="richardson")


def test_a_kinked_activation_that_claims_to_be_analytic():
    """If this fails, holomorphic estimates of a user's own layer are off by a tenth without a word."""
    softsign = Elementwise(
        "softsign",
        scalar=lambda u: np.abs(u) - np.log1p(np.abs(u)),
        activation=lambda u: u / (1 + np.abs(u)),
        slope=lambda u: (1 + np.abs(u)) ** -2,
        max_slope=1.0,
    )
    check_potential(softsign)
    with pytest.raises(AssertionError, match="analytic state"):
        check_potential(replace(softsign, analytic=True))
    for seed in range(10):
        with pytest.raises(AssertionError, match="max_slope"):
            check_potential(replace(softsign, max_slope=0.9), seed=seed)


@pytest.mark.parametrize("parameter", ["embedding.weight", "queries0.weight", "hidden0.weight", "output.bias"])
@pytest.mark.parametrize("against", ["implicit", "finite differences", "bptt"])
def test_a_gradient_off_by_a_thousandth(parameter, against, monkeypatch):
    """If this fails, a rule that learns a slightly wrong gradient passes."""
    p = problem(seed=3, batch=2)
    assert check_gradients(p.network, p.batch, p.target, against=against) <= 1e-4

    def wrong(*given, **named):
        result = estimate(*given, **named)
        gradient = result.gradients[parameter]
        result.gradients[parameter] = with_entries(gradient, OFF * entries(gradient))
        return result

    monkeypatch.setattr("eqnp.testing.networks.estimate", wrong)
    with pytest.raises(AssertionError, match=rf"against {against}: {parameter} at .* off by 0\.1"):
        check_gradients(p.network, p.batch, p.target, against=against)


def test_one_entry_off_by_a_thousandth(monkeypatch):
    """If this fails, an error in one weight of many is lost among the others."""
    p = problem(seed=3, batch=2)
    exact = implicit.estimate

    def wrong(*given, **named):
        result = exact(*given, **named)
        weight = result.gradients["hidden0.weight"]
        row, column = np.unravel_index(np.abs(weight).argmax(), weight.shape)
        weight[row, column] *= OFF
        return result

    monkeypatch.setattr("eqnp.oracles.implicit.estimate", wrong)
    with pytest.raises(AssertionError, match=r"hidden0\.weight at"):
        check_gradients(p.network, p.batch, p.target)


def test_states_that_do_not_settle_are_no_reference(monkeypatch):
    """If this fails, a gradient of half-settled states is compared as if it were exact."""
    p = problem(seed=3, gain=3.0, activation="tanh", kind="both")
    monkeypatch.setattr("eqnp.testing.networks.EXACT", SettlingConfig("even-odd", 1e-13, 5, 5))
    with pytest.raises(AssertionError, match="did not settle"):
        check_gradients(p.network, p.batch, p.target)


def test_an_energy_that_rises(monkeypatch):
    """If this fails, a network that wanders passes for one that descends."""
    p = problem(seed=3)
    assert check_energy(p.network, p.batch, p.target) <= 1e-10
    compiled = kernels.load("cpu")

    def uphill(drive, state, residual, value):
        logistic(drive, state, residual, value)
        state[...] = 0.5 + OFF * (state - 0.5)

    logistic = compiled.logistic
    monkeypatch.setattr(compiled, "logistic", uphill)
    rises = 0
    for seed in range(10):
        p = problem(seed=seed, gain=3.0)
        try:
            check_energy(p.network, p.batch, p.target)
        except AssertionError as error:
            rises += "rises by" in str(error)
    assert rises
    with pytest.raises(AssertionError, match=r"sample 1 rises by .* in sweep 2"):
        assert_falls([np.array([3.0, 3.0]), np.array([2.0, 2.0]), np.array([2.0, 2.1])])


def test_what_is_said_of_an_error():
    """If this fails, a user is told that something is wrong, but not what, where or by how much."""
    with pytest.raises(AssertionError, match=r"it at \(1, 0\) is 2.002, and must be 2: off by 0.05% of the largest"):
        assert_agree("it", np.array([[1.0], [2.002], [4.0]]), np.array([[1.0], [2.0], [4.0]]), 1e-4)
    with pytest.raises(AssertionError, match="nan"):
        assert_agree("it", np.array([np.nan]), np.array([1.0]), 1e-4)
    assert relative_error(np.array([3.0, 4.0]), np.zeros(2)) == 5
    assert relative_error(np.array([3.0, 4.0]), np.array([3.0, 3.0])) == pytest.approx(1 / np.sqrt(18))
    assert cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0])) == 0
