"""Settling as training does it (float32, tolerance, acceleration, shards) against the paper's many plain steps."""

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp import acceleration
from eqnp.app.benchmark import make_problem
from eqnp.costs import Nudge
from eqnp.dynamics import SettlingConfig, Trace, settle
from eqnp.errors import SettlingError
from eqnp.learning import LearningConfig, estimate
from eqnp.machine import Machine
from eqnp.machine.gradients import entries
from eqnp.machine.threads import on_threads, over, workers
from eqnp.network import Network
from eqnp.runs.loop import one_hot
from eqnp.testing import KINDS, problem, problems

SMALLER = {  # the paper's kinds of network, small enough for hundreds of steps
    "imdb": ("data.max_tokens=40", "network.hidden=[80, 40]"),
    "snli": ("data.max_tokens=15", "network.hidden=[100]"),
    "recommended": ("data.max_tokens=60",),
}


def all_phases(network: Network, batch, target, beta: float, settling: SettlingConfig) -> list[dict]:
    """The end states of the free phase and of both nudged ones."""
    x = network.clamp(batch)
    free = network.zero_state(x)
    settle(network, x, free, settling)
    ends = [free.states]
    for strength in (beta, -beta):
        state = network.zero_state(x)
        state.assign(free)
        settle(network, x, state, settling, Nudge(strength, target))
        ends.append(state.states)
    return ends


def settled_free(network: Network, batch, settling: SettlingConfig):
    """The batch as clamped, its free state, and how it settled."""
    x = network.clamp(batch)
    state = network.zero_state(x)
    return x, state, settle(network, x, state, settling)


def sweeps_of(number: int, tolerance: float = 0.0, accelerate: bool = False, order: str = "even-odd") -> SettlingConfig:
    """At most so many sweeps in any phase."""
    return SettlingConfig(order, tolerance, number, number, accelerate)


@pytest.mark.parametrize(("dtype", "tolerance", "bound"), [(np.float32, 1e-5, 1e-4), (np.float64, 1e-12, 1e-10)])
@pytest.mark.parametrize("task", SMALLER)
def test_states_are_those_of_400_synchronous_steps(task, dtype, tolerance, bound):
    """If this fails, tolerance, block updates, skipped updates or acceleration change what is learned."""
    p = make_problem(task, batch=4, settings=SMALLER[task])
    network, beta = p.network.astype(dtype), p.config.learning.beta
    target = one_hot(p.labels, network)
    ours = all_phases(network, p.batch, target, beta, SettlingConfig("even-odd", tolerance, 60, 60))
    papers = all_phases(network, p.batch, target, beta, SettlingConfig("synchronous", 0.0, 400, 400))
    for states, expected in zip(ours, papers, strict=True):
        for name, state in states.items():
            np.testing.assert_allclose(state, expected[name], rtol=0, atol=bound)


@given(problems())
def test_acceleration_has_the_fixed_points_of_plain_sweeps(p):
    """If this fails, extrapolation calls something settled that a plain sweep would still move."""
    x, state, settled = settled_free(p.network, p.batch, sweeps_of(4000, 1e-11, accelerate=True))
    assert (settled.residual <= 1e-11).all()
    state.news = p.network.all_news()
    assert settle(p.network, x, state, sweeps_of(1)).residual.max() <= 1e-9


@pytest.mark.parametrize("accelerate", [False, True])
def test_a_layer_whose_neighbours_rest_has_settled(accelerate):
    """If this fails, a phase of texts whose attention rests sweeps on to its cap, and is called unsettled."""
    p = problem(seed=2575, kind="tokens", activation="clipped", hidden=(), scale=1.0, shortest=0)
    settled = settled_free(p.network, p.batch, sweeps_of(100, 1e-9, accelerate))[2]
    assert (settled.residual == 0).all()
    assert settled.sweeps.max() <= 3


@pytest.mark.parametrize(("task", "gain", "share"), [("snli", 3, 0.75), ("imdb", 2, 0.9)])
def test_acceleration_pays(task, gain, share):
    """If this fails, acceleration costs more sweeps than it saves on the networks that people train."""
    p = make_problem(task, batch=10, settings=SMALLER[task])
    for name, value in p.network.parameters.items():  # as after some training: attention feels the layer above
        if name.endswith(".weight") and not name.startswith(("queries", "embedding")):
            value *= gain
    sweeps = [
        settled_free(p.network, p.batch, sweeps_of(200, 1e-5, accelerate))[2].sweeps.mean()
        for accelerate in (False, True)
    ]
    assert sweeps[1] <= share * sweeps[0]


def test_energy_decides_over_an_extrapolation(monkeypatch):
    """If this fails, the guard that keeps F from rising under acceleration does nothing."""
    taken_back = []
    take_back = acceleration.Accelerated.take_back

    def watched(self):
        taken_back.append(take_back(self))
        return taken_back[-1]

    monkeypatch.setattr(acceleration.Accelerated, "take_back", watched)
    for seed in range(60):
        p = problem(seed=seed, gain=3.0, activation="tanh", kind=KINDS[seed % 4], hidden=(5, 4, 3)[: seed % 4])
        settled_free(p.network, p.batch, sweeps_of(40, accelerate=True))
    assert any(taken_back)


