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
