"""Tables in other files: JSON, Parquet, fastText's lines, plain lines, folders of texts, and data sets of a hub."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eqnp.errors import DataError, some
from eqnp.text.tables import Table, TextFile

CHUNK = 1000  # rows read at a time
FASTTEXT = "__label__"
LABELLED_LINE = re.compile(rf"\s*((?:{FASTTEXT}\S+(?:\s+|$))*)(.*)", re.DOTALL)
NO_ROWS = "there are no rows; at least one text with a label is needed"
OBJECT = '{"text": "…", "label": "…"}'
LIST = f"a list of objects {OBJECT}"
UNLABELLED_FOLDER = "unsup"  # beside the classes, in the IMDB archive


class Number(str):
    """A number of a JSON file, as it stands there."""


class _Decoder(json.JSONDecoder):
    """Numbers stay as they are written; NaN and its like are nothing."""

    def __init__(self):
        super().__init__(parse_float=Number, parse_int=Number, parse_constant=lambda name: None)


DECODER = _Decoder()


def json_table(file: TextFile) -> Table:
    """A table of JSON: an object per line, a list of objects, or an object of columns."""
    beginning = list(itertools.islice((line for line in file.lines("replace") if line.strip()), 2))
    rows = _rows_of_lines(file) if _is_row(*beginning) else _rows_of_document(file)
    head = next(rows, None) if beginning else None
    if head is None:
        raise DataError(f"{file.where}: {NO_ROWS}")
    names = [key.strip() for key in head]
    keys = dict(zip(names, head, strict=True))

    def read(columns: Sequence[str]) -> Iterator[list]:
        wanted = [keys[column] for column in columns]
        for row in itertools.chain([head], rows):
            file.rows += 1
            yield [row.get(key) for key in wanted]

    return Table(file.where, names, read)


def _is_row(first: str = "", second: str = "") -> bool:
    """Whether the first line of a file is an object of its own, and not the whole of a file with a table inside."""
    try:
        value = DECODER.decode(first)
    except (ValueError, RecursionError):
        return False
    plain = isinstance(value, dict) and not any(isinstance(each, list | dict) for each in value.values())
    return isinstance(value, dict) and (plain or bool(second))


def _rows_of_lines(file: TextFile) -> Iterator[dict]:
    for number, line in enumerate(file.lines(), start=1):
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
            yield from _rows_of_lines(file)
            return
        why = _fault(error)
        raise DataError(f"{file.where}: line {error.lineno} is no JSON ({why}); {LIST} is needed") from error
    except RecursionError as error:
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
    if len(set(sizes.values())) > 1 or (keyed and len({tuple(each) for each in keyed.values()}) > 1):
        found = some(f"{key!r} {size}" for key, size in sizes.items())
        raise DataError(f"{file.where}: its columns differ in their rows ({found}); {LIST} is needed")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def parquet_table(path: Path, where: str) -> Table:
    """A table of Parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        schema = file.schema_arrow
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{where}: cannot be read as Parquet ({_first_line(error)}); write it again") from error
    keys = {name.strip(): name for name in schema.names}

    def read(columns: Sequence[str]) -> Iterator[tuple]:
        wanted = [keys[column] for column in columns]
        try:
            for batch in file.iter_batches(CHUNK, columns=sorted(set(wanted))):
                yield from zip(*(batch.column(name).to_pylist() for name in wanted), strict=True)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{where}: cannot be read to its end ({_first_line(error)}); write it again") from error

    if not file.metadata.num_rows:
        raise DataError(f"{where}: {NO_ROWS}")
    return Table(where, list(keys), read, own_names=_class_names(schema))


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
    first = next((line for line in file.lines("replace") if line.strip()), "")
    marked = first.lstrip().startswith(FASTTEXT)
    if not first:
        raise DataError(f"{file.where}: {NO_ROWS}")
    if labelled and not marked:
        raise DataError(f"{file.where}: line 1 has no label; lines of a .txt file must be: {FASTTEXT}NAME text")
    names = _nameless(wanted, labelled)

    def read(columns: Sequence[str]) -> Iterator[list]:
        for number, line in enumerate(file.lines(), start=1):
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            marks, text = LABELLED_LINE.fullmatch(line).groups() if marked else ("", line)
            labels = [mark.removeprefix(FASTTEXT) for mark in marks.split()]
            if labelled and len(labels) != 1:
                need = f"{FASTTEXT}NAME text, with one label"
                raise DataError(f"{file.where}: line {number} has {len(labels)} labels; it must be {need}")
            file.rows += 1
            values = dict(zip(names, (text, *labels), strict=False))
            yield [values[column] for column in columns]

    return Table(file.where, names, read)


def _nameless(wanted: Sequence[str], labelled: bool) -> list[str]:
    """What the columns of data without column names are called: as is wanted, where that is one text."""
    return list(wanted) if len(wanted) == 1 + labelled else ["text", "label"][: 1 + labelled]


def folder_table(folder: Path, encoding: str, wanted: Sequence[str], labelled: bool) -> Table:
    """A folder with a folder of text files for each class: classes by name, and in them files by name.

    A folder called "unsup" beside the classes has texts without labels: the only ones where no labels are wanted.
    """
    where, names, notes = str(folder), _nameless(wanted, labelled), []
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    apart = [path for path in classes if path.name == UNLABELLED_FOLDER]
    if labelled:
        classes = [path for path in classes if path not in apart]
        if apart:
            notes.append(f"{apart[0]}: left out: it has no labels ({len(_files(apart[0])):,} texts)")
    else:
        classes = apart or classes or [folder]
    files = [(path.name, file) for path in classes for file in _files(path)]
    if not files:
        tables = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        hint = f"give a file of it, such as {folder / tables[0]}" if tables else "it is empty"
        raise DataError(f"{where}: is a folder without a folder of text files for each class; {hint}")

    def read(columns: Sequence[str]) -> Iterator[list]:
        for label, file in files:
            values = dict(zip(names, ("".join(TextFile(file, str(file), encoding).lines()), label), strict=False))
            yield [values[column] for column in columns]

    return Table(where, names, read, notes)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def dataset_table(dataset, where: str) -> Table:
    """A table of a `datasets.Dataset`."""
    keys = {name.strip(): name for name in dataset.column_names}
    own = {name: tuple(getattr(dataset.features[key], "names", None) or ()) for name, key in keys.items()}

    def read(columns: Sequence[str]) -> Iterator[tuple]:
        wanted = [keys[column] for column in columns]
        part = dataset.select_columns(sorted(set(wanted)))
        for start in range(0, len(part), CHUNK):
            rows = part[start : start + CHUNK]
            yield from zip(*(rows[name] for name in wanted), strict=True)

    return Table(where, list(keys), read, own_names={name: names for name, names in own.items() if names})
