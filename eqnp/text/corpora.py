"""Corpora: texts and their labels out of any source, held on the disk rather than in memory."""

from __future__ import annotations

import math
import mmap
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from eqnp.errors import DataError, some
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import let_go
from eqnp.text.labels import Coded, Labels, labels_of
from eqnp.text.sources import open_source, splits_of
from eqnp.text.tables import Places, Reading, Table, as_text

DEFAULT = Reading()
AT_A_TIME = 1 << 14  # texts that are read before their part of the file no longer counts as memory
FILES = 65  # of a source, that are too many to be open at once: ranks read such a one whole


class Column(Sequence):
    """Texts in a file without a name, read as they are asked for: a corpus may be larger than memory."""

    def __init__(self, text: mmap.mmap | bytes, ends: np.ndarray, rows: np.ndarray | None = None):
        self._text, self._ends = text, ends  # UTF-8 one after the other, and where each ends, behind a zero
        self._rows = np.arange(len(ends) - 1) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        """A text, or a list of them for a slice."""
        rows = self._rows[index]
        return [*self._of(rows)] if isinstance(index, slice) else self._at(rows)

    def __iter__(self) -> Iterator[str]:
        return self._of(self._rows)

    def _of(self, rows: np.ndarray) -> Iterator[str]:
        """Texts in turn; what was read of the file is let go on the way, and at the end."""
        for start in range(0, len(rows), AT_A_TIME):
            yield from map(self._at, rows[start : start + AT_A_TIME])
            self.rest()

    def _at(self, row: int) -> str:
        return self._text[self._ends[row] : self._ends[row + 1]].decode()

    def take(self, rows: np.ndarray) -> Column:
        """The texts at ``rows``, in that order."""
        return Column(self._text, self._ends, self._rows[rows])

    def rest(self) -> None:
        """Let what was read of the file not count as this process's memory."""
        let_go(self._text)


class Part(Sequence):
    """A column (n,) of which this rank has ``own``, the texts from place ``start`` on, and others the rest."""

    def __init__(self, own: Column, start: int, texts: int):
        self.own, self.start, self._texts = own, start, texts

    def __len__(self) -> int:
        return self._texts

    def __getitem__(self, row: int) -> str | None:
        """A text, or None where it is another rank's."""
        return self.own[row - self.start] if 0 <= row - self.start < len(self.own) else None

    def take(self, rows: np.ndarray) -> Part:
        """The texts at ``rows``, which rise."""
        first, last = np.searchsorted(rows, (self.start, self.start + len(self.own)))
        return Part(self.own.take(rows[first:last] - self.start), int(first), len(rows))

    def rest(self) -> None:
        """As of `Column`."""
        self.own.rest()


class _Writer:
    """The texts of one column, one after the other, until they are a `Column`."""

    def __init__(self, name: str):
        self.name, self.blank = name, []  # rows without text
        self._file, self._ends = tempfile.TemporaryFile(), array("q", [0])  # noqa: SIM115

    def add(self, value, table: Table) -> None:
        """Append what stands in a row of a table; raises DataError for what is no text."""
        row = self.rows
        text = value if type(value) is str and value.isascii() else as_text(value, self.name, table, row)
        if not text.strip():
            self.blank.append(row)
        self._ends.append(self._ends[-1] + self._file.write(text.encode()))

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._ends) - 1

    def column(self, rows: np.ndarray, places: Places) -> Column:
        """The texts of these rows; raises DataError if one of them is empty."""
        if self.blank:
            empty = np.array(self.blank)[np.isin(self.blank, rows)]
            if len(empty):
                raise DataError(
                    f"{places.where}: column {self.name!r} has {len(empty)} empty text(s), the first in "
                    f"{places.at(empty[0])}; remove or fill these rows"
                )
        self._file.flush()
        with self._file:
            text = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else b""
        return Column(text, np.frombuffer(self._ends, np.int64), rows)


class Texts(list):
    """Texts that are in memory already."""

    def take(self, rows: np.ndarray) -> Texts:
        """The texts at ``rows``, in that order."""
        return Texts(self[row] for row in rows)

    def rest(self) -> None:
        """Nothing, for they are of no file."""


@dataclass
class Corpus:
    """Labelled texts: ``texts[segment]`` are columns of equal length, ``labels`` (n,) int index ``classes``.

    Where a text may have ``several`` labels, they are 0 or 1 for each text and class, (n, C).
    ``unlabelled`` counts the rows that were left out because their label says that they have none. ``notes`` say what
    was decided where a file left something open. ``held_out`` is a corpus that was taken from the training texts.
    ``weights`` (n,) are what texts count for where they are learned from, if they have any.
    """

    texts: dict[str, Column | Part | Texts]
    labels: np.ndarray
    classes: tuple[str, ...]
    unlabelled: int = 0
    notes: tuple[str, ...] = ()
    held_out: bool = False
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.labels.ndim == 2

    def take(self, rows: np.ndarray) -> Corpus:
        """The samples at ``rows``, in that order."""
        texts = {name: column.take(rows) for name, column in self.texts.items()}
        weights = None if self.weights is None else self.weights[rows]
        return Corpus(texts, self.labels[rows], self.classes, self.unlabelled, self.notes, weights=weights)


