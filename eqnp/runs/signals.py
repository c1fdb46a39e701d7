"""Stopping on request: the first SIGINT or SIGTERM is remembered, a second one ends the process at once."""

from __future__ import annotations

import os
import signal
import sys
import threading

from eqnp.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """A context manager in which the signals are only noted; who does the work asks `check` where it can stop.

    Outside the main thread, where Python handles no signals, it notes nothing.
    """

    def __init__(self):
        self.received = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, advice: str) -> None:
        """Raise Interrupted with this advice if a signal has come."""
        if self.received:
            raise Interrupted(self.received, advice)

    def _note(self, number: int, frame) -> None:
        self.received = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\nstopping after this batch; once more stops at once\n")
