"""A network whose tables are in parts, on a batch: it settles with the rows that its texts need, and with no others.

With several ranks each holds its own rows of embeddings and votes alone (`eqnp.machine.exchange`). What settles and
learns sees none of that: it has a network whose tables have the rows of the batch, whose ids are places in them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product

from eqnp.machine.exchange import Need, Table, under_way
from eqnp.network import EMBEDDING, Network
from eqnp.states import Batch, Segment


class Supply:
    """The rows that one batch after the other needs, for a network whose machine has several ranks.

    With one rank there is nothing to do, and batches and network are what they were. All calls are collective. With
    ``stale`` no rows are waited for until they have moved: they are those of before.
    """

    def __init__(self, network: Network, stale: bool = False):
        ranks = network.machine.ranks
        names = network.tables if ranks.size > 1 else ()
        rows = {name: network.declared[name].shape[0] for name in names}
        self.network, self.ranks, self.stale = network, ranks, stale
        self.tables = {name: Table(ranks, network.parameters[name], rows[name]) for name in names}
        self._batches: list[Batch] = []
        self._needs: dict[str, Need] = {}
        self._requests: list = []

    def ask(self, batches: Sequence[Batch]) -> None:
        """Ask for the rows of batches, and have those sent that what was taken last does not move."""
        if not self.tables:
            self._batches = list(batches)
            return
        self._batches, self._needs = [dict(batch) for batch in batches], {}
        for name, segments in self.network.tables.items():
            ids = [batch[segment].ids for batch in batches for segment in segments]
            self._needs[name], places = self.tables[name].ask(ids)
            for batch, segment in product(self._batches, segments):
                batch[segment] = Segment(places.pop(0), batch[segment].lengths)
        self._requests = [need.send(late=False) for need in self._needs.values()]

    def take(self) -> tuple[Network, list[Batch]]:
        """The network with the rows that were asked for last, now that what moves of them has, and the batches."""
        needs, batches = self._needs, self._batches
        if not self.tables:
            return self.network, batches
        late = [] if self.stale else [need.send(late=True) for need in needs.values()]
        with under_way(self._requests + late, self.ranks):
            self._requests = []
        for name, need in needs.items():
            self.tables[name].moves(None if self.stale else need)
        return _on_rows(self.network, needs), batches

    @property
    def coming(self) -> dict[str, Need]:
        """The rows that were asked for last, by table."""
        return self._needs

    def rest(self) -> None:
        """Say that nothing moves the rows that were taken."""
        for table in self.tables.values():
            table.moves(None)

    @contextmanager
    def meanwhile(self, batches: Sequence[Batch]) -> Iterator[None]:
        """While the block works on what was taken, the rows of the ``batches`` after it come, if there are some."""
        if batches:
            self.ask(batches)
        with under_way(self._requests, self.ranks):
            yield
        self._requests = []


def _on_rows(network: Network, needs: Mapping[str, Need]) -> Network:
    other = copy.copy(network)
    other.needs = needs
    other.parameters = {**network.parameters, **{name: need.values for name, need in needs.items()}}
    other.memories = tuple(memory.among(needs[EMBEDDING].ids) for memory in network.memories)
    return other


def with_rows(network: Network, batch: Batch) -> tuple[Network, Batch]:
    """A network with the rows of one batch, and the batch; as they are where it has them, or holds whole tables."""
    if network.needs or network.machine.ranks.size == 1:
        return network, batch
    supply = Supply(network)
    supply.ask([batch])
    network, (batch,) = supply.take()
    return network, batch
