"""Optimisers: what moves parameters along the gradients that they are handed, with learning-rate schedules.

`Optimizer` is the protocol, and does what all have in common: the schedule, learning rates by parameter, weight decay,
a bound on the gradients' norm, rows of embeddings, threads and ranks. One more is a subclass with ``slots`` and `move`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import cos, pi

import numpy as np

from eqnp.errors import ConfigError, nearest
from eqnp.machine import Machine
from eqnp.machine.gradients import RowGradient, entries
from eqnp.network import Network
from eqnp.parameters import Parameter
from eqnp.votes import VOTES

ENTRIES, ROWS = 1 << 20, 1 << 11  # what one thread updates at a time; every entry stands alone, so any cut will do
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + cos(pi * progress)) / 2,
}


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser, its learning rates and their schedule, and what bounds the weights.

    "adam" is of Kingma & Ba 2015; "momentum" is stochastic gradient descent whose velocity forgets by ``decay_mean``.
    Weight decay stands beside Adam (Loshchilov & Hutter 2019); biases, queries and embeddings have none.

    name (adam or momentum) : the optimiser
    learning_rate (above 0 to 1000) : the rate of all weights without one of their own
    learning_rates : other rates, by synapse name ("projection0") or family ("projection")
    schedule (constant or cosine) : how all rates go from the first batch to the last
    decay_mean (0 to below 1) : how the running mean of gradients forgets
    decay_square (0 to below 1) : how that of their squares does
    epsilon (1e-30 to 1) : what keeps Adam's divisor from zero
    weight_decay (0 to 1) : this times the learning rate is taken away of every weight between layers at each step
    clip (0 or greater) : the common norm of all gradients at most; 0: no bound
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    learning_rates: dict[str, float] = field(default_factory=dict)
    schedule: str = "cosine"
    decay_mean: float = 0.9
    decay_square: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 0.0

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise ConfigError(f"unknown optimizer.name {self.name!r}{nearest(self.name, OPTIMIZERS)}")
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

    def rate(self, parameter: Parameter) -> float:
        """The learning rate of a parameter."""
        family = self.learning_rates.get(parameter.family, self.learning_rate)
        return self.learning_rates.get(parameter.synapse, family)

    def decay(self, parameter: Parameter) -> float:
        """The weight decay of a parameter."""
        return self.weight_decay if parameter.decays else 0.0


class Optimizer:
    """The optimiser of one network: for every parameter it keeps the arrays of its ``slots``, zero at first.

    A subclass says what they are and moves flat parameters in `move`, in plain NumPy; `move_rows`, for the rows of a
    table that a batch touched, has a default that is made of it. What a checkpoint keeps is `state`, whatever is in it.
    With ranks each of them has its own rows of tables and of their slots, and moves those alone.
    Raises ConfigError for a learning rate of no synapse, and on a device without kernels.
    """

    slots: tuple[str, ...] = ()
    compiled = False  # whether `move` and `move_rows` can reach the arrays of a GPU

    def __init__(self, network: Network, config: OptimizerConfig):
        known = {name for each in network.declared.values() for name in (each.synapse, each.family)} | {VOTES}
        for name in config.learning_rates:
            if name not in known:
                raise ConfigError(f"optimizer.learning_rates names {name!r}{nearest(name, known)}")
        network.machine.needs_kernels("the optimiser", type(self).__name__, self)
        self.config, self.kernels, self.taken = config, network.kernels, 0
        self._machine, self._rows = network.machine, {name: network.rows_of(name) for name in network.parameters}
        self.held = {
            slot: {name: self.kernels.zeros(p.shape, p.dtype) for name, p in network.parameters.items()}
            for slot in self.slots
        }

    def move(self, parameter: np.ndarray, gradient: np.ndarray, held: list[np.ndarray], rate: float) -> None:
        """Move a flat part (n,) of a parameter in place, and that of its slots; ``taken`` counts this step already."""
        raise NotImplementedError(f"{type(self).__name__} has no move(parameter, gradient, held, rate)")

    def move_rows(self, table: np.ndarray, rows, gradient: np.ndarray, held: list[np.ndarray], rate: float) -> None:
        """`move` for distinct rows (n,) of a table (V, D) alone; gradient (n, D)."""
        values, parts = table[rows], [slot[rows] for slot in held]
        self.move(values.reshape(-1), gradient.reshape(-1), [part.reshape(-1) for part in parts], rate)
        table[rows] = values
        for slot, part in zip(held, parts, strict=True):
            slot[rows] = part

    def step(self, network: Network, gradients: Mapping[str, np.ndarray | RowGradient], progress: float = 0.0) -> None:
        """Move every parameter against its gradient; ``progress`` in [0, 1] is the place in the schedule."""
        machine, config, kernels = network.machine, self.config, self.kernels
        if config.clip:
            clip(gradients, config.clip, network.machine)
        self.taken += 1
        scale, tasks = SCHEDULES[config.schedule](progress), []
        for name, gradient in gradients.items():
            parameter, declared = network.parameters[name], network.declared[name]
            rate, held = config.rate(declared) * scale, [slot[name] for slot in self.held.values()]
            if isinstance(gradient, RowGradient):
                rows, changes = gradient.rows, gradient.values
                for part in machine.pieces(len(rows), ROWS):
                    tasks.append((self.move_rows, (parameter, rows[part], changes[part], held, rate)))
                continue
            if decay := config.decay(declared) * rate:
                kernels.scale(parameter.reshape(-1), 1 - decay)
            whole, change, *held = (array.reshape(-1) for array in (parameter, gradient, *held))
            for part in machine.pieces(len(whole), ENTRIES):
                tasks.append((self.move, (whole[part], change[part], [slot[part] for slot in held], rate)))
        list(machine.map(lambda task: task[0](*task[1]), tasks))

    def state(self) -> tuple[dict[str, np.ndarray], dict]:
        """All that it knows: arrays by name, in the host's memory, and the rest, as JSON can hold it."""
        held = self.held.items()
        arrays = {f"{slot}/{name}": self.kernels.host(a) for slot, part in held for name, a in part.items()}
        return arrays, {"taken": self.taken}

    def restore(self, arrays: Mapping[str, np.ndarray], about: Mapping) -> None:
        """Take up a `state`, of which there may be more than its own; raises KeyError or ValueError for another's."""
        for slot, part in self.held.items():
            for name, own in part.items():
                saved = self._machine.held(arrays[f"{slot}/{name}"], self._rows[name])
                if (saved.shape, saved.dtype) != (own.shape, own.dtype):
                    raise ValueError(f"the {slot} of {name} has another shape or type")
                part[name] = self.kernels.device(saved)
        self.taken = int(about["taken"])

    def clear(self) -> None:
        """Give its memory back: there is nothing left to do."""
        for part in self.held.values():
            part.clear()


