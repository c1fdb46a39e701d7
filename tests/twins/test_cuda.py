"""What the kernels for a GPU stand on: arrays with views, memory that is used again, and cuBLAS."""

import ctypes
import gc
import itertools
import weakref

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numba import cuda, float64

from eqnp import kernels
from eqnp.dynamics import SettlingConfig
from eqnp.learning import LearningConfig, estimate
from eqnp.optim import OPTIMIZERS, OptimizerConfig, make_optimizer
from eqnp.states import Segment
from eqnp.testing import problem
from tests.simulator import SIMULATED, RaceError

pytestmark = pytest.mark.gpu
SEEDS = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def twin():
    return kernels.load("cuda")


@given(SEEDS)
def test_views_are_those_of_numpy(twin, seed):
    """If this fails, a layer reads or writes the memory of another."""
    rng = np.random.default_rng(seed)
    on_host = rng.standard_normal(rng.integers(1, 5, 3))
    on_device, views = twin.device(on_host), [(on_host, twin.device(on_host))]
    for _ in range(4):
        expected, found = views[-1]
        along = [np.sort(rng.integers(-1, n + 2, 2)) for n in expected.shape]
        key = tuple(slice(*map(int, cut)) if rng.random() < 0.7 else int(rng.integers(-n, n))
                    for cut, n in zip(along, expected.shape, strict=True) if n)  # fmt: skip
        views.append((expected[key], found[key]))
        if found.contiguous:
            views.append((expected.reshape(-1, 1), found.reshape((-1, 1))))
    for expected, found in views:
        assert found.shape == expected.shape
        assert (found.size, found.ndim, found.dtype) == (expected.size, expected.ndim, expected.dtype)
        if found.contiguous:
            np.testing.assert_array_equal(twin.host(found), expected)
        elif expected.ndim:
            assert found.strides == expected.strides
    assert twin.host(on_device).tobytes() == on_host.tobytes()


def test_what_cannot_be_a_view_is_refused(twin):
    """If this fails, a view of other entries than were asked for goes unnoticed."""
    array = twin.device(np.zeros((4, 6)))
    for wrong in (lambda: array[4], lambda: array[:, -7], lambda: array[::2], lambda: array[0, 0, 0]):
        with pytest.raises(IndexError):
            wrong()
    for wrong in (lambda: array.reshape(5, 5), lambda: array[:, 1:3].reshape(-1), lambda: twin.host(array[:, 1:3])):
        with pytest.raises(ValueError, match="cannot be"):
            wrong()


def test_memory_is_used_again_only_when_nothing_needs_it(twin):
    """If this fails, an array is overwritten through another one, or every batch takes new memory from the driver."""
    first = twin.device(np.arange(1000.0))
    view, address = first[10:20], first.address
    del first
    second = twin.device(np.zeros(1000))
    assert second.address != address
    np.testing.assert_array_equal(twin.host(view), np.arange(10.0, 20))
    del view
    assert twin.empty(990, np.float64).address == address


def test_memory_of_a_cycle_is_not_freed(twin, monkeypatch):
    """If this fails, what a garbage collector finds in a cycle is handed out again after the driver has freed it.

    It frees (by numba's weak references) before it calls finalizers.
    """
    from eqnp.kernels.cuda.array import driver

    class Piece(np.ndarray):
        """That can be referred to weakly, as numba's arrays can."""

    allocate, freed = driver.allocate, []

    def watched(size):
        piece, address = allocate(size)
        kept = np.zeros(1).view(Piece)
        kept.whole = piece
        weakref.finalize(kept, freed.append, address)
        return kept, address

    monkeypatch.setattr(driver, "allocate", watched)
    cycle = [twin.empty(123_456, np.float64)]
    address = cycle[0].address
    cycle.append(cycle)
    del cycle
    gc.collect()
    again = twin.empty(123_456, np.float64)
    assert again.address == address
    assert not freed


def test_empty_arrays(twin):
    """If this fails, a batch without known words ends a run on a GPU."""
    p = problem(kind="tokens", device="cuda")
    assert twin.host(twin.empty((0, 3), np.float32)).shape == (0, 3)
    assert twin.host(twin.device(np.ones((), bool))).item()
    unknown = {name: Segment(np.zeros_like(s.ids), np.zeros_like(s.lengths)) for name, s in p.batch.items()}
    result = estimate(p.network, unknown, p.target, LearningConfig(), SettlingConfig("even-odd", 0.0, 1, 1))
    assert result.gradients["embedding.weight"].values.shape[0] == 0
    for name in OPTIMIZERS:
        make_optimizer(p.network, OptimizerConfig(name)).step(p.network, result.gradients)


