"""What ranks tell each other after local steps: changes in half precision, and what several of them come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp.kernels.halves import add_changes, add_halves, halve
from eqnp.machine.exchange import together

DTYPES = st.sampled_from(("f4", "f8"))


@given(st.integers(0, 2**32 - 1), DTYPES, st.integers(-30, 30))
def test_halves_are_near_and_unbiased(seed, dtype, power):
    """If this fails, rows learn less after local steps than their ranks did, or something else."""
    rng = np.random.default_rng(seed)
    before, change = rng.standard_normal((2, 5, 300)).astype(dtype)
    values, out = before + np.ldexp(change, power), np.empty(before.shape, np.uint16)
    halve(values, before, out)
    table, rows, factors = np.zeros((7, 300), dtype), np.array([3, 1, 3, 0, 6]), np.full(7, 2, dtype)
    add_halves(out, rows, factors, table)
    exact, size = np.zeros((7, 300)), np.zeros((7, 300))
    np.add.at(exact, rows, 2.0 * (values - before))
    np.add.at(size, rows, 2.0 * np.abs(values - before))
    assert (np.abs(table - exact) <= 1.001 * size / 2**8).all()
    assert abs((table - exact).sum()) <= 0.05 * size.sum() / 2**8


@given(st.integers(0, 2**32 - 1), DTYPES)
def test_changes_go_where_a_row_is(seed, dtype):
    """If this fails, a rank forgets what it learned of a row, or gives it to another."""
    rng = np.random.default_rng(seed)
    values, before = rng.standard_normal((2, 3, 4)).astype(dtype)
    table = rng.standard_normal((5, 4)).astype(dtype)
    expected = table.copy()
    expected[[4, 2]] += (values - before)[[0, 2]]
    add_changes(values, before, np.array([4, 0, 2]), table)
    np.testing.assert_array_equal(table, expected)


def test_changes_of_several_ranks_come_to_what_they_would_have_made_together():
    """If this fails, rows of rare words learn at a fraction of the pace, or those of frequent ones overshoot."""
    rows = np.array([0, 1, 1, 1, 1, 2, 2, 2, 2, 4])
    moved = np.array([1, 8, 8, 8, 8, 1, 1, 1, 1, 0])
    factors = together(rows, moved, 8, 5)
    assert factors[[0, 1]].tolist() == [1, 0.25]  # of one rank as it is; of all, always, the mean
    assert factors[2] == pytest.approx(8 * (1 - (7 / 8) ** 4) / 4)  # seldom met in one step
    assert factors[[3, 4]].tolist() == [0, 0]
