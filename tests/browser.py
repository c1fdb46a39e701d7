"""A browser that tests look at pages with: Chromium by its debugging pipe, with nothing but the standard library."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
)
PATIENCE = 60  # seconds


class Page:
    """A tab: it opens pages, runs JavaScript in them, takes pictures, and keeps what was logged and asked for.

    ``said`` are the lines of the console and uncaught errors; ``requests`` the addresses of all that was asked for but
    the pages themselves and what is held in them.
    """

    def __init__(self, out: int, into: int):
        self._out, self._into, self._number, self._rest = out, into, 0, b""
        self.said: list[str] = []
        self.requests: list[str] = []
        self._loaded, self._session = False, ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file, in a window of so many pixels, and wait until it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded, self._own = False, path.resolve().as_uri()
        self._ask("Page.navigate", url=self._own)
        while not self._loaded:
            self._take(self._next())

    def run(self, script: str):
        """The value of an expression of JavaScript, awaited; raises AssertionError for one that throws."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key, as "ArrowRight" (39)."""
        for kind in ("rawKeyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, whole: bool = False) -> bytes:
        """What is to be seen, or the whole page, as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def _ask(self, method: str, **params) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._take(answer)

    def _next(self) -> dict:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._out], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser said nothing for {PATIENCE} seconds"
            piece = os.read(self._out, 1 << 20)
            assert piece, "the browser has gone"
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _take(self, event: dict) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(each.get("value", each)) for each in about["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(about["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.said.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            address = about["request"]["url"]
            if not address.startswith("data:") and address != self._own:
                self.requests.append(address)


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A tab of a browser of its own, which ends with the block; ``profile`` is a folder for what it keeps."""
    theirs_in, into = os.pipe()
    out, theirs_out = os.pipe()

    def third_and_fourth() -> None:  # where it listens and speaks
        high = [fcntl.fcntl(theirs, fcntl.F_DUPFD, 10) for theirs in (theirs_in, theirs_out)]
        for theirs, place in zip(high, (3, 4), strict=True):
            os.dup2(theirs, place)

    command = [BROWSER, *OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, preexec_fn=third_and_fourth, pass_fds=(3, 4), **quiet)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(out, into)
    finally:
        os.close(into)  # it ends when nobody speaks to it any more
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(out)