def load_corpus(
    source: str | Sequence[str],
    columns: Mapping[str, str],
    label: str,
    *,
    split: str = "train",
    classes: Sequence[str] = (),
    numbered: bool = True,
    reading: Reading = DEFAULT,
    weight: str = "",
    separator: str = "",
    several: bool | None = None,
    ranks: Ranks = ALONE,
) -> Corpus:
    """Read a labelled corpus.

    source: an embedded corpus (`eqnp.text.sources.EMBEDDED`), a file, a pattern of files, a folder with a folder of
    text files for each class, a hub name like "stanfordnlp/imdb", or several of them. columns: the column of each
    segment. split: which split of an embedded or hub corpus; a file is one split. classes: the class names in order,
    when known; else those of the data set's own label feature, or the distinct labels, sorted (whole numbers by size).
    weight: the column of the weights of texts, if they have any. separator: what parts the labels of a text; a column
    of lists needs none. several: whether texts may have several labels (None: as found).

    Texts and labels are what stands in the file, labels without the blanks around them. Names match by name; bare
    numbers 0 … C−1 may stand for known ``classes`` in their order if ``numbered``, and numbers of a format with types
    must be these. Rows labelled "-", or −1 beside named classes, have no agreed label (as in SNLI): they are left out,
    and counted. Several ``ranks`` each read a part of a source that can be read so, and all have all labels.

    Raises DataError for a source, column, text, label or weight that cannot be used.
    """
    given = (source, split, columns, label, reading, weight, separator)
    read = (_read_in_parts(*given, ranks=ranks) if ranks.size > 1 else None) or _read(*given)
    if len(read.own_names) > 1:
        where = read.places.where
        raise DataError(f"{where}: the files name the numbers of {label!r} differently; give files that agree")
    reader = Labels(label, read.places, tuple(classes), numbered)
    own_names = read.own_names.pop() if read.own_names else ()
    if several is None:
        several = bool(separator) or any(type(value) is tuple for value in read.labels.distinct)
    if several:
        indices, names = reader.read_sets(read.labels, own_names)
        kept = np.arange(len(indices))
    else:
        reader.refuse_sets(read.labels)
        indices, names, kept = reader.read(read.labels, own_names)
    weights = np.array(read.weights)[kept] if weight else None
    return Corpus(read.texts(kept), indices, names, read.rows - len(kept), tuple(read.notes), weights=weights)


def load_unlabelled(
    source: str | Sequence[str],
    columns: Mapping[str, str],
    reading: Reading = DEFAULT,
    say: Callable[[str], None] = lambda note: None,
) -> dict[str, Column]:
    """The texts of a corpus by segment, whatever labels it has: of a hub name its split "unsupervised", if it has one.

    A .txt file may be a text per line here. ``say`` gets what was decided about a file. Raises DataError for a source,
    column or text that cannot be used.
    """
    split = "unsupervised" if "unsupervised" in splits_of(source) else "train"
    read = _read(source, split, columns, None, reading)
    for note in read.notes:
        say(note)
    return read.texts(np.arange(read.rows))


@dataclass
class _Read:
    """What was read of a source: texts by segment, labels, weights, where each row stands, and what was decided.

    Of a source in parts the texts are those of one rank, from row ``start`` on, and the rest is that of all.
    """

    writers: dict[str, _Writer]
    labels: Coded = field(default_factory=Coded)
    weights: array = field(default_factory=lambda: array("d"))
    places: Places = field(default_factory=Places)
    notes: list[str] = field(default_factory=list)
    own_names: set[tuple[str, ...]] = field(default_factory=set)
    rows: int = 0
    start: int | None = None

    def texts(self, rows: np.ndarray) -> dict[str, Column | Part]:
        """The texts of these rows by segment; raises DataError if one of them is empty."""
        if self.start is None:
            return {segment: writer.column(rows, self.places) for segment, writer in self.writers.items()}
        first = int(np.searchsorted(rows, self.start))
        own = rows[first : np.searchsorted(rows, self.start + next(iter(self.writers.values())).rows)] - self.start
        columns = {segment: writer.column(own, self.places) for segment, writer in self.writers.items()}
        return {segment: Part(column, first, len(rows)) for segment, column in columns.items()}

    def add(self, rows: Iterable[Sequence], table: Table, separator: str, labelled: bool, weight: str) -> None:
        """Read rows of a table: their texts, then the label if they are ``labelled``, and the ``weight`` if it is one.

        Raises DataError.
        """
        known: dict[str, int] = {}  # labels as they stand in the source, and their codes
        place, codes = len(self.writers), self.labels.codes
        for row in rows:
            for writer, text in zip(self.writers.values(), row, strict=False):
                writer.add(text, table)
            if labelled:
                given = row[place]
                code = known.get(given) if type(given) is str else None
                if code is None:
                    code = self.labels.code(labels_of(given, separator))
                    if type(given) is str:
                        known[given] = code
                codes.append(code)
            if weight:
                self.weights.append(_weight_of(row[-1], weight, table, self.rows))
            self.rows += 1

    def of_all(self, ranks: Ranks, weighted: bool) -> None:
        """Learn what the others read of the same source; this rank may have no row of it."""
        each = ranks.communicator.allgather((self.rows, self.labels.distinct))
        labels = Coded()
        codes = [[labels.code(value) for value in distinct] for _, distinct in each][ranks.rank]
        own = Coded(codes, self.labels.codes).of(codes).astype(np.int32)
        labels.codes = ranks.concatenate([own[:, None]], 1, np.int32)[:, 0]
        self.labels, self.start = labels, sum(rows for rows, _ in each[: ranks.rank])
        self.rows = sum(rows for rows, _ in each)
        if weighted:
            self.weights = ranks.concatenate([np.array(self.weights)[:, None]], 1, np.float64)[:, 0]


