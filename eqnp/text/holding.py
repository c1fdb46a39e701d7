"""Validation texts held out of those for training, with a share of every class."""

from __future__ import annotations

import numpy as np

from eqnp.errors import DataError, some
from eqnp.text.corpora import Corpus
from eqnp.text.labels import class_counts


def hold_out(corpus: Corpus, share: float, rng: np.random.Generator) -> tuple[Corpus, Corpus]:
    """Training and validation samples, in the order that they had; the latter are a random share of every class.

    Each class with two texts or more has at least one in either part, and one with a single text keeps it for training,
    which a note says. A text of several labels is taken for one of the rarest of them. Raises DataError where nothing
    could be held out.
    """
    labels = rarest_of(corpus.labels) if corpus.several else corpus.labels
    counts = np.bincount(labels, minlength=len(corpus.classes))
    held = _shares(counts, share)
    if not held.sum():
        raise DataError(
            f"{len(corpus)} sample(s), and no class has two: nothing can be held out for validation; give more data, "
            "or validation data (--val-data F)"
        )
    order = rng.permutation(len(corpus))
    taken = np.zeros(len(corpus), bool)
    for label, number in enumerate(held):
        taken[order[labels[order] == label][:number]] = True
    train, validation = corpus.take(np.flatnonzero(~taken)), corpus.take(np.flatnonzero(taken))
    validation.unlabelled, validation.held_out = 0, True  # counted once
    if not corpus.several and (single := [corpus.classes[label] for label in np.flatnonzero(counts == 1)]):
        note = f"validation: has no text of {some(map(repr, single))}, of which there is one, to learn from"
        train.notes = (*train.notes, note)
    return train, validation


def rarest_of(labels: np.ndarray) -> np.ndarray:
    """Of the labels of each text, (n, C), the one that the fewest texts have; C where a text has none. (n,)"""
    counts = class_counts(labels)
    ranked = np.where(labels > 0, counts, len(labels) + 1)
    return np.where(labels.any(axis=1), ranked.argmin(axis=1), labels.shape[1])


def _shares(counts: np.ndarray, share: float) -> np.ndarray:
    """How many of each class to hold out: together the share of all, by largest remainders, but one, and not all."""
    exact = share * counts
    held = np.floor(exact).astype(np.int64)
    short = max(1, round(share * counts.sum())) - held.sum()
    held[np.argsort(held - exact, kind="stable")[: max(0, short)]] += 1
    return np.clip(held, np.minimum(1, counts // 2), np.maximum(counts - 1, 0))
