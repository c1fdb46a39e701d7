"""Fast kernels in single precision against their definitions in double, at sizes that take many blocks of a GPU."""

import numpy as np
import pytest

from eqnp import kernels
from eqnp.testing import relative_error
from tests.simulator import SIMULATED

ACTIVATIONS = ("clipped", "logistic", "tanh", "softmax")


def cases(seed: int) -> dict[str, tuple[list, list[int], set[int]]]:
    """By kernel (after a comma: which case of it): arguments, which are results, and which stay as they are."""
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.standard_normal(shape)

    counts = [np.array([200, 0, 77]), np.array([3, 5, 0]), np.array([130, 130, 41])]
    memory, signs = 0.3 * random(3, 200, 300), np.array([0.7, -0.7])
    many = [0.3 * random(3, 130, 300), memory, *counts, 0.16]
    few = [0.3 * random(3, 2, 300), memory, *counts[:2], np.array([2, 2, 1]), 0.16]
    phases = 0.3 * random(2, 3, 130, 300)
    ids = rng.integers(0, 1000, (40, 300)).astype(np.int32)
    target = np.eye(3)[rng.integers(0, 3, 500)]
    found = {
        "attend": ([*many, random(3, 130, 200)], [6], set()),
        "memory_update": ([phases, *many[1:], signs, random(3, 200, 300)], [7], {6}),
        "product": ([random(200, 3000), random(3000, 400), random(200, 400)], [2], set()),
        "product, of few columns": ([random(200, 3000), random(3000, 3), random(200, 3)], [2], set()),
        "local_update": ([random(2, 500, 300), random(2, 500, 700), signs, random(300, 700)], [3], {2}),
        "add_contrast": ([random(2, 40, 30, 80), random(80, 300), signs, random(40, 30, 300)], [3], {2}),
        "gather": ([random(1000, 300), ids, random(40, 300, 300)], [2], set()),
        "scatter_add": ([random(40, 300, 300), np.where(ids > 9, ids, -1), random(1000, 300)], [2], {1}),
        "adam": ([*random(3, 100_000), rng.random(100_000), 1e-3, 0.9, 0.999, 1e-8, 7], [0, 2, 3], set()),
        "momentum": ([*random(3, 100_000), 0.1, 0.9], [0, 2], set()),
        "mean_rows": ([random(40, 30), random(40, 30, 80), random(40, 80)], [2], set()),
        "times": ([random(40, 30, 80), random(40, 30, 80), random(40, 30, 80)], [2], set()),
        "add_times": ([random(40, 30, 80), random(40, 30, 80), 0.7, random(40, 30, 80)], [3], set()),
        "spread_rows": ([random(40, 30), random(40, 80), random(40, 30, 80)], [2], set()),
    }
    lengths = rng.integers(0, 31, 40)
    found["project"] = [random(40, 30, 300), lengths, random(80, 300), random(80), random(40, 33, 80)], [4], set()
    for name, attention in (("retrieve", many), ("retrieve, few queries", few)):
        state = random(*attention[0].shape)
        found[name] = [*attention, np.arange(3), state, np.zeros(3), np.zeros(3)], [7, 8, 9], {9}
    for name in ACTIVATIONS:
        change = [np.zeros(500), np.zeros(500)]
        found[name] = [random(500, 300), random(500, 300), *change], [1, 2, 3], {3}
        found[f"{name}_nudged"] = [random(500, 3), random(500, 3), 0.5, target, *change], [0, 1, 4, 5], {5}
    return found


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("case", cases(0))
def test_single_precision_at_full_size(device, case):
    """If this fails, a kernel that is right for one block is wrong for many, or loses digits over long sums."""
    if SIMULATED:
        pytest.skip("too large for a simulated GPU")
    arguments, results, stay = cases(1)[case]
    name, twin, naive = case.split(",")[0], kernels.load(device), kernels.load("naive")
    exact = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    getattr(naive, name)(*exact)
    single = [
        np.asarray(a, np.float32)[()] if np.asarray(a).dtype == np.float64 and i not in stay else a
        for i, a in enumerate(arguments)
    ]
    on_device = {i: twin.device(a.copy()) for i, a in enumerate(single) if isinstance(a, np.ndarray)}
    on_device |= {i: single[i] for i in stay - set(results)}  # on the host
    getattr(twin, name)(*(on_device.get(i, a) for i, a in enumerate(single)))
    for i in results:
        found, expected = twin.host(on_device[i]), exact[i]
        assert relative_error(found, expected) <= 1e-5
