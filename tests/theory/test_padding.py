"""Fact 13: zero padding in closed form, and masks that make the amount of padding irrelevant."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp.dynamics import SettlingConfig, settle
from eqnp.learning import LearningConfig, estimate
from eqnp.machine import Machine
from eqnp.potentials import Hopfield
from eqnp.states import Clamped, Layer, Segment
from eqnp.testing import EXACT, problem, problems


def settled(p) -> dict[str, np.ndarray]:
    """The free states of the batch as it stands, padding and all."""
    x = p.network.clamp(p.batch)
    state = p.network.zero_state(x)
    settle(p.network, x, state, EXACT)
    return state.states


@pytest.mark.parametrize("kind", ["pooling", "compare"])
@given(data=st.data(), more=st.integers(1, 7))
def test_masked_states_do_not_depend_on_the_amount_of_padding(kind, data, more):
    """If this fails, a text's prediction depends on how far its batch is padded, or on what stands in the padding."""
    p = data.draw(problems(padding="masked", gains=(0.1, 0.5), kind=kind))
    before = settled(p)
    p.batch = {
        name: Segment(
            np.pad(
                np.where(np.arange(s.ids.shape[1]) < s.lengths[:, None], s.ids, 7),
                ((0, 0), (0, more)),
                constant_values=8,
            ),
            s.lengths,
        )
        for name, s in p.batch.items()
    }
    for name, state in settled(p).items():
        live = state[:, : before[name].shape[1]]
        np.testing.assert_allclose(live, before[name], rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["pooling", "compare"])
@given(data=st.data())
def test_a_batch_learns_what_its_texts_learn_alone(kind, data):
    """If this fails, a text's gradient depends on which other texts share its batch."""
    p = data.draw(problems(padding="masked", gains=(0.1, 0.5), kind=kind))
    together = estimate(p.network, p.batch, p.target, LearningConfig(), EXACT)
    table, size = p.network.parameters["embedding.weight"], len(p.target)
    alone = {name: np.zeros_like(value) for name, value in p.network.parameters.items()}
    for i in range(size):
        one = {name: s.take(slice(i, i + 1)) for name, s in p.batch.items()}
        part = estimate(p.network, one, p.target[i : i + 1], LearningConfig(), EXACT)
        for name, gradient in part.gradients.items():
            alone[name] += (gradient.dense(table) if name == "embedding.weight" else gradient) / size
    for name, gradient in together.gradients.items():
        dense = gradient.dense(table) if name == "embedding.weight" else gradient
        np.testing.assert_allclose(dense, alone[name], rtol=0, atol=1e-10)


@given(problems(padding="zeros", gains=(0.1, 0.5), kind="tokens"))
def test_zero_padding_is_a_full_text_of_zero_vectors(p):
    """If this fails, padded keys lose the weight exp(0) that they have in the paper's networks."""
    closed = settled(p)
    full = np.full_like(p.batch["text"].lengths, p.batch["text"].ids.shape[1])
    p.batch["text"] = p.batch["text"]._replace(lengths=full)  # id 0 beyond the text is the zero row
    for name, state in settled(p).items():
        np.testing.assert_allclose(state, closed[name], rtol=0, atol=1e-11)


def bound(padding: str, memory: np.ndarray, slots: int, positions: int) -> Hopfield:
    """An attention layer of three rows over one text of a memory (1, M, D)."""
    lengths, shape, kernels = np.array([slots]), (3, memory.shape[2]), Machine().kernels
    segments = {"text": Segment(np.zeros(memory.shape[:2], np.int32), lengths)}
    fixed = ({"text": positions}, {"layer": shape}, 1, memory.dtype, kernels)
    x = Clamped(segments, {"text": memory}, {"text": lengths}, *fixed)
    potential = Hopfield("text", 0.7, padding)
    return potential.bind(Layer("layer", shape, potential), x)


@given(st.integers(0, 100), st.integers(0, 4), st.integers(0, 5))
def test_phantom_patterns_are_zero_patterns(seed, slots, phantoms):
    """If this fails, the paper's zero padding is not what the closed form computes."""
    rng = np.random.default_rng(seed)
    drive, stored = rng.standard_normal((1, 3, 2)), rng.standard_normal((1, slots, 2))
    explicit = np.concatenate([stored, np.zeros((1, phantoms, 2))], axis=1)
    closed = bound("zeros", stored, slots, slots + phantoms)
    spelled = bound("masked", explicit, slots + phantoms, slots + phantoms)
    states = [np.full_like(drive, 9.0), np.full_like(drive, 9.0)]
    for potential, state in zip((closed, spelled), states, strict=True):
        potential.move(drive, state, np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(*states, rtol=0, atol=1e-12)
    np.testing.assert_allclose(closed.value(drive), spelled.value(drive), rtol=0, atol=1e-12)
    np.testing.assert_allclose(closed.weights(drive), spelled.weights(drive)[:, :, :slots], rtol=0, atol=1e-12)


def test_masked_query_rows_stay_silent():
    """If this fails, positions beyond a text's end feed noise into the dense layers."""
    p = problem(seed=1, kind="tokens", padding="masked")
    states = settled(p)
    for b, length in enumerate(p.batch["text"].lengths):
        assert (states["attention0"][b, length:] == 0).all()
        assert (states["attention0"][b, :length] != 0).any()


def test_unmasked_query_rows_receive_feedback():
    """If this fails, the paper's presets silently mask what the paper does not."""
    p = problem(seed=1, kind="tokens", padding="zeros")
    states = settled(p)
    for b, length in enumerate(p.batch["text"].lengths):
        if length < 5:
            assert np.abs(states["attention0"][b, length:]).min() > 0


def test_a_text_without_words_settles_on_biases_alone():
    """If this fails, an empty memory gives NaN or borrows another text's words."""
    p = problem(seed=1, kind="pooling")
    p.batch["text"].lengths[:] = 0
    states = settled(p)
    assert (states["attention0"] == 0).all()
    assert np.ptp(states["output"], axis=0).max() == 0


@pytest.mark.parametrize("activation", ["clipped", "logistic"])
def test_padding_leaves_no_trace_in_single_precision(activation):
    """If this fails, padded rows drown a bias's contrast in rounding: σ(0) = ½ on each of them, over 2β."""
    p = problem(seed=3, kind="compare", activation=activation, output_activation="softmax", positions=6, batch=4)
    network = p.network.astype(np.float32)
    learning, settling = LearningConfig(beta=0.1), SettlingConfig("even-odd", 1e-5, 500, 500)
    biases = []
    for more in (0, 2000):
        padded = {n: s._replace(ids=np.pad(s.ids, ((0, 0), (0, more)))) for n, s in p.batch.items()}
        gradients = estimate(network, padded, p.target.astype(np.float32), learning, settling).gradients
        biases.append(np.concatenate([gradients["tokens0.bias"], gradients["tokens1.bias"]]))
    np.testing.assert_allclose(biases[1], biases[0], rtol=0, atol=1e-3 * np.abs(biases[0]).max())
