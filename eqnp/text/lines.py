"""Text files as lines: their encoding, their line ends, and gzip around them.

What a file begins with is held against the encoding that it should have: none is read as another one in silence.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eqnp.errors import DataError

LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
AHEAD = 4096  # bytes of a file that are looked at first
STRANGERS = {  # what files of other kinds begin with
    b"PK\x03\x04": "is a spreadsheet or an archive; export its table as .csv",
    b"PAR1": "is a Parquet file; give it a name that ends in .parquet",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet; export its table as .csv",
    b"\x1f\x8b": "is compressed twice; unpack it once",
}
MARKS = {  # of byte order, the longer before what it begins with, by encoding
    "utf-8": codecs.BOM_UTF8,
    "utf-32": codecs.BOM_UTF32_LE,
    "utf-16": codecs.BOM_UTF16_LE,
    "utf-16 ": codecs.BOM_UTF16_BE,
}
UTF_8 = ("utf-8", "utf-8-sig")
CHUNK = 1 << 20  # bytes looked at together
STATEFUL = ("iso2022", "hz", "utf-7")  # whose lines cannot be read one by one


class TextFile:
    """A text file, compressed by gzip or not, whose lines can be read again and again.

    ``rows`` is for who reads it: the number of rows found so far, for messages. ``notes`` say what was decided about
    its encoding, and are complete when all lines are read. Raises DataError for a file of another kind or encoding.
    """

    def __init__(self, path: Path, where: str, encoding: str):
        self.path, self.where, self.rows = path, where, 0
        self.notes: list[str] = []
        with self._opened() as file:
            self.beginning = file.read(AHEAD)
        stranger = next((what for magic, what in STRANGERS.items() if self.beginning.startswith(magic)), None)
        if stranger:
            raise DataError(f"{where}: {stranger}")
        self.encoding = self._checked(encoding)

    @contextmanager
    def _opened(self):
        """Its bytes; what goes wrong with them becomes one line."""
        try:
            with open(self.path, "rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            with gzip.open(self.path, "rb") if packed else open(self.path, "rb") as file:
                yield file
        except (OSError, EOFError, zlib.error) as error:
            why = getattr(error, "strerror", None) or error
            raise DataError(f"{self.where}: cannot be read ({why}); check the file, or fetch it again") from error

    def _checked(self, encoding: str) -> str:
        """The encoding that it has, as far as its beginning tells; raises DataError if that is another one."""
        own = codecs.lookup(encoding).name
        marked = next((name.strip() for name, mark in MARKS.items() if self.beginning.startswith(mark)), "")
        if marked and not own.startswith(marked):
            if marked == "utf-8":
                self.notes.append(f"{self.where}: is read as UTF-8, as its byte order mark says, and not as {encoding}")
                return "utf-8"
            raise DataError(
                f"{self.where}: line 1 is not {encoding}: byte 0x{self.beginning[0]:02x} begins the mark of {marked}; "
                f"save the file as UTF-8, or say what it is when training: --set data.encoding={marked}"
            )
        zeros = [self.beginning[first::2].count(0) for first in (0, 1)]
        if not marked and not own.startswith(("utf-16", "utf-32")) and max(zeros) > len(self.beginning) / 4:
            other = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
            raise DataError(
                f"{self.where}: line 1 is not {encoding}: every other byte is 0x00; save the file as UTF-8, or say "
                f"what it is when training: --set data.encoding={other}"
            )
        return encoding

    def lines(self, errors: str = "strict") -> Iterator[str]:
        """The lines, each with its end; a byte order mark is left out.

        Raises DataError for bytes of another encoding, unless ``errors`` is "replace" (for a look ahead), and for what
        cannot be read.
        """
        with self._opened() as file:
            yield from (self._decoded_by_line if self._by_line else self._decoded)(file, errors)

    @property
    def _by_line(self) -> bool:
        """Whether line ends are seen in its bytes."""
        single = not codecs.lookup(self.encoding).name.startswith(STATEFUL) and "\n".encode(self.encoding) == b"\n"
        return single and (b"\r" not in self.beginning or b"\n" in self.beginning)

    @property
    def size(self) -> int:
        """Its bytes, if it can be read from any line on; 0 if not: it is compressed, or of another encoding."""
        plain = self._by_line and codecs.lookup(self.encoding).name in UTF_8
        with open(self.path, "rb") as file:
            return self.path.stat().st_size if plain and file.read(2) != b"\x1f\x8b" else 0

    def part(self, start: int, stop: int) -> Iterator[str]:
        """The lines from one byte to before another, each of which begins a line; raises DataError as `lines` does."""
        with self._opened() as file:
            file.seek(start)
            yield from self._decoded_by_line(_until(file, stop - start), "strict", 1 if start == 0 else 2)

    def begin(self, place: int, quotes: bool) -> int:
        """The first byte at or after a place that begins a line; with ``quotes``, one before which they are even."""
        with self._opened() as file:
            even = not quotes or not sum(chunk.count(b'"') for chunk in _chunks(file, place)) % 2
            file.seek(max(0, place - 1))
            line = file.readline() if place else b""  # what is left of a line, with the end of it
            even, at = even != bool(quotes and line[1:].count(b'"') % 2), max(0, place - 1) + len(line)
            while not even and (line := file.readline()):
                even, at = even != bool(line.count(b'"') % 2), at + len(line)
            return at

    def _decoded_by_line(self, file: Iterable[bytes], errors: str, first: int = 1) -> Iterator[str]:
        utf_8 = None  # whether it would be UTF-8 too, as far as that can be told
        for number, line in enumerate(file, start=first):
            try:
                text = line.decode(self.encoding, errors)
            except UnicodeError as error:
                raise DataError(self._undecodable(number, line, getattr(error, "start", 0))) from error
            if utf_8 is not False and not line.isascii():
                utf_8 = _decodes(line, "utf-8")
            if number == 1:
                text = text.removeprefix("\ufeff")
            if "\r" in text.removesuffix("\r\n"):  # which ends a line of its own
                yield from LINE.findall(text)
            else:
                yield text
        if utf_8 and errors == "strict" and codecs.lookup(self.encoding).name not in UTF_8:
            self.notes.append(f"{self.where}: is read as {self.encoding}, as data.encoding says; it is valid UTF-8 too")

    def _decoded(self, file, errors: str) -> Iterator[str]:
        """Of an encoding such as UTF-16, or of old line ends, neither of which are seen in its bytes."""
        with io.TextIOWrapper(file, self.encoding, errors, newline="") as text:
            try:
                for number, line in enumerate(text, start=1):
                    yield line.removeprefix("\ufeff") if number == 1 else line
            except UnicodeError as error:
                raise DataError(
                    f"{self.where}: after row {self.rows} it is not {self.encoding} ({error}); "
                    "check data.encoding, which is that of all text files of a run (UTF-16 without a byte order mark "
                    "is utf-16-le or utf-16-be)"
                ) from error

    def _undecodable(self, number: int, line: bytes, place: int) -> str:
        other = "cp1252" if _decodes(line, "cp1252") else "latin-1"
        row = f"row {self.rows + 1} (line {number})" if number > 1 else "line 1"
        return (
            f"{self.where}: {row} is not {self.encoding}: byte 0x{line[place]:02x} at place {place + 1} of the line; "
            f"save the file as UTF-8, or say what it is when training: --set data.encoding={other} if it is of Western "
            "Europe (else cp1251, shift_jis, gb18030, …)"
        )


def _until(file, size: int) -> Iterator[bytes]:
    """The lines of so many bytes."""
    while size > 0 and (line := file.readline()):
        size -= len(line)
        yield line


def _chunks(file, size: int) -> Iterator[bytes]:
    """So many bytes, some at a time."""
    while size > 0 and (chunk := file.read(min(size, CHUNK))):
        size -= len(chunk)
        yield chunk


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        return bool(line.decode(encoding))
    except UnicodeDecodeError:
        return False
