"""The training loop: epochs of local updates, validation after each, the best epoch kept; it can stop and go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice

import numpy as np

from eqnp.config import Config
from eqnp.contrasts import check_finite
from eqnp.dynamics import SettlingConfig, settle
from eqnp.errors import SettlingError
from eqnp.learning import Estimate, LearningConfig, estimate
from eqnp.machine.gradients import entries
from eqnp.network import Network
from eqnp.optim import Optimizer
from eqnp.runs import label_sets
from eqnp.runs.local import Round
from eqnp.runs.metrics import macro_f1
from eqnp.runs.progress import Epoch, Progress, Score, Tally
from eqnp.states import Batch
from eqnp.tables import Supply
from eqnp.text.store import Split, bucketed, noisy_batch

LINES = 10  # of the log, in an epoch
ROUND = 16  # shards for which ranks that predict ask for rows together
SETTLED = 1e-4  # the residual that counts as settled where no tolerance is set, and all of T and K are run


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
    of the log; ``after_batch``, ``after_epoch`` and ``after_refit`` (an epoch of `refit`) see the progress, and may
    save it, or raise to stop; ``after_last`` sees the parameters of the last epoch of `fit`, before those of the best
    one are put back; ``best`` keeps the best parameters.
    """

    bar: Callable = field(default_factory=lambda: silent)
    log: Callable[[dict], None] = lambda event: None
    after_batch: Callable[[Progress], None] = lambda progress: None
    after_epoch: Callable[[Progress], None] = lambda progress: None
    after_refit: Callable[[Progress], None] = lambda progress: None
    after_last: Callable[[], None] = lambda: None
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
    epochs: int = 0,
) -> Progress:
    """Train ``network`` in place, from wherever ``progress`` is; it ends with the parameters of the best epoch.

    There are ``epochs``, or as many as the configuration has it, beside those before the network labelled texts itself.

    Texts whose split has ``weights`` count for these, divided by their mean.
    With the ``progress`` of an earlier call, and its weights and optimiser, it goes on as if it had never stopped. Of
    several ranks this process does its part of every batch, and ends with the weights that all the others have.
    Raises SettlingError, naming epoch and batch, when a state, loss or update is not finite, before that touches a
    weight.
    """
    progress, hooks, training = progress or Progress(), hooks or Hooks(), config.training
    epochs, metric = epochs or epochs_of(config, len(train)), training.metric
    texts = _Training(network, optimizer, config, train, rng, progress, hooks, epochs)
    epochs += progress.labelled
    while not progress.finished(epochs, training.patience):
        number = len(progress.epochs) + 1
        tally = texts.epoch("epoch", number, epochs)
        started = time.perf_counter()
        with _blamed(f"validation after epoch {number}"):
            score = evaluate(network, validation, config.settling)
        seconds = round(tally.seconds + time.perf_counter() - started, 3)
        moved = round(tally.moved / tally.batches, 4) if tally.batches else 1.0
        epoch = Epoch(epoch=number, validation=score, seconds=seconds, moved=moved, **tally.means())
        progress.epochs.append(epoch)
        if not progress.best or score.better(metric) > progress.best_epoch.validation.better(metric):
            progress.best = number
            hooks.best.keep(network)
        texts.end("epoch", **asdict(epoch))
        hooks.after_epoch(progress)
    hooks.after_last()
    hooks.best.restore(network)
    return progress


def refit(
    network: Network,
    optimizer: Optimizer,
    config: Config,
    train: Split,
    validation: Split,
    rng: np.random.Generator,
    *,
    progress: Progress,
    hooks: Hooks | None = None,
) -> None:
    """Train ``network``, which has its first weights, on the validation texts as well, for as many epochs as before.

    It is given what `fit` was given, and the ``progress`` that came of it. Without texts to choose an epoch on, the
    last weights are kept. (To stop where validation was best is worse: which epoch that is, is mostly noise, and its
    weights were on their way. Four fifths of TREC: 83.1 and 85.3 %, not 85.8 and 85.3.)
    """
    hooks, every = hooks or Hooks(), train.with_those_of(validation)
    if progress.refitted < 0:
        progress.refitted, progress.rng = 0, {}
    epochs = len(progress.epochs)
    texts = _Training(network, optimizer, config, every, rng, progress, hooks, epochs_of(config, len(train)))
    while progress.refitted < epochs:
        number = progress.refitted + 1
        tally = texts.epoch("refit", number, epochs)
        progress.refitted, means = number, tally.means()
        texts.end("refit", epoch=number, seconds=round(tally.seconds, 3), **{**means, "train": asdict(means["train"])})
        hooks.after_refit(progress)
    hooks.best.keep(network)
    hooks.best.restore(network)  # a file may hold it in another precision


