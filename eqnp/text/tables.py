"""Tables in text files, read as they stand: separators, quotes, and rows of one width.

Every field is text, character for character; only the names of columns lose the blanks around them. What a file leaves
open is decided by a rule and said in a note; what it contradicts is a DataError with its line.
"""

from __future__ import annotations

import bisect
import codecs
import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from eqnp.errors import DataError, some
from eqnp.text.lines import TextFile

WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
DECLARED = re.compile(r"\"?sep=(.)\"?\s*")  # what some spreadsheets write into a line before the header
SEPARATORS = ",;\t"
SURVEYED = 50  # rows that must agree on a separator where no header tells
NO_ROWS = "there are no rows; at least one text with a label is needed"
LONGEST_FIELD = 2**31 - 1  # characters; `csv` allows 131,072 unless told otherwise


@dataclass(frozen=True)
class Reading:
    """How text files are read: their encoding, and whether a table begins with the names of its columns."""

    encoding: str = "utf-8"
    header: bool = True


@dataclass
class Table:
    """A table that can be read once.

    ``read(columns)`` yields of every row what stands in these columns: text, or a number, None or another value where
    the format has types. ``own_names`` are the class names that a data set gives to the numbers of a column. ``notes``
    say what was decided, and are complete when all rows are read. ``advice`` is for who asks for a column in vain.
    ``start`` is the number of rows of the source before it. ``types`` are those of pyarrow, by column, of Parquet.

    A table that has a ``size`` can be read in parts: ``part(columns, start, stop)`` yields what ``read`` does of the
    rows that begin from one place in it to before another, and leaves in ``spanning`` how many of them go over several
    lines. What is wrong with a row is then said without its number, or of another one: ``read`` says it.
    """

    where: str
    names: list[str]
    read: Callable[[Sequence[str]], Iterator[Sequence]]
    notes: list[str] = field(default_factory=list)
    own_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    advice: str = ""
    start: int = 0
    types: dict[str, object] = field(default_factory=dict)
    size: int = 0
    part: Callable[[Sequence[str], int, int], Iterator[Sequence]] | None = None
    spanning: int = 0

    def row(self, row: int) -> int:
        """The number, from 1, that a row of the whole source has in this table."""
        return row - self.start + 1

    def spans(self, rows: int) -> list[str]:
        """What a note says of rows that go over several lines, if there are some."""
        return [f"{self.where}: a field goes over several lines in {rows:,} row(s)"] if rows else []


class Places:
    """Where the rows of a source stand that may be several tables, for messages."""

    def __init__(self):
        self._names: list[str] = []
        self._starts: list[int] = []

    def add(self, where: str, start: int) -> None:
        """From row ``start`` on, rows are of another table."""
        self._names.append(where)
        self._starts.append(start)

    @property
    def where(self) -> str:
        """All of the tables."""
        return some(self._names, 3)

    def at(self, row: int) -> str:
        """As in "row 3" or, of several tables, "row 3 of b.csv"; ``row`` counts from 0."""
        number = bisect.bisect_right(self._starts, row) - 1
        of = f" of {self._names[number]}" if len(self._names) > 1 else ""
        return f"row {row - self._starts[number] + 1}{of}"


