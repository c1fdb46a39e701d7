"""Every fast kernel against its plain NumPy twin, in both float types."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp import kernels
from eqnp.dynamics import SettlingConfig
from eqnp.gradients import RowGradient
from eqnp.learning import LearningConfig, estimate
from tests.strategies import KINDS, problem

NAIVE, CPU = kernels.load("naive"), kernels.load("cpu")
DTYPES = st.sampled_from((np.float32, np.float64))
SEEDS = st.integers(0, 2**16)


def close(dtype) -> dict[str, float]:
    """Tolerance for results of order one."""
    return {"rtol": 2e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-11}


def both(name: str, arguments: list, results: list[int], dtype) -> None:
    """Call both twins on copies, and compare the arguments that they write to."""
    outcomes = []
    for twin in (NAIVE, CPU):
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        getattr(twin, name)(*copies)
        outcomes.append([copies[i] for i in results])
    for naive, fast in zip(*outcomes, strict=True):
        assert fast.dtype == naive.dtype
        np.testing.assert_allclose(fast, naive, **close(dtype))


def test_twins_have_the_same_names_and_arguments():
    """If this fails, the choice of device changes what can be called."""
    public = {n for n, f in vars(NAIVE).items() if callable(f) and not n.startswith("_")}
    for name in public:
        fast = getattr(CPU, name)
        arguments = list(inspect.signature(getattr(fast, "py_func", fast)).parameters)
        assert arguments == list(inspect.signature(getattr(NAIVE, name)).parameters), name


@given(st.sampled_from(("clipped", "logistic", "tanh", "softmax")), SEEDS, DTYPES)
def test_dense_states(name, seed, dtype):
    """If this fails, training on the fast kernels follows other dynamics than the definitions."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 4, (3, 5)).astype(dtype) for _ in range(2))
    both(name, [drive, state, np.zeros(3, dtype), np.zeros(3)], [1, 2, 3], dtype)


@given(st.sampled_from(("clipped", "logistic", "tanh", "softmax")), SEEDS, st.floats(-0.9, 0.9), DTYPES)
def test_nudged_outputs(name, seed, beta, dtype):
    """If this fails, the nudge differs from its definition."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 3, (3, 2)).astype(dtype) for _ in range(2))
    target = np.eye(2, dtype=dtype)[rng.integers(0, 2, 3)]
    both(f"{name}_nudged", [drive, state, beta, target, np.zeros(3, dtype), np.zeros(3)], [0, 1, 4, 5], dtype)


def attention_arguments(rng, dtype, rows=4, slots=6, width=3, phases=None):
    """Random drive, memory and counts, samples without slots and without rows among them."""
    shape = (3, rows, width) if phases is None else (phases, 3, rows, width)
    drive, memory = rng.standard_normal(shape).astype(dtype), rng.standard_normal((3, slots, width)).astype(dtype)
    counts = [rng.integers(0, slots + 1, 3), rng.integers(0, 3, 3), rng.integers(0, rows + 1, 3)]
    return [drive, memory, *counts, dtype(rng.uniform(0.1, 2))]


@given(SEEDS, DTYPES, st.sampled_from((1, 4, 70)))
def test_retrieval(seed, dtype, rows):
    """If this fails, attention retrieves something else than its definition; 70 rows take more than one block."""
    rng = np.random.default_rng(seed)
    arguments = attention_arguments(rng, dtype, rows)
    samples = rng.permutation(3)[: rng.integers(1, 4)]
    arguments[0] = arguments[0][samples]
    state, size = rng.standard_normal(arguments[0].shape).astype(dtype), len(samples)
    both("retrieve", [*arguments, samples, state, np.zeros(size, dtype), np.zeros(size)], [7, 8, 9], dtype)


@pytest.mark.parametrize(
    ("twin", "dtype"), [(NAIVE, "f4"), (CPU, "f4"), (NAIVE, "f8"), (CPU, "f8"), ("analytic", "c16")]
)
def test_attention_far_from_every_memory(twin, dtype):
    """If this fails, a drive that points away from all words of a masked text turns its attention into NaN."""
    twin = kernels.load(twin) if isinstance(twin, str) else twin
    drive, memory, attention = np.full((1, 1, 1), -2000, dtype), np.ones((1, 2, 1), dtype), np.zeros((1, 1, 2), dtype)
    counts = (np.array([2]), np.array([0]), np.array([1]))
    twin.attend(drive, memory, *counts, drive.dtype.type(1), attention)
    np.testing.assert_allclose(attention, 0.5, rtol=0, atol=1e-6)


@given(SEEDS, DTYPES)
def test_attention_weights(seed, dtype):
    """If this fails, the attention shown to a user is not the one the network used."""
    rng = np.random.default_rng(seed)
    both("attend", [*attention_arguments(rng, dtype), np.full((3, 4, 6), 7, dtype)], [6], dtype)


@given(SEEDS, DTYPES)
def test_memory_update(seed, dtype):
    """If this fails, embeddings learn something else than their definition."""
    rng = np.random.default_rng(seed)
    arguments = attention_arguments(rng, dtype, phases=2)
    both("memory_update", [*arguments, np.array([0.7, -0.7]), np.full((3, 6, 3), 7, dtype)], [7], dtype)


@given(SEEDS, DTYPES, st.integers(1, 4), st.integers(1, 4))
def test_local_update(seed, dtype, post, pre):
    """If this fails, the one learning rule of every synapse differs from its definition."""
    rng = np.random.default_rng(seed)
    ends = [rng.standard_normal((2, 5, n)).astype(dtype) for n in (post, pre)]
    both("local_update", [*ends, np.array([0.5, -0.5]), np.empty((post, pre), dtype)], [3], dtype)


@given(SEEDS, DTYPES)
def test_embedding_kernels(seed, dtype):
    """If this fails, words are given other words' vectors or gradients."""
    rng = np.random.default_rng(seed)
    table, ids = rng.standard_normal((6, 3)).astype(dtype), rng.integers(0, 6, (4, 5)).astype(np.int32)
    both("gather", [table, ids, np.empty((4, 5, 3), dtype)], [2], dtype)
    index = np.where(ids > 2, ids, -1)
    both("scatter_add", [rng.standard_normal((4, 5, 3)).astype(dtype), index, table], [2], dtype)


