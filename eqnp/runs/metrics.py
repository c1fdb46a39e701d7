"""Figures of a classifier: by class and over classes, with intervals; which classes are confused; two compared.

Labels and predictions are class numbers (n,), probabilities (n, C) float64 with rows that sum to 1. Where a figure is a
quotient of nothing by nothing (the recall of a class without texts), it is 0, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

LEVEL = 0.95  # of every interval
PRECISION = 0.99  # at which the recall of a class is stated
BINS = 10  # of equal mass, for the calibration error
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def wilson(share: float, samples: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share of so many samples (Wilson 1927): good for few of them, and for shares near 0 and 1.

    Without samples it is (0, 1).
    """
    if not samples:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * (share * (1 - share) / samples + z * z / (4 * samples**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C) of int64: rows are the true classes, columns the predicted ones."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def by_class(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 (C,) float64, support and number predicted (C,) int64 of every class, from its counts."""
    right, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(support + predicted, 1),
        "support": support,
        "predicted": predicted,
    }


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """The mean F1 of the classes that stand among the labels or the predictions."""
    each = by_class(confusion(labels, predicted, classes))
    return float(each["f1"][each["support"] + each["predicted"] > 0].mean())


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean of −ln of what the right class was given, taken to be no less than the resolution of a float64."""
    given = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, np.finfo(np.float64).eps)).mean())


def recall_at(scores: np.ndarray, members: np.ndarray, precision: float = PRECISION) -> tuple[float, float | None]:
    """The largest recall of a class at no less than a precision, and the score from which on texts are then taken.

    ``scores`` (n,) are those of the class, ``members`` (n,) whether a text is of it. Texts of equal scores are taken
    together. (0, None) where no threshold comes up to the precision.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(members[order])
    last = np.append(ranked[1:] < ranked[:-1], True)  # of those that share a score
    good = np.flatnonzero(last & (right >= precision * np.arange(1, len(order) + 1)) & (right > 0))
    return (float(right[good[-1]] / right[-1]), float(ranked[good[-1]])) if len(good) else (0.0, None)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict]:
    """Mean score of the best class, accuracy and texts of bins of equal mass, by that score; no bin is empty."""
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(best, kind="stable"), bins)
    return [
        {"score": float(best[rows].mean()), "accuracy": float(right[rows].mean()), "texts": len(rows)}
        for rows in parts
        if len(rows)
    ]


def calibration_error(bins: list[dict]) -> float:
    """Expected calibration error: the mean distance of score and accuracy over the bins of `reliability`, by mass."""
    texts = sum(each["texts"] for each in bins)
    return sum(abs(each["score"] - each["accuracy"]) * each["texts"] for each in bins) / max(1, texts)


def by_threshold(probabilities: np.ndarray, labels: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> list[dict]:
    """Of the texts whose best class has a score of a threshold or more: their share, and how many of them are right.

    The accuracy is None where there are none.
    """
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows = []
    for threshold in thresholds:
        sure = best >= threshold
        accuracy = float(right[sure].mean()) if sure.any() else None
        rows.append({"at_least": threshold, "coverage": float(sure.mean()), "accuracy": accuracy})
    return rows


def figures(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict:
    """All figures of a split of one text or more, as JSON can hold them.

    ``macro`` is the mean over the classes that stand there or were predicted, each alike; ``weighted`` that by support;
    ``balanced_accuracy`` the mean recall of the classes that stand there. ``confusions`` are all pairs of classes that
    were confused, most often first. ``at_precision`` of a class is its largest recall at a precision of `PRECISION`.
    """
    predicted = probabilities.argmax(axis=1)
    counts = confusion(labels, predicted, len(classes))
    each = by_class(counts)
    there, support = each["support"] > 0, each["support"]
    any_of = there | (each["predicted"] > 0)
    accuracy, names = float((predicted == labels).mean()), ("precision", "recall", "f1")
    about = {}
    for number, name in enumerate(classes):
        recall, score = recall_at(probabilities[:, number], labels == number)
        about[name] = {key: values[number].item() for key, values in each.items()}
        about[name]["at_precision"] = {"precision": PRECISION, "recall": recall, "score": score}
    bins = reliability(probabilities, labels)
    off = counts * ~np.eye(len(classes), dtype=bool)
    pairs = np.argwhere(off)[np.argsort(-off[off > 0], kind="stable")].tolist()
    return {
        "samples": len(labels),
        "accuracy": accuracy,
        "interval": list(wilson(accuracy, len(labels))),
        "balanced_accuracy": float(each["recall"][there].mean()),
        "log_loss": log_loss(probabilities, labels),
        "calibration_error": calibration_error(bins),
        "macro": {key: float(each[key][any_of].mean()) for key in names},
        "weighted": {key: float(each[key] @ support / support.sum()) for key in names},
        "classes": about,
        "confusions": [{"true": classes[i], "predicted": classes[j], "texts": int(off[i, j])} for i, j in pairs],
        "reliability": bins,
        "thresholds": by_threshold(probabilities, labels),
    }


def compared(right: np.ndarray, other: np.ndarray) -> dict:
    """Two classifiers on the same texts: ``right`` and ``other`` (n,) say where the one and the other are right.

    ``p`` is McNemar's exact test, two-sided: how often texts on which just one of them is right would be shared out as
    unevenly, or more so, by chance. ``interval`` is that of the difference of accuracies (the second minus the first;
    Agresti and Min 2005: half a text is added to each of the four counts).
    """
    from scipy.stats import binomtest

    samples, first, second = len(right), int((right & ~other).sum()), int((other & ~right).sum())
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    shift, total = second - first, samples + 2
    spread = ((first + second + 1) - shift * shift / total) ** 0.5 / total
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * spread
    return {
        "samples": samples,
        "both_right": int((right & other).sum()),
        "only_first": first,
        "only_second": second,
        "neither": int((~right & ~other).sum()),
        "difference": shift / samples,
        "interval": [max(-1.0, shift / total - half), min(1.0, shift / total + half)],
        "p": p,
    }
