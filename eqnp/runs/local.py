"""Local steps: several batches that each rank learns from by itself, before all ranks take the mean of what they have.

Between two exchanges a rank moves its own copies: of the dense weights, and of the rows that its parts of k batches
need. Then the dense weights, and what the optimiser keeps of them, become their means over the ranks; a row moves by
what the ranks changed in it, times what `eqnp.machine.exchange.together` says. What an optimiser keeps of rows begins
anew with each exchange (with it, three times the bytes would pass). It is local stochastic gradient descent (Stich
2019), with other optimisers too, and two approximations more. Rows are fetched for a round while the one before it goes
on: they lack what other ranks change in that one, not what this rank does. And changes of rows pass as bfloat16, to one
part in 500.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from eqnp.errors import ConfigError
from eqnp.machine.exchange import Need
from eqnp.machine.gradients import RowGradient
from eqnp.machine.ranks import Ranks
from eqnp.network import Network
from eqnp.optim import Optimizer, clip, make_optimizer
from eqnp.sections import TrainingConfig


class Round:
    """So many local ``steps`` of one rank between two exchanges.

    ``network`` is one with the rows that the batches of the round need (`eqnp.tables.Supply.take`); the one to learn
    with is ``local``, which knows of no other rank.
    """

    def __init__(self, network: Network, optimizer: Optimizer, steps: int):
        self.needs: Mapping[str, Need] = network.needs
        self.machine, self.optimizer = network.machine, optimizer
        self.local = copy.copy(network)
        self.local.machine, self.local.needs = network.machine.alone(), {}
        self.steps, self.before = steps, {name: need.like("before") for name, need in self.needs.items()}
        for name, need in self.needs.items():
            self.before[name][...] = need.values
        self.often = {name: np.zeros(len(need.values), np.int64) for name, need in self.needs.items()}
        self.of_rows = make_optimizer(self.local, optimizer.config)
        for slot, held in self.of_rows.held.items():
            for name, need in self.needs.items():
                held[name] = need.like(slot)
                held[name][...] = 0
        self.of_rows.taken = optimizer.taken  # a row's first steps are as long as those of a rare word without rounds

    def step(self, gradients: Mapping[str, np.ndarray | RowGradient], progress: float) -> None:
        """Move this rank's own copies against its own gradients."""
        if self.optimizer.config.clip:
            clip(gradients, self.optimizer.config.clip, self.local.machine)
        rows = {name: gradient for name, gradient in gradients.items() if name in self.needs}
        for name, gradient in rows.items():
            self.often[name][gradient.rows] += 1
        self.of_rows.step(self.local, rows, progress)
        self.optimizer.step(self.local, {n: g for n, g in gradients.items() if n not in rows}, progress)

    def exchange(self, after: Mapping[str, Need]) -> None:
        """Have all ranks go on from what they learned; ``after`` are the rows that were fetched for the next round."""
        ranks = self.machine.ranks
        for name, need in self.needs.items():
            need.moved_alone(self.before[name], self.often[name], self.steps, after.get(name))
        kept = [self.local.parameters, *self.optimizer.held.values()]
        for array in (array for each in kept for name, array in each.items() if name not in self.needs):
            array[...] = ranks.sum([array], array, array.dtype) / array.dtype.type(ranks.size)


def check_local(training: TrainingConfig, ranks: Ranks) -> None:
    """Raise ConfigError for local steps of several ranks that cannot be: in a fixed order, or without work for all."""
    steps, shards = training.local_steps, -(-training.batch // training.shard)
    if steps > 1 and ranks.size > 1 and ranks.fixed:
        raise ConfigError(
            f"training.local_steps is {steps}, which gives other weights on another number of ranks, and --reduction "
            "fixed the same; set it to 1, or leave --reduction out"
        )
    if steps > 1 and shards < ranks.size:
        raise ConfigError(
            f"training.local_steps is {steps}, and a batch has {shards} shard(s) for {ranks.size} ranks; every rank "
            f"needs one: set training.shard to {max(1, training.batch // ranks.size)} or less"
        )