@given(SEEDS, DTYPES, st.integers(1, 500))
def test_adam(seed, dtype, step):
    """If this fails, the optimiser is not Adam."""
    rng = np.random.default_rng(seed)
    parameter, gradient, mean = (rng.standard_normal((7, 3)).astype(dtype) for _ in range(3))
    square, rest = rng.random((7, 3)).astype(dtype), (1e-3, 0.9, 0.999, 1e-8, step)
    both("adam", [a.ravel() for a in (parameter, gradient, mean, square)] + list(rest), [0, 2, 3], dtype)
    rows = np.array([5, 0, 2])
    both("adam_rows", [parameter, rows, gradient[:3], mean, square, *rest], [0, 3, 4], dtype)


@pytest.mark.parametrize("name", ["clipped", "logistic", "tanh", "softmax"])
@pytest.mark.parametrize("twin", [NAIVE, CPU])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled(twin, name):
    """If this fails, a diverged network looks settled, and NaN goes on into the weights."""
    for bad in range(3):
        drive, residual = np.ones((1, 3)), np.zeros(1)
        drive[0, bad] = np.nan
        getattr(twin, name)(drive, np.zeros((1, 3)), residual, np.zeros(1))
        assert np.isnan(residual[0])


@pytest.mark.parametrize("name", ["clipped_nudged", "logistic_nudged", "tanh_nudged", "softmax_nudged"])
@pytest.mark.parametrize("twin", [NAIVE, CPU])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled_output(twin, name):
    """If this fails, a NaN in the output block is hidden by the solver."""
    drive, residual = np.array([[1.0, np.nan]]), np.zeros(1)
    getattr(twin, name)(drive, np.zeros((1, 2)), 0.5, np.zeros((1, 2)), residual, np.zeros(1))
    assert np.isnan(residual[0])


@pytest.mark.parametrize("twin", [NAIVE, CPU])
@pytest.mark.parametrize("where", ["drive", "memory"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled_attention(twin, where):
    """If this fails, NaN in a word vector trains on unnoticed."""
    drive, memory, residual = np.ones((1, 2, 3)), np.ones((1, 4, 3)), np.zeros(1)
    (drive if where == "drive" else memory)[0, 1, 2] = np.nan
    counts = (np.array([4]), np.array([0]), np.array([2]))
    twin.retrieve(drive, memory, *counts, 1.0, np.arange(1), np.zeros((1, 2, 3)), residual, np.zeros(1))
    assert np.isnan(residual[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_batch_on_both_twins(kind):
    """If this fails, the twins agree one by one but not together."""
    results = []
    for device in ("naive", "cpu"):
        p = problem(seed=4, kind=kind, device=device)
        settling = SettlingConfig("even-odd", 1e-12, 500, 500)
        results.append(estimate(p.network, p.segments, p.target, LearningConfig(), settling).gradients)
    for name, naive in results[0].items():
        fast = results[1][name]
        if isinstance(naive, RowGradient):
            assert (naive.rows == fast.rows).all()
            naive, fast = naive.values, fast.values
        np.testing.assert_allclose(fast, naive, atol=1e-10)
