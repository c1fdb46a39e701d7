"""Tables in other files: JSON, Parquet, fastText's lines, plain lines, folders of texts, and data sets of a hub."""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from eqnp.errors import DataError, some
from eqnp.text.lines import TextFile
from eqnp.text.tables import NO_ROWS, Table

CHUNK = 1000  # rows read at a time
FASTTEXT = "__label__"
MARK = re.compile(rf"(?:(?<=[ \t])|^){FASTTEXT}[^ \t]+(?:[ \t]+|$)")
OBJECT = '{"text": "…", "label": "…"}'
LIST = f"a list of objects {OBJECT}"
UNLABELLED_FOLDER = "unsup"  # beside the classes, in the IMDB archive


class Number(str):
    """A number of a JSON file, as it stands there."""


def _object(pairs: list[tuple]) -> dict:
    """An object whose keys differ."""
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return result


# Numbers stay as they are written; NaN and its like are nothing.
DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=Number, parse_constant=lambda name: None
)


def json_table(file: TextFile, wanted: Sequence[str]) -> Table:
    """A table of JSON: an object per line, a list of objects, or an object of columns."""
    beginning = list(itertools.islice((line for line in file.lines("replace") if line.strip()), 2))
    by_line = _is_row(wanted, *beginning)
    rows = _rows_of_lines(file, file.lines()) if by_line else _rows_of_document(file)
    head = next(rows, None) if beginning else None
    if head is None:
        raise DataError(f"{file.where}: {NO_ROWS}")
    names = [key.strip() for key in head]
    keys = dict(zip(names, head, strict=True))

    def read(columns: Sequence[str], rows: Iterable[dict] = itertools.chain([head], rows)) -> Iterator[list]:
        wanted = [keys[column] for column in columns]
        for row in rows:
            file.rows += 1
            yield [row.get(key) for key in wanted]

    def part(columns: Sequence[str], start: int, stop: int) -> Iterator[list]:
        lines = file.part(*(file.begin(place, quotes=False) for place in (start, stop)))
        return read(columns, _rows_of_lines(file, lines))

    return Table(file.where, names, read, file.notes, size=file.size if by_line else 0, part=part)


def _is_row(wanted: Sequence[str], first: str = "", second: str = "") -> bool:
    """Whether the first line of a file is an object of its own, and not the whole of a file with a table inside."""
    try:
        value = DECODER.decode(first)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or second:
        return isinstance(value, dict)
    whole = all(isinstance(value.get(key), str) for key in wanted)
    return whole or not any(isinstance(each, list | dict) for each in value.values())


def _rows_of_lines(file: TextFile, lines: Iterable[str]) -> Iterator[dict]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                why = _fault(error)
                raise DataError(f"{file.where}: line {number} is no JSON ({why}); each must be {OBJECT}") from error
            if not isinstance(row, dict):
                raise DataError(f"{file.where}: line {number} is {line.strip()[:40]!r}; each must be {OBJECT}")
            yield row


def _rows_of_document(file: TextFile) -> Iterator[dict]:
    """The rows of a file that is one JSON value, whichever of the usual ways it is arranged in."""
    try:
        value = DECODER.decode("".join(file.lines()))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # more than one value: one per line
            yield from _rows_of_lines(file, file.lines())
            return
        why = _fault(error)
        raise DataError(f"{file.where}: line {error.lineno} is no JSON ({why}); {LIST} is needed") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.where}: no JSON ({_fault(error)}); {LIST} is needed") from error
    if isinstance(value, dict):
        inner = [key for key, each in value.items() if _is_rows(each)]
        if len(inner) == 1:
            value = value[inner[0]]
        elif value and all(isinstance(each, list) for each in value.values()):
            value = _from_columns(file, value)
        elif value and all(isinstance(each, dict) for each in value.values()):
            value = _from_columns(file, {key: list(each.values()) for key, each in value.items()}, value)
        elif value:
            value = [value]
    if not isinstance(value, list) or (value and not _is_rows(value)):
        found = f"a list of {type(value[0]).__name__}" if isinstance(value, list) else type(value).__name__
        raise DataError(f"{file.where}: it holds {found}; {LIST} is needed")
    yield from value


