"""The rows of a table in parts: what ranks need of each other for a batch, and what they tell the owners of rows.

Rank q owns the rows r with r mod R = q of a table (V, D). For a batch a rank asks the owners for the n distinct rows
that occur in its texts, and settles on a table of these alone; what they are told goes back to the owners, who add it
up and move them. So 2 n (4 D + …) bytes pass into a rank and out of it, however many ranks there are.

Rows are asked for while the batch before still settles. Those which that batch does not move come at once, while states
settle; the others, which their owner knows since it was asked for them, once they have moved. Nothing is stale.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from eqnp.machine.buffers import Buffers
from eqnp.machine.gradients import RowGradient, total
from eqnp.machine.ranks import Ranks

_TYPES: dict[int, object] = {}  # MPI's types of rows, by their bytes
GLANCE = 0.001  # seconds between two looks at what is under way: MPI moves it on when it is looked at


@dataclass
class Side:
    """Rows that go between this rank and each of all, ``rows`` (n,) by rank, so many ``counts`` (R,) for each; those
    which go early, ``early`` (R,), come first for each."""

    rows: np.ndarray
    counts: np.ndarray
    early: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, counts: np.ndarray, late: np.ndarray) -> Side:
        """The rows by rank, with those that are not ``late`` (n,) before the others of their rank."""
        rank = np.repeat(np.arange(len(counts)), counts)
        order = np.argsort((2 * rank + late).astype(np.uint16 if len(counts) < 1 << 15 else np.int64), kind="stable")
        return cls(rows[order], counts, np.bincount(rank[~late], minlength=len(counts)))

    def part(self, late: bool | None) -> tuple[np.ndarray, np.ndarray]:
        """Counts and displacements (R,) of the late rows, of the early ones, or of all (None)."""
        starts = np.cumsum(self.counts) - self.counts
        if late is None:
            return self.counts, starts
        return (self.counts - self.early, starts + self.early) if late else (self.early, starts)


@dataclass
class Need:
    """The rows of one table that a batch of this rank needs, and those of its own that the ranks need for theirs.

    ``values`` (1 + n, D) has the zero row, then the rows of ``wanted`` in their order; ids of the batch are places in
    it. ``asked`` has places of own rows.
    """

    table: Table
    wanted: Side
    asked: Side
    values: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """The row of the whole table at each place, (1 + n,)."""
        return np.concatenate([[0], self.wanted.rows])

    def send(self, late: bool):
        """Begin to send and receive the early rows, or the late ones; returns MPI's request."""
        table, (counts, starts), (coming, places) = self.table, self.asked.part(late), self.wanted.part(late)
        inside = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        chosen = self.asked.rows[inside]
        out = table.buffers(("out", late), (len(chosen), *self.values.shape[1:]), self.values.dtype)
        np.take(table.own, chosen, axis=0, out=out, mode="clip")
        received, _ = table.count(coming, counts, out)
        table.ranks.traffic.ahead += 0 if late else received
        ranks, row = table.ranks, table.row(out)
        begins = np.cumsum(counts) - counts
        return ranks.communicator.Ialltoallv([out, (counts, begins), row], [self.values[1:], (coming, places), row])

    def told(self, parts: list[RowGradient], dtype, kernels) -> RowGradient:
        """What all ranks tell this rank's own rows, added up in the order of ranks, or with `Ranks.fixed` of shards.

        parts: by shard, or one for all, with places in ``values``. The rows of the sum are places of own rows, rising.
        """
        table, width = self.table, self.values.shape[1]
        if table.ranks.fixed:
            index, values = self._by_shard(parts, width, dtype)
        else:
            index, values = self.asked.rows, self._added_up(parts, width, dtype, kernels)
        rows = table.distinct(index)
        place = table.places_of(rows)
        sums = table.buffers("sums", (len(rows), width), dtype)
        sums[...] = 0
        kernels.scatter_add(values[None], place[index][None], sums)
        return RowGradient(rows, sums)

    def moved_alone(self, before: np.ndarray, often: np.ndarray, steps: int, after: Need | None) -> None:
        """Move this rank's own rows by what all ranks made of them in so many local ``steps``.

        before: what ``values`` were, of which this rank moved each in ``often`` (1 + n,) of its steps. Changes pass in
        half precision (`eqnp.kernels.halves`), and are added up times `together`. The rows of ``after``, which were
        sent before all this, get what this rank itself changed.
        """
        from eqnp.kernels.halves import add_changes, add_halves, halve  # which take Numba with them

        table, counts, asked = self.table, self.wanted.part(None)[0], self.asked.part(None)[0]
        ended, begun = self.values[1:], before[1:]
        told = table.buffers("halves", begun.shape, np.uint16)
        halve(ended, begun, told)
        if after:
            add_changes(ended, begun, after.find(self.wanted.rows), after.values)
        told = table.alltoallv(told, counts, asked)
        moved = table.alltoallv(often[1:].astype(np.uint16), counts, asked)
        factors = together(self.asked.rows, moved, steps, len(table.own)).astype(before.dtype)
        add_halves(told, self.asked.rows, factors, table.own)

    def like(self, purpose: str) -> np.ndarray:
        """An uninitialised array like ``values``, in the memory that the last need had for the same purpose."""
        return self.table.buffers(("like", purpose), self.values.shape, self.values.dtype)

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the whole table are in ``values``, of what was asked for last; 0 where they are not."""
        places = self.table.last_places(rows)
        return np.where(self.ids[np.minimum(places, len(self.values) - 1)] == rows, places, 0)

    def _added_up(self, parts: list[RowGradient], width: int, dtype, kernels) -> np.ndarray:
        """What is told to each of the rows asked for, by rank, (rows, D): of each rank the sum over its shards."""
        table = self.table
        mine = total(parts, kernels, partial(table.buffers, "mine")) if parts else None
        if mine is None or len(mine.rows) < len(self.wanted.rows):  # a synapse need not tell all rows that it reads
            every = table.buffers("every", (len(self.wanted.rows), width), dtype)
            every[...] = 0
            if mine is not None:
                every[mine.rows - 1] = mine.values
            out = every
        else:
            out = np.ascontiguousarray(mine.values)
        values = table.buffers("in", (len(self.asked.rows), width), dtype)
        counts, asked = self.wanted.part(None), self.asked.part(None)
        row, ranks = table.row(out), table.ranks
        with ranks.traffic.counted(*table.count(asked[0], counts[0], out, add=False)):
            ranks.communicator.Alltoallv([out, counts, row], [values, asked, row])
        return values

    def _by_shard(self, parts: list[RowGradient], width: int, dtype) -> tuple[np.ndarray, np.ndarray]:
        """The own rows told something by each shard of each rank, in that order, and what, (rows,) and (rows, D)."""
        table, ranks = self.table, self.table.ranks
        counts, starts = self.wanted.part(None)
        edges = 1 + np.concatenate([starts, [counts.sum()]])
        cuts = [np.searchsorted(part.rows, edges) for part in parts]
        slices = [
            (part, slice(*cut[q : q + 2]), starts[q])
            for q in range(ranks.size)
            for part, cut in zip(parts, cuts, strict=True)
        ]
        index = np.concatenate([np.empty(0, np.int32), *(p.rows[s] - 1 - start for p, s, start in slices)])
        values = np.concatenate([np.empty((0, width), dtype), *(p.values[s] for p, s, _ in slices)])
        going = np.sum([np.zeros(ranks.size, np.int64), *(np.diff(cut) for cut in cuts)], axis=0)
        coming = table.alltoall(going)
        found = table.alltoallv(index.astype(np.int32), going, coming)
        _, places = self.asked.part(None)
        rows = self.asked.rows[found + np.repeat(places, coming)]
        return rows, table.alltoallv(values, going, coming)


class Table:
    """A table (V, D) whose rows are with their ranks: ``own`` are this rank's, row r at place r // R.

    All calls but `distinct` and `places_of` are collective: every rank makes them, in the same order.
    """

    def __init__(self, ranks: Ranks, own: np.ndarray, rows: int):
        self.ranks, self.own, self.whole = ranks, own, rows
        self.buffers, self._turn = Buffers(), 0
        self._moving = np.zeros(len(own), bool)
        self._occurs, self._place = np.zeros(rows, bool), np.zeros(rows, np.int32)

    def ask(self, ids: Sequence[np.ndarray]) -> tuple[Need, list[np.ndarray]]:
        """Ask the owners for the rows that occur in ``ids``; returns what will be there, and the ids as places in it.

        Those which the batch under way does not move are early.
        """
        ranks, occurs = self.ranks, self._occurs
        for each in ids:
            occurs[each] = True
        occurs[0] = False
        rows = np.flatnonzero(occurs)
        occurs[rows] = False
        owner = rows % ranks.size
        counts = np.bincount(owner, minlength=ranks.size)
        rows = rows[np.argsort(owner, kind="stable")]
        asked = self.alltoall(counts)
        places = self.alltoallv((rows // ranks.size).astype(np.int32), counts, asked)
        moving = self._moving[places]
        late = self.alltoallv(moving, asked, counts)
        wanted = Side.of(rows, counts, late)
        ranks.traffic.needed += len(rows) * (8 + self.own.itemsize * int(np.prod(self.own.shape[1:])))
        self._turn = 1 - self._turn  # the rows of the batch before are still in use
        values = self.buffers(("values", self._turn), (1 + len(rows), *self.own.shape[1:]), self.own.dtype)
        values[0] = 0
        self._place[wanted.rows] = np.arange(1, 1 + len(rows))
        return Need(self, wanted, Side.of(places, asked, moving), values), [self._place[each] for each in ids]

    def moves(self, need: Need | None) -> None:
        """Say whose rows are moved next; None: no rows."""
        self._moving[...] = False
        if need is not None:
            self._moving[need.asked.rows] = True

    def last_places(self, rows: np.ndarray) -> np.ndarray:
        """Where those of these rows stand that were asked for last; of others any place."""
        return self._place[rows]

    def distinct(self, places: np.ndarray) -> np.ndarray:
        """The own rows among these, rising, int32."""
        occurs = self._occurs[: len(self.own)]
        occurs[places] = True
        found = np.flatnonzero(occurs)
        occurs[found] = False
        return found.astype(np.int32)

    def places_of(self, rows: np.ndarray) -> np.ndarray:
        """A table of where each of these own rows stands among them."""
        place = self.buffers("place", (len(self.own),), np.int64)
        place[rows] = np.arange(len(rows))
        return place

    def alltoall(self, counts: np.ndarray) -> np.ndarray:
        """One number (R,) int64 for each rank, and what each has for this one."""
        coming, traffic, others = np.empty_like(counts), self.ranks.traffic, 8 * (self.ranks.size - 1)
        with traffic.counted(others, others):
            self.ranks.communicator.Alltoall(counts, coming)
        return coming

    def alltoallv(self, values: np.ndarray, going: np.ndarray, coming: np.ndarray) -> np.ndarray:
        """Rows of ``values``, so many for each rank in their order, and what each rank has for this one."""
        result = np.empty((coming.sum(), *values.shape[1:]), values.dtype)
        row = self.row(values)
        with self.ranks.traffic.counted(*self.count(coming, going, values, add=False)):
            self.ranks.communicator.Alltoallv([np.ascontiguousarray(values), going, row], [result, coming, row])
        return result

    def count(self, coming: np.ndarray, going: np.ndarray, values: np.ndarray, add: bool = True) -> tuple[float, float]:
        """Bytes received and sent by so many rows from and to each rank; what was counted grows by them, if it may."""
        width, me, traffic = values.itemsize * int(np.prod(values.shape[1:])), self.ranks.rank, self.ranks.traffic
        received, sent = ((int(c.sum()) - int(c[me])) * width for c in (coming, going))
        if add:
            traffic.received, traffic.sent = traffic.received + received, traffic.sent + sent
        return received, sent

    def row(self, values: np.ndarray):
        """MPI's type of a row: counts of rows fit into its int32 where those of bytes do not."""
        from mpi4py import MPI

        nbytes = values.itemsize * int(np.prod(values.shape[1:]))
        if nbytes not in _TYPES:
            _TYPES[nbytes] = MPI.BYTE.Create_contiguous(nbytes).Commit()
        return _TYPES[nbytes]


