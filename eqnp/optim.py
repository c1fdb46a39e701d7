"""Adam in place, with a sparse variant for embedding rows, and learning-rate schedules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import cos, pi
from types import ModuleType

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.machine.gradients import RowGradient
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.network import Network

ENTRIES, ROWS = 1 << 20, 1 << 11  # what one thread updates at a time; every entry stands alone, so any cut will do
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + cos(pi * progress)) / 2,
}


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam (Kingma & Ba 2015): one learning rate, or some by synapse name ("projection0") or family ("projection").

    ``schedule`` scales all of them from 1 at the first batch towards its end at the last: "constant" or "cosine".
    ``weight_decay`` λ takes λ × learning rate of every weight between layers away at each step, beside Adam (Loshchilov
    & Hutter 2019); biases, queries and embeddings have none. ``clip`` bounds the common norm of all gradients (0: no
    bound).
    """

    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = field(default_factory=dict)
    schedule: str = "cosine"
    decay_mean: float = 0.9
    decay_square: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 0.0

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"unknown optimizer.schedule {self.schedule!r}{nearest(self.schedule, SCHEDULES)}")
        for rate in (self.learning_rate, *self.learning_rates.values()):
            if not 0 < rate <= 1000:
                raise ConfigError(f"a learning rate is {rate}; it must be greater than 0, and at most 1000")
        if not (0 <= self.decay_mean < 1 and 0 <= self.decay_square < 1):
            raise ConfigError("optimizer.decay_mean and optimizer.decay_square must be in [0, 1)")
        if not 1e-30 <= self.epsilon <= 1:
            raise ConfigError(f"optimizer.epsilon is {self.epsilon}; it must be in [1e-30, 1]")
        if not 0 <= self.weight_decay <= 1:
            raise ConfigError(f"optimizer.weight_decay is {self.weight_decay}; it must be in [0, 1]")
        if self.weight_decay * max(self.learning_rate, *self.learning_rates.values(), 0) >= 1:
            raise ConfigError("optimizer.weight_decay times the learning rate must be below 1")
        if not self.clip >= 0:
            raise ConfigError(f"optimizer.clip is {self.clip}; it must be 0 (no bound) or greater")

    def rate(self, parameter: str) -> float:
        """The learning rate of a parameter like "projection0.weight"."""
        synapse = parameter.rsplit(".", 1)[0]
        family = synapse.rstrip("0123456789")
        return self.learning_rates.get(synapse, self.learning_rates.get(family, self.learning_rate))

    def decay(self, parameter: str) -> float:
        """The weight decay of a parameter."""
        kept = parameter.endswith(".bias") or parameter.startswith(("queries", "embedding"))
        return 0.0 if kept else self.weight_decay


class Adam:
    """The optimiser of one network: running means of every gradient and its square, in the network's dtype.

    Rows of the embedding move only when their word occurs, and share the step count of all, as sparse Adam commonly
    does: a rare word's first steps are somewhat longer. With ``ranks`` each of them moves its own rows, and keeps the
    means of those alone until `gather`.
    """

    def __init__(self, network: Network, config: OptimizerConfig, ranks: Ranks = ALONE):
        synapses = {name.rsplit(".", 1)[0] for name in network.parameters}
        for name in config.learning_rates:
            if name not in synapses | {s.rstrip("0123456789") for s in synapses}:
                raise ConfigError(f"optimizer.learning_rates names {name!r}{nearest(name, synapses)}")
        self.network, self.config, self.ranks, self.taken = network, config, ranks, 0
        self.divided: set[str] = set()  # parameters whose means are with their ranks
        self.mean, self.square = (
            {name: network.kernels.zeros(p.shape, p.dtype) for name, p in network.parameters.items()} for _ in range(2)
        )

    def step(
        self, gradients: Mapping[str, np.ndarray | RowGradient], progress: float, executor: Executor | None = None
    ) -> None:
        """Move every parameter against its gradient; ``progress`` in [0, 1] is the place in the schedule."""
        entries, rows_at_once = ENTRIES, ROWS
        if self.network.kernels.ASYNCHRONOUS:  # a device has no threads of ours
            executor, entries, rows_at_once = None, sys.maxsize, sys.maxsize
        if self.config.clip:
            _clip(gradients, self.config.clip, self.network.kernels)
        tasks = []
        self.taken += 1
        scale, config, kernels = SCHEDULES[self.config.schedule](progress), self.config, self.network.kernels
        for name, gradient in gradients.items():
            rest = (
                config.rate(name) * scale,
                config.decay_mean,
                config.decay_square,
                config.epsilon,
                self.taken,
            )
            held = (self.network.parameters[name], self.mean[name], self.square[name])
            if isinstance(gradient, RowGradient):
                table, mean, square = held
                own = self.ranks.owned(gradient.rows)
                every, changes = gradient.rows[own], gradient.values[own]
                for start in range(0, len(every), rows_at_once):
                    part = slice(start, start + rows_at_once)
                    rows, values = every[part], changes[part]
                    tasks.append((kernels.adam_rows, (table, rows, values, mean, square, *rest)))
            else:
                parameter, mean, square = (array.reshape(-1) for array in held)
                if decay := config.decay(name) * rest[0]:
                    kernels.scale(parameter, 1 - decay)
                flat = gradient.reshape(-1)
                for start in range(0, len(flat), entries):
                    part = slice(start, start + entries)
                    tasks.append((kernels.adam, (parameter[part], flat[part], mean[part], square[part], *rest)))
        list((executor.map if executor else map)(lambda task: task[0](*task[1]), tasks))
        for name, gradient in gradients.items():
            if isinstance(gradient, RowGradient):
                self.ranks.spread(self.network.parameters[name], gradient.rows)
                self.divided.add(name)

    def gather(self) -> None:
        """Have all means on all ranks."""
        for name in self.divided:
            for table in (self.mean[name], self.square[name]):
                self.ranks.spread(table, np.arange(len(table)))
        self.divided.clear()


def _clip(gradients: Mapping[str, np.ndarray | RowGradient], bound: float, kernels: ModuleType) -> None:
    """Scale all gradients, in place, to a common norm of at most ``bound``."""
    arrays = [g.values if isinstance(g, RowGradient) else g for g in gradients.values()]
    norm = np.sqrt(sum(map(kernels.squared_norm, arrays)))
    if norm > bound:
        for array in arrays:
            kernels.scale(array, bound / norm)
