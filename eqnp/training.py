"""The training loop: epochs of local updates, validation after each, the best epoch kept, test looked at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eqnp.config import Config
from eqnp.dynamics import SettlingConfig
from eqnp.errors import SettlingError
from eqnp.learning import Estimate, estimate, free_phase
from eqnp.network import Network
from eqnp.optim import Adam
from eqnp.synapses import Segment
from eqnp.text.store import Split, bucketed, drop_words
from eqnp.workspace import Workspace

SETTLED = 1e-4  # the residual that counts as settled where no tolerance is set, and all of T and K are run


@dataclass(frozen=True)
class Score:
    """Mean cost C (squared error, or cross-entropy of a softmax output) and accuracy of a split."""

    loss: float
    accuracy: float


@dataclass
class Epoch:
    """One line of the log. Sweeps and settled share have an entry per phase, the free one first.

    ``train`` is measured on the way, with word dropout and while the weights move; ``settled`` is the share of
    samples within the tolerance (`SETTLED` if that is 0) when their phase ended.
    """

    epoch: int
    train: Score
    validation: Score
    sweeps: list[float]
    settled: list[float]
    seconds: float
    tokens_per_second: float


@dataclass
class Fitted:
    """What training found: parameters of the best epoch by validation accuracy, and the epochs."""

    parameters: dict[str, np.ndarray]
    best: Epoch
    epochs: list[Epoch] = field(default_factory=list)


class Log:
    """A JSON line per event, flushed as it happens."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, event: Mapping) -> None:
        """Append one event."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def fit(
    network: Network,
    optimizer: Adam,
    config: Config,
    train: Split,
    validation: Split,
    rng: np.random.Generator,
    executor: Executor,
    *,
    bar: Callable | None = None,
    after_epoch: Callable[[Epoch, bool], None] = lambda epoch, best: None,
) -> Fitted:
    """Train ``network`` in place by EP.

    ``bar(total, name)`` is a context manager that yields an ``advance(text)`` callable, for progress. ``after_epoch``
    gets every epoch and whether it is the best so far. Raises SettlingError when a state, update or weight stops being
    finite.
    """
    bar = bar or silent
    run = config.training
    batches_per_epoch = -(-len(train) // run.batch)
    total, fitted, workspace = batches_per_epoch * run.epochs, None, Workspace()
    for number in range(1, run.epochs + 1):
        settling = config.settling.for_nudge(config.learning.beta)
        started, tally = time.perf_counter(), _Tally(settling.tolerance or SETTLED)
        with bar(batches_per_epoch, f"epoch {number}/{run.epochs}") as advance:
            for rows in bucketed(train, run.batch, rng):
                segments, labels = train.batch(rows)
                segments = drop_words(segments, run.word_dropout, rng)
                target = one_hot(labels, network)
                result = gradients(network, segments, target, config, executor, workspace, rng)
                optimizer.step(result.gradients, optimizer.taken / total, executor)
                tally.add(result, labels, segments)
                advance(tally.line())
        seconds = time.perf_counter() - started
        _check_finite(network)
        score = evaluate(network, validation, config.settling, executor, run.shard, workspace)
        epoch = Epoch(
            number,
            tally.score(),
            score,
            tally.sweeps(),
            tally.settled(),
            round(time.perf_counter() - started, 3),
            round(tally.tokens / seconds),
        )
        is_best = fitted is None or _rank(score) > _rank(fitted.best.validation)
        if is_best:
            copies = {name: value.copy() for name, value in network.parameters.items()}
            fitted = Fitted(copies, epoch, fitted.epochs if fitted else [])
        fitted.epochs.append(epoch)
        after_epoch(epoch, is_best)
    network.parameters.update(fitted.parameters)
    return fitted


def gradients(
    network: Network,
    segments: Mapping[str, Segment],
    target: np.ndarray,
    config: Config,
    executor: Executor | None,
    workspace: Workspace,
    rng: np.random.Generator,
) -> Estimate:
    """The gradients of one batch by the algorithm of the configuration."""
    learning, options = config.learning, {"executor": executor, "shard": config.training.shard}
    if learning.algorithm == "ep":
        sign = int(rng.choice((-1, 1))) if learning.estimator == "random-sign" else 1
        options |= {"workspace": workspace, "sign": sign}
        return estimate(network, segments, target, learning, config.settling, **options)
    from eqnp.oracles import training as oracles

    options["train_embeddings"] = learning.train_embeddings
    settling = config.settling.for_nudge(learning.beta)  # as tightly as EP settles
    return oracles.estimate(learning.algorithm, network, segments, target, settling, **options)


def free_outputs(
    network: Network,
    split: Split,
    settling: SettlingConfig,
    executor: Executor | None,
    shard: int,
    workspace: Workspace | None = None,
) -> np.ndarray:
    """The free state of the output layer for every sample of a split, (n, C)."""
    workspace = workspace or Workspace()

    def settle_shard(rows: np.ndarray) -> np.ndarray:
        segments, _ = split.batch(rows)
        room = workspace.shard
        state, _ = free_phase(network, network.clamp(segments, room), settling, room=room)
        return state.states[network.output.name].copy()

    output = np.empty((len(split), network.output.shape[0]), network.dtype)
    shards = list(bucketed(split, shard))
    for rows, part in zip(shards, (executor.map if executor else map)(settle_shard, shards), strict=True):
        output[rows] = part
    return output


def evaluate(
    network: Network,
    split: Split,
    settling: SettlingConfig,
    executor: Executor | None,
    shard: int,
    workspace: Workspace | None = None,
) -> Score:
    """Loss and accuracy of the free phase on a split."""
    return score(free_outputs(network, split, settling, executor, shard, workspace), split.labels, network)


def score(output: np.ndarray, labels: np.ndarray, network: Network) -> Score:
    """Loss and accuracy of outputs (n, C)."""
    loss = network.cost(output, one_hot(labels, network)).mean()
    return Score(float(loss), float((output.argmax(axis=1) == labels).mean()))


def one_hot(labels: np.ndarray, network: Network) -> np.ndarray:
    """Targets (n, C) in the network's dtype."""
    return np.eye(network.output.shape[0], dtype=network.dtype)[labels]


