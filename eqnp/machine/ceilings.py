"""What a machine could do at best: the measured rates of large products, and of copies, that work is compared with."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from eqnp.machine import Machine


def ceilings(machine: Machine, threads: int) -> tuple[float, float, float]:
    """Rates of float32 products, GFLOP/s, median and best, and on a device of copies, GB/s (else 0)."""
    if machine.kernels.ASYNCHRONOUS:
        return device_rates(machine.kernels)
    return *sgemm_rates(machine, threads), 0.0


def device_rates(kernels, size: int = 8192, repeat: int = 7) -> tuple[float, float, float]:
    """Measured rates of a device: float32 products of this size, GFLOP/s, median and best; and copies, GB/s (read and
    written), best."""
    a = kernels.device(np.random.default_rng(0).standard_normal((size, size), np.float32))  # zeros would run faster
    out = kernels.empty((size, size), np.float32)
    kernels.product(a, a, out)  # compiles
    kernels.copy(a, out)
    products = [kernels.timed(lambda: kernels.product(a, a, out)) for _ in range(repeat)]
    copy = min(kernels.timed(lambda: kernels.copy(a, out)) for _ in range(repeat))
    work = 2 * size**3 / 1e9
    return work / statistics.median(products), work / min(products), 2 * 4 * size**2 / copy / 1e9


def sgemm_rates(machine: Machine, threads: int, size: int = 2048, repeat: int = 7) -> tuple[float, float]:
    """Measured float32 GEMM rate of all threads together, GFLOP/s, one product per thread: median and best of a few."""
    rng = np.random.default_rng(0)
    pairs = [rng.random((2, size, size), np.float32) for _ in range(threads)]
    out = np.empty((threads, size, size), np.float32)

    def multiply(i: int) -> None:
        np.matmul(pairs[i][0], pairs[i][1], out=out[i])

    seconds = [_timed(lambda: list(machine.map(multiply, range(threads)))) for _ in range(1 + repeat)][1:]
    work = 2 * threads * size**3 / 1e9
    return work / statistics.median(seconds), work / min(seconds)


def _timed(call: Callable) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
