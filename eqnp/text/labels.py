"""From what stands in a label column to indices of class names."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain

import numpy as np

from eqnp.errors import DataError, close, some
from eqnp.text.formats import Number
from eqnp.text.tables import Places

INTEGER = re.compile(r"(0|-?[1-9][0-9]{0,17})(?:\.0+)?")
LARGEST = 10**18  # of a whole number
FEW = 12  # classes whose names a message may list
NO_LABEL = ("-", "-1")
LONE = re.compile("[\ud800-\udfff]")  # half of a character, which no file can hold


def label_of(value):
    """A label as text without blanks around it, or as the whole number that it is in a format with types.

    Returns None for a missing one, and what is neither text nor a whole number as it is.
    """
    if type(value) is Number:
        number = Decimal(value)
        whole = abs(number) < LARGEST and number == int(number)
        value = int(number) if whole else number if abs(number) < LARGEST else str(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or value != value else value


def labels_of(value, separator: str):
    """What stands in a label field: one label, or a tuple of labels, where it is a list, or the ``separator`` parts it.

    Of a field that may be parted, what is empty has no label.
    """
    if isinstance(value, list | tuple):
        return tuple(label_of(each) for each in value)
    if separator and (value is None or isinstance(value, str)):
        return tuple(each.strip() for each in (value or "").split(separator) if each.strip())
    return label_of(value)


def class_counts(labels: np.ndarray, classes: int = 0) -> np.ndarray:
    """The texts of each class, (C,), of labels (n,), or of 0 and 1 for each text and class, (n, C)."""
    if labels.ndim == 2:
        return labels.sum(axis=0, dtype=np.int64)
    return np.bincount(labels, minlength=classes)


@dataclass
class Coded:
    """What stands in a column: its ``distinct`` values, as they stand first, and which of them each row has, (n,)."""

    distinct: list = field(default_factory=list)
    codes: array | np.ndarray = field(default_factory=lambda: array("i"))
    _places: dict = field(default_factory=dict)

    def code(self, value) -> int:
        """The place of a value among the distinct ones, to which it may be new."""
        try:
            place = self._places.setdefault(value, len(self.distinct))
        except TypeError:  # a list or a table, which is refused when all is read
            place = len(self.distinct)
        if place == len(self.distinct):
            self.distinct.append(value)
        return place

    def row(self, which: Callable[[object], bool]) -> int | None:
        """The first row with such a value."""
        places = [place for place, value in enumerate(self.distinct) if which(value)]
        return int(np.isin(self.codes, places).argmax()) if places else None

    def of(self, indices: Iterable[int]) -> np.ndarray:
        """Numbers of the distinct values, as those of the rows, (n,) int64."""
        return np.array([*indices], np.int64)[self.codes]


@dataclass(frozen=True)
class Labels:
    """Turns the labels of a source into indices of class names.

    ``classes`` are the names in order, if they are known; ``numbered`` says whether bare numbers may stand for them.
    """

    column: str
    places: Places
    classes: tuple[str, ...]
    numbered: bool

    def read(self, values: Coded, own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
        """(indices, class names, rows that have a label) of what `label_of` made of a column.

        ``own_names`` are those that the data set gives to its numbers. Raises DataError.
        """
        missing = values.row(lambda value: value is None)
        if missing is not None:
            self.refuse(f"{self.places.at(missing)} has no label; remove or fill such rows")
        strange = values.row(lambda value: not _is_label(value))
        if strange is not None:
            self.refuse_kind(strange, values.distinct[values.codes[strange]])
        signs = self.unlabelled({*values.distinct}, own_names)
        kept = np.flatnonzero(values.of(value not in signs for value in values.distinct))
        place = np.cumsum([value not in signs for value in values.distinct]) - 1
        values = Coded([value for value in values.distinct if value not in signs], place[values.codes][kept])
        if not values.distinct:
            self.refuse("no row has a label; at least one is needed")
        typed = all(isinstance(value, int) for value in values.distinct)
        if typed and own_names:
            return *self.indices(values, own_names), kept
        if not typed:
            values = Coded(list(map(str, values.distinct)), values.codes)
        if self.classes:
            return *self.known(values, typed, kept), kept
        return *self.found(values, typed), kept

    def read_sets(self, values: Coded, own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        """(0 or 1 for each row and class (n, C) uint8, class names) of the tuples that `labels_of` made of a column.

        Rows may be without a label; a label that stands for none is left out. Raises DataError.
        """
        each, apart = Coded(), [value if isinstance(value, tuple) else (value,) for value in values.distinct]
        codes = [[each.code(label) for label in value] for value in apart]
        rows = np.repeat(np.arange(len(values.codes)), values.of(map(len, apart)))
        if not len(rows):
            self.refuse("no row has a label; at least one is needed")
        each.codes = np.fromiter(chain.from_iterable(codes[code] for code in values.codes), np.int64)
        reader = replace(self, places=_OfLabels(self.places, rows))
        indices, names, kept = reader.read(each, own_names)
        sets = np.zeros((len(values.codes), len(names)), np.uint8)
        sets[rows[kept], indices] = 1
        return sets, names

    def refuse_sets(self, values: Coded) -> None:
        """Raise DataError if a row has several labels, where a text has one."""
        found = values.row(lambda value: isinstance(value, tuple))
        if found is not None:
            self.refuse(
                f"{self.places.at(found)} has a list of labels, and the texts that were trained on have one each; "
                "give texts with one label, or train on texts with lists of them"
            )

    def unlabelled(self, values: set, own_names: tuple[str, ...]) -> set:
        """Those of the labels that say that a row has none.

        They may be classes too: −1 of −1, 0 and 1, or "-" of "+" and "-". So −1 is none only where the data set names
        its numbers, or the other numbers are those of all known classes; and "-" only where the others have letters.
        """
        others = {str(value) for value in values} - {*NO_LABEL}
        names = self.classes or {*others}
        complete = self.numbered and self.classes and others == {str(i) for i in range(len(self.classes))}
        named = bool(names) and all(any(map(str.isalpha, name)) for name in names)
        no_number = {-1, "-1"} if own_names or (complete and named) else set()
        return no_number | ({"-"} if named else set())

    def indices(self, values: Coded, own_names: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Of numbers that the data set itself has names for."""
        self.check_range(values.distinct, len(own_names))
        if not self.classes or self.classes == own_names:
            return values.of(values.distinct), own_names
        if {*own_names} == {*self.classes}:
            return values.of(self.classes.index(own_names[number]) for number in values.distinct), self.classes
        if self.numbered and len(own_names) == len(self.classes):
            return values.of(values.distinct), self.classes
        self.refuse_numbers(f" named {some(own_names)}")

    def known(self, values: Coded, typed: bool, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Of classes that are known: by name, or by number where all are numbers."""
        index = {name: i for i, name in enumerate(self.classes)}
        names = list(map(str, values.distinct))
        if {*names} <= {*index}:
            return values.of(index[name] for name in names), self.classes
        numbers = list(map(_number, names))
        count, own = len(self.classes), {_number(name): i for i, name in enumerate(self.classes)}
        numeric = None not in numbers
        if None not in own and len(own) == count:  # the classes are numbers, and match by what they are
            if typed and sorted(own) == list(range(count)):
                self.check_range(numbers, count)
            if numeric and {*numbers} <= {*own}:
                return values.of(own[number] for number in numbers), self.classes
        elif numeric and {*names}.isdisjoint(index):
            if not self.numbered:
                self.refuse_numbers("")
            if typed or max(numbers) < count:
                self.check_range(numbers, count)
                return values.of(numbers), self.classes
        self.refuse_unknown(Coded(names, values.codes), rows)

    def found(self, values: Coded, typed: bool) -> tuple[np.ndarray, tuple[str, ...]]:
        """Of classes that are those of the data: numbers in their order, else by the alphabet."""
        distinct = {*values.distinct}
        numbers = {value: _number(str(value)) for value in distinct}
        if typed:
            self.check_range(distinct, len(distinct))
        elif "-1" in distinct and None not in numbers.values():
            named = f"--set 'data.classes={json.dumps(sorted(distinct))}'"
            self.refuse(
                f"labels are {self.listed(numbers.values())}; if -1 is no class, leave these rows out; if it is one, "
                f"say so by naming the classes: {named}"
            )
        if None in numbers.values():
            order = sorted(distinct)
        else:
            order = sorted(distinct, key=lambda value: (numbers[value], str(value)))
        index = {value: i for i, value in enumerate(order)}
        return values.of(index[value] for value in values.distinct), tuple(map(str, order))

    def check_range(self, values: Iterable[int], count: int) -> None:
        """Raise DataError unless numbers are indices of so many classes."""
        if min(values) < 0 or max(values) >= count:
            self.refuse(
                f"labels are {self.listed(values)}, but whole numbers must be 0 … C−1 without gaps "
                f"(here 0 … {count - 1}); renumber them or use class names"
            )

    def listed(self, numbers: Iterable[int]) -> str:
        """The first of some numbers, in order."""
        return some([str(number) for number in sorted({*numbers})])

    def refuse_unknown(self, names: Coded, rows: np.ndarray) -> None:
        """Raise DataError for labels that are none of the known classes; ``rows`` are their places in the file."""
        others = np.flatnonzero(names.of(name not in self.classes for name in names.distinct))
        strange = {name for name in names.distinct if name not in self.classes}
        name, every = names.distinct[names.codes[others[0]]], [*self.classes, *sorted(strange)]
        naming = f", or with --set 'data.classes={json.dumps(every, ensure_ascii=False)}'" if len(every) <= FEW else ""
        self.refuse(
            f"unknown label {name!r} ({len(others):,} row(s) with classes that are not known, the first in "
            f"{self.places.at(rows[others[0]])}); the classes are {some(self.classes)}{close(name, self.classes)}; "
            f"leave such rows out, or train on data with all classes{naming}"
        )

    def refuse_numbers(self, named: str) -> None:
        """Raise DataError for numbers that may not stand for the known classes."""
        self.refuse(
            f"labels are numbers{named}, but the classes are {some(self.classes)}; "
            "use these names, or train with --set data.classes=[…] to say which number is which"
        )

    def refuse_kind(self, row: int, value) -> None:
        """Raise DataError for a value that is neither text nor a whole number."""
        where = self.places.at(row)
        if isinstance(value, str):
            self.refuse(f"{where} has a lone surrogate, which is no text; write the file again from a decoded text")
        if isinstance(value, float | Decimal):
            self.refuse(f"labels are fractions ({value} in {where}); use whole numbers 0 … C−1 or class names")
        found = f"{type(value).__name__} in {where}: {value!r:.60}"
        self.refuse(f"labels are neither numbers nor text ({found}); use whole numbers 0 … C−1 or class names")

    def refuse(self, why: str):
        """Raise DataError."""
        raise DataError(f"{self.places.where}: column {self.column!r}: {why}")


def _is_label(value) -> bool:
    """Whether a label can be a class name: text that can be written, or a whole number."""
    return isinstance(value, int) or (isinstance(value, str) and (value.isascii() or not LONE.search(value)))


def _number(name: str) -> int | None:
    """The whole number that a label is, as in "3" or "3.0"; None if it is none."""
    found = INTEGER.fullmatch(name)
    return int(found[1]) if found else None


class _OfLabels:
    """Where labels stand of which a row may have several, as `Places` says it of rows."""

    def __init__(self, places: Places, rows: np.ndarray):
        self._places, self._rows, self.where = places, rows, places.where

    def at(self, label: int) -> str:
        """As in "row 3"."""
        return self._places.at(int(self._rows[label]))
