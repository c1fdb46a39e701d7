"""From outside: an activation, an attention, a synapse, a cost and an optimiser that the package does not know.

Each is plain NumPy of at most 40 lines, passes the checkers of `eqnp.testing`, trains on the embedded reviews to better
than the majority class, and predicts. A wrong variant of each is told from it.
"""

import inspect
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eqnp import (
    Attention,
    Bundle,
    Cost,
    Dense,
    Elementwise,
    Hopfield,
    Layer,
    Mean,
    Model,
    Momentum,
    Network,
    Optimizer,
    OptimizerConfig,
    Queries,
    Segment,
    SquaredError,
    Synapse,
    elementwise,
    evaluate,
    fit,
    load_config,
)
from eqnp.errors import ConfigError
from eqnp.optim import Adam
from eqnp.parameters import uniform
from eqnp.runs.training import prepare_anew
from eqnp.testing import (
    check_cost,
    check_energy,
    check_gradients,
    check_optimizer,
    check_potential,
    check_synapse,
)

SEEDS = st.integers(0, 2**16)
SCALE = 0.5


# --- what the package does not know ----------------------------------------------------------------------------------


def algebraic(gain: float = 1.0) -> Elementwise:
    """An activation: σ(u) = ½ (1 + u/√(1 + u²)); ``gain`` is what a tired author gets wrong."""
    return Elementwise(
        "algebraic",
        scalar=lambda u: (u + np.sqrt(1 + u * u)) / 2,
        activation=lambda u: gain * (1 + u / np.sqrt(1 + u * u)) / 2,
        slope=lambda u: (1 + u * u) ** -1.5 / 2,
        max_slope=0.5,
    )


class Sparsemax(Attention):
    """Attention with weights p = argmax_p ⟨p, κ u Xᵀ⟩ − ½‖p‖² on the simplex (Martins & Astudillo 2016)."""

    name = "sparsemax"

    def value(self, drive):
        """(1/κ) Σ_rows ⟨p, z⟩ − ½ ‖p‖²."""
        p, z = self.weights(drive), self._logits(drive)
        z = np.where(p > 0, z, 0)
        return ((p * z).sum(axis=(1, 2)) - (p * p).sum(axis=(1, 2)) / 2) / self.scale

    def state(self, drive):
        """p X."""
        return self.weights(drive) @ self.X

    def memory_gradient(self, drive):
        """pᵀ u."""
        return self.weights(drive).transpose(0, 2, 1) @ drive

    def weights(self, drive):
        """By the threshold that makes them sum to 1; none for rows and texts without words."""
        z = self._logits(drive)
        ordered = -np.sort(-z, axis=2)
        k = np.arange(1, z.shape[2] + 1)
        total = np.cumsum(np.where(np.isfinite(ordered), ordered, 0), axis=2)
        size = np.maximum((np.isfinite(ordered) & (1 + k * ordered > total)).sum(axis=2, keepdims=True), 1)
        threshold = (np.take_along_axis(total, size - 1, axis=2) - 1) / size
        live = (np.arange(z.shape[1]) < self.rows[:, None])[:, :, None]
        return np.where(live & np.isfinite(z), np.maximum(z - threshold, 0), 0).astype(z.dtype)

    def _logits(self, drive):
        inside = np.arange(self.X.shape[1]) < self.slots[:, None]
        return np.where(inside[:, None], self.X.dtype.type(self.scale) * drive @ self.X.transpose(0, 2, 1), -np.inf)


class WrongSparsemax(Sparsemax):
    """Values that are not the keys, by 0.1 %."""

    def state(self, drive):
        """1.001 p X."""
        return 1.001 * super().state(drive)


class Convolution(Synapse):
    """⟨s_post[n], Σ_|k|≤1 V_k x[n+k]⟩ from the tokens of a segment to a layer with a row for each of them."""

    def __init__(self, name, segment, width, post):
        super().__init__(name, post, segments=(segment,))
        self.segment, self.width = segment, width
        self.declare("weight", (post.shape[1], 3 * width), uniform)

    def _windows(self, x):
        """x[n−1], x[n], x[n+1] side by side, (B, M, 3 D); zero where n is no token."""
        tokens = np.pad(x.tokens[self.segment], ((0, 0), (1, 1), (0, 0)))
        windows = np.concatenate([tokens[:, :-2], tokens[:, 1:-1], tokens[:, 2:]], axis=2)
        return windows * (np.arange(windows.shape[1]) < x.lengths[self.segment][:, None])[:, :, None]

    def drive(self, at, parameters, x, states):
        """V times the windows; for the tokens, Vᵀ s_post put back where each window came from."""
        weight = parameters[f"{self.name}.weight"]
        if at == self.post.name:
            return self._windows(x) @ weight.T
        inside = np.arange(states[self.post.name].shape[1]) < x.lengths[self.segment][:, None]
        before, here, after = np.split((states[self.post.name] * inside[:, :, None]) @ weight, 3, axis=2)
        here[:, :-1] += before[:, 1:]
        here[:, 1:] += after[:, :-1]
        return here

    def ends(self, x, states):
        """Each row, and its window."""
        post, windows = states[self.post.name], self._windows(x)
        rows = post.reshape(len(post), -1, post.shape[3])
        yield Bundle(f"{self.name}.weight", slice(None), rows, windows.reshape(1, -1, windows.shape[2]))


