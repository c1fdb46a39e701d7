"""Texts that the command line is given: its arguments, or the lines of standard input."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

from eqnp.errors import ConfigError, DataError

PIECE = 1 << 18  # bytes of standard input that are taken at a time, if they are there


def blocks_of(stream) -> Iterator[list[str]]:
    """The lines of standard input as they come: those that are there, and then those that have come meanwhile.

    There are none when it is closed. Bytes that are not UTF-8 are marked, not fatal, and told at the end. A byte order
    mark is no part of the first line.
    """
    if stream is None:
        return
    if not hasattr(stream, "buffer"):  # text in memory, which is all there
        if lines := [line.rstrip("\r\n") for line in stream]:
            yield [lines[0].removeprefix("\ufeff"), *lines[1:]]
        return
    # ASCII is what Python takes for a locale that says nothing
    encoding = "utf-8" if _is_ascii(stream.encoding) else stream.encoding
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)("replace"), translate=True)
    rest, number, marked = "", 0, []
    while data := stream.buffer.read1(PIECE):
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        if lines:
            marked += [at for at, line in enumerate(lines, start=number + 1) if "\ufffd" in line]
            yield lines if number else [lines[0].removeprefix("\ufeff"), *lines[1:]]
            number += len(lines)
    rest += decoder.decode(b"", final=True)
    if rest:
        marked += [number + 1] * ("\ufffd" in rest)
        yield [line if number else line.removeprefix("\ufeff") for line in rest.removesuffix("\n").split("\n")]
    if marked:
        print(
            f"eqnp: {len(marked):,} line(s), the first line {marked[0]}, hold bytes that are no {encoding}, "
            "read as \ufffd",
            file=sys.stderr,
        )


def _is_ascii(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "ascii"


def readable(text: str) -> str:
    """The text of an argument: bytes that the locale has no characters for are UTF-8, and else marked."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        with suppress(UnicodeEncodeError):
            return os.fsencode(text).decode("utf-8", "replace")
        return text.encode("utf-8", "replace").decode()


def columns_of(given: list[str], segments: list[str], from_lines: bool, before: int = 0) -> dict[str, list[str]]:
    """Texts by segment: one argument each, or the tab-separated parts of a line, for networks of several segments.

    A blank line is as many empty texts; raises DataError for an empty argument. ``before`` is the number of lines that
    came before these.
    """
    empty = next((number for number, text in enumerate(given, start=1) if not text.strip()), None)
    if empty is not None and not from_lines:
        raise DataError(f"text {empty} is empty; give at least one word")
    parts = len(segments)
    if parts == 1:
        return {segments[0]: given}
    rows = (
        [line.split("\t") if line.strip() else [""] * parts for line in given]
        if from_lines
        else [given[i : i + parts] for i in range(0, len(given), parts)]
    )
    wrong = next((number for number, row in enumerate(rows, start=1) if len(row) != parts), None)
    if wrong is not None:
        raise ConfigError(
            f"sample {before + wrong} has {len(rows[wrong - 1])} text(s), but this network reads {parts} "
            f"({', '.join(segments)}); give them as {parts} arguments, or tab-separated on a line"
        )
    return {name: [row[i] for row in rows] for i, name in enumerate(segments)}
