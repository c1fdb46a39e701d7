"""Every fast kernel against its plain NumPy twin, in both float types."""

import inspect
import sys
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp import kernels
from eqnp.dynamics import ORDERS, SettlingConfig
from eqnp.learning import LearningConfig, estimate
from eqnp.machine.gradients import RowGradient
from eqnp.potentials import elementwise
from eqnp.states import Segment
from eqnp.testing import KINDS, problem

NAIVE, CPU = kernels.load("naive"), kernels.load("cpu")
GPU = pytest.param("cuda", marks=pytest.mark.gpu)
FAST = pytest.mark.parametrize("device", ["cpu", GPU])
EVERY = pytest.mark.parametrize("device", ["naive", "cpu", GPU])
WAYS = ("cpu", None), *(pytest.param("cuda", way, marks=pytest.mark.gpu) for way in (False, True))
DTYPES = st.sampled_from((np.float32, np.float64))
SEEDS = st.integers(0, 2**16)


def close(dtype) -> dict[str, float]:
    """Tolerance for results of order one."""
    return {"rtol": 2e-5, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-11}


def both(device: str, name: str, arguments: list, results: list[int], dtype, stay: tuple[int, ...] = ()) -> None:
    """Call both twins on copies, and compare the arguments that they write to; some ``stay`` in the host's memory."""
    outcomes, fast = [], kernels.load(device)
    assert getattr(fast, name) is not getattr(NAIVE, name), f"{name} is one function: use `as_defined`"
    for twin in (NAIVE, fast):
        arrays = {i: a.copy() for i, a in enumerate(arguments) if isinstance(a, np.ndarray)}
        arrays = {i: a if i in stay else twin.device(a) for i, a in arrays.items()}
        getattr(twin, name)(*(arrays.get(i, argument) for i, argument in enumerate(arguments)))
        outcomes.append([twin.host(arrays[i]) for i in results])
    for naive, fast in zip(*outcomes, strict=True):
        assert fast.dtype == naive.dtype
        np.testing.assert_allclose(fast, naive, **close(dtype))


def as_defined(
    device: str, name: str, arguments: list, definition: Callable, dtype, stay: tuple[int, ...] = ()
) -> None:
    """Call a kernel that both twins on the host take from one file, and hold the last argument against a definition.

    The definition gets the arguments in float64, and gives what the last one must be.
    """
    twin, out = kernels.load(device), len(arguments) - 1
    arrays = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    there = [twin.device(a) if isinstance(a, np.ndarray) and i not in stay else a for i, a in enumerate(arrays)]
    getattr(twin, name)(*there)
    exact = [a.astype(float) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments]
    assert twin.host(there[out]).dtype == dtype
    np.testing.assert_allclose(twin.host(there[out]), definition(*exact), **close(dtype))


@FAST
def test_twins_have_the_same_names_and_arguments(device):
    """If this fails, the choice of device changes what can be called."""
    public = {n for n, f in vars(NAIVE).items() if callable(f) and not n.startswith("_")}
    for name in public:
        fast = getattr(kernels.load(device), name)
        arguments = list(inspect.signature(getattr(fast, "py_func", fast)).parameters)
        assert arguments == list(inspect.signature(getattr(NAIVE, name)).parameters), name


@FAST
@given(st.sampled_from(("clipped", "logistic", "tanh", "softmax")), SEEDS, DTYPES)
def test_dense_states(device, name, seed, dtype):
    """If this fails, training on the fast kernels follows other dynamics than the definitions."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 4, (3, 5)).astype(dtype) for _ in range(2))
    both(device, name, [drive, state, np.zeros(3, dtype), np.zeros(3)], [1, 2, 3], dtype)


@FAST
@given(st.sampled_from(("clipped", "logistic", "tanh", "softmax")), SEEDS, st.floats(-0.9, 0.9), DTYPES)
def test_nudged_outputs(device, name, seed, beta, dtype):
    """If this fails, the nudge differs from its definition."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 3, (3, 2)).astype(dtype) for _ in range(2))
    target = np.eye(2, dtype=dtype)[rng.integers(0, 2, 3)]
    both(device, f"{name}_nudged", [drive, state, beta, target, np.zeros(3, dtype), np.zeros(3)], [0, 1, 4, 5], dtype)


