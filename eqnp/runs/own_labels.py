"""Self-training: a nudge needs no label, only a wish, and the wish can be the network's own.

A network that has learned labels the unlabelled texts, and learning begins again, from the first weights, with those
texts among the others of which it is surest. It hears of words and n-grams that stand in no labelled text then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from eqnp.config import Config
from eqnp.dynamics import SettlingConfig
from eqnp.network import Network
from eqnp.optim import Optimizer
from eqnp.runs.console import own_labels_line
from eqnp.runs.loop import Hooks, epochs_of, fit, free_outputs
from eqnp.runs.progress import Progress
from eqnp.text.prepare import Prepared
from eqnp.text.store import Split

NONE = -1  # of a text that is left out


def own_labels(network: Network, texts: Split, share: float, settling: SettlingConfig) -> np.ndarray:
    """The classes that the network gives to texts, (n,) int64, `NONE` where it is not sure.

    It is sure of the ``share`` of the texts of a class whose largest drive of the output is farthest above the next.
    """
    drives = free_outputs(network, texts, settling, drives=True)
    labels, ordered = drives.argmax(axis=1), np.sort(drives, axis=1)
    margin, result = ordered[:, -1] - ordered[:, -2], np.full(len(texts), NONE)
    for label in range(drives.shape[1]):
        rows = np.flatnonzero(labels == label)
        surest = np.argsort(-margin[rows], kind="stable")[: round(share * len(rows))]
        result[rows[surest]] = label
    return result


def learn_own_labels(
    network: Network,
    optimizer: Optimizer,
    config: Config,
    prepared: Prepared,
    rng: np.random.Generator,
    *,
    progress: Progress,
    hooks: Hooks,
    begin_again: Callable[[], Optimizer],
    say: Callable[[str], None] = lambda line: None,
) -> Optimizer:
    """Label the unlabelled texts, unless that is done already, and train with those that the network is sure of.

    The rest is as in `fit`; ``begin_again`` puts the network back to its first weights, and returns an optimiser for
    that, which is returned.
    """
    train, texts = prepared.splits["train"], prepared.unlabelled
    if not progress.own_labels:
        labels = own_labels(network, texts, config.training.self_training, config.settling)
        progress.give(labels.tolist())
        hooks.log(progress.events[-1])
        say(own_labels_line(labels, prepared.classes))
        optimizer = begin_again()
    labels = np.array(progress.own_labels)
    rows = np.flatnonzero(labels != NONE)
    learned = prepared.weighed_texts(train.with_those_of(replace(texts, labels=labels).take(rows)))
    given = {"progress": progress, "hooks": hooks, "epochs": own_epochs(config, len(train))}
    fit(network, optimizer, config, *learned, rng, **given)
    return optimizer


def own_epochs(config: Config, samples: int) -> int:
    """The epochs on such texts too, where there are so many labelled samples: half of those on the latter alone.

    These are more texts, and so not fewer updates.
    """
    return -(-epochs_of(config, samples) // 2)


def epochs_in_all(config: Config, progress: Progress, samples: int) -> int:
    """The epochs of a training on so many labelled samples, with those on own labels once these are given."""
    return progress.labelled + own_epochs(config, samples) if progress.own_labels else epochs_of(config, samples)
