"""What is handed to a classifier from Python, as texts by segment and labels: lists, arrays, frames and data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eqnp.errors import DataError, some
from eqnp.text.corpora import Texts


def _column_names(X) -> list[str] | None:
    """The names of the columns of a data frame or a `datasets.Dataset`; None for anything else."""
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if isinstance(names, Mapping):
        raise DataError(f"X has the splits {some(names)}; give one of them, as in X[{next(iter(names), 'train')!r}]")
    return None if names is None else list(names)


def labels_of(X, y, column: str) -> np.ndarray:
    """The labels: y itself, or a column of X by name, with the class names that a data set gives to its numbers.

    Without y, or with the name of a column in its place, X must be a table. Raises DataError.
    """
    if y is not None and not isinstance(y, str):
        return np.asarray(y)
    names, column = _column_names(X), column if y is None else y
    if names is None:
        raise DataError("y is missing; give one label per text, or a table with a column of labels as X")
    if column not in names:
        raise DataError(
            f"X has no column {column!r}, but {some(map(repr, names))}; give y, or settings={{'data.label': …}}"
        )
    values = list(X[column])
    classes = getattr(getattr(X, "features", {}).get(column), "names", None) if hasattr(X, "features") else None
    return np.asarray([classes[value] for value in values] if classes else values)


def _rows_of_columns(X, names: list, columns: Mapping[str, str]):
    """The rows of a table: of the columns that the segments have, or of all where there are as many, by their place."""
    missing = [segment for segment, column in columns.items() if column not in names]
    if not missing:
        return list(zip(*(list(X[column]) for column in columns.values()), strict=True))
    if len(names) == len(columns):
        return list(zip(*(list(X[name]) for name in names), strict=True))
    raise DataError(
        f"X has no column {columns[missing[0]]!r}, but {some(map(repr, names))}; "
        f"give settings={{'data.columns.{missing[0]}': …}}"
    )


def texts_of(X: Sequence, columns: Mapping[str, str]) -> dict[str, Texts]:
    """Texts by segment, from strings, tuples of strings, or a table; raises DataError."""
    names, found = list(columns), _column_names(X)
    if isinstance(X, str | bytes | bytearray | Mapping) or not hasattr(X, "__len__"):
        raise DataError(f"X is {'one text' if isinstance(X, str) else type(X).__name__}; give a list of texts")
    if found:
        X = _rows_of_columns(X, found, columns)
    elif hasattr(X, "to_numpy"):
        X = X.to_numpy()
    whole = str | bytes | bytearray  # which are sequences too, and no sample of several texts
    rows = [
        tuple(row) if isinstance(row, Sequence | np.ndarray) and not isinstance(row, whole) else (row,) for row in X
    ]
    if not rows:
        raise DataError("X is empty; give at least one text")
    for number, row in enumerate(rows):
        if odd := next((_no_text(part) for part in row if not isinstance(part, str)), ""):
            raise DataError(f"sample {number} of X {'is' if len(row) == 1 else 'holds'} {odd}")
        if len(row) != len(names) or not all(isinstance(text, str) for text in row):
            raise DataError(
                f"sample {number} of X is {row!r:.80}; it must be "
                + ("a string" if len(names) == 1 else f"{len(names)} strings ({', '.join(names)})")
            )
        if not all(text.strip() for text in row):
            raise DataError(f"sample {number} of X has an empty text; give at least one word")
        if any("\ud800" <= character <= "\udfff" for text in row if not text.isascii() for character in text):
            raise DataError(
                f"sample {number} of X has a lone surrogate, which is no text; decode with errors='replace'"
            )
    return {name: Texts(row[i] for row in rows) for i, name in enumerate(names)}


def _no_text(value) -> str:
    """What stands in place of a text, and what to do about it; nothing for what needs more than that to be said."""
    if isinstance(value, bytes | bytearray):
        return "bytes; decode them (text.decode('utf-8'))"
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return f"{value}, a missing value; leave such samples out, or give them a text"
    if isinstance(value, int | float | complex | np.number | np.bool_):
        return f"the number {value}; give strings, or make it one (str(number))"
    return ""
