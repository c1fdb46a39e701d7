"""Tables in parts as one, for the first rank to write: it takes them block by block, and never has them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from eqnp.machine.ranks import ROWS, Ranks


class Whole:
    """A table (V, D) whose rows are with their ranks, as the first of them sees it: what an array is, without entries.

    ``blocks()`` has the rows from the first to the last, each time that it is called, while `gathering` serves.
    """

    ndim = 2

    def __init__(self, ranks: Ranks, name: str, own: np.ndarray, rows: int, dtype=None):
        self._ranks, self._name, self._own = ranks, name, own
        self.shape, self.dtype = (rows, *own.shape[1:]), np.dtype(dtype or own.dtype)
        self.size = rows * int(np.prod(own.shape[1:]))
        self.nbytes = self.size * self.dtype.itemsize

    def astype(self, dtype) -> Whole:
        """The same in another precision."""
        return Whole(self._ranks, self._name, self._own, self.shape[0], dtype)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows in their order, some at a time, (b, D); an entry that is too large for the precision is infinite."""
        step = max(1, ROWS // self._ranks.size) * self._ranks.size
        for start in range(0, self.shape[0], step):
            self._ranks.communicator.bcast((self._name, start, step))
            found = gathered(self._ranks, self._own, self.shape[0], start, step)
            with np.errstate(over="ignore"):
                yield found.astype(self.dtype, copy=False)


def gathered(ranks: Ranks, own: np.ndarray, rows: int, start: int, step: int) -> np.ndarray | None:
    """So many ``rows`` of a table from one on, at the first rank; all ranks call it."""
    stop = min(start + step, rows)
    counts = [len(range(start + rank, stop, ranks.size)) * own.shape[1] for rank in range(ranks.size)]
    mine = np.ascontiguousarray(own[start // ranks.size :][: counts[ranks.rank] // own.shape[1]])
    if not ranks.first:
        with ranks.traffic.counted(0, mine.nbytes):
            ranks.communicator.Gatherv(mine, None)
        return None
    every = np.empty((stop - start, own.shape[1]), own.dtype)
    with ranks.traffic.counted(every.nbytes - mine.nbytes, 0):
        ranks.communicator.Gatherv(mine, [every, counts])
    block, ends = np.empty_like(every), np.cumsum([0, *counts]) // own.shape[1]
    for rank in range(ranks.size):
        block[rank :: ranks.size] = every[ends[rank] : ends[rank + 1]]
    return block


@contextmanager
def gathering(ranks: Ranks, parts: Mapping[str, np.ndarray], rows: Mapping[str, int]) -> Iterator[dict]:
    """Arrays by name, those in parts, with so many ``rows``, as a `Whole`; on the first rank alone.

    The others serve until its block ends, and find nothing in theirs. With one rank they are the arrays.
    """
    if ranks.size == 1:
        yield dict(parts)
        return
    if not ranks.first:
        while asked := ranks.communicator.bcast(None):
            name, start, step = asked
            gathered(ranks, parts[name], rows[name], start, step)
        yield {}
        return
    try:
        yield {n: Whole(ranks, n, array, rows[n]) if n in rows else array for n, array in parts.items()}
    finally:
        ranks.communicator.bcast(None)