class WrongConvolution(Convolution):
    """The words on the left count for 0.1 % more where they learn."""

    def drive(self, at, parameters, x, states):
        """As above, but not the same forward and back."""
        right = super().drive(at, parameters, x, states)
        return right if at == self.post.name else 1.001 * right


class YesOrNo(Cost):
    """One cross-entropy per class for logistic outputs: C = Σ softplus(a) − y a, so Λ_β = (1 − β) Λ(a) + β ⟨y, a⟩."""

    pull = 1.0

    def betas(self, potential):
        """Any β < 1."""
        if potential.name != "logistic":
            raise ConfigError(f"yes or no needs logistic outputs, not {potential.name!r}; use another cost")
        return -np.inf, 1.0

    def value(self, state, target):
        """−Σ y log s + (1 − y) log(1 − s)."""
        tiny = np.finfo(state.dtype).tiny
        yes, no = np.log(np.maximum(state, tiny)), np.log(np.maximum(1 - state, tiny))
        return -(target * yes + (1 - target) * no).sum(axis=1)

    def slope(self, state, target):
        """(s − y) / s (1 − s)."""
        return (state - target) / np.maximum(state * (1 - state), np.finfo(state.dtype).tiny)

    def nudged_state(self, potential, drive, nudge):
        """(1 − β) σ(a) + β y."""
        return (1 - nudge.beta) * potential.state(drive) + nudge.beta * self.pull * nudge.target

    def nudged_value(self, potential, drive, nudge):
        """Λ_β(a)."""
        return (1 - nudge.beta) * potential.value(drive) + nudge.beta * (nudge.target * drive).sum(axis=1)


class WrongYesOrNo(YesOrNo):
    """A pull that is 0.1 % too strong."""

    pull = 1.001


class Lion(Optimizer):
    """Steps of one size, with the sign of a running mean of gradients (Chen et al. 2023)."""

    slots = ("mean",)

    def move(self, parameter, gradient, held, rate):
        """θ ← θ − rate · sign(0.9 m + 0.1 g), m ← 0.99 m + 0.01 g."""
        (mean,) = held
        parameter -= parameter.dtype.type(rate) * np.sign(0.9 * mean + 0.1 * gradient)
        mean *= 0.99
        mean += 0.01 * gradient


# --- networks of them ------------------------------------------------------------------------------------------------


def pooled(width, positions, *, potential=None, hidden=None, readout=None, cost=None) -> tuple[list, list]:
    """Learned queries over a text, hidden units, two classes."""
    attention = Layer("attention", (4, width), potential or Hopfield("text", SCALE))
    units = Layer("hidden", (16,), hidden or elementwise("clipped"))
    output = Layer("output", (2,), readout or elementwise("clipped"), cost or SquaredError())
    synapses = [
        Queries("queries", attention),
        Dense("hidden", (attention,), units, initial_bias=1.0),
        Dense("output", (units,), output, initial_bias=0.0 if cost else 1.0),
    ]
    return [attention, units, output], synapses


def convolved(width, positions) -> tuple[list, list]:
    """Windows of three words, their mean, two classes; a query reads the words beside them."""
    windows = Layer("windows", (None, 16), elementwise("tanh"), segment="text")
    attention = Layer("attention", (2, width), Hopfield("text", SCALE))
    output = Layer("output", (2,), elementwise("logistic"), SquaredError())
    synapses = [
        Convolution("convolution", "text", width, windows),
        Queries("queries", attention),
        Mean("mean", (windows,), output),
        Dense("attended", (attention,), output),
    ]
    return [windows, attention, output], synapses


def small(parts, seed: int) -> tuple[Network, dict, np.ndarray]:
    """A network with a batch of three random texts, in float64."""
    rng, width = np.random.default_rng(seed), 4
    table = rng.standard_normal((9, width))
    table[0] = 0
    network = Network(*parts(width, 5), table, {"text": 5}, rng)
    lengths = rng.integers(1, 6, 3)
    ids = np.where(np.arange(5) < lengths[:, None], rng.integers(1, 9, (3, 5)), 0)
    return network, {"text": Segment(ids.astype(np.int32), lengths)}, np.eye(2)[rng.integers(0, 2, 3)]