@dataclass
class _Training:
    """Epochs over the same texts, with a rate that falls over ``scheduled`` of them."""

    network: Network
    optimizer: Optimizer
    config: Config
    texts: Split
    rng: np.random.Generator
    progress: Progress
    hooks: Hooks
    scheduled: int

    def __post_init__(self):
        self.per_epoch = -(-len(self.texts) // self.config.training.batch)
        weights = self.texts.weights
        self.weights = None if weights is None else weights / weights.mean()
        self.tolerance = self.config.settling.for_nudge(self.config.learning.beta).tolerance or SETTLED
        ranks, steps = self.network.machine.ranks, self.config.training.local_steps
        self.together, self.every = steps if ranks.size > 1 else 1, max(1, self.per_epoch // LINES)
        if self.progress.rng:
            self.rng.bit_generator.state = self.progress.rng

    def epoch(self, kind: str, number: int, of: int) -> Tally:
        """All batches that are left of an epoch; what came of it."""
        progress, hooks, per_epoch, name = self.progress, self.hooks, self.per_epoch, f"{kind} {number}"
        with hooks.bar(per_epoch, f"{name}/{of}", progress.batch) as advance:
            supply, batches = Supply(self.network, stale=self.together > 1), self._drawn()
            following = list(islice(batches, self.together))
            if following:
                supply.ask([each.batch for each in following])
            while current := following:
                with _blamed(f"{name}, batch {progress.batch + 1} of {per_epoch}"):
                    following = list(islice(batches, self.together))
                    self._step(current, following, supply)
                if (
                    progress.batch // self.every > (progress.batch - len(current)) // self.every
                    and progress.refitted < 0
                ):
                    means = progress.lately.means()
                    self._note(
                        "batches", epoch=number, batch=progress.batch, **{**means, "train": asdict(means["train"])}
                    )
                    progress.lately = Tally()
                advance(progress.this_epoch)
                with _blamed(f"{name}, after batch {progress.batch} of {per_epoch}"):
                    hooks.after_batch(progress)
        with _blamed(f"after {name}"):
            check_weights(self.network)
        return progress.this_epoch

    def end(self, kind: str, **event) -> None:
        """Note what the epoch came to, and be ready for the next."""
        self.progress.batch, self.progress.this_epoch, self.progress.lately = 0, Tally(), Tally()
        self._note(kind, **event)

    def _note(self, kind: str, **event) -> None:
        self.progress.events.append({"event": kind, **event})
        self.hooks.log(self.progress.events[-1])

    def _drawn(self) -> Iterator[_Drawn]:
        """The batches that are left of an epoch, each drawn when it is asked for."""
        training, shards = self.config.training, self.network.machine.shards
        for rows in _batches_left(self.progress, self.texts, training.batch, self.rng):
            read = noisy_batch(self.texts, rows, training.word_dropout, self.rng, shards(len(rows))[0])
            learning = drawn_side(self.config, self.rng)
            weight = None if self.weights is None else self.weights[rows]
            yield _Drawn(*read, weight, learning, self.rng.bit_generator.state)

    def _step(self, current: list[_Drawn], following: list[_Drawn], supply: Supply) -> None:
        """Learn from the batches that ranks have between two exchanges: from one, unless there are local steps."""
        network, optimizer, progress, started = self.network, self.optimizer, self.progress, time.perf_counter()
        on_rows, batches = supply.take()
        local = Round(on_rows, optimizer, len(current)) if self.together > 1 else None
        with supply.meanwhile([each.batch for each in following]):
            for each, batch in zip(current, batches, strict=True):
                own = network.machine.shards(len(each.labels))[0] if local else slice(None)
                labels, weight = each.labels[own], None if each.weight is None else each.weight[own]
                done = optimizer.taken / (self.per_epoch * self.scheduled)
                if not len(labels):  # the last batch may have no text for this rank
                    optimizer.taken += 1
                    continue
                learner = local.local if local else on_rows
                result = gradients(learner, batch, one_hot(labels, network), self.config, each.learning, weight)
                if local:
                    local.step(result.gradients, done)
                    started = self._count(each, result, labels, started)
        if local:
            local.exchange(supply.coming if following else {})
        else:
            optimizer.step(network, result.gradients, done)
            self._count(each, result, labels, started)
        progress.batch, progress.rng = progress.batch + len(current), current[-1].rng

    def _count(self, drawn: _Drawn, result: Estimate, labels: np.ndarray, started: float) -> float:
        now, norm = time.perf_counter(), self.network.kernels.squared_norm
        moved = any(norm(entries(g)) > 0 for name, g in result.gradients.items() if name.startswith("output."))
        for tally in (self.progress.this_epoch, self.progress.lately):
            tally.add(result, labels, drawn.tokens, self.tolerance, now - started, moved)
        return now


@dataclass
class _Drawn:
    """A batch, and all that was drawn for it: its own texts with word dropout, labels and tokens of all, what each text
    counts for, the estimator's side, and the state of the generator after that."""

    batch: Batch
    labels: np.ndarray
    tokens: int
    weight: np.ndarray | None
    learning: LearningConfig
    rng: dict


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


def drawn_side(config: Config, rng: np.random.Generator) -> LearningConfig:
    """The settings of learning with what equilibrium propagation draws for a batch; others draw nothing."""
    return config.learning.drawn(rng) if config.learning.algorithm == "ep" else config.learning


def gradients(
    network: Network,
    batch: Batch,
    target: np.ndarray,
    config: Config,
    drawn: LearningConfig,
    weight: np.ndarray | None = None,
) -> Estimate:
    """The gradients of one batch by the algorithm of the configuration, as in `estimate`.

    Ranks share the work of "ep" alone, whose settings were ``drawn`` for this batch (`drawn_side`).
    """
    learning = config.learning
    if learning.algorithm == "ep":
        return estimate(network, batch, target, drawn, config.settling, weight=weight)
    from eqnp.oracles import training as oracles

    settling = config.settling.for_nudge(learning.beta)  # as tightly as EP settles
    more = {"weight": weight, "train_embeddings": learning.train_embeddings}
    result = oracles.estimate(learning.algorithm, network, batch, target, settling, **more)
    check_finite(result.gradients, result.loss, network)
    return result


def free_outputs(network: Network, split: Split, settling: SettlingConfig, *, drives: bool = False) -> np.ndarray:
    """The free state of the output layer for every sample of a split, (n, C); each rank settles its part of them.

    With ``drives``, the drive of that layer, of which the state is the activation.
    """
    machine = network.machine

    def settle_shard(network: Network, batch: Batch) -> np.ndarray:
        buffers = machine.buffers
        x = network.clamp(batch, buffers)
        state = network.zero_state(x, buffers=buffers)
        settle(network, x, state, settling)
        found = state.drives if drives else state.states
        return network.kernels.host(found[network.output.name]).copy()

    def settle_rows(rows: np.ndarray) -> np.ndarray:
        return settle_shard(network, split.batch(rows)[0])

    shards = machine.prediction_shards(lambda size: bucketed(split, size), machine.shard or len(split))
    own, classes = shards[machine.ranks.part(len(shards))], network.output.shape[0]
    outputs, supply = [] if machine.ranks.size > 1 else list(machine.map(settle_rows, own)), Supply(network)
    for start in range(0, -(-len(shards) // machine.ranks.size), ROUND) if supply.tables else ():
        supply.ask([split.batch(rows)[0] for rows in own[start : start + ROUND]])
        on_rows, batches = supply.take()
        outputs += machine.map(partial(settle_shard, on_rows), batches)
        supply.rest()
    output = np.empty((len(split), classes), network.dtype)
    output[np.concatenate(shards)] = machine.ranks.concatenate(outputs, classes, network.dtype)
    return output


def evaluate(network: Network, split: Split, settling: SettlingConfig) -> Score:
    """Loss and accuracy of the free phase on a split; raises SettlingError for a state that is not finite."""
    return score(free_outputs(network, split, settling), split.labels, network)


def score(output: np.ndarray, labels: np.ndarray, network: Network) -> Score:
    """Loss, accuracy and macro-F1 of outputs (n, C), and micro F1 where a text may have several labels."""
    loss = network.cost(output, one_hot(labels, network)).mean()
    if labels.ndim == 2:
        given = label_sets.given(output)
        counts, right = label_sets.counted(given, labels), float((given == labels).all(axis=1).mean())
        f1 = label_sets.macro_f1(counts), label_sets.micro_f1(counts)
        return Score(float(loss), right, int(given.any(axis=0).sum()), *f1)
    predicted = output.argmax(axis=1)
    accuracy, f1 = float((predicted == labels).mean()), macro_f1(labels, predicted, output.shape[1])
    return Score(float(loss), accuracy, len(np.unique(predicted)), f1)


def one_hot(labels: np.ndarray, network: Network) -> np.ndarray:
    """Targets (n, C) in the network's dtype, of labels (n,), or sets of them (n, C) of 0 and 1; raises IndexError for a
    label beyond the classes."""
    if labels.ndim == 2:
        return labels.astype(network.dtype)
    return np.eye(network.output.shape[0], dtype=network.dtype)[labels]


@contextmanager
def silent(total: int, name: str, done: int) -> Iterator[Callable[[Tally], None]]:
    """A progress bar that shows nothing."""
    yield lambda tally: None


def check_weights(network: Network) -> None:
    """Raise SettlingError if a weight is not finite: clipped units swallow an infinite one without a trace."""
    for name, value in network.parameters.items():
        if not network.kernels.finite(value):
            raise SettlingError(f"{name!r} is no longer a finite number; lower optimizer.learning_rate")
