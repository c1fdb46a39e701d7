"""Twin kernels: the same names and signatures in plain NumPy (`naive`), in Numba (`cpu`) and on a GPU (`cuda`).

The rest of the package asks `load` for a twin once and never looks at which one it got. `naive` is the definition
and the reader's text; the others are tested against it. A kernel writes its result into an argument and allocates
nothing that outlives the call, so that a shard of a batch can settle on a thread of its own.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from eqnp.errors import ConfigError, nearest

TWINS = {name: f"eqnp.kernels.{name}" for name in ("naive", "cpu", "cuda", "analytic")}


def load(device: str = "cpu") -> ModuleType:
    """The kernel module for a device: ``"cpu"`` (Numba, compiled and cached on first use), ``"cuda"`` (a GPU; see
    `eqnp.machine.device`) or ``"naive"`` (NumPy).

    ``"analytic"`` continues the definitions to complex states, for holomorphic estimates.
    Raises ConfigError for any other name.
    """
    if device not in TWINS:
        raise ConfigError(f"unknown device {device!r}{nearest(device, TWINS)}")
    return importlib.import_module(TWINS[device])