@pytest.fixture(scope="module")
def reviews():
    """The embedded reviews, and the settings of their preset with a few epochs."""
    own = ["training.epochs=4", "training.word_dropout=0.0", "vectors.dimension=32", "learning.beta=0.4"]
    config = load_config("mini-sentiment", own)
    return prepare_anew(config), config


def trains_and_predicts(reviews, parts, optimizer=Adam, rate: float = 1e-2) -> float:
    """Test accuracy after a few epochs, with a prediction on the way."""
    prepared, config = reviews
    rng, splits = np.random.default_rng(0), prepared.splits
    network = Network(*parts(prepared.embedding.shape[1], 40), prepared.embedding.copy(), {"text": 40}, rng)
    moved = optimizer(network, OptimizerConfig(learning_rate=rate))
    progress = fit(network, moved, config, splits["train"], splits["validation"], rng)
    assert progress.best_epoch.settled[0] > 0.95
    model = Model(network, config, prepared.tokenizer, prepared.ngrams, prepared.classes, (0.5, 0.5))
    (prediction,) = model.predict({"text": ["a wonderful film, and a clever one"]})
    assert sum(prediction.scores.values()) == pytest.approx(1)
    for keep in (lambda: model.save(Path(".")), lambda: pickle.dumps(model)):
        with pytest.raises(ConfigError, match="layers or synapses of its own"):
            keep()
    return evaluate(network, splits["test"], config.settling).accuracy


BETTER = 0.6  # than the majority class, which half of the reviews have


@settings(max_examples=5, phases=[Phase.generate])  # a seed is as good as any smaller one
@given(SEEDS)
def test_an_activation(seed):
    """If this fails, a user's own activation is not settled or learned from as the package's are."""
    check_potential(algebraic(), SquaredError(), seed=seed)
    p = small(lambda *size: pooled(*size, hidden=algebraic(), readout=algebraic()), seed)
    check_gradients(*p)
    check_energy(*p)
    with pytest.raises(AssertionError, match="the state at"):
        check_potential(algebraic(1.001), seed=seed)


def test_an_activation_trains(reviews):
    """If this fails, a user's own activation is good for a checker alone."""
    assert trains_and_predicts(reviews, lambda *size: pooled(*size, hidden=algebraic())) > BETTER


@settings(max_examples=5, phases=[Phase.generate])  # a seed is as good as any smaller one
@given(SEEDS)
def test_an_attention(seed):
    """If this fails, a user's own attention is no potential here, or its memory learns something else."""
    check_potential(Sparsemax("text", SCALE), seed=seed)
    p = small(lambda *size: pooled(*size, potential=Sparsemax("text", SCALE), hidden=elementwise("tanh")), seed)
    check_energy(*p)
    with pytest.raises(AssertionError, match="the state at"):
        check_potential(WrongSparsemax("text", SCALE), seed=seed)


def test_the_gradient_through_an_attention():
    """If this fails, EP's gradient is wrong where attention is a user's own (a draw whose support does not change)."""
    for against in ("implicit", "finite differences"):
        check_gradients(*small(lambda *size: pooled(*size, potential=Sparsemax("text", SCALE)), 1), against=against)
    wrong = small(lambda *size: pooled(*size, potential=WrongSparsemax("text", SCALE)), 1)
    with pytest.raises(AssertionError, match="off by"):  # by 0.1 %, of the words
        check_gradients(*wrong, against="finite differences")


def test_an_attention_trains(reviews):
    """If this fails, a user's own attention is good for a checker alone."""
    assert trains_and_predicts(reviews, lambda *size: pooled(*size, potential=Sparsemax("text", SCALE))) > BETTER


@settings(max_examples=5, phases=[Phase.generate])  # a seed is as good as any smaller one
@given(SEEDS)
def test_a_synapse(seed):
    """If this fails, a user's own synapse feeds or learns something else than the derivatives of its φ."""
    network, batch, target = small(convolved, seed)
    check_synapse(network.synapses[0], network, batch, seed=seed)
    check_gradients(network, batch, target)
    check_gradients(network, batch, target, against="bptt")
    check_energy(network, batch, target)
    wrong = WrongConvolution("convolution", "text", 4, network.layers[0])
    other = Network(network.layers, [wrong, *network.synapses[1:]], network.parameters["embedding.weight"], {"text": 5})
    with pytest.raises(AssertionError, match="tokens of text"):
        check_synapse(wrong, other, batch, seed=seed)


def test_a_synapse_trains(reviews):
    """If this fails, a user's own synapse is good for a checker alone."""
    assert trains_and_predicts(reviews, convolved) > BETTER