@FAST
@given(SEEDS, st.floats(-3, 0.99), DTYPES)
def test_nudged_outputs_of_several_labels(device, seed, beta, dtype):
    """If this fails, texts with several labels are nudged otherwise than their definition says."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 3, (3, 4)).astype(dtype) for _ in range(2))
    target = rng.integers(0, 2, (3, 4)).astype(dtype)
    arguments = [drive, state, beta, target, np.zeros(3, dtype), np.zeros(3)]
    both(device, "logistic_cross_entropy", arguments, [0, 1, 4, 5], dtype)


@FAST
@given(st.sampled_from(("clipped", "logistic", "tanh")), SEEDS, st.floats(-0.9, 0.9), st.floats(1, 9), DTYPES)
def test_nudged_outputs_with_far_targets(device, name, seed, beta, far, dtype):
    """If this fails, the nudge of a regression differs from its definition."""
    rng = np.random.default_rng(seed)
    drive, state = (rng.normal(0, 3, (3, 2)).astype(dtype) for _ in range(2))
    target = (far * np.sign(rng.standard_normal((3, 2)))).astype(dtype)
    both(device, f"{name}_nudged", [drive, state, beta, target, np.zeros(3, dtype), np.zeros(3)], [0, 1, 4, 5], dtype)


@EVERY
@pytest.mark.parametrize("beta", [-0.9, -0.3, 0.3, 2.0])
@pytest.mark.parametrize("name", ["clipped", "logistic", "tanh"])
def test_nudged_outputs_solve_their_equation(device, name, beta):
    """If this fails, the root of s = σ(a − β(s − y)) is cut off where a target is beyond what a unit can reach."""
    twin = kernels.load(device)
    drives, targets = (grid.reshape(1, -1) for grid in np.meshgrid([-4, -0.5, 0, 2.5], [-3.0, -1, 0, 0.5, 1, 3]))
    state, value = twin.device(np.zeros_like(targets)), twin.device(np.zeros(1))
    target = twin.device(targets)
    getattr(twin, f"{name}_nudged")(twin.device(drives), state, beta, target, twin.device(np.zeros(1)), value)
    found, potential = twin.host(state), elementwise(name)
    at = drives - beta * (found - targets)
    np.testing.assert_allclose(potential.state(at), found, rtol=0, atol=1e-12)
    expected = potential.value(at) + beta / 2 * (found**2 - targets**2).sum(axis=1)
    np.testing.assert_allclose(twin.host(value), expected, rtol=1e-12)


def attention_arguments(rng, dtype, rows=4, slots=6, width=3, phases=None):
    """Random drive, memory and counts, samples without slots and without rows among them."""
    shape = (3, rows, width) if phases is None else (phases, 3, rows, width)
    drive, memory = rng.standard_normal(shape).astype(dtype), rng.standard_normal((3, slots, width)).astype(dtype)
    counts = [rng.integers(0, slots + 1, 3), rng.integers(0, 3, 3), rng.integers(0, rows + 1, 3)]
    return [drive, memory, *counts, dtype(rng.uniform(0.1, 2))]


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 4e-7), (np.float64, 4e-16)])
def test_exponentials(dtype, error):
    """If this fails, attention weights are off, far ones are not 0, or NaN is lost in a vector register."""
    x = np.linspace(-87, 0, 100_001, dtype=dtype)
    x[1], x[50_000] = -np.inf, np.nan
    found, expected = x.copy(), np.exp(x.astype(float))
    CPU._exponentiate(found)
    assert np.isnan(found[50_000])
    assert 0 <= found[1] <= 2e-38
    found[[1, 50_000]] = expected[[1, 50_000]] = 1
    np.testing.assert_allclose(found, expected, rtol=error, atol=0)


@contextmanager
def retrieving(by_products: bool | None):
    """A GPU retrieves by products, or in one pass; None leaves it the choice."""
    with pytest.MonkeyPatch.context() as patch:
        if by_products is not None:
            patch.setattr("eqnp.kernels.cuda.attention.BY_PRODUCTS", by_products)
        yield


@pytest.mark.parametrize(("device", "by_products"), WAYS)
@given(SEEDS, DTYPES, st.sampled_from(((1, 6), (4, 6), (70, 6), (2, 300))))
def test_retrieval(device, by_products, seed, dtype, shape):
    """If this fails, attention retrieves something else than its definition; 70 rows, 300 slots take several blocks."""
    rng = np.random.default_rng(seed)
    arguments = attention_arguments(rng, dtype, *shape)
    some = np.sort(rng.permutation(3)[: rng.integers(1, 4)])
    samples = np.arange(3) if by_products else some  # which are for whole batches
    arguments[0] = arguments[0][samples]
    state, size = rng.standard_normal(arguments[0].shape).astype(dtype), len(samples)
    arguments += [samples, state, np.zeros(size, dtype), np.zeros(size)]
    with retrieving(by_products):
        both(device, "retrieve", arguments, [7, 8, 9], dtype)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        *((device, dtype) for device in ("naive", "cpu") for dtype in ("f4", "f8")),
        ("analytic", "c16"),
        pytest.param("cuda", "f4", marks=pytest.mark.gpu),
    ],
)
def test_attention_far_from_every_memory(device, dtype):
    """If this fails, a drive that points away from all words of a masked text turns its attention into NaN."""
    twin = kernels.load(device)
    drive, memory, attention = np.full((1, 1, 1), -2000, dtype), np.ones((1, 2, 1), dtype), np.zeros((1, 1, 2), dtype)
    arrays = (drive, memory, np.array([2]), np.array([0]), np.array([1]))
    out = twin.device(attention)
    twin.attend(*map(twin.device, arrays), drive.dtype.type(1), out)
    np.testing.assert_allclose(twin.host(out), 0.5, rtol=0, atol=1e-6)


@FAST
@given(SEEDS, DTYPES)
def test_attention_weights(device, seed, dtype):
    """If this fails, the attention shown to a user is not the one the network used."""
    rng = np.random.default_rng(seed)
    both(device, "attend", [*attention_arguments(rng, dtype), np.full((3, 4, 6), 7, dtype)], [6], dtype)


@FAST
@given(SEEDS, DTYPES)
def test_memory_update(device, seed, dtype):
    """If this fails, embeddings learn something else than their definition."""
    rng = np.random.default_rng(seed)
    arguments = attention_arguments(rng, dtype, phases=2)
    arguments += [np.array([0.7, -0.7]), np.full((3, 6, 3), 7, dtype)]
    both(device, "memory_update", arguments, [7], dtype, stay=(6,))


@FAST
@given(SEEDS, DTYPES, st.integers(1, 4), st.integers(1, 4))
def test_local_update(device, seed, dtype, post, pre):
    """If this fails, the one learning rule of every synapse differs from its definition."""
    rng = np.random.default_rng(seed)
    ends = [rng.standard_normal((2, 5, n)).astype(dtype) for n in (post, pre)]
    both(device, "local_update", [*ends, np.array([0.5, -0.5]), np.empty((post, pre), dtype)], [3], dtype, stay=(2,))


@FAST
@given(SEEDS, DTYPES)
def test_embedding_kernels(device, seed, dtype):
    """If this fails, words are given other words' vectors or gradients."""
    rng = np.random.default_rng(seed)
    table, ids = rng.standard_normal((6, 3)).astype(dtype), rng.integers(0, 6, (4, 5)).astype(np.int32)
    both(device, "gather", [table, ids, np.empty((4, 5, 3), dtype)], [2], dtype)
    index = np.where(ids > 2, ids, -1)
    both(device, "scatter_add", [rng.standard_normal((4, 5, 3)).astype(dtype), index, table], [2], dtype, stay=(1,))


