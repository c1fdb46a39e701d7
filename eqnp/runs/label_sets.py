"""Texts that may have several labels: which of them a network gives, and how good that is.

A class is given where its score is `THRESHOLD` or more. Labels, and what is given, are 0 or 1 for each text and class,
(n, C). Where a figure is a quotient of nothing by nothing, it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eqnp.runs.metrics import wilson

THRESHOLD = 0.5
LEAST = 1e-7  # how near to 0 or 1 a score is taken to be at most


def given(scores: np.ndarray) -> np.ndarray:
    """Whether each class is given, of scores or outputs (n, C)."""
    return scores >= THRESHOLD


def counted(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels given rightly, given, and due, by class, (3, C)."""
    predicted, labels = predicted.astype(bool), labels.astype(bool)
    return np.stack([each.sum(axis=0) for each in (predicted & labels, predicted, labels)])


def means(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of counts (3, …)."""
    right, predicted, due = counts
    return {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(due, 1),
        "f1": 2 * right / np.maximum(predicted + due, 1),
    }


def micro_f1(counts: np.ndarray) -> float:
    """F1 over all labels, of counts (3, C)."""
    return float(means(counts.sum(axis=1))["f1"])


def macro_f1(counts: np.ndarray) -> float:
    """The mean over the classes of their F1, of counts (3, C)."""
    return float(means(counts)["f1"].mean())


def log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the texts of −Σ ln of what the right answer to each class was given; 0 without texts."""
    right = np.clip(np.where(labels > 0, scores, 1 - scores), LEAST, 1)
    return float(-np.log(right).sum() / max(1, len(labels)))


def figures(scores: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict:
    """All figures of a split of one text or more, as JSON can hold them.

    ``accuracy`` is the share of texts that are given all their labels and no others; ``micro`` is over all labels,
    ``macro`` the mean over all classes, each alike, and ``weighted`` that by support.
    """
    predicted = given(scores)
    counts, accuracy = counted(predicted, labels), float((predicted == labels).all(axis=1).mean())
    each, total = means(counts), means(counts.sum(axis=1))
    _, told, support = counts
    return {
        "samples": len(labels),
        "accuracy": accuracy,
        "interval": list(wilson(accuracy, len(labels))),
        "log_loss": log_loss(scores, labels),
        "micro": {key: float(value) for key, value in total.items()},
        "macro": {key: float(values.mean()) for key, values in each.items()},
        "weighted": {key: float(values @ support / max(1, support.sum())) for key, values in each.items()},
        "classes": {
            name: {
                **{key: float(values[i]) for key, values in each.items()},
                "support": int(support[i]),
                "predicted": int(told[i]),
            }
            for i, name in enumerate(classes)
        },
    }