@settings(max_examples=5, phases=[Phase.generate])  # a seed is as good as any smaller one
@given(SEEDS)
def test_a_cost(seed):
    """If this fails, a user's own cost nudges, or is learned from, as something else."""
    check_cost(YesOrNo(), elementwise("logistic"), seed=seed)
    p = small(lambda *size: pooled(*size, readout=elementwise("logistic"), cost=YesOrNo()), seed)
    check_energy(*p)
    with pytest.raises(AssertionError, match="the nudged state"):
        check_cost(WrongYesOrNo(), elementwise("logistic"), seed=seed)


def test_the_gradient_of_a_cost():
    """If this fails, EP's gradient is not that of a user's own cost; several classes of a text may be right at once."""
    parts = lambda *size: pooled(  # noqa: E731
        *size, hidden=elementwise("tanh"), readout=elementwise("logistic"), cost=YesOrNo()
    )
    network, batch, _ = small(parts, 3)
    for target in (np.eye(2)[[0, 1, 1]], np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])):
        check_gradients(network, batch, target, against="finite differences")


def test_a_cost_trains(reviews):
    """If this fails, a user's own cost is good for a checker alone."""
    assert (
        trains_and_predicts(reviews, lambda *size: pooled(*size, readout=elementwise("logistic"), cost=YesOrNo()))
        > BETTER
    )


def test_an_optimiser_trains_and_its_state_is_kept(reviews):
    """If this fails, a user's own optimiser needs a change of the package, or a checkpoint forgets what it knew."""
    assert trains_and_predicts(reviews, pooled, Lion, 2e-3) > BETTER
    network = small(pooled, 0)[0]
    first, second = (Lion(network, OptimizerConfig(learning_rate=0.1)) for _ in range(2))
    rng = np.random.default_rng(0)
    gradients = {name: rng.standard_normal(p.shape) for name, p in network.parameters.items()}
    first.step(network, gradients)
    second.restore(*first.state())
    assert second.taken == 1
    for name, mean in first.held["mean"].items():
        np.testing.assert_array_equal(second.held["mean"][name], mean)


class Uphill(Lion):
    """The other sign."""

    def move(self, parameter, gradient, held, rate):
        """Against the sign."""
        super().move(parameter, -gradient, held, rate)


class Crowded(Lion):
    """Entries that do not stand alone."""

    def move(self, parameter, gradient, held, rate):
        """As far as the largest gradient of a part."""
        super().move(parameter, gradient, held, rate * (1 + 1e-3 * np.abs(gradient).max()))


class Forgetful(Lion):
    """A mean that no checkpoint sees."""

    slots = ()

    def move(self, parameter, gradient, held, rate):
        """Counted by the optimiser itself."""
        self.seen = getattr(self, "seen", 0) + 1e-3
        parameter -= rate * (1 + self.seen) * np.sign(gradient)


class Rowless(Lion):
    """Rows whose mean is not kept."""

    def move_rows(self, table, rows, gradient, held, rate):
        """Without writing back."""
        super().move_rows(table, rows, gradient, [slot.copy() for slot in held], rate)


@settings(max_examples=3, phases=[Phase.generate])
@given(SEEDS)
def test_an_optimiser(seed):
    """If this fails, a user's own optimiser breaks what threads, rows or checkpoints do, or a wrong one passes."""
    for right in (Lion, Adam, Momentum):
        check_optimizer(right, seed=seed)
    for wrong, message in (
        (Uphill, "up to"),
        (Crowded, "entry by entry"),
        (Forgetful, "entry|restore"),
        (Rowless, "rows"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_optimizer(wrong, seed=seed)


@pytest.mark.parametrize("thing", [algebraic, Sparsemax, Convolution, YesOrNo, Lion])
def test_forty_lines_are_enough(thing):
    """If this fails, the protocols ask for more than the mathematics of a term."""
    assert len(inspect.getsource(thing).splitlines()) <= 40


def test_without_kernels_there_is_no_gpu(monkeypatch):
    """If this fails, a layer in plain NumPy is handed arrays that it cannot reach."""
    network, _, _ = small(lambda *size: pooled(*size, hidden=algebraic()), 0)
    monkeypatch.setattr(network.machine, "_waits", True)
    with pytest.raises(ConfigError, match="layer 'hidden' has no kernels"):
        network.check_kernels(network.machine)
    with pytest.raises(ConfigError, match="optimiser 'Lion' has no kernels"):
        Lion(network, OptimizerConfig())


def test_a_nudge_that_an_output_cannot_bear_is_refused():
    """If this fails, max_slope of a user's own output is not asked for."""
    p = small(lambda *size: pooled(*size, readout=replace(algebraic(), max_slope=2000.0)), 0)
    with pytest.raises(ConfigError, match="single minimum"):
        check_gradients(*p, beta=1e-3)
    assert SquaredError().betas(algebraic()) == (-2.0, np.inf)
