"""Tables written row by row, as .csv, .jsonl or .parquet: what `eqnp.text.sources` reads back to the same rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from eqnp.errors import ConfigError
from eqnp.files import writing
from eqnp.text.formats import Number

QUOTED = re.compile(r'[",\r\n]')  # what a field without quotes may not hold
Write = Callable[[Sequence[Sequence]], None]


def check_ending(path: Path) -> None:
    """Raise ConfigError for a file that is no table that can be written."""
    if path.suffix.lower() not in WRITERS:
        raise ConfigError(f"{path}: a table is written as {', '.join(WRITERS)}; give it a name that ends so")


@contextmanager
def table_writer(path: Path, names: Sequence[str], types: Mapping[str, object]) -> Iterator[Write]:
    """What writes rows of values, one for each of the ``names``; the file is there when the block ends well, and else
    nothing is. ``types`` are pyarrow's of the columns that are no text, for Parquet. Raises OSError."""
    with writing(path) as file, WRITERS[path.suffix.lower()](file, names, types) as write:
        yield write


@contextmanager
def _csv(file, names: Sequence[str], types: Mapping) -> Iterator[Write]:
    def write(rows: Sequence[Sequence]) -> None:
        file.write("".join(f"{','.join(map(_field, row))}\n" for row in rows).encode())

    write([names])
    yield write


@contextmanager
def _jsonl(file, names: Sequence[str], types: Mapping) -> Iterator[Write]:
    keys = [json.dumps(name, ensure_ascii=False) for name in names]

    def write(rows: Sequence[Sequence]) -> None:
        lines = (
            f"{{{', '.join(f'{key}: {_json(value)}' for key, value in zip(keys, row, strict=True))}}}\n" for row in rows
        )
        file.write("".join(lines).encode())

    yield write


@contextmanager
def _parquet(file, names: Sequence[str], types: Mapping) -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in names])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:

        def write(rows: Sequence[Sequence]) -> None:
            columns = [
                pyarrow.array(column if name in types else [_text(value) for value in column], types.get(name))
                for name, column in zip(names, zip(*rows, strict=True), strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))

        yield write


WRITERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def _field(value) -> str:
    """A value in a row of fields. (`csv` leaves a carriage return without quotes, and then it ends the row.)"""
    text = _text(value) or ""
    return '"' + text.replace('"', '""') + '"' if QUOTED.search(text) else text


def _text(value) -> str | None:
    """A value in a field of text: lists and tables as JSON."""
    return _json(value) if isinstance(value, list | dict) else None if value is None else str(value)


def _json(value) -> str:
    """A value as JSON, its numbers as they stood in a file of JSON."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return "null" if value != value else json.dumps(value, ensure_ascii=False, default=str)
