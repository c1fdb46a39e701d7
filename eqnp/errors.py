"""The package's own exceptions: one line each, saying what was found, what is allowed and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


class EqnpError(Exception):
    """Base class of every error a user can mend; the command line prints it on one line and exits with 2."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class ConfigError(EqnpError):
    """An option, preset, key or value that is not allowed."""


class DataError(EqnpError):
    """A corpus that cannot be read or does not hold what training or evaluation needs."""


class VectorsError(EqnpError):
    """A file or package of word vectors that cannot be read or used."""


class CheckpointError(EqnpError):
    """A run folder, model file or token store that is missing, damaged or of another version."""


class SettlingError(EqnpError):
    """A state or an update that is no longer a finite number."""


def one_line(text: str) -> str:
    """The text with its line ends written out, as they may stand in the name of a file or a class."""
    return "".join(repr(c)[1:-1] if c in LINE_ENDS else c for c in text) if len(text.splitlines()) > 1 else text


def close(name: str, allowed: Iterable[str], cutoff: float = 0.75) -> str:
    """A hint for an error message: ``"; did you mean 'x'?"``, or nothing where none is as like as ``cutoff``."""
    found = difflib.get_close_matches(name, sorted(allowed), n=1, cutoff=cutoff)
    return f"; did you mean {found[0]!r}?" if found else ""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint for an error message: ``"; did you mean 'x'?"``, or the allowed names when none is close."""
    allowed = sorted(allowed)
    return close(name, allowed, cutoff=0.5) or f"; allowed: {some(allowed)}"


def some(names: Iterable[object], most: int = 8) -> str:
    """The names for a line of text: all of them, or the first ``most`` and how many there are: "a, b, … (300)"."""
    names = [one_line(str(name)) for name in names]
    return ", ".join(names if len(names) <= most else [*names[:most], f"… ({len(names)})"])


class Interrupted(Exception):
    """A run that stopped because a signal asked it to, with its state saved; ``signal`` is the number."""

    def __init__(self, number: int, advice: str):
        super().__init__(f"interrupted; {advice}")
        self.signal = number