def _read(
    source: str | Sequence[str],
    split: str,
    columns: Mapping[str, str],
    label: str | None,
    reading: Reading,
    weight: str = "",
    separator: str = "",
) -> _Read:
    """Read all tables of a source; without a ``label``, their texts alone, and weights if they have a column."""
    labelled = label is not None
    wanted = _wanted(columns, label, weight)
    read = _Read({segment: _Writer(column) for segment, column in columns.items()})
    for table in open_source(source, split, list(wanted.values()), labelled=labelled, reading=reading):
        check_columns(table, wanted)
        read.places.add(table.where, read.rows)
        table.start = read.rows
        read.add(table.read(list(wanted.values())), table, separator, labelled, weight)
        read.notes += table.notes
        read.own_names.add(table.own_names.get(label, ()))
    return read


def _read_in_parts(
    source: str | Sequence[str],
    split: str,
    columns: Mapping[str, str],
    label: str,
    reading: Reading,
    weight: str,
    separator: str,
    ranks: Ranks,
) -> _Read | None:
    """What `_read` makes of a source, of whose texts each rank reads its part.

    None where a table of it cannot be read in parts, or where any rank finds anything wrong: what `_read` says of that
    has the number of its row.
    """
    wanted = _wanted(columns, label, weight)
    read, counts, end = _Read({segment: _Writer(column) for segment, column in columns.items()}), [], 0
    try:
        tables = list(islice(open_source(source, split, list(wanted.values()), labelled=True, reading=reading), FILES))
        whole = len(tables) == FILES or not all(table.size for table in tables)
        own = ranks.part(sum(table.size for table in tables))
        for table in () if whole else tables:
            check_columns(table, wanted)
            before, end = read.rows, end + table.size
            start, stop = (min(max(0, place - end + table.size), table.size) for place in (own.start, own.stop))
            if start < stop:
                read.add(table.part(list(wanted.values()), start, stop), table, separator, True, weight)
            counts.append((read.rows - before, table.spanning))
        whole |= any(writer.blank for writer in read.writers.values())
    except DataError:
        whole = True
    if ranks.any(int(whole)):
        return None
    read.of_all(ranks, bool(weight))
    counts, start = ranks.concatenate([np.array(counts).reshape(1, -1)], 2 * len(tables), np.int64).sum(axis=0), 0
    for table, (rows, spanning) in zip(tables, counts.reshape(-1, 2).tolist(), strict=True):
        read.places.add(table.where, start)
        read.notes += [*table.notes, *table.spans(spanning)]
        read.own_names.add(table.own_names.get(label, ()))
        start += rows
    return read


def _wanted(columns: Mapping[str, str], label: str | None, weight: str) -> dict[str, str]:
    """The columns to read, by the keys that name them: texts, then the label, and the weight."""
    wanted = {f"data.columns.{segment}": column for segment, column in columns.items()}
    wanted |= {"data.label": label} if label is not None else {}
    return wanted | ({"data.weight": weight} if weight else {})


def _weight_of(value, column: str, table: Table, row: int) -> float:
    """What a text counts for; raises DataError for what is no number of 0 or greater."""
    try:
        weight = float("nan" if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        found = f"column {column!r}: row {table.row(row)} has the weight {value!r:.60}"
        raise DataError(f"{table.where}: {found}; a number of 0 or greater is needed")
    return weight


def check_columns(table: Table, wanted: Mapping[str, str]) -> None:
    """Raise DataError unless a table has each column wanted, by the key that names it, once."""
    for key, column in wanted.items():
        count = table.names.count(column)
        if count > 1:
            raise DataError(f"{table.where}: {count} columns are called {column!r}; give them names of their own")
        if not count:
            raise DataError(
                f"{table.where}: no column {column!r}; it has {some(map(repr, table.names)) or 'none'}; "
                f"training chooses with --set {key}=COLUMN{table.advice}"
            )