@pytest.mark.parametrize("accelerate", [False, True])
@given(p=problems(batch=9), beta=st.floats(0.1, 0.9))
def test_samples_left_behind_are_where_the_whole_batch_would_take_them(accelerate, p, beta):
    """If this fails, samples that settle early come back in each other's places, or too soon."""
    x, ends, tolerance = p.network.clamp(p.batch), [], 1e-9
    settling = sweeps_of(800, tolerance, accelerate)
    for trace in (None, Trace()):  # with a trace nobody leaves
        state = p.network.zero_state(x)
        free = settle(p.network, x, state, settling, trace=trace)
        nudged = settle(p.network, x, state, settling, Nudge(beta, p.target), trace)
        for settled in (free, nudged):
            assert (settled.residual <= tolerance).all() or settled.sweeps.max() == 800
        ends.append((state, np.maximum(free.sweeps, nudged.sweeps)))
    (early, sweeps), (late, _) = ends
    for part in ("states", "drives", "values", "incoming"):
        for name, value in getattr(early, part).items():
            quick = (sweeps < 200) & (ends[1][1] < 200)  # where convergence is slow a small residual says little
            expected = getattr(late, part)[name][quick]
            np.testing.assert_allclose(value[quick], expected, rtol=0, atol=1e-5)


def test_samples_are_left_behind():
    """If this fails, a batch sweeps on until its slowest sample has settled."""
    p = problem(seed=5, batch=40, gain=2.0, kind="both")
    settled = settled_free(p.network, p.batch, sweeps_of(200, 1e-8))[2]
    assert settled.sweeps.min() < settled.sweeps.max()
    assert (settled.residual <= 1e-8).all()


@given(st.sampled_from(KINDS), st.integers(0, 2**16))
def test_a_workspace_leaves_no_trace(kind, seed):
    """If this fails, a batch sees remains of the one before it in the memory that both used."""
    p, other = problem(seed=seed, kind=kind), problem(seed=seed + 1, kind=kind, batch=7, positions=5)
    learning, settling = LearningConfig(), SettlingConfig(tolerance=1e-6)
    fresh = estimate(p.network.on(Machine(shard=2)), p.batch, p.target, learning, settling)
    with Machine().at_work(1) as machine:
        estimate(p.network.on(machine.of_shards(3)), other.batch, other.target, learning, settling)
        again = estimate(p.network.on(machine.of_shards(2)), p.batch, p.target, learning, settling)
    assert fresh.loss == again.loss
    for name, gradient in fresh.gradients.items():
        np.testing.assert_array_equal(*(entries(g) for g in (gradient, again.gradients[name])))


@pytest.mark.parametrize(("task", "shard"), [("snli", 5), ("snli", 24), ("recommended", 5), ("recommended", 24)])
def test_weights_do_not_depend_on_threads(task, shard, monkeypatch):
    """If this fails, a run cannot be repeated on another machine: 20 batches, bit for bit; a shard of 24 is all."""
    monkeypatch.setattr("eqnp.machine.SHARED", 0)  # as if that were much work
    results = []
    settings = ("data.max_tokens=12", "network.hidden=[24]", f"training.shard={shard}")
    for threads in (1, 2, 4):
        with Machine().at_work(threads) as machine:
            p = make_problem(task, batch=24, settings=settings, machine=machine)
            for _ in range(20):
                p.step()
        results.append(p.network.parameters)
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(value, other[name])


def test_work_is_shared_but_not_by_those_who_share_it():
    """If this fails, a batch of one shard is settled by one thread, or two threads wait for each other for ever."""
    barrier = threading.Barrier(2, timeout=20)  # which one thread alone would not pass

    def who(_) -> int:
        return threading.get_ident()

    def who_after_both_are_there(_) -> int:
        barrier.wait()
        return threading.get_ident()

    home = threading.get_ident()
    with workers(2) as executor:
        map_over = over(executor)
        assert home not in set(map_over(who_after_both_are_there, range(2)))
        assert list(map_over(who, range(1))) == [home]
        for own, others in map_over(lambda _: (who(_), list(map_over(who, range(3)))), range(4)):
            assert own != home
            assert others == [own] * 3
    assert list(over(None)(who, range(2))) == [home, home]


def test_blas_has_its_threads_back_when_the_last_has_left():
    """If this fails, two predictions that overlap leave a user's own NumPy at one thread for ever."""
    from threadpoolctl import threadpool_info

    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    before, first, second = threads(), workers(1), workers(1)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(threads()) == {1}
    second.__exit__(None, None, None)
    assert threads() == before


def test_work_is_shared_by_the_threads_that_are_there():
    """If this fails, one of two predictions that overlap is handed to threads that are gone, or their results mixed."""

    def squares() -> list[int]:
        return list(on_threads(lambda i: i * i, iter(range(40))))

    first, second = workers(2), workers(2)
    for begun in (first, second):
        begun.__enter__()
        assert squares() == [i * i for i in range(40)]
    for ended in (first, second):
        ended.__exit__(None, None, None)
        assert squares() == [i * i for i in range(40)]
    with workers(2):
        assert threading.get_ident() not in set(on_threads(lambda _: threading.get_ident(), range(2)))


def test_a_sweep_allocates_nothing_that_grows_with_the_states():
    """If this fails, sweeps spend their time on fresh memory; the odd block, 1/75 of the states here, has copies."""
    p = make_problem("snli", batch=20)
    target = one_hot(p.labels, p.network)
    x, state, _ = settled_free(p.network, p.batch, SettlingConfig(tolerance=1e-6))
    states = sum(s.nbytes for s in state.states.values())
    tracemalloc.start()
    settle(p.network, x, state, sweeps_of(6, accelerate=True), Nudge(0.5, target))  # too few for any to leave
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 0.1 * states


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("parameter", ["embedding.weight", "hidden0.weight", "output.bias"])
def test_nan_does_not_settle(parameter, accelerate):
    """If this fails, a network that has lost its numbers looks settled, after half a sweep at that."""
    p = problem(kind="both")
    p.network.parameters[parameter][...] = np.nan
    with pytest.raises(SettlingError, match="not a finite number"):
        settled_free(p.network, p.batch, sweeps_of(20, 1e-6, accelerate))
