"""The training loop: epochs of local updates, validation after each, the best epoch kept; it can stop and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np

from eqnp.config import Config
from eqnp.contrasts import check_finite
from eqnp.dynamics import SettlingConfig, settle
from eqnp.errors import SettlingError
from eqnp.learning import Estimate, estimate
from eqnp.machine.gradients import entries
from eqnp.network import Network
from eqnp.optim import Optimizer
from eqnp.states import Batch
from eqnp.text.store import Split, bucketed, noisy_batch

LINES = 10  # of the log, in an epoch
SETTLED = 1e-4  # the residual that counts as settled where no tolerance is set, and all of T and K are run


@dataclass(frozen=True)
class Score:
    """Mean cost C (squared error, or cross-entropy of a softmax output) and accuracy of a split, and how many classes
    were predicted (0: not counted)."""

    loss: float
    accuracy: float
    predicted: int = 0


@dataclass
class Epoch:
    """One line of the log. Sweeps and settled share have an entry per phase, the free one first.

    ``train`` is measured on the way, with word dropout and while the weights move; ``settled`` is the share of
    samples within the tolerance (`SETTLED` if that is 0) when their phase ended; ``moved`` the share of batches that
    had anything to teach the output.
    """

    epoch: int
    train: Score
    validation: Score
    sweeps: list[float]
    settled: list[float]
    seconds: float
    tokens_per_second: float
    moved: float = 1.0


@dataclass
class Tally:
    """Running sums over batches, as JSON can hold them."""

    samples: int = 0
    tokens: int = 0
    right: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    sweeps: list[float] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    batches: int = 0
    moved: int = 0

    def add(
        self, result: Estimate, labels: np.ndarray, tokens: int, tolerance: float, seconds: float, moved: bool
    ) -> None:
        """Count one batch; ``moved`` says whether it had anything to teach the output."""
        self.batches += 1
        self.moved += moved
        self.samples += len(labels)
        self.tokens += tokens
        self.right += int((result.output.argmax(axis=1) == labels).sum())
        self.loss += result.loss * len(labels)
        self.seconds += seconds
        self.sweeps = _plus(self.sweeps, result.sweeps)
        self.settled = _plus(self.settled, result.residual <= tolerance)

    def score(self) -> Score:
        """Mean loss and accuracy."""
        return Score(self.loss / self.samples, self.right / self.samples)

    def means(self) -> dict:
        """Per sample, by the names of `Epoch`."""
        return {
            "train": self.score(),
            "sweeps": [round(total / self.samples, 2) for total in self.sweeps],
            "settled": [round(total / self.samples, 4) for total in self.settled],
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9)),
        }


def _plus(sums: list[float], values: np.ndarray) -> list[float]:
    totals = values.sum(axis=1)
    return [float(one + more) for one, more in zip(sums or [0.0] * len(totals), totals, strict=True)]


@dataclass
class Progress:
    """Where training is: all that determines its future, beside the weights and the optimiser.

    ``batch`` counts the batches done of the epoch after the last of ``epochs``. The generator drew their order in the
    state ``order``; ``rng`` is its state now. ``best`` is the number of the best epoch by validation accuracy, 0 before
    the first. ``events`` are the lines of the log. All of it is JSON.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    batch: int = 0
    order: dict = field(default_factory=dict)
    rng: dict = field(default_factory=dict)
    this_epoch: Tally = field(default_factory=Tally)
    lately: Tally = field(default_factory=Tally)
    events: list[dict] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch:
        """The best epoch so far."""
        return self.epochs[self.best - 1]

    def finished(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last ``patience`` (if not 0) of them were no better than one before."""
        done = len(self.epochs)
        return done >= epochs or bool(patience and done - self.best >= patience)

    @classmethod
    def from_tree(cls, tree: Mapping) -> Progress:
        """What `dataclasses.asdict` made of it; raises KeyError or TypeError for anything else."""
        scores = ("train", "validation")
        epochs = [Epoch(**{**each, **{name: Score(**each[name]) for name in scores}}) for each in tree["epochs"]]
        tallies = {name: Tally(**tree[name]) for name in ("this_epoch", "lately")}
        progress = cls(**{**tree, "epochs": epochs, **tallies})
        for state in (progress.order, progress.rng):
            if state:
                np.random.default_rng().bit_generator.state = state
        if not (0 <= progress.best <= len(epochs) and progress.batch >= 0):
            raise ValueError("its best epoch or its batch is out of range")
        return progress


class BestInMemory:
    """The parameters of the best epoch so far, kept as a copy."""

    def keep(self, network: Network) -> None:
        """Take the present parameters."""
        self.parameters = {name: value.copy() for name, value in network.host_parameters().items()}

    def restore(self, network: Network) -> None:
        """Put the kept ones back, if any were."""
        if hasattr(self, "parameters"):
            network.assign(self.parameters)


@dataclass
class Hooks:
    """What happens beside training, all of it optional.

    ``bar(total, name, done)`` is a context manager that yields an ``advance(tally)`` callable; ``log`` gets every line
    of the log; ``after_batch`` and ``after_epoch`` see the progress, and may save it, or raise to stop; ``best`` keeps
    the best parameters.
    """

    bar: Callable = field(default_factory=lambda: silent)
    log: Callable[[dict], None] = lambda event: None
    after_batch: Callable[[Progress], None] = lambda progress: None
    after_epoch: Callable[[Progress], None] = lambda progress: None
    best: BestInMemory = field(default_factory=BestInMemory)


def fit(
    network: Network,
    optimizer: Optimizer,
    config: Config,
    train: Split,
    validation: Split,
    rng: np.random.Generator,
    *,
    progress: Progress | None = None,
    hooks: Hooks | None = None,
) -> Progress:
    """Train ``network`` in place, from wherever ``progress`` is; it ends with the parameters of the best epoch.

    With the ``progress`` of an earlier call, and its weights and optimiser, it goes on as if it had never stopped. Of
    several ranks this process does its part of every batch, and ends with the weights that all the others have.
    Raises SettlingError, naming epoch and batch, when a state, loss or update is not finite, before that touches a
    weight.
    """
    progress, hooks, training = progress or Progress(), hooks or Hooks(), config.training
    if progress.rng:
        rng.bit_generator.state = progress.rng
    per_epoch = -(-len(train) // training.batch)
    epochs = epochs_of(config, len(train))
    tolerance = config.settling.for_nudge(config.learning.beta).tolerance or SETTLED

    def note(kind: str, **event) -> None:
        progress.events.append({"event": kind, **event})
        hooks.log(progress.events[-1])

    def step(rows: np.ndarray) -> None:
        started = time.perf_counter()
        own, _ = network.machine.shards(len(rows))
        batch, labels, tokens = noisy_batch(train, rows, training.word_dropout, rng, own)
        result = gradients(network, batch, one_hot(labels, network), config, rng)
        optimizer.step(network, result.gradients, optimizer.taken / (per_epoch * epochs))
        seconds, norm = time.perf_counter() - started, network.kernels.squared_norm
        moved = any(norm(entries(g)) > 0 for name, g in result.gradients.items() if name.startswith("output."))
        for tally in (progress.this_epoch, progress.lately):
            tally.add(result, labels, tokens, tolerance, seconds, moved)
        progress.batch, progress.rng = progress.batch + 1, rng.bit_generator.state

    while not progress.finished(epochs, training.patience):
        number = len(progress.epochs) + 1
        with hooks.bar(per_epoch, f"epoch {number}/{epochs}", progress.batch) as advance:
            for rows in _batches_left(progress, train, training.batch, rng):
                with _blamed(f"epoch {number}, batch {progress.batch + 1} of {per_epoch}"):
                    step(rows)
                if progress.batch % max(1, per_epoch // LINES) == 0:
                    means = progress.lately.means()
                    note("batches", epoch=number, batch=progress.batch, **{**means, "train": asdict(means["train"])})
                    progress.lately = Tally()
                advance(progress.this_epoch)
                with _blamed(f"epoch {number}, after batch {progress.batch} of {per_epoch}"):
                    hooks.after_batch(progress)
        with _blamed(f"after epoch {number}"):
            check_weights(network)
        started, tally = time.perf_counter(), progress.this_epoch
        with _blamed(f"validation after epoch {number}"):
            score = evaluate(network, validation, config.settling)
        seconds = round(tally.seconds + time.perf_counter() - started, 3)
        moved = round(tally.moved / tally.batches, 4) if tally.batches else 1.0
        epoch = Epoch(epoch=number, validation=score, seconds=seconds, moved=moved, **tally.means())
        progress.epochs.append(epoch)
        if not progress.best or _rank(score) > _rank(progress.best_epoch.validation):
            progress.best = number
            hooks.best.keep(network)
        progress.batch, progress.this_epoch, progress.lately = 0, Tally(), Tally()
        note("epoch", **asdict(epoch))
        hooks.after_epoch(progress)
    hooks.best.restore(network)
    return progress


@contextmanager
def _blamed(place: str) -> Iterator[None]:
    """Say where training was when a number stopped being finite."""
    try:
        yield
    except SettlingError as error:
        raise SettlingError(f"{place}: {error}") from error


def epochs_of(config: Config, samples: int) -> int:
    """The epochs that a configuration trains for on so many samples."""
    per_epoch = -(-samples // config.training.batch)
    return max(config.training.epochs, -(-config.training.min_updates // per_epoch))


def _batches_left(progress: Progress, train: Split, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The batches that are left of the epoch, whose order is drawn when it begins."""
    if progress.batch == 0:
        progress.order = rng.bit_generator.state
        return list(bucketed(train, size, rng))
    again = np.random.default_rng()
    again.bit_generator.state = progress.order
    return list(bucketed(train, size, again))[progress.batch :]


def gradients(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    config: Config,
    rng: np.random.Generator,
) -> Estimate:
    """The gradients of one batch by the algorithm of the configuration, as in `estimate`.

    Ranks share the work of "ep" alone; ``rng`` draws what the estimator draws for a batch.
    """
    learning = config.learning
    if learning.algorithm == "ep":
        return estimate(network, batch, target, learning.drawn(rng), config.settling)
    from eqnp.oracles import training as oracles

    settling = config.settling.for_nudge(learning.beta)  # as tightly as EP settles
    given, train_embeddings = (network, batch, target, settling), learning.train_embeddings
    result = oracles.estimate(learning.algorithm, *given, train_embeddings=train_embeddings)
    check_finite(result.gradients, result.loss, network)
    return result


def free_outputs(network: Network, split: Split, settling: SettlingConfig) -> np.ndarray:
    """The free state of the output layer for every sample of a split, (n, C); each rank settles its part of them."""
    machine = network.machine

    def settle_shard(rows: np.ndarray) -> np.ndarray:
        buffers = machine.buffers
        x = network.clamp(split.batch(rows)[0], buffers)
        state = network.zero_state(x, buffers=buffers)
        settle(network, x, state, settling)
        return network.kernels.host(state.states[network.output.name]).copy()

    shards = machine.prediction_shards(lambda size: bucketed(split, size), machine.shard or len(split))
    own = shards[machine.ranks.part(len(shards))]
    outputs = list(machine.map(settle_shard, own))
    empty = np.empty((0, network.output.shape[0]), network.dtype)
    output = np.empty((len(split), network.output.shape[0]), network.dtype)
    output[np.concatenate(shards)] = machine.ranks.concatenate([empty, *outputs])
    return output


def evaluate(network: Network, split: Split, settling: SettlingConfig) -> Score:
    """Loss and accuracy of the free phase on a split; raises SettlingError for a state that is not finite."""
    return score(free_outputs(network, split, settling), split.labels, network)


def score(output: np.ndarray, labels: np.ndarray, network: Network) -> Score:
    """Loss and accuracy of outputs (n, C)."""
    loss = network.cost(output, one_hot(labels, network)).mean()
    predicted = output.argmax(axis=1)
    return Score(float(loss), float((predicted == labels).mean()), len(np.unique(predicted)))


def one_hot(labels: np.ndarray, network: Network) -> np.ndarray:
    """Targets (n, C) in the network's dtype; raises IndexError for a label beyond the classes."""
    return np.eye(network.output.shape[0], dtype=network.dtype)[labels]


@contextmanager
def silent(total: int, name: str, done: int) -> Iterator[Callable[[Tally], None]]:
    """A progress bar that shows nothing."""
    yield lambda tally: None


def _rank(score: Score) -> tuple[float, float]:
    """By accuracy, and among equals (common on a small validation split) by loss."""
    return score.accuracy, -score.loss


def check_weights(network: Network) -> None:
    """Raise SettlingError if a weight is not finite: clipped units swallow an infinite one without a trace."""
    for name, value in network.parameters.items():
        if not network.kernels.finite(value):
            raise SettlingError(f"{name!r} is no longer a finite number; lower optimizer.learning_rate")
