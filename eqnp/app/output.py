"""Standard output and error that never fail: what cannot be written is dropped, and told at the end.

A run must not be lost because its output is: the reader may go, a disk fill up, a terminal lack a character.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class Outlet:
    """A text stream, or None, that takes all it is given: after the first ``failure`` that is dropped.

    Characters that the encoding of the stream lacks are written as backslash escapes.
    """

    def __init__(self, stream):
        self.stream, self.failure = stream, None

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, or drop it; returns the number of characters."""
        self._attempt(self._write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop what was not written yet."""
        self._attempt(lambda: self.stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._is_open() and self.stream.isatty()

    def _is_open(self) -> bool:
        return self.stream is not None and not getattr(self.stream, "closed", False)

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _attempt(self, action, *arguments) -> None:
        if self.failure is None and self._is_open():
            try:
                action(*arguments)
            except OSError as error:
                self.failure = error
                self._drain()

    def _drain(self) -> None:
        """Let what the stream still holds go nowhere: the interpreter would try to write it when it ends."""
        with suppress(OSError, ValueError):  # a stream that is no file holds nothing
            number = self.stream.fileno()
            kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, number)
                self.stream.flush()
            finally:
                os.dup2(kept, number)
                os.close(kept)
                os.close(nowhere)


class Output:
    """A context manager in which ``sys.stdout`` and ``sys.stderr`` never fail; both are as before when it ends."""

    def __enter__(self) -> Output:
        self._before = sys.stdout, sys.stderr
        self.out, self.err = sys.stdout, sys.stderr = Outlet(sys.stdout), Outlet(sys.stderr)
        return self

    def __exit__(self, *_) -> None:
        self.out.flush()
        self.err.flush()
        sys.stdout, sys.stderr = self._before

    def failure(self) -> str:
        """Why standard output is not complete, "" if it is; a reader that has gone is no failure."""
        self.out.flush()
        if self.out.failure is None or isinstance(self.out.failure, BrokenPipeError):
            return ""
        return self.out.failure.strerror or str(self.out.failure)