def _fault(error: Exception) -> str:
    """What is wrong with a text that should be JSON."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at place {error.colno}"
    return "lists in lists without end" if isinstance(error, RecursionError) else str(error)


def _is_rows(value) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _from_columns(file: TextFile, columns: Mapping, keyed: Mapping[str, Mapping] | None = None) -> list[dict]:
    """Rows of an object that has a list per column, or an object by row (as pandas writes frames)."""
    sizes = {key: len(values) for key, values in columns.items()}
    if len(set(sizes.values())) > 1 or (keyed and len({frozenset(each) for each in keyed.values()}) > 1):
        found = some(f"{key!r} {size}" for key, size in sizes.items())
        raise DataError(f"{file.where}: its columns differ in their rows ({found}); {LIST} is needed")
    if keyed:
        return [{key: each[row] for key, each in keyed.items()} for row in next(iter(keyed.values()))]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def parquet_table(path: Path, where: str) -> Table:
    """A table of Parquet."""
    import pyarrow
    import pyarrow.parquet

    broken = (pyarrow.ArrowException, OSError, ValueError, OverflowError)  # UnicodeDecodeError among them
    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
    except broken as error:
        raise DataError(f"{where}: cannot be read as Parquet ({_first_line(error)}); write it again") from error
    keys = {name.strip(): name for name in schema.names}

    def part(columns: Sequence[str], start: int, stop: int) -> Iterator[tuple]:
        wanted = [keys[column] for column in columns]
        ends = list(itertools.accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
        first, last = bisect.bisect_right(ends, start), bisect.bisect_left(ends, stop)  # of the groups that have them
        at, groups = ends[first - 1] if first else 0, range(first, min(last + 1, len(ends)))
        try:
            for batch in file.iter_batches(CHUNK, row_groups=groups, columns=sorted(set(wanted))):
                own = batch.slice(min(max(0, start - at), len(batch)), max(0, stop - max(start, at)))
                yield from zip(*(own.column(name).to_pylist() for name in wanted), strict=True)
                at += len(batch)
                if at >= stop:
                    break
        except broken as error:
            raise DataError(f"{where}: cannot be read to its end ({_first_line(error)}); write it again") from error

    if not (size := file.metadata.num_rows):
        raise DataError(f"{where}: {NO_ROWS}")
    types = {name.strip(): kind for name, kind in zip(schema.names, schema.types, strict=True)}
    about = {"own_names": _class_names(schema), "types": types, "size": size, "part": part}
    return Table(where, [name.strip() for name in schema.names], lambda names: part(names, 0, size), **about)


def _class_names(schema) -> dict[str, tuple[str, ...]]:
    """The class names that the `datasets` library stores with a column of numbers."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name.strip(): tuple(each["names"]) for name, each in features.items() if "names" in each}
    except (ValueError, KeyError, TypeError, AttributeError):  # of another library, or another version
        return {}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def line_table(file: TextFile, wanted: Sequence[str], labelled: bool) -> Table:
    """A table of lines: fastText's, with ``__label__NAME`` before the text, or texts alone if they need no label.

    Such lines name no columns: the text, and the label, are what is wanted, if that is one text.
    """
    if not any(map(str.strip, file.lines("replace"))):
        raise DataError(f"{file.where}: {NO_ROWS}")
    names = _nameless(wanted, labelled)

    def read(columns: Sequence[str]) -> Iterator[list]:
        for number, line in enumerate(file.lines(), start=1):
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            labels = [mark.strip(" \t").removeprefix(FASTTEXT) for mark in MARK.findall(line)]
            if labelled and len(labels) != 1:
                found = f"{len(labels)} labels" if labels else "no label"
                raise DataError(
                    f"{file.where}: line {number} has {found}; lines of a .txt file must be: {FASTTEXT}NAME text"
                )
            file.rows += 1
            text = MARK.sub("", line).lstrip(" \t") if labels else line
            values = dict(zip(names, (text, *labels), strict=False))
            yield [values[column] for column in columns]

    return Table(file.where, names, read, file.notes)


def _nameless(wanted: Sequence[str], labelled: bool) -> list[str]:
    """What the columns of data without column names are called: as is wanted, where that is one text."""
    return list(wanted) if len(wanted) == 1 + labelled else ["text", "label"][: 1 + labelled]


def folder_table(folder: Path, encoding: str, wanted: Sequence[str], labelled: bool) -> Table:
    """A folder with a folder of text files for each class: classes by name, and in them files by name.

    A folder called "unsup" beside the classes has texts without labels: the only ones where no labels are wanted.
    """
    where, names, notes = str(folder), _nameless(wanted, labelled), []
    classes = [path for path in _shown(folder) if path.is_dir()]
    apart = [path for path in classes if path.name == UNLABELLED_FOLDER]
    if labelled:
        classes = [path for path in classes if path not in apart]
        if apart:
            notes.append(f"{apart[0]}: left out: it has no labels ({len(_files(apart[0])):,} texts)")
    else:
        classes = apart or classes or [folder]
    files = [(path.name, file) for path in classes for file in _files(path)]
    odd = [each for path in classes for each in _shown(path) if not each.is_file() and path != folder]
    if odd:
        notes.append(f"{where}: {len(odd):,} entries that are no files are left out, such as {odd[0]}")
    if bare := [path.name for path in classes if files and not _files(path)]:
        notes.append(f"{where}: {some(bare)} without files: no class")
    if not files:
        tables = _files(folder)
        hint = f"give a file of it, such as {tables[0]}" if tables else "it is empty"
        raise DataError(f"{where}: is a folder without a folder of text files for each class; {hint}")

    def read(columns: Sequence[str]) -> Iterator[list]:
        for label, file in files:
            content = TextFile(file, str(file), encoding)
            text = "".join(content.lines())
            if not text.strip():
                raise DataError(f"{file}: is empty; remove it, or give it a text")
            notes.extend(note for note in content.notes if note not in notes)
            values = dict(zip(names, (text, label), strict=False))
            yield [values[column] for column in columns]

    return Table(where, names, read, notes)


def _files(folder: Path) -> list[Path]:
    return [path for path in _shown(folder) if path.is_file()]


def _shown(folder: Path) -> list[Path]:
    """What is in a folder, by name, without what is hidden."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def dataset_table(dataset, where: str) -> Table:
    """A table of a `datasets.Dataset`."""
    keys = {name.strip(): name for name in dataset.column_names}
    own = {name: tuple(getattr(dataset.features[key], "names", None) or ()) for name, key in keys.items()}

    def part(columns: Sequence[str], start: int, stop: int) -> Iterator[tuple]:
        wanted = [keys[column] for column in columns]
        chosen = dataset.select_columns(sorted(set(wanted)))
        for first in range(start, stop, CHUNK):
            rows = chosen[first : min(first + CHUNK, stop)]
            yield from zip(*(rows[name] for name in wanted), strict=True)

    own, size = {name: names for name, names in own.items() if names}, len(dataset)
    names = [name.strip() for name in dataset.column_names]
    return Table(where, names, lambda names: part(names, 0, size), own_names=own, size=size, part=part)