@FAST
@given(SEEDS, DTYPES, st.integers(0, 4), st.integers(1, 4), st.sampled_from((0, 1, 5, sys.maxsize)))
def test_words_beside_words(device, seed, dtype, places, reach, words):
    """If this fails, windows read other neighbours than their definition, beyond a text, or those of n-grams."""
    rng = np.random.default_rng(seed)
    ids = (rng.integers(1, 8, (3, places)) * (np.arange(places) < rng.integers(0, places + 1, (3, 1)))).astype(np.int32)
    tokens = rng.standard_normal((3, places, 2)).astype(dtype)
    wide = rng.standard_normal((3, places, (2 * reach + 1) * 2)).astype(dtype)
    both(device, "neighbours", [tokens, ids, words, reach, wide], [4], dtype)
    both(device, "fold", [wide, ids, words, reach, tokens], [4], dtype)


@EVERY
@given(SEEDS, st.integers(1, 4), st.integers(1, 3))
def test_telling_is_hearing_turned_round(device, seed, places, reach):
    """If this fails, a word learns from places that do not read it."""
    rng, twin = np.random.default_rng(seed), kernels.load(device)
    ids = twin.device(rng.integers(0, 6, (2, places)).astype(np.int32))
    x, told = rng.standard_normal((2, places, 2)), rng.standard_normal((2, places, (2 * reach + 1) * 2))
    heard, back = twin.device(np.empty_like(told)), twin.device(np.zeros_like(x))
    twin.neighbours(twin.device(x), ids, 4, reach, heard)
    twin.fold(twin.device(told), ids, 4, reach, back)
    np.testing.assert_allclose((twin.host(heard) * told).sum(), (twin.host(back) * x).sum(), atol=1e-12)


