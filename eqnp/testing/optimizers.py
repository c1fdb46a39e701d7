"""Is it an optimiser? See `eqnp.testing`."""

from __future__ import annotations

import json

import numpy as np

from eqnp.machine.gradients import RowGradient
from eqnp.network import EMBEDDING
from eqnp.optim import Optimizer, OptimizerConfig
from eqnp.testing.compare import assert_agree
from eqnp.testing.problems import problem


def check_optimizer(kind: type[Optimizer], *, learning_rate: float = 1e-3, seed: int = 0, steps: int = 200) -> None:
    """Raise AssertionError unless an optimiser is what `Optimizer` promises, on random gradients.

    It goes downhill; entries stand alone, so that threads may cut a parameter anywhere; rows of a table move as a table
    of these rows alone would, and others not at all; and what `Optimizer.state` gives is all that it knows.
    """
    config = OptimizerConfig(learning_rate=learning_rate, schedule="constant")
    rng, name = np.random.default_rng(seed), kind.__name__
    whole, cut, other = (problem(seed=seed).network for _ in range(3))
    first, second, third = kind(whole, config), kind(cut, config), kind(other, config)
    for taken in range(1, 6):
        gradients = {n: rng.standard_normal(p.shape) for n, p in whole.parameters.items()}
        first.step(whole, gradients)
        third.step(other, gradients)
        second.taken = taken
        for n, gradient in gradients.items():
            parameter, held = cut.parameters[n].reshape(-1), [slot[n].reshape(-1) for slot in second.held.values()]
            for i in range(gradient.size):
                part = slice(i, i + 1)
                second.move(parameter[part], gradient.reshape(-1)[part], [slot[part] for slot in held], learning_rate)
            assert_agree(f"{name}: {n}, moved entry by entry,", cut.parameters[n], whole.parameters[n], 1e-9)
        if taken == 3:  # stopped, and gone on from what was written
            arrays, about = third.state()
            about, third = json.loads(json.dumps(about)), kind(other, config)
            third.restore({key: array.copy() for key, array in arrays.items()}, about)
    for n, parameter in whole.parameters.items():
        assert_agree(f"{name}: {n} after `restore`", other.parameters[n], parameter, 1e-12)
    _check_rows(kind, config, seed)
    _check_descent(kind, config, seed, steps)


def _check_rows(kind: type[Optimizer], config: OptimizerConfig, seed: int) -> None:
    sparse, dense, rng = problem(seed=seed).network, problem(seed=seed).network, np.random.default_rng(seed + 1)
    by_rows, by_table, name = kind(sparse, config), kind(dense, config), kind.__name__
    rows = np.array([1, 4, 6])
    others = np.setdiff1d(np.arange(len(sparse.parameters[EMBEDDING])), rows)
    before = sparse.parameters[EMBEDDING][others].copy()
    for _ in range(3):
        gradient = RowGradient(rows, rng.standard_normal((3, sparse.parameters[EMBEDDING].shape[1])))
        by_rows.step(sparse, {EMBEDDING: gradient})
        by_table.step(dense, {EMBEDDING: gradient.dense(dense.parameters[EMBEDDING])})
    moved, expected = (network.parameters[EMBEDDING][rows] for network in (sparse, dense))
    assert_agree(f"{name}: rows of a table", moved, expected, 1e-9)
    for slot, held in by_rows.held.items():
        kept = by_table.held[slot][EMBEDDING][rows]
        assert_agree(f"{name}: what {slot!r} keeps of the rows of a table", held[EMBEDDING][rows], kept, 1e-9)
    assert_agree(f"{name}: rows that have no gradient", sparse.parameters[EMBEDDING][others], before, 0.0)


def _check_descent(kind: type[Optimizer], config: OptimizerConfig, seed: int, steps: int) -> None:
    """Half of the squared distance to a point, which every optimiser must lessen."""
    network, rng = problem(seed=seed).network, np.random.default_rng(seed + 2)
    optimizer = kind(network, config)
    goal = {n: p + rng.standard_normal(p.shape) for n, p in network.parameters.items()}

    def distance() -> float:
        return sum(float(((p - goal[n]) ** 2).sum()) for n, p in network.parameters.items())

    start = distance()
    for _ in range(steps):
        optimizer.step(network, {n: p - goal[n] for n, p in network.parameters.items()})
    end = distance()
    assert end < start, f"{kind.__name__}: {steps} steps in a bowl lead from {start:.4g} up to {end:.4g}"