class Adam(Optimizer):
    """Running means of every gradient and its square, in the network's dtype (Kingma & Ba 2015, algorithm 1).

    Rows of the embedding move only when their word occurs, and share the step count of all, as sparse Adam commonly
    does: a rare word's first steps are somewhat longer.
    """

    slots = ("mean", "square")
    compiled = True

    def move(self, parameter, gradient, held, rate) -> None:
        """As `Optimizer.move`."""
        self.kernels.adam(parameter, gradient, *held, *self._settings(rate))

    def move_rows(self, table, rows, gradient, held, rate) -> None:
        """As `Optimizer.move_rows`."""
        self.kernels.adam_rows(table, rows, gradient, *held, *self._settings(rate))

    def _settings(self, rate: float) -> tuple:
        config = self.config
        return rate, config.decay_mean, config.decay_square, config.epsilon, self.taken


class Momentum(Optimizer):
    """Stochastic gradient descent with momentum (Polyak 1964): v ← μ v + g, θ ← θ − rate · v; rows as in `Adam`."""

    slots = ("velocity",)
    compiled = True

    def move(self, parameter, gradient, held, rate) -> None:
        """As `Optimizer.move`."""
        self.kernels.momentum(parameter, gradient, *held, rate, self.config.decay_mean)

    def move_rows(self, table, rows, gradient, held, rate) -> None:
        """As `Optimizer.move_rows`."""
        self.kernels.momentum_rows(table, rows, gradient, *held, rate, self.config.decay_mean)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "momentum": Momentum}


def begun(network: Network, first: Mapping[str, np.ndarray], config: OptimizerConfig) -> Optimizer:
    """An optimiser for a network that has its ``first`` weights back."""
    network.assign(first)
    return make_optimizer(network, config)


def make_optimizer(network: Network, config: OptimizerConfig) -> Optimizer:
    """The optimiser that a configuration names; raises ConfigError as `Optimizer` does."""
    return OPTIMIZERS[config.name](network, config)


def clip(gradients: Mapping[str, np.ndarray | RowGradient], bound: float, machine: Machine) -> None:
    """Scale all gradients, in place, to a common norm of at most ``bound``."""
    norm = np.sqrt(sum(machine.ranks.squared_norm(gradient, machine.kernels) for gradient in gradients.values()))
    if norm > bound:
        for gradient in gradients.values():
            machine.kernels.scale(entries(gradient), bound / norm)