def delimited(file: TextFile, tabs: bool, reading: Reading, wanted: Sequence[str]) -> Table:
    """A table of separated fields. ``tabs`` separate them, or what the header tells: the comma, semicolon or tab.

    Quotes count as `csv` has it, strictly; between tabs they count only if the whole file is consistent with them.
    """
    csv.field_size_limit(LONGEST_FIELD)
    notes = file.notes
    declared = DECLARED.fullmatch(next(file.lines("replace"), ""))
    separator = "\t" if tabs else declared[1] if declared else _separator(file, reading.header, wanted, notes)
    records = _Records(file, separator, separator != "\t" or _quotes_count(file, notes))
    rows = itertools.islice(records, 1 if declared else 0, None)
    first = next(rows, None)
    before = records.reader.line_num if reading.header else int(bool(declared))  # lines that are no rows
    second = next(rows, None) if reading.header and first else first
    if first is None or second is None:
        raise DataError(f"{file.where}: {NO_ROWS}")
    header = [name.strip() for name in first[1]] if reading.header else [str(i + 1) for i in range(len(first[1]))]
    shape = _Shape(file, header, second[1], separator, reading.header)
    if shape.named:
        notes.append(f"{file.where}: the header is one name short, so the number before each row is its name, as in R")

    def checked(columns: Sequence[str], rows: Iterable[tuple[int, list[str]]]) -> Iterator[list[str]]:
        places = [shape.names.index(column) + shape.named for column in columns]
        for line, fields in rows:
            shape.check(line, fields)
            file.rows += 1
            yield [fields[place] for place in places]

    def read(columns: Sequence[str]) -> Iterator[list[str]]:
        yield from checked(columns, itertools.chain([second], rows))
        notes.extend(table.spans(records.spanning))

    def part(columns: Sequence[str], start: int, stop: int) -> Iterator[list[str]]:
        # A wrong guess at where a row begins leaves a quote open at the end of one part or another, which is a fault.
        lines = itertools.islice(file.lines("replace"), before)
        head = sum(len(line.encode()) for line in lines) + file.beginning.startswith(codecs.BOM_UTF8) * 3
        begin, end = (head if place <= head else file.begin(place, quotes=True) for place in (start, stop))
        own = _Records(file, separator, quotes=True, lines=file.part(begin, end))
        yield from checked(columns, own)
        table.spanning = own.spanning

    if reading.header:
        advice = "; is it a file without a header? then --set data.header=false"
    else:
        advice = "; without a header (data.header=false) columns go by number, as in --set data.columns.text=1"
    size = 0 if shape.named or separator == "\t" else file.size  # (between tabs quotes may be anything)
    table = Table(file.where, shape.names, read, notes, advice=advice, size=size, part=part)
    return table


