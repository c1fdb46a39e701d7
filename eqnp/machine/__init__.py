"""Where a network runs: kernels, memory, threads, shards, ranks and device, in one object that a network holds.

Nothing else knows of them: what settles and learns asks its network's machine for memory, hands it work for shards, and
is told how often a device may be looked at.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from eqnp.errors import ConfigError
from eqnp.kernels import load
from eqnp.machine.buffers import Buffers
from eqnp.machine.exchange import Need
from eqnp.machine.gradients import RowGradient, total
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import MapOver, over, workers

SHARED = 1 << 29  # multiply-adds of the largest product of a shard from which on threads share the work on it
COLUMNS = 7500  # pre units contrasted in one product: enough for BLAS, and a fixed number for the same bits
LOOK = 2  # sweeps between two looks at the residual, where a look means waiting for a device
GLANCE = 10  # and where nothing but NaN would end the phase
TOGETHER = 256  # samples that a device predicts at a time, at least


class Machine:
    """What a network runs on: the kernels of a ``device`` ("cpu", "cuda", "naive"; see `eqnp.kernels.load`).

    ``shard`` samples of a batch settle together, each shard on one thread (None: the whole batch), and results do not
    depend on the number of threads; ``ranks`` are the processes that share a batch. By itself a machine uses the
    calling thread alone, and fresh memory for every batch; `at_work` adds threads, and memory that is used again.
    Raises ConfigError for an unknown device.
    """

    def __init__(self, device: str = "cpu", shard: int | None = None, ranks: Ranks = ALONE):
        self.device, self.kernels, self.shard, self.ranks = device, load(device), shard, ranks
        self._waits = self.kernels.ASYNCHRONOUS  # a look at a result waits for the device, which has no threads of ours
        self.map: MapOver = over(None)
        self._kept: tuple[Buffers, threading.local] | None = None

    @contextmanager
    def at_work(self, threads: int | None = None) -> Iterator[Machine]:
        """The same machine with threads (default: one per core), whose memory of one batch serves the next.

        What `estimate` returns on it is good until it is called again. BLAS takes one thread a call meanwhile.
        """
        with workers(threads) as executor:
            working = copy.copy(self)
            working.map = over(None if self._waits else executor)
            working._kept = Buffers(self.kernels.empty), threading.local()
            yield working

    def of_shards(self, shard: int) -> Machine:
        """The same with another size of shards."""
        other = copy.copy(self)
        other.shard = shard
        return other

    def alone(self) -> Machine:
        """The same without other ranks."""
        other = copy.copy(self)
        other.ranks = ALONE
        return other

    def analytic(self) -> Machine:
        """The same with kernels for complex states; raises ConfigError on a device other than the CPU."""
        if self._waits:
            raise ConfigError(f"holomorphic estimates need the CPU, not {self.device!r}; use another estimator")
        other = copy.copy(self)
        other.kernels = load("analytic")
        return other

    def needs_kernels(self, kind: str, name: str, thing: object) -> None:
        """Raise ConfigError for a layer, synapse or optimiser in plain NumPy where the CPU cannot reach the arrays.

        A class that was derived from a compiled one must say itself that it is ``compiled`` too.
        """
        if self._waits and not ("compiled" in vars(type(thing)) and thing.compiled):
            raise ConfigError(f"{kind} {name!r} has no kernels for the device {self.device!r}; use the CPU for it")

    # --- memory and work ---------------------------------------------------------------------------------------------

    @property
    def buffers(self) -> Buffers:
        """Memory for one shard, by key: that of the calling thread."""
        if self._kept is None:
            return Buffers(self.kernels.empty)
        own = self._kept[1]
        if not hasattr(own, "buffers"):
            own.buffers = Buffers(self.kernels.empty)
        return own.buffers

    @property
    def batch_buffers(self) -> Buffers:
        """Memory for a batch as a whole, by key."""
        return self._kept[0] if self._kept else Buffers(self.kernels.empty)

    def map_layers(self, work: float) -> MapOver:
        """What calls a function for several layers: on all threads where ``work``, in multiply-adds, is worth it."""
        return self.map if work >= SHARED else map

    def shards(self, samples: int) -> tuple[slice, list[slice]]:
        """The samples of a batch that are this rank's, and the shards within them; a device settles all as one."""
        return self.ranks.own(samples, samples if self._waits or not self.shard else self.shard)

    def prediction_shards(self, split_into: Callable[[int], Sequence], together: int) -> list:
        """What is settled at a time where nothing is learned, in the order of the work; ``split_into(size)`` cuts it.

        On a device at least `TOGETHER` samples, the longest texts first: the memory that they take serves all others.
        """
        return list(split_into(max(together, TOGETHER)))[::-1] if self._waits else list(split_into(together))

    def pieces(self, count: int, size: int) -> list[slice]:
        """Parts of ``size`` of so many entries, for the threads; on a device there is one part."""
        size = sys.maxsize if self._waits else size
        return [slice(start, start + size) for start in range(0, count, size)]

    def columns(self, units: int) -> list[slice]:
        """Blocks of pre units whose contrasts are one product each."""
        return self.pieces(units, COLUMNS)

    # --- settling ----------------------------------------------------------------------------------------------------

    @property
    def leaves_samples(self) -> bool:
        """Whether samples that have settled are left behind; a device settles all together."""
        return not self._waits

    @property
    def sees_energy(self) -> bool:
        """Whether energies may be looked at, by traces and to accelerate sweeps."""
        return not self._waits

    def looks(self, sweep: float, last: int, tolerance: float) -> bool:
        """Whether the residual is looked at after so many sweeps (.5: after half of one) of at most ``last``."""
        if not self._waits:
            return True
        return sweep == last or sweep % (LOOK if tolerance else GLANCE) == 0

    def padded(self, ids: np.ndarray, positions: int) -> np.ndarray:
        """ids (B, M), on a device padded to (B, positions): no array has to be cut there, which leaves gaps."""
        return np.pad(ids, ((0, 0), (0, positions - ids.shape[1]))) if self._waits else ids

    # --- ranks -------------------------------------------------------------------------------------------------------

    def held(self, value: np.ndarray, rows: int | None) -> np.ndarray:
        """What this rank holds of a parameter: where all ``rows`` of a table are given, its own; of a map, a copy."""
        own = self.ranks.own_rows(value) if len(value) == rows else value
        return own if own.flags.writeable else own.copy()

    def of_all_ranks(self, shards: list[list[np.ndarray]], widths: Sequence[int], dtype) -> list[np.ndarray]:
        """What was found for each sample, arrays (b, width) by shard, for all samples of all ranks: (B, width) each."""
        if self.ranks.size == 1:
            return [np.concatenate(parts) for parts in zip(*shards, strict=True)]
        rows, real = [np.hstack(parts) for parts in shards], np.empty(0, dtype).real.dtype
        every = self.ranks.concatenate(rows, sum(widths), real)
        return [np.ascontiguousarray(part) for part in np.split(every, np.cumsum(widths)[:-1], axis=1)]

    def total(
        self, parts: Mapping[str, list], like: Mapping[str, np.ndarray], dtype: np.dtype, needs: Mapping[str, Need]
    ) -> dict[str, np.ndarray | RowGradient]:
        """The sum of the gradients by shard of each parameter that is ``like`` these, the same on all ranks.

        Of tables in parts, whose rows ``needs`` tells, it is the sum of this rank's own rows.
        """
        ranks, kernels, buffers = self.ranks, self.kernels, self.batch_buffers
        if ranks.size == 1:
            return {name: total(parts[name], kernels, partial(buffers, ("sum", name))) for name in like}
        return {
            name: needs[name].told(parts.get(name, []), dtype, kernels)
            if name in needs
            else ranks.sum(parts.get(name, []), value, dtype)
            for name, value in like.items()
        }
