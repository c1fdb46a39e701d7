"""Local steps: several batches that each rank learns from by itself, before all ranks take the mean of what they have.

Between two exchanges a rank moves its own copies: of the dense weights, and of the rows that its parts of k batches
need. Then the dense weights, and what the optimiser keeps of them, become their means over the ranks; a row moves by
the mean change of those ranks that needed it. What an optimiser keeps of rows begins anew with each exchange (with it,
three times the bytes would pass). It is local stochastic gradient descent (Stich 2019), with other optimisers too.
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
    """The local steps of one rank between two exchanges.

    ``network`` is one with the rows that the batches of the round need (`eqnp.tables.Supply.take`); the one to learn
    with is ``local``, which knows of no other rank.
    """

    def __init__(self, network: Network, optimizer: Optimizer):
        self.needs: Mapping[str, Need] = network.needs
        self.machine, self.optimizer = network.machine, optimizer
        self.local = copy.copy(network)
        self.local.machine, self.local.needs = network.machine.alone(), {}
        self.before = {name: need.values.copy() for name, need in self.needs.items()}
        self.of_rows = make_optimizer(self.local, optimizer.config)
        self.of_rows.taken = optimizer.taken  # a row's first steps are as long as those of a rare word without rounds

    def step(self, gradients: Mapping[str, np.ndarray | RowGradient], progress: float) -> None:
        """Move this rank's own copies against its own gradients."""
        if self.optimizer.config.clip:
            clip(gradients, self.optimizer.config.clip, self.local.machine)
        rows = {name: gradient for name, gradient in gradients.items() if name in self.needs}
        self.of_rows.step(self.local, rows, progress)
        self.optimizer.step(self.local, {n: g for n, g in gradients.items() if n not in rows}, progress)

    def exchange(self) -> None:
        """Have all ranks go on from the mean of what they learned."""
        ranks, kernels = self.machine.ranks, self.machine.kernels
        for name, need in self.needs.items():
            change = need.values[1:] - self.before[name][1:]
            places = np.arange(1, len(need.values), dtype=np.int32)
            told = need.told([RowGradient(places, change)], change.dtype, kernels)
            often = np.bincount(need.asked.rows, minlength=len(need.table.own))[told.rows]
            need.table.own[told.rows] += told.values / often[:, None].astype(change.dtype)
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
