"""What is handed to a classifier from Python, as texts by segment and labels: lists, arrays, frames and data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eqnp.errors import ConfigError, DataError, some
from eqnp.sections import DataConfig
from eqnp.text.corpora import Corpus, Texts

SURROGATE = re.compile("[\ud800-\udfff]")


def _column_names(X) -> list[str] | None:
    """The names of the columns of a data frame or a `datasets.Dataset`; None for anything else."""
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if isinstance(names, Mapping):
        raise DataError(f"X has the splits {some(names)}; give one of them, as in X[{next(iter(names), 'train')!r}]")
    return None if names is None else list(names)


def labels_of(X, y, column: str) -> np.ndarray:
    """The labels (n,): y itself, or a column of X by name, with the class names that a data set gives to its numbers.

    Without y, or with the name of a column in its place, X must be a table. Raises DataError for labels that are
    missing, neither text nor whole numbers, or not all of one kind.
    """
    if y is not None and not isinstance(y, str):
        return _checked(y)
    column = column if y is None else y
    labels = _checked(_column_of(X, column))
    features = getattr(X, "features", None)
    classes = getattr(features[column], "names", None) if isinstance(features, Mapping) else None
    if not classes:
        return labels
    if labels.size and labels.min() < 0:
        row = int(np.argmax(labels < 0))
        raise DataError(f"sample {row} has the label {labels[row]}, which is none of a class; leave such samples out")
    return np.asarray(classes)[labels]


def weights_of(X, sample_weight, column: str, size: int) -> np.ndarray | None:
    """What each of ``size`` samples counts for: the weights themselves, or a column of the table X by its name.

    Without either, those of ``column``, if it is not empty and X is a table; else None. Raises DataError.
    """
    names = _column_names(X)
    if sample_weight is None and not (column and names):
        return None
    if sample_weight is None or isinstance(sample_weight, str):
        column = sample_weight or column
        if names is None or names.count(column) != 1:
            raise DataError(f"X has no column {column!r} of weights; give sample_weight, one number per text")
        sample_weight = X[column]
    try:
        weights = np.asarray(sample_weight, np.float64)
    except (TypeError, ValueError):
        weights = np.array(np.nan)
    if weights.shape != (size,) or not ((weights >= 0) & np.isfinite(weights)).all() or not weights.any():
        shape = f" of shape {weights.shape}" if weights.ndim else ""
        raise DataError(
            f"sample_weight{shape} does not fit {size} texts; it must hold a number of 0 or greater for each, not all 0"
        )
    return weights


def label_sets_of(X, y, column: str, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels of which a text may have several: 0 or 1 for each text and class (n, C) uint8, and the classes (C,).

    y is an array, sparse matrix or data frame of 0 and 1, whose classes are ``classes``, the names of its columns, or
    0 … C−1; or a list of lists, tuples or sets of labels; or as in `labels_of` a column of X. None for anything else.
    Raises DataError for labels that are none of the ``classes``.
    """
    if y is None or isinstance(y, str):
        y = _column_of(X, column if y is None else y)
    names = _column_names(y)
    y = y.toarray() if hasattr(y, "toarray") else y
    table = np.asarray(y) if getattr(y, "ndim", 1) == 2 else None
    if table is not None:
        if table.shape[1] < 2 or table.dtype.kind not in "buif" or not np.isin(table, (0, 1)).all():
            return None
        if classes is not None and len(classes) != table.shape[1]:
            raise DataError(f"y has {table.shape[1]} columns for {len(classes)} classes; give one column for each")
        known = np.arange(table.shape[1]) if names is None else np.array([str(name) for name in names])
        return table.astype(np.uint8), known if classes is None else np.asarray(classes)
    values = y.to_pylist() if hasattr(y, "to_pylist") else list(y)
    if not any(isinstance(value, list | tuple | set | frozenset | np.ndarray) for value in values):
        return None
    if odd := [row for row, value in enumerate(values) if isinstance(value, str) or not hasattr(value, "__len__")]:
        raise DataError(f"y holds {values[odd[0]]!r:.40} among lists of labels; give a list for every text")
    flat = _checked([label for value in values for label in value])
    known = np.unique(flat if classes is None else np.asarray(classes))
    rows = np.repeat(np.arange(len(values)), [len(value) for value in values])
    sets = np.zeros((len(values), len(known)), np.uint8)
    sets[rows, places_among(known, flat)] = 1
    return sets, known


