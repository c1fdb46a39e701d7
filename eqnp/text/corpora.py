"""Corpora: labelled texts from the embedded data, a local Parquet, CSV or JSONL file, or the `datasets` hub."""

from __future__ import annotations

import glob
import re
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern

import numpy as np

from eqnp.errors import DataError, nearest

EMBEDDED = ("mini-sentiment", "mini-nli")
READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json"}
TEXT_TYPES = ("string", "large_string", "int", "uint", "float", "double", "bool", "null")  # numbers are read as text
CHUNK = 1000  # texts read at a time
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class Column(Sequence):
    """The texts of one column, read from the disk as they are asked for: a corpus may be larger than memory."""

    def __init__(self, table):
        self._table = table  # of one column

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index):
        """A text, or a list of them for a slice."""
        (values,) = self._table[index].values()
        return [_text(value) for value in values] if isinstance(index, slice) else _text(values)

    def __iter__(self) -> Iterator[str]:
        return map(_text, _values(self._table))

    def take(self, rows: np.ndarray) -> Column:
        """The texts at ``rows``, in that order."""
        return Column(self._table.select(rows, keep_in_memory=True))


class Texts(list):
    """Texts that are in memory already."""

    def take(self, rows: np.ndarray) -> Texts:
        """The texts at ``rows``, in that order."""
        return Texts(self[row] for row in rows)


@dataclass
class Corpus:
    """Labelled texts: ``texts[segment]`` are columns of equal length, ``labels`` (n,) int index ``classes``.

    ``unlabelled`` counts the rows that were left out because their label says that they have none.
    """

    texts: dict[str, Column | Texts]
    labels: np.ndarray
    classes: tuple[str, ...]
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Corpus:
        """The samples at ``rows``, in that order."""
        texts = {name: column.take(rows) for name, column in self.texts.items()}
        return Corpus(texts, self.labels[rows], self.classes, self.unlabelled)


def data_folder() -> Path:
    """Where the embedded corpora are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "data" if (package / "data").is_dir() else package.parent / "data"


def load_corpus(
    source: str,
    columns: Mapping[str, str],
    label: str,
    *,
    split: str = "train",
    classes: Sequence[str] = (),
    numbered: bool = True,
) -> Corpus:
    """Read a labelled corpus.

    source: an embedded corpus (`EMBEDDED`), a file (.parquet, .csv, .tsv, .jsonl), or a hub name like
    "stanfordnlp/imdb". columns: the column of each segment. split: which split of an embedded or hub corpus; a file
    is one split. classes: the class names in order, when known; else those of the data set's own label feature, or
    the sorted distinct strings, or "0" … "C−1" for whole numbers. Names always match by name; ``numbered`` says whether
    bare numbers may stand for known ``classes`` in their order. Rows labelled "-", or −1 beside named classes, have no
    agreed label (as in SNLI): they are left out, and counted.

    Raises DataError for a source, column, text or label that cannot be used.
    """
    table, where = _open(source, split)
    for key, column in {"data.label": label, **{f"data.columns.{s}": c for s, c in columns.items()}}.items():
        if column not in table.column_names:
            raise DataError(
                f"{where}: no column {column!r}; it has {', '.join(map(repr, table.column_names))}; "
                f"training chooses with --set {key}=COLUMN"
            )
    feature = table.features[label]
    own_names = tuple(getattr(feature, "names", None) or ())
    reader = _Labels(label, where, tuple(classes), numbered)
    values = [intern(v) if type(v) is str else v for v in _values(table.select_columns([label]))]
    labels, names, kept = reader.read(values, own_names)
    unlabelled = len(table) - len(kept)
    if unlabelled:
        table = table.select(kept, keep_in_memory=True)
    texts = {segment: _column(table, column, where, kept) for segment, column in columns.items()}
    return Corpus(texts, labels, names, unlabelled)


def load_unlabelled(source: str, columns: Mapping[str, str]) -> dict[str, Column]:
    """The texts of a corpus by segment, whatever labels it has: of a hub name its split "unsupervised", if it has one.

    Raises DataError for a source, column or text that cannot be used.
    """
    split = "unsupervised" if "unsupervised" in splits_of(source) else "train"
    table, where = _open(source, split)
    for segment, column in columns.items():
        if column not in table.column_names:
            found = ", ".join(map(repr, table.column_names))
            raise DataError(f"{where}: no column {column!r} (data.columns.{segment}); it has {found}")
    return {segment: _column(table, column, where, np.arange(len(table))) for segment, column in columns.items()}


def splits_of(source: str) -> list[str]:
    """The named splits of an embedded corpus or hub data set; a file has none."""
    if source in EMBEDDED:
        return [file.stem for file in (data_folder() / source).glob("*.jsonl")]
    if _is_hub_name(source):
        import datasets

        return _quietly(source, lambda: datasets.get_dataset_split_names(source))
    return []


def _is_hub_name(source: str) -> bool:
    path = Path(source)
    is_file = path.exists() or path.suffix.lower() in READERS
    return not is_file and HUB_NAME.fullmatch(source) is not None


def _open(source: str, split: str):
    import datasets

    path = Path(source)
    if source in EMBEDDED:
        path = data_folder() / source / f"{split}.jsonl"
    elif _is_hub_name(source):
        return _quietly(source, lambda: datasets.load_dataset(source, split=split)), f"{source} [{split}]"
    elif path.suffix.lower() not in READERS and not path.is_dir():
        raise DataError(
            f"cannot tell what data {source!r} is (no .parquet, .csv, .tsv or .jsonl file, no hub name such as "
            f"stanfordnlp/imdb){nearest(source, EMBEDDED)}"
        )
    if not path.is_file():
        raise DataError(f"{source}: {'is a folder' if path.is_dir() else 'no such file'}; give a file with the data")
    if path.stat().st_size == 0:
        raise DataError(f"{source}: the file is empty; it needs a text and a label column")
    options = {}
    if READERS[path.suffix.lower()] == "csv":  # "None" and "NA" are words, not missing values
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        options = {"sep": separator, "keep_default_na": False, "na_values": [""]}
    cache = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    table = _quietly(
        source,
        lambda: datasets.load_dataset(
            READERS[path.suffix.lower()],
            data_files=glob.escape(str(path)),
            cache_dir=cache.name,
            split="train",
            **options,
        ),
    )
    weakref.finalize(table, cache.cleanup)  # the table is read from there
    return table, source


def _quietly(source: str, load):
    """Run a loader of `datasets` without its bars and log lines; any failure of it becomes one line."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        return load()
    except Exception as error:  # the library and the readers under it raise many unrelated types
        cause = error.__cause__ or error
        first = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        if "corresponds to no data" in first:  # what the library says of a file with columns but no rows
            raise DataError(f"{source}: there are no rows; at least one text with a label is needed") from error
        raise DataError(f"{source}: cannot be read: {first[:200]}") from error