@contextmanager
def silent(total: int, name: str) -> Iterator[Callable[[str], None]]:
    """A progress bar that shows nothing."""
    yield lambda text: None


def _rank(score: Score) -> tuple[float, float]:
    """By accuracy, and among equals (common on a small validation split) by loss."""
    return score.accuracy, -score.loss


def _check_finite(network: Network) -> None:
    """Clipped units swallow an infinite weight without a trace in any state: look at the weights themselves."""
    for name, value in network.parameters.items():
        if not np.isfinite(value).all():
            raise SettlingError(f"{name!r} is no longer a finite number; lower optimizer.learning_rate")


class _Tally:
    """Running means over the batches of an epoch."""

    def __init__(self, tolerance: float):
        self.tolerance, self.samples, self.tokens, self.loss, self.right = tolerance, 0, 0, 0.0, 0
        self.sweeps_sum = self.settled_sum = 0.0

    def add(self, result, labels: np.ndarray, segments: Mapping[str, Segment]) -> None:
        self.samples += len(labels)
        self.tokens += int(sum(s.lengths.sum() for s in segments.values()))
        self.loss += result.loss * len(labels)
        self.right += int((result.output.argmax(axis=1) == labels).sum())
        self.sweeps_sum = self.sweeps_sum + result.sweeps.sum(axis=1)
        self.settled_sum = self.settled_sum + (result.residual <= self.tolerance).sum(axis=1)

    def score(self) -> Score:
        return Score(self.loss / self.samples, self.right / self.samples)

    def sweeps(self) -> list[float]:
        return [round(float(s), 2) for s in self.sweeps_sum / self.samples]

    def settled(self) -> list[float]:
        return [round(float(s), 4) for s in self.settled_sum / self.samples]

    def line(self) -> str:
        sweeps = "+".join(f"{s:.0f}" for s in self.sweeps())
        score = self.score()
        return (
            f"loss {score.loss:.4f}, accuracy {score.accuracy:.1%}, sweeps {sweeps}, settled {min(self.settled()):.0%}"
        )