@FAST
@given(SEEDS, DTYPES, st.integers(1, 500))
def test_adam(device, seed, dtype, step):
    """If this fails, the optimiser is not Adam."""
    rng = np.random.default_rng(seed)
    parameter, gradient, mean = (rng.standard_normal((7, 3)).astype(dtype) for _ in range(3))
    square, rest = rng.random((7, 3)).astype(dtype), (1e-3, 0.9, 0.999, 1e-8, step)
    both(device, "adam", [a.ravel() for a in (parameter, gradient, mean, square)] + list(rest), [0, 2, 3], dtype)
    rows = np.array([5, 0, 2])
    both(device, "adam_rows", [parameter, rows, gradient[:3], mean, square, *rest], [0, 3, 4], dtype, stay=(1,))


@FAST
@given(SEEDS, DTYPES)
def test_momentum(device, seed, dtype):
    """If this fails, the optimiser is not gradient descent with momentum."""
    rng = np.random.default_rng(seed)
    parameter, gradient, velocity = (rng.standard_normal((7, 3)).astype(dtype) for _ in range(3))
    both(device, "momentum", [*(a.ravel() for a in (parameter, gradient, velocity)), 0.1, 0.9], [0, 2], dtype)
    rows = np.array([5, 0, 2])
    both(device, "momentum_rows", [parameter, rows, gradient[:3], velocity, 0.1, 0.9], [0, 3], dtype, stay=(1,))


@pytest.mark.parametrize("name", ["clipped", "logistic", "tanh", "softmax"])
@EVERY
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled(device, name):
    """If this fails, a diverged network looks settled, and NaN goes on into the weights."""
    twin = kernels.load(device)
    for bad in range(3):
        drive = np.ones((1, 3))
        drive[0, bad] = np.nan
        residual = twin.device(np.zeros(1))
        getattr(twin, name)(twin.device(drive), twin.device(np.zeros((1, 3))), residual, twin.device(np.zeros(1)))
        assert np.isnan(twin.host(residual)[0])