def together(rows: np.ndarray, moved: np.ndarray, steps: int, size: int) -> np.ndarray:
    """What the changes of ranks count for, by row (``size``,), of which one moved each of these ``rows`` in so many
    (``moved``) of its ``steps``.

    Ranks that moved a row in u of k steps each would have moved it, if it stands in one text as likely as in another,
    in k (1 − Π (1 − u/k)) of k steps together. By so many of their mean steps it moves: as far as on the one rank that
    had it, or by the mean of all that had it in every step.
    """
    often, still = np.bincount(rows, moved, size), np.ones(size)
    np.multiply.at(still, rows, 1 - moved / steps)
    return steps * (1 - still) / np.maximum(often, 1)


@contextmanager
def under_way(requests: list, ranks: Ranks) -> Iterator[None]:
    """What was begun moves on while the block works, and is done when it ends."""
    if not requests:
        yield
        return
    from mpi4py import MPI

    over, threads = threading.Event(), MPI.Query_thread() == MPI.THREAD_MULTIPLE

    def look() -> None:
        while not over.wait(GLANCE) and not MPI.Request.Testall(requests):
            pass

    looks = threading.Thread(target=look, daemon=True)
    if threads:
        looks.start()
    try:
        yield
    finally:
        over.set()
        if threads:
            looks.join()
    with ranks.traffic.counted(0, 0):
        MPI.Request.Waitall(requests)
