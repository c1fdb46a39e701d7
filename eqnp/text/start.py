"""Where the vectors of memory slots start: scaled by how rare a slot is, with what it tells of the classes beside them.

A linear model of words is as good as it is because it weighs them. A memory can start with the same knowledge: the
inverse document frequency makes rare slots speak louder and be heeded more, and the log-count ratio of each class (Wang
and Manning 2012) is a dimension of its own. All of it is where learning starts, and none of it stays as it was.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from eqnp.text.store import Split
from eqnp.votes import features_of


def informed(embedding: np.ndarray, train: Split, classes: int, rarity: float, ratio: float) -> np.ndarray:
    """The embedding (V, D) with each row times idf^``rarity``, and ``ratio`` times r_c in a column for each class.

    The ratio r_c(g) is that of `log_count_ratios` over the training samples that have slot g. Rows 0 and 1 (padding,
    unknown) stay zero. Returns (V, D + C), or (V, D) if ``ratio`` is 0; the factors idf^``rarity`` have the mean 1 over
    all occurrences.
    """
    if not (rarity or ratio):
        return embedding
    counts, texts = samples_of_class(train, len(embedding), classes)
    if rarity:
        factors = np.log((1 + len(train)) / (1 + texts)) ** rarity
        factors *= texts.sum() / max((factors * texts).sum(), 1e-12)
        embedding = embedding * factors[:, None].astype(embedding.dtype)
    if ratio:
        ratios = log_count_ratios(counts, texts)
        ratios[:2] = 0
        embedding = np.hstack([embedding, (ratio * ratios).astype(embedding.dtype)])
    return embedding


def first_votes(train: Split, rows: int, classes: int, gain: float) -> dict[str, np.ndarray]:
    """What every feature says of each class, (V, C) float32 by features: ``gain`` times its log-count ratio.

    Rows 0 and 1 (padding, unknown) are zero.
    """
    votes = {}
    for segment in train.segments:
        features = train.features[features_of(segment)]  # each stands in a text once
        if train.several:
            ratios = log_count_ratios(
                *_of_sets(train, features.ids, np.repeat(np.arange(len(train)), features.lengths), rows)
            )
        else:
            cells = features.ids + rows * np.repeat(train.labels, features.lengths)
            ratios = log_count_ratios(np.bincount(cells, minlength=rows * classes).reshape(classes, rows).T)
        ratios[:2] = 0
        votes[features_of(segment)] = (gain * ratios).astype(np.float32)
    return votes


def samples_of_class(train: Split, slots: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """In how many samples of each class every slot stands, in whichever of its texts, (V, C), and in how many, (V,)."""
    pairs = [np.repeat(np.arange(len(ids)), ids.lengths) * slots + ids.ids for ids in train.segments.values()]
    once, counts = np.unique(np.concatenate(pairs)), np.zeros((slots, classes))
    if train.several:
        return _of_sets(train, once % slots, once // slots, slots)
    np.add.at(counts, (once % slots, train.labels[once // slots]), 1)
    return counts, counts.sum(axis=1)


def _of_sets(train: Split, slots: np.ndarray, texts: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """`samples_of_class` where a text may have several labels, for pairs of a slot and a text that it stands in."""
    stands = sparse.csr_array((np.ones(len(slots)), (slots, texts)), shape=(rows, len(train)))
    return stands @ train.labels.astype(np.float64), stands.sum(axis=1)


def log_count_ratios(counts: np.ndarray, texts: np.ndarray | None = None) -> np.ndarray:
    """r_c(g) of counts (V, C) by class: the log of the share of g in c, less that in the others, with one more of each.

    Wang & Manning 2012, eq. 1, of one class against the others. ``texts`` (V,) counts all that g stands in, where one
    may be of several classes: the others are then those that are not of c.
    """
    texts = counts.sum(axis=1) if texts is None else texts
    own, others = 1 + counts, 1 + texts[:, None] - counts
    return np.log(own / own.sum(axis=0)) - np.log(others / others.sum(axis=0))