@pytest.mark.skipif(not SIMULATED, reason="on a GPU nobody watches; compute-sanitizer --tool racecheck does")
@pytest.mark.parametrize("fault", ["", "no barrier", "two writers", "other block", "unwritten", "some wait"])
def test_the_simulator_sees_races(twin, fault):
    """If this fails, a barrier missing in a kernel goes unnoticed until a real GPU runs it."""

    @cuda.jit
    def turn(source, out):
        """Each block of four turns its part of the source around."""
        shared = cuda.shared.array(4, float64)
        t, first = cuda.threadIdx.x, cuda.blockIdx.x * 4
        if fault != "unwritten" or t > 0:
            shared[0 if fault == "two writers" else t] = source[first + t]
        if fault == "some wait":
            if t < 3:
                cuda.syncthreads()
        elif fault != "no barrier":
            cuda.syncthreads()
        out[t if fault == "other block" else first + t] = shared[3 - t]

    from eqnp.kernels.cuda.blocks import launch

    source, out = twin.device(np.arange(8.0)), twin.zeros(8, np.float64)
    if fault:
        with pytest.raises(RaceError):
            launch(turn, 2, 4, source, out)
    else:
        launch(turn, 2, 4, source, out)
        np.testing.assert_array_equal(twin.host(out), [3, 2, 1, 0, 7, 6, 5, 4])


class Blas:
    """cuBLAS in NumPy: matrices by columns, at addresses in the host's memory."""

    def __init__(self, dtype, count=1):
        self.dtype, self.count = np.dtype(dtype), count

    def setStream(self, handle, stream):
        assert stream == 0

    def __getattr__(self, name):
        assert name == ("s" if self.dtype == np.float32 else "d") + "gemm" + "StridedBatched" * (self.count > 1)
        return self.one if self.count == 1 else self.several

    def one(self, handle, turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        a = self.matrix(a, *((k, m) if turn_a else (m, k)), lda)
        b = self.matrix(b, *((n, k) if turn_b else (k, n)), ldb)
        c = self.matrix(c, m, n, ldc)
        alpha, beta = (self.matrix(number, 1, 1, 1)[0, 0] for number in (alpha, beta))
        made = alpha * (a.T if turn_a else a) @ (b.T if turn_b else b)
        c[...] = made if beta == 0 else made + beta * c

    def several(self, *arguments):
        *first, a, lda, next_a, b, ldb, next_b, beta, c, ldc, next_c, count = arguments
        assert count == self.count
        for i in range(count):
            at_a, at_b, at_c = (at + i * step * self.dtype.itemsize for at, step in zip(
                (a, b, c), (next_a, next_b, next_c), strict=True))  # fmt: skip
            self.one(*first, at_a, lda, at_b, ldb, beta, at_c, ldc)

    def matrix(self, address, rows, columns, leading):
        assert leading >= rows
        item = self.dtype.itemsize
        memory = (ctypes.c_char * (item * (leading * (columns - 1) + rows))).from_address(address)
        return np.ndarray((rows, columns), self.dtype, memory, strides=(item, item * leading))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("by", ["numba", "cupy"])
@pytest.mark.parametrize("count", [1, 3])
@example(seed=0, sizes=(13, 2, 14))  # large enough for more entries to a thread
@given(SEEDS, st.tuples(*[st.integers(1, 6)] * 3))
def test_products_of_views(twin, by, count, dtype, seed, sizes):
    """If this fails, a product reads the wrong rows or columns, by our own kernels or by what cuBLAS is asked for."""
    from eqnp.kernels.cuda import products

    if by == "cupy" and not SIMULATED:
        pytest.skip("this cuBLAS is one in the host's memory; test_twins.py has the other")
    rng, (rows, depth, columns) = np.random.default_rng(seed), sizes

    def gapped(m, n, turned=False):
        """``count`` matrices one below the other, in the middle of wider ones; on the host and on the device."""
        wide = rng.standard_normal((count * n, m + 2) if turned else (count * m, n + 2)).astype(dtype)
        matrices = wide[:, 1:-1].reshape(count, -1, wide.shape[1] - 2)
        on_device = twin.device(wide)
        return (matrices.swapaxes(1, 2) if turned else matrices), on_device[:, 1:-1], on_device

    for turn_a, turn_b, accumulate in itertools.product((False, True), repeat=3):
        a, on_a, _ = gapped(rows, depth, turn_a)
        b, on_b, _ = gapped(depth, columns, turn_b)
        out, on_out, whole = gapped(rows, columns)
        edges = twin.host(whole)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(products, "cublas", Blas(dtype, count) if by == "cupy" else None)
            patch.setattr(products, "get_cublas_handle", lambda: 0, raising=False)
            turns = {"turn_a": turn_a, "turn_b": turn_b}
            products.multiply(on_a, on_b, on_out, **turns, accumulate=accumulate, factor=0.5, count=count)
        found = twin.host(whole)
        expected = 0.5 * a @ b + (out if accumulate else 0)
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-12}
        np.testing.assert_allclose(found[:, 1:-1].reshape(expected.shape), expected, **tolerance)
        assert (found[:, [0, -1]] == edges[:, [0, -1]]).all()