def _column(table, name: str, where: str, rows: np.ndarray) -> Column:
    """A column of texts, all of them looked at once: none may be empty. ``rows`` are their places in the file."""
    column, empty = Column(table.select_columns([name])), []
    kind = getattr(table.features[name], "dtype", "nested")
    if not str(kind).startswith(TEXT_TYPES):
        raise DataError(f"{where}: column {name!r} holds {kind} values; a text column is needed")
    for row, text in zip(rows, column, strict=True):
        if not text.strip():
            empty.append(row + 1)
    if empty:
        raise DataError(
            f"{where}: column {name!r} has {len(empty)} empty text(s), the first in row {empty[0]}; "
            "remove or fill these rows"
        )
    return column


def _values(table) -> Iterator:
    """What stands in the one column of a table, read from the disk in pieces."""
    for start in range(0, len(table), CHUNK):
        (values,) = table[start : start + CHUNK].values()
        yield from values


def _text(value) -> str:
    return "" if value is None else str(value)


@dataclass(frozen=True)
class _Labels:
    """Turns the values of a label column into indices of class names."""

    column: str
    where: str
    classes: tuple[str, ...]
    numbered: bool

    def read(self, values: list, own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
        """(indices, class names, rows that have a label); ``own_names`` are those the data set gives to its numbers."""
        missing = next((row for row, v in enumerate(values, start=1) if v is None or v != v or v == ""), None)
        if missing is not None:
            self.refuse(f"row {missing} has no label; remove or fill such rows")
        signs = self.unlabelled([v for v in values if isinstance(v, str | int | float)], own_names)
        kept = np.flatnonzero([v not in signs for v in values])
        values = [values[row] for row in kept]
        if not values:
            self.refuse("no row has a label; at least one is needed")
        if all(isinstance(v, float) and v.is_integer() for v in values):
            values = [int(v) for v in values]
        if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            return *self.numbers(values, own_names), kept
        if any(isinstance(v, float) for v in values):
            self.refuse("labels are fractions; use whole numbers 0 … C−1 or class names")
        if not all(isinstance(v, str | bool) for v in values):
            self.refuse("labels are neither numbers nor text; use whole numbers 0 … C−1 or class names")
        return *self.names([str(v) for v in values]), kept

    def unlabelled(self, values: list, own_names: tuple[str, ...]) -> list:
        """Those of the labels that say that a row has none.

        They may be classes too: −1 of −1, 0 and 1, or "-" of "+" and "-". So −1 is none only where the data set names
        its numbers, or the other numbers are those of all known classes; and "-" only where the others have letters.
        """
        others = {v for v in values if v not in (-1, "-")}
        names = self.classes or {v for v in others if isinstance(v, str)}
        complete = self.numbered and self.classes and others == set(range(len(self.classes)))
        named = bool(names) and all(any(map(str.isalpha, name)) for name in names)
        return [-1] * bool(own_names or (complete and named)) + ["-"] * named

    def numbers(self, values: list[int], own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        distinct = sorted(set(values))
        count = len(own_names or self.classes) or len(distinct)
        if distinct[0] < 0 or distinct[-1] >= count:
            found = ", ".join(map(str, distinct[:8])) + (", …" if len(distinct) > 8 else "")
            self.refuse(
                f"labels are {found}, but whole numbers must be 0 … C−1 without gaps (here 0 … {count - 1}); "
                "renumber them or use class names"
            )
        indices = np.array(values, np.int64)
        if not self.classes:
            return indices, own_names or tuple(map(str, distinct))
        if set(own_names) == set(self.classes):
            return np.array([self.classes.index(name) for name in own_names])[indices], self.classes
        if self.numbered and len(own_names) in (0, len(self.classes)):
            return indices, self.classes
        names = f" named {', '.join(own_names)}" if own_names else ""
        self.refuse(
            f"labels are numbers{names}, but the classes are {', '.join(self.classes)}; "
            "use these names, or train with --set data.classes=[…] to say which number is which"
        )

    def names(self, values: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
        names = self.classes or tuple(sorted(set(values)))
        strange = next((v for v in values if v not in names), None)
        if strange is not None:
            own = "; with --set data.classes=[] they are those of the data" if self.classes else ""
            self.refuse(f"unknown label {strange!r}{nearest(strange, names)}{own}")
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[v] for v in values], np.int64), names

    def refuse(self, why: str):
        raise DataError(f"{self.where}: column {self.column!r}: {why}")