def places_among(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The index of each label among sorted classes; raises DataError for one that is not there."""
    if len(labels) and classes.dtype.kind == "U" != labels.dtype.kind:  # of a loaded model, whose class names are text
        labels = (labels.astype(np.int64) if labels.dtype.kind == "f" else labels).astype(str)
    index = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    if len(labels) and (classes[index] != labels).any():
        strange = labels[classes[index] != labels][0].item()
        raise DataError(f"y holds {strange!r}, which is not among the classes {some(classes)}")
    return index.astype(np.int64)


def _column_of(X, column: str):
    """A column of labels in a table X by name; raises DataError."""
    names = _column_names(X)
    if names is None:
        raise DataError("y is missing; give one label per text, or a table with a column of labels as X")
    if names.count(column) != 1:
        raise DataError(
            f"X has {names.count(column) or 'no'} column {column!r}, but {some(map(repr, names))}; "
            "give y, or settings={'data.label': …}"
        )
    return X[column]


def _checked(y) -> np.ndarray:
    """Labels as an array of one kind."""
    if isinstance(y, np.ndarray) and y.dtype.kind != "O":
        labels = y
    else:
        values = y.to_pylist() if hasattr(y, "to_pylist") else list(y)
        kinds = [_kind(value) for value in values]
        if len({*kinds}) > 1 or "?" in kinds:
            place = kinds.index("?") if "?" in kinds else next(i for i, kind in enumerate(kinds) if kind != kinds[0])
            odd = values[place]
            if isinstance(odd, bytes | bytearray):
                raise DataError("y holds bytes; decode them (label.decode('utf-8'))")
            raise DataError(
                f"y holds missing, broken or mixed labels ({odd!r:.40}); give strings alone, or whole numbers alone"
            )
        labels = np.asarray(values)
    whole = labels.dtype.kind != "f" or (np.isfinite(labels) & (labels == np.round(labels))).all()
    if not whole or labels.dtype.kind not in "USiubf":
        raise DataError("y holds missing, broken or mixed labels; give strings alone, or whole numbers alone")
    return labels


def _kind(value) -> str:
    """The kind of a label: text, truth or number, "?" for what can be none."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "truth"
    return "number" if isinstance(value, int | float | np.number) and np.isfinite(value) else "?"


def _rows_of_columns(X, names: list, columns: Mapping[str, str], label: str) -> list[tuple]:
    """The rows of a table: of the columns that the segments have, or of all by their place.

    That needs as many columns as segments, none of which has the name of another one's, or of the labels.
    """
    missing = [segment for segment, column in columns.items() if names.count(column) != 1]
    if not missing:
        wanted = list(columns.values())
    elif len(names) == len({*names}) == len(columns) and {*names}.isdisjoint((label, *columns.values())):
        wanted = names
    else:
        count = names.count(columns[missing[0]]) or "no"
        raise DataError(
            f"X has {count} column {columns[missing[0]]!r}, but {some(map(repr, names))}; "
            f"give settings={{'data.columns.{missing[0]}': …}}"
        )
    return list(zip(*(list(X[name]) for name in wanted), strict=True))


def texts_of(X: Sequence, columns: Mapping[str, str], label: str) -> dict[str, Texts]:
    """Texts by segment, from strings, tuples of strings, or a table with a column of labels; raises DataError."""
    names, found = list(columns), _column_names(X)
    if isinstance(X, str | bytes | bytearray | Mapping) or not hasattr(X, "__len__"):
        raise DataError(f"X is {'one text' if isinstance(X, str) else type(X).__name__}; give a list of texts")
    if found:
        X = _rows_of_columns(X, found, columns, label)
    elif hasattr(X, "to_pylist"):
        X = X.to_pylist()
    elif hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if len(names) == 1 and set(map(type, X)) == {str} and not any(map(_is_odd, X)):  # which most are, and quickly seen
        return {names[0]: Texts(X)}
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
        if any(map(_is_odd, row)):
            raise DataError(
                f"sample {number} of X has a lone surrogate, which is no text; decode with errors='replace'"
            )
    return {name: Texts(row[i] for row in rows) for i, name in enumerate(names)}


def _is_odd(text: str) -> bool:
    """Whether a text is empty, or holds a lone surrogate."""
    return not text or text.isspace() or (not text.isascii() and SURROGATE.search(text) is not None)


def _no_text(value) -> str:
    """What stands in place of a text, and what to do about it; nothing for what needs more than that to be said."""
    if isinstance(value, bytes | bytearray):
        return "bytes; decode them (text.decode('utf-8'))"
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return f"{value}, a missing value; leave such samples out, or give them a text"
    if isinstance(value, int | float | complex | np.number | np.bool_):
        return f"the number {value}; give strings, or make it one (str(number))"
    return ""


def by_name(weights):
    """Weights of classes by their names, as a configuration has them."""
    return {str(name): plain(each) for name, each in weights.items()} if isinstance(weights, Mapping) else weights


def plain(value):
    """NumPy's numbers and arrays, which a grid search hands over, as Python's."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def generator(random_state) -> np.random.Generator:
    """The generator of a number, of another one, or of none; raises ConfigError."""
    if hasattr(random_state, "randint"):  # a legacy RandomState, which scikit-learn hands around
        random_state = random_state.randint(2**31)
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        allowed = "it must be a whole number of 0 or greater, a generator, or None"
        raise ConfigError(f"random_state is {random_state!r:.60}; {allowed}") from error


def corpus_of(X, y, data: DataConfig, classes=None) -> tuple[Corpus, np.ndarray]:
    """Texts X and labels y (or a column of X, as ``data`` says), and the classes (C,): given, or those of y, sorted.

    Raises DataError for labels that do not fit the texts, or are all the same.
    """
    texts, column = texts_of(X, data.columns, data.label), data.label
    size = len(next(iter(texts.values())))
    if found := label_sets_of(X, y, column, classes):
        sets, known = found
        if len(sets) != size or np.count_nonzero(sets.any(axis=0)) < 2 - (classes is not None):
            raise DataError(
                f"y holds {len(sets)} lists of labels for {size} texts; give one for each, of two classes or more"
            )
        return Corpus(texts, sets, tuple(str(name) for name in known)), known
    labels = labels_of(X, y, column)
    if labels.ndim != 1 or len(labels) != size:
        raise DataError(f"y has shape {labels.shape} for {size} texts; it must hold one label per text")
    known = np.unique(labels if classes is None else np.asarray(classes))
    if len(known) < 2:
        raise DataError("all labels are one and the same; at least two classes are needed")
    names = tuple(str(name) for name in known)
    return Corpus(texts, places_among(known, labels), names), known


def not_fitted(estimator) -> Exception:
    """scikit-learn's exception where scikit-learn is about, else one of the same meaning."""
    text = f"this {type(estimator).__name__} is not fitted yet; call fit first"
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return AttributeError(text)
    return NotFittedError(text)


def threads_of(n_jobs: int | None) -> int | None:
    """The threads of scikit-learn's ``n_jobs``: one without, for −1 None, one per core; raises ConfigError."""
    if n_jobs is None:
        return 1
    if n_jobs == -1:
        return None
    if not isinstance(n_jobs, int | np.integer) or n_jobs < 1:
        raise ConfigError(f"n_jobs is {n_jobs!r}; it must be a number of threads, −1 for all cores, or None")
    return int(n_jobs)
