"""Where a network lives: the CPU, or a GPU through `numba.cuda`, which is imported only when it is asked for."""

from __future__ import annotations

import os
import re

from eqnp.errors import ConfigError, nearest

DEVICES = ("auto", "cpu", "cuda")
ALSO_CALLED = {**dict.fromkeys(("gpu", "cuda", "nvidia", "cupy", "rocm"), "cuda"), "cpu": "cpu", "cpus": "cpu"}
NEEDS = "an NVIDIA GPU with its driver, and pip install 'eqnp[cuda]' (CUDA 12; 'eqnp[cuda13]' for CUDA 13)"


def choose(name: str) -> str:
    """``"cpu"`` or ``"cuda"``, by the name that a user gave; "auto" takes a GPU where one is ready.

    Raises ConfigError for another name, and for "cuda" where no GPU can be used.
    """
    if name not in DEVICES:
        device = ALSO_CALLED.get(re.split(r"[:\d]", name.strip().lower())[0], name)
        raise ConfigError(f"unknown --device {name!r}{nearest(device, DEVICES)}")
    if name == "cpu":
        return name
    trouble = why_no_gpu()
    if name == "cuda" and trouble:
        raise ConfigError(f"--device cuda: {trouble}; it needs {NEEDS}, or leave it at --device cpu")
    return "cpu" if trouble else "cuda"


def why_no_gpu() -> str:
    """What stands in the way of using a GPU, in a few words; nothing if one is ready, or simulated."""
    os.environ.setdefault("NUMBA_CUDA_LOG_LEVEL", "CRITICAL")  # a missing driver is said in a line, below
    try:
        from numba import cuda

        if cuda.is_available():
            return ""
        error = getattr(cuda, "cuda_error", lambda: None)()
    except Exception as found:  # whatever a half-installed CUDA raises
        error = found
    reason = next((line for line in re.split(r"\.?\n", str(error or "")) if line.strip()), "numba finds none")
    return f"no GPU can be used ({reason.strip().rstrip('.')})"


def name_of(device: str) -> str:
    """The device in a few words, for the log of a run."""
    if device != "cuda":
        return device
    from numba import config, cuda

    from eqnp.kernels.cuda import PRODUCTS

    name = "a simulated GPU" if config.ENABLE_CUDASIM else cuda.get_current_device().name
    return f"{name.decode() if isinstance(name, bytes) else name}, products by {PRODUCTS}"