@pytest.mark.parametrize(
    "name", ["clipped_nudged", "logistic_nudged", "tanh_nudged", "softmax_nudged", "logistic_cross_entropy"]
)
@EVERY
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled_output(device, name):
    """If this fails, a NaN in the output block is hidden by the solver."""
    twin = kernels.load(device)
    arrays = np.array([[1, np.nan]]), np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(1)
    drive, state, target, residual = map(twin.device, arrays)
    getattr(twin, name)(drive, state, 0.5, target, residual, twin.device(np.zeros(1)))
    assert np.isnan(twin.host(residual)[0])


@pytest.mark.parametrize(("device", "by_products"), [("naive", None), *WAYS])
@pytest.mark.parametrize(("where", "slots"), [("drive", 4), ("memory", 4), ("drive", 300), ("memory", 300)])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_never_taken_for_settled_attention(device, by_products, where, slots):
    """If this fails, NaN in a word vector trains on unnoticed."""
    twin, drive, memory = kernels.load(device), np.ones((1, 2, 3)), np.ones((1, slots, 3))
    (drive if where == "drive" else memory)[0, -1, 2] = np.nan
    residual, counts = twin.device(np.zeros(1)), map(twin.device, (np.array([slots]), np.array([0]), np.array([2])))
    rest = map(twin.device, (np.arange(1), np.zeros((1, 2, 3))))
    with retrieving(by_products):
        twin.retrieve(twin.device(drive), twin.device(memory), *counts, 1.0, *rest, residual, twin.device(np.zeros(1)))
    assert np.isnan(twin.host(residual)[0])


