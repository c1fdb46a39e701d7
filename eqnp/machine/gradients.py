"""Gradients as they are handed on: dense arrays, or the rows of a table that a batch touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class RowGradient:
    """A gradient that is zero but for some rows of a table: distinct ``rows`` (n,) and their ``values`` (n, D)."""

    rows: np.ndarray
    values: np.ndarray

    def dense(self, table: np.ndarray) -> np.ndarray:
        """The same gradient in the shape of the table."""
        full = np.zeros_like(table)
        full[self.rows] = self.values
        return full


def rows_added_up(kernels, shape: tuple[int, int], told: list, empty: Callable | None = None) -> RowGradient:
    """What the rows of a table (V, D) are told, added up by row; the zero row never learns.

    ``told`` has pairs of ids (B, M) and values (B, M, D). The memory of the sums is ``empty(shape, dtype)``.
    """
    occurs = np.zeros(shape[0], bool)  # (a table of the vocabulary takes less time than sorting the ids)
    for ids, _ in told:
        occurs[ids] = True
    occurs[0] = False
    rows = np.flatnonzero(occurs).astype(np.int32)
    place = np.empty(shape[0], int)  # looked up for padding and for what occurs, and set for no more
    place[0], place[rows] = -1, np.arange(len(rows))
    values = (empty or kernels.empty)((len(rows), shape[1]), told[0][1].dtype)
    kernels.fill(values, 0)
    for ids, update in told:
        kernels.scatter_add(update, place[ids], values)
    return RowGradient(rows, values)


def total(parts: list, kernels, empty: Callable = np.empty):
    """The sum of the shards' gradients in the order of the shards, whichever thread was first.

    The memory of the sum of rows is ``empty(shape, dtype)``.
    """
    if len(parts) == 1:
        return parts[0]
    if not isinstance(parts[0], RowGradient):
        return sum(parts[1:], start=parts[0])
    rows = np.unique(np.concatenate([part.rows for part in parts]))
    values = empty((len(rows), parts[0].values.shape[1]), parts[0].values.dtype)
    values[...] = 0
    for part in parts:
        kernels.scatter_add(part.values[None], np.searchsorted(rows, part.rows)[None], values)
    return RowGradient(rows, values)


def entries(gradient) -> np.ndarray:
    """The numbers of a gradient: all of them, or those of its rows."""
    return gradient.values if isinstance(gradient, RowGradient) else gradient


def with_entries(gradient, values: np.ndarray):
    """The same kind of gradient with other numbers."""
    return RowGradient(gradient.rows, values) if isinstance(gradient, RowGradient) else values


def real(gradient):
    """A gradient without the imaginary part that cancels over a circle of nudges."""
    return with_entries(gradient, entries(gradient).real) if entries(gradient).dtype.kind == "c" else gradient