class _Records:
    """The rows of a file as `csv` splits them, each with the number of its first line; empty lines are left out."""

    def __init__(self, file: TextFile, separator: str, quotes: bool, lines: Iterable[str] | None = None):
        self.file, self.spanning, self.line, self.separator = file, 0, "", separator
        quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        given = self._lines(file.lines() if lines is None else lines)
        self.reader = csv.reader(given, delimiter=separator, quoting=quoting, strict=True)

    def _lines(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self.line = line
            yield line

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            line = self.reader.line_num + 1
            try:
                fields = next(self.reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise _Fault(self.file.where, line, self.reader.line_num, self._cause(error)) from error
            if fields:
                self.spanning += self.reader.line_num > line
                yield line, fields

    def _cause(self, error: csv.Error) -> str:
        if "end of data" in str(error):
            return "a quote opens there and is never closed; close it, or double a quote that is part of a text"
        if "expected after" in str(error):
            return (
                f"a field in quotes must end with {self.separator!r} or the line after its closing quote; "
                "double a quote that is part of a text"
            )
        return f"it is no row of a table ({error})"


class _Fault(DataError):
    """A line that does not fit; ``line`` is where its row begins, ``last`` where the reader stopped."""

    def __init__(self, where: str, line: int, last: int, why: str):
        self.line, self.at = line, f"line {line}" if last <= line else f"lines {line} to {last}"
        super().__init__(f"{where}: {self.at}: {why}")


class _Shape:
    """How many fields the rows of a table have, and which of them are columns: told by the header and the first row.

    Empty fields may follow the last column that has a name, if the header or the first row has them. Before the first
    column there may be a number that the header leaves out (so R writes the names of rows): a whole number, larger from
    row to row.
    """

    def __init__(self, file: TextFile, names: list[str], first: list[str], separator: str, has_header: bool):
        self.file, self.names, self.separator = file, names, separator
        self.told_by = "the header has" if has_header else "line 1 has"
        unnamed = sum(1 for _ in itertools.takewhile(lambda name: not name, reversed(names)))
        beyond = first[len(names) :]
        empty = not any(map(str.strip, beyond))
        self.named = len(beyond) == 1 and not empty and WHOLE.fullmatch(first[0].strip()) is not None
        self.columns = len(names) - min(unnamed, len(names) - 1) + self.named
        self.most = len(names) + (len(beyond) if empty or self.named else 0)
        self.last_name = -1

    def check(self, line: int, fields: list[str]) -> None:
        """Raise DataError unless a row has this shape."""
        found = len(fields)
        if not self.columns <= found <= self.most or any(map(str.strip, fields[self.columns :])):
            if found > self.columns:
                cause = f"a text that holds {self.separator!r} must stand in double quotes"
            else:
                cause = "a separator is missing, or a text is broken over two lines without quotes around it"
            due = f"{self.told_by} {self.columns - self.named}{' and a number before them' * self.named}"
            why = f"{found} field(s), where {due}; the likely cause: {cause}"
            raise _Fault(self.file.where, line, line, why)
        if self.named:
            name = fields[0].strip()
            if not WHOLE.fullmatch(name) or int(name) <= self.last_name:
                why = f"it begins with {name[:40]!r}, where numbers that the header does not name go up from row to row"
                raise _Fault(self.file.where, line, line, f"{why}; {self.told_by} {len(self.names)} names for {found}")
            self.last_name = int(name)


def _separator(file: TextFile, header: bool, wanted: Sequence[str], notes: list[str]) -> str:
    """What separates fields: by which the header has most of the columns wanted, or most names; else the comma.

    Without a header, that by which the first rows have one and the same number of fields, above one.
    """
    first = {each: _first_rows(file, each, 1 if header else SURVEYED) for each in SEPARATORS}
    if header:
        names = {each: [name.strip() for name in rows[0]] if rows else [] for each, rows in first.items()}
        found = max(SEPARATORS, key=lambda each: (len({*wanted} & {*names[each]}), len(names[each])))
        if found != ",":
            notes.append(f"{file.where}: fields are separated by {found!r}, as the header has it")
        return found
    fitting = [
        each for each, rows in first.items() if len(widths := {len(row) for row in rows}) == 1 and max(widths) > 1
    ]
    if fitting and fitting != [","]:
        others = f" ({' and '.join(map(repr, fitting[1:]))} would do too)" if fitting[1:] else ""
        notes.append(f"{file.where}: fields are separated by {fitting[0]!r}, as in each row{others}")
    return fitting[0] if fitting else ","


def _first_rows(file: TextFile, separator: str, most: int) -> list[list[str]]:
    """The first rows that are not empty, as far as they can be read."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        for row in csv.reader(file.lines("replace"), delimiter=separator):
            rows += [row] if row else []
            if len(rows) == most:
                break
    return rows


def _quotes_count(file: TextFile, notes: list[str]) -> bool:
    """Whether quotes between tabs are those of a program that writes tables, or part of the texts.

    Raises DataError where the file contradicts both, with the fault of the reading that gets further.
    """
    if not any('"' in line and any(f.startswith('"') for f in line.split("\t")) for line in file.lines("replace")):
        return False
    fault = _first_fault(file, quotes=True)
    if fault is None:
        notes.append(
            f"{file.where}: quotes around fields are not part of them; all of the file is consistent with that"
        )
        return True
    other = _first_fault(file, quotes=False)
    if other is not None:
        raise max(fault, other, key=lambda each: each.line)
    notes.append(
        f"{file.where}: quotes are part of the texts; taken as quotes around fields they go wrong in {fault.at}"
    )
    return False


def _first_fault(file: TextFile, quotes: bool) -> _Fault | None:
    """Where a file of tabs contradicts itself, if it does: in its quotes, or the number of fields of a row."""
    records, width = _Records(file, "\t", quotes, file.lines("replace")), 0
    try:
        for row, (line, fields) in enumerate(records):
            width = len(fields) if row < 2 else width
            if len(fields) != width:
                cause = "a tab or a line end too many or too few"
                return _Fault(file.where, line, line, f"{len(fields)} field(s), not {width}; the likely cause: {cause}")
            raw = records.line.rstrip("\r\n").split("\t") if records.reader.line_num == line else []
            if quotes and len(raw) == len(fields) and any('"' in each and each[0] != '"' for each in raw):
                why = (
                    "a quote in a field without quotes around it, where others have them; quote it, and double that one"
                )
                return _Fault(file.where, line, line, why)
    except _Fault as fault:
        return fault
    return None


def as_text(value, column: str, table: Table, row: int) -> str:
    """What stands in a column of a table as text, "" for nothing; raises DataError for what is no text.

    ``row`` counts from 0 over the whole source.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        found = f"a {type(value).__name__} in row {table.row(row)}: {value!r:.60}"
        raise DataError(f"{table.where}: column {column!r} holds {found}; a text column is needed")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{table.where}: column {column!r}: row {table.row(row)} has a lone surrogate, which is no text; "
                "write the file again from a decoded text"
            ) from error
    return value