@EVERY
@given(SEEDS, DTYPES, st.integers(1, 9), st.integers(1, 40), st.integers(1, 9))
def test_products(device, seed, dtype, rows, depth, columns):
    """If this fails, a layer is driven by something else than its weights; a device cuts deep products."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, columns)).astype(dtype)
    out = rng.standard_normal((rows, columns)).astype(dtype)
    as_defined(device, "product", [a, b, out], lambda a, b, out: np.einsum("mk,kn->mn", a, b), dtype)
    twin, turned = kernels.load(device), np.ascontiguousarray(b.T)
    weights, pres, sums = [twin.device(turned)] * 2, [twin.device(a), twin.device(2 * a)], twin.device(out.copy())
    twin.add_products(weights, pres, [twin.device(np.empty((columns, rows), dtype)) for _ in range(2)], sums)
    np.testing.assert_allclose(twin.host(sums), out + 3 * a @ b, **close(dtype))


@EVERY
@given(SEEDS, DTYPES)
def test_whole_arrays(device, seed, dtype):
    """If this fails, tokens get into other rows, or the mean over them has other shares."""
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def project(x, lengths, weight, bias, out):
        """W x + b for every token, one by one; zero beyond them."""
        rows = np.zeros_like(out)
        for b, n in ((b, n) for b, length in enumerate(lengths) for n in range(length)):
            rows[b, n] = weight @ x[b, n] + (0 if bias is None else bias)
        return rows

    def add_contrast(post, weight, coefficients, out):
        """Phase by phase, and row by row."""
        for c, states in zip(coefficients, post, strict=True):
            for b, m in np.ndindex(out.shape[:2]):
                out[b, m] += c * states[b, m] @ weight
        return out

    for bias in (None, random(5)):
        arguments = [random(3, 4, 2), rng.integers(0, 5, 3), random(5, 2), bias, random(3, 6, 5)]
        as_defined(device, "project", arguments, project, dtype)
    arguments = [random(2, 3, 4, 2), random(2, 5), np.array([0.5, -0.3]), random(3, 4, 5)]
    as_defined(device, "add_contrast", arguments, add_contrast, dtype, stay=(2,))
    arguments = [random(3, 4, 2), random(3, 4, 2), random(3, 4, 2)]
    as_defined(device, "times", arguments, lambda a, b, out: np.einsum("brk,brk->brk", a, b), dtype)
    arguments = [random(3, 4, 2), random(3, 4, 2), 0.7, random(3, 4, 2)]
    as_defined(device, "add_times", arguments, lambda a, b, f, out: out + np.einsum("brk,brk->brk", f * a, b), dtype)
    arguments = [random(3, 4), random(3, 4, 2), random(3, 2)]
    as_defined(device, "mean_rows", arguments, lambda w, rows, out: np.einsum("br,brk->bk", w, rows), dtype)
    arguments = [random(3, 4), random(3, 2), random(3, 4, 2)]
    as_defined(device, "spread_rows", arguments, lambda w, back, out: np.einsum("br,bk->brk", w, back), dtype)
    arguments = [random(2, 6, 3), random(3), random(2, 6, 3)]
    as_defined(
        device,
        "weigh",
        arguments,
        lambda a, w, out: np.einsum("pbkn,b->pbkn", a.reshape(2, 3, 2, 3), w).reshape(a.shape),
        dtype,
    )
    for name, definition in (("add", lambda a, out: out + a), ("copy", lambda a, out: a + 0 * out)):
        as_defined(device, name, [random(2), random(4, 3, 2)], definition, dtype)
    twin, u, s, y = kernels.load(device), random(3, 2), random(3, 2), random(3, 2)
    for name, rest, expected in (
        ("pull", (twin.device(s), 0.3, twin.device(y)), u - 0.3 * (s - y)),
        ("scale", (0.3,), 0.3 * u),
        ("fill", (0.3,), np.full((3, 2), 0.3)),
    ):
        changed = twin.device(u.copy())
        getattr(twin, name)(changed, *rest)
        np.testing.assert_allclose(twin.host(changed), expected, **close(dtype))
    twin, array = kernels.load(device), random(4, 30)
    np.testing.assert_allclose(twin.squared_norm(twin.device(array)), (array.astype(float) ** 2).sum(), rtol=1e-6)
    for bad, finite in ((0, True), (np.nan, False), (np.inf, False)):
        array[2, 3] = bad
        assert twin.finite(twin.device(array)) == finite


@pytest.mark.gpu
@pytest.mark.parametrize("padding", ["zeros", "masked"])
def test_a_whole_batch_by_products(padding):
    """If this fails, a network that retrieves by products learns something else than by the definition."""
    results = []
    for device in ("naive", "cuda"):
        p = problem(seed=4, kind="two texts", padding=padding, device=device)
        texts = {name: Segment(s.ids[:, : s.lengths.max()], s.lengths) for name, s in p.batch.items()}
        settling = SettlingConfig("even-odd", 0.0, 3, 2, accelerate=False)
        with retrieving(by_products=True):
            results.append(estimate(p.network, texts, p.target, LearningConfig(), settling).gradients)
    for name in results[0]:
        dense, fast = (getattr(found[name], "values", found[name]) for found in results)
        np.testing.assert_allclose(kernels.load("cuda").host(fast), dense, atol=1e-10, err_msg=name)


@FAST
@pytest.mark.parametrize(
    ("order", "weight"), [*((order, None) for order in ORDERS), ("even-odd", np.array([2, 0.3, 1]))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_batch_on_both_twins(device, kind, order, weight):
    """If this fails, the twins agree one by one but not together."""
    results = []
    for which in ("naive", device):
        padding = "zeros" if kind in ("tokens", "two texts") else "masked"
        p = problem(seed=4, kind=kind, padding=padding, device=which)
        texts = {name: Segment(s.ids[:, : s.lengths.max()], s.lengths) for name, s in p.batch.items()}
        settling = SettlingConfig(order, 0.0, 4, 2, accelerate=False)
        results.append(estimate(p.network, texts, p.target, LearningConfig(), settling, weight=weight).gradients)
    for name, naive in results[0].items():
        fast = results[1][name]
        if isinstance(naive, RowGradient):
            assert (naive.rows == fast.rows).all()
            naive, fast = naive.values, fast.values
        np.testing.assert_allclose(kernels.load(device).host(fast), naive, atol=1e-10)
