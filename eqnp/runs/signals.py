"""Stopping on request: the first SIGINT, SIGTERM or SIGHUP is remembered, a second one ends the process at once.

One that was ignored when the process began, as by `nohup` or for a job in the background, stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress

from eqnp.errors import Interrupted

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequest:
    """A context manager in which the signals are only noted; who does the work asks `check` where it can stop.

    Outside the main thread, where Python handles no signals, it notes nothing.
    """

    def __init__(self):
        self.received = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._note) for number in heard}
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
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        with suppress(OSError, AttributeError, ValueError):  # a terminal that is gone, or none
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), b"\nstopping after this batch; once more stops at once\n")
