"""Texts that the command line is given: its arguments, or the lines of standard input."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress

from eqnp.errors import ConfigError, DataError


def lines_of(stream) -> list[str]:
    """The lines of standard input, none when it is closed; bytes that are not UTF-8 are marked, not fatal.

    A byte order mark is no part of the first.
    """
    if stream is None:
        return []
    if hasattr(stream, "reconfigure"):  # ASCII is what Python takes for a locale that says nothing
        stream.reconfigure(encoding="utf-8" if _is_ascii(stream.encoding) else stream.encoding, errors="replace")
    lines = [line.rstrip("\r\n") for line in stream]
    if marked := [number for number, line in enumerate(lines, start=1) if "\ufffd" in line]:
        print(
            f"eqnp: {len(marked):,} line(s), the first line {marked[0]}, hold bytes that are no {stream.encoding}, "
            "read as \ufffd",
            file=sys.stderr,
        )
    return [lines[0].removeprefix("\ufeff"), *lines[1:]] if lines else []


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


def columns_of(given: list[str], segments: list[str], from_lines: bool) -> dict[str, list[str]]:
    """Texts by segment: one argument each, or the tab-separated parts of a line, for networks of several segments.

    A blank line is as many empty texts; raises DataError for an empty argument.
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
            f"sample {wrong} has {len(rows[wrong - 1])} text(s), but this network reads {parts} "
            f"({', '.join(segments)}); give them as {parts} arguments, or tab-separated on a line"
        )
    return {name: [row[i] for row in rows] for i, name in enumerate(segments)}
