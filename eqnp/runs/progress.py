"""What a training run records: scores, epochs, running sums, and the progress that a checkpoint keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from eqnp.learning import Estimate
from eqnp.runs import label_sets


@dataclass(frozen=True)
class Score:
    """Mean cost C (squared error, or cross-entropy) and accuracy of a split, how many classes were predicted (0: not
    counted), and the mean F1 of the classes (None: not counted).

    Where a text may have several labels, accuracy is the share of texts that are given all of theirs and no others, and
    there is the F1 over all labels (`eqnp.runs.label_sets`).
    """

    loss: float
    accuracy: float
    predicted: int = 0
    macro_f1: float | None = None
    micro_f1: float | None = None

    @property
    def figure(self) -> float:
        """What is shown of it: the accuracy, or micro F1 where a text may have several labels."""
        return self.accuracy if self.micro_f1 is None else self.micro_f1

    def better(self, metric: str) -> tuple[float, float]:
        """What is greater for the better of two scores by ``training.metric``: by `figure`, where that is the accuracy.

        Equals, which are common on a small validation split, are told apart by the loss.
        """
        return {"accuracy": self.figure, "macro-f1": self.macro_f1, "loss": -self.loss}[metric], -self.loss


@dataclass
class Epoch:
    """One line of the log. Sweeps and settled share have an entry per phase, the free one first.

    ``train`` is measured on the way, with word dropout and while the weights move; ``settled`` is the share of
    samples within the tolerance (`eqnp.runs.loop.SETTLED` if that is 0) when their phase ended; ``moved`` the
    share of batches that had anything to teach the output.
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
    labels: list[int] = field(default_factory=list)  # given rightly, given and due, where a text may have several

    def add(
        self, result: Estimate, labels: np.ndarray, tokens: int, tolerance: float, seconds: float, moved: bool
    ) -> None:
        """Count one batch; ``moved`` says whether it had anything to teach the output."""
        self.batches += 1
        self.moved += moved
        self.samples += len(labels)
        self.tokens += tokens
        if labels.ndim == 2:
            predicted = label_sets.given(result.output)
            self.right += int((predicted == labels).all(axis=1).sum())
            counts = label_sets.counted(predicted, labels).sum(axis=1)
            self.labels = [int(a + b) for a, b in zip(self.labels or [0] * 3, counts, strict=True)]
        else:
            self.right += int((result.output.argmax(axis=1) == labels).sum())
        self.loss += result.loss * len(labels)
        self.seconds += seconds
        self.sweeps = _plus(self.sweeps, result.sweeps)
        self.settled = _plus(self.settled, result.residual <= tolerance)

    def score(self) -> Score:
        """Mean loss and accuracy, and micro F1 of several labels."""
        micro_f1 = float(label_sets.means(np.array(self.labels))["f1"]) if self.labels else None
        samples = max(1, self.samples)
        return Score(self.loss / samples, self.right / samples, micro_f1=micro_f1)

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
    state ``order``; ``rng`` is its state now. ``best`` is the number of the best epoch by ``training.metric`` on the
    validation texts, 0 before the first, and again when the network has labelled texts. ``refitted`` counts the epochs
    of training once more on all texts, −1 before that begins. ``events`` are the lines of the log. ``figures`` are
    those of the best epoch on the validation texts (`eqnp.runs.metrics.figures`), and ``calibration`` that of a
    temperature fitted to them (`eqnp.runs.calibration.calibration`), both empty until the epoch is chosen.
    ``own_labels`` are the classes that the network gave to unlabelled texts after ``labelled`` epochs, −1 for those
    that it leaves out; empty before. All of it is JSON.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int = 0
    batch: int = 0
    order: dict = field(default_factory=dict)
    rng: dict = field(default_factory=dict)
    this_epoch: Tally = field(default_factory=Tally)
    lately: Tally = field(default_factory=Tally)
    events: list[dict] = field(default_factory=list)
    refitted: int = -1
    figures: dict = field(default_factory=dict)
    calibration: dict = field(default_factory=dict)
    own_labels: list[int] = field(default_factory=list)
    labelled: int = 0

    @property
    def best_epoch(self) -> Epoch:
        """The best epoch so far."""
        return self.epochs[self.best - 1]

    def finished(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last ``patience`` (if not 0) of them were no better than one before."""
        done = len(self.epochs)
        return done >= epochs or bool(patience and done - max(self.best, self.labelled) >= patience)

    def give(self, labels: list[int]) -> None:
        """Take the labels that the network gave to unlabelled texts: training and the choice of an epoch begin again.

        (Validation texts that are like the labelled ones, as reviews of the same films, do not show what others teach.)
        """
        self.own_labels, self.labelled, self.best, self.rng = labels, len(self.epochs), 0, {}
        given = Counter(label for label in labels if label >= 0)
        self.events.append({"event": "own labels", "texts": len(labels), "given": [given[i] for i in sorted(given)]})

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
