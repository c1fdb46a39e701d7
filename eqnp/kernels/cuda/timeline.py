"""What takes how long on the device, for those who ask: a mark after each kernel, copy and product of cuBLAS."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from numba import config

if config.ENABLE_CUDASIM:
    from eqnp.kernels.cuda import simulated as driver
else:
    from eqnp.kernels.cuda import driver

_marks: list[tuple[str, object]] | None = None


def mark(name: str) -> None:
    """Some work has been started, and everything since the mark before was for it."""
    if _marks is not None:
        _marks.append((name, driver.moment()))


def breakdown(call) -> dict[str, float]:
    """Seconds on the device by kind of work during a call, the longest first.

    Where the device waits for the host, the wait counts for what comes next.
    """
    global _marks
    taken = _marks = [("", driver.moment())]
    try:
        call()
    finally:
        _marks = None
    seconds: defaultdict[str, float] = defaultdict(float)
    for (_, before), (name, after) in pairwise(taken):
        seconds[name] += driver.between(before, after)
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def timed(call) -> float:
    """Seconds that a call takes on the device, until its work is done."""
    before = driver.moment()
    call()
    return driver.between(before, driver.moment())


def launch(kernel, grid, block, *arguments) -> None:
    """Have a kernel run on a grid of blocks, after all work before it; arguments are arrays and numbers."""
    driver.launch(kernel, grid, block, *arguments)
    if _marks is not None:
        mark(kernel.py_func.__qualname__.split(".")[0].strip("_"))
