"""Corpora: labelled texts from the embedded data, a local Parquet, CSV or JSONL file, or the `datasets` hub."""

from __future__ import annotations

import glob
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqnp.errors import DataError, nearest

EMBEDDED = ("mini-sentiment", "mini-nli")
READERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Corpus:
    """Labelled texts: ``texts[segment]`` are lists of equal length, ``labels`` (n,) int index ``classes``."""

    texts: dict[str, list[str]]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> Corpus:
        """The samples at ``rows``, in that order."""
        texts = {name: [column[row] for row in rows] for name, column in self.texts.items()}
        return Corpus(texts, self.labels[rows], self.classes)


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
    bare numbers may stand for known ``classes`` in their order.

    Raises DataError for a source, column, text or label that cannot be used.
    """
    table, where = _open(source, split)
    for key, column in {"data.label": label, **{f"data.columns.{s}": c for s, c in columns.items()}}.items():
        if column not in table.column_names:
            raise DataError(
                f"{where}: no column {column!r}; it has {', '.join(map(repr, table.column_names))}; "
                f"training chooses with --set {key}=COLUMN"
            )
    texts = {segment: _texts(table[column], column, where) for segment, column in columns.items()}
    feature = table.features[label]
    own_names = tuple(getattr(feature, "names", None) or ())
    labels, names = _Labels(label, where, tuple(classes), numbered).read(list(table[label]), own_names)
    return Corpus(texts, labels, names)


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
    with tempfile.TemporaryDirectory() as cache:
        table = _quietly(
            source,
            lambda: datasets.load_dataset(
                READERS[path.suffix.lower()],
                data_files=glob.escape(str(path)),
                cache_dir=cache,
                keep_in_memory=True,
                split="train",
                **options,
            ),
        )
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


def _texts(values, column: str, where: str) -> list[str]:
    strange = next((v for v in values if v is not None and not isinstance(v, str | int | float)), None)
    if strange is not None:
        raise DataError(f"{where}: column {column!r} holds {type(strange).__name__} values; a text column is needed")
    texts = ["" if value is None else str(value) for value in values]
    empty = [row for row, text in enumerate(texts, start=1) if not text.strip()]
    if empty:
        raise DataError(
            f"{where}: column {column!r} has {len(empty)} empty text(s), the first in row {empty[0]}; "
            "remove or fill these rows"
        )
    return texts


@dataclass(frozen=True)
class _Labels:
    """Turns the values of a label column into indices of class names."""

    column: str
    where: str
    classes: tuple[str, ...]
    numbered: bool

    def read(self, values: list, own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        """(indices, class names); ``own_names`` are those that the data set gives to its numbers."""
        missing = next((row for row, v in enumerate(values, start=1) if v is None or v != v or v == ""), None)
        if missing is not None:
            self.refuse(f"row {missing} has no label; remove or fill such rows")
        if all(isinstance(v, float) and v.is_integer() for v in values):
            values = [int(v) for v in values]
        if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            return self.numbers(values, own_names)
        if any(isinstance(v, float) for v in values):
            self.refuse("labels are fractions; use whole numbers 0 … C−1 or class names")
        if not all(isinstance(v, str | bool) for v in values):
            self.refuse("labels are neither numbers nor text; use whole numbers 0 … C−1 or class names")
        return self.names([str(v) for v in values])

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
            self.refuse(f"unknown label {strange!r}{nearest(strange, names)}")
        index = {name: i for i, name in enumerate(names)}
        return np.array([index[v] for v in values], np.int64), names

    def refuse(self, why: str):
        raise DataError(f"{self.where}: column {self.column!r}: {why}")
