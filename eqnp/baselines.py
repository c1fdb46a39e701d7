"""The honest rivals, with the same tokens and splits as the network: the largest class, and logistic regression on
bags of words and on mean word vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import log_softmax

from eqnp.text.store import Split

STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # inverse penalties C, as scikit-learn counts them


@dataclass(frozen=True)
class Baseline:
    """Accuracy by split name of the model with the best validation accuracy, and its C."""

    accuracy: dict[str, float]
    strength: float


def baselines(splits: dict[str, Split], embedding: np.ndarray, classes: int) -> dict[str, Baseline]:
    """All rivals by name; embedding (V, D) holds the word vectors that the network starts from."""
    return {
        "majority": majority(splits),
        "bag_of_words": bag_of_words(splits, len(embedding), classes),
        "mean_vector": mean_vector(splits, embedding, classes),
    }


def majority(splits: dict[str, Split]) -> Baseline:
    """The most frequent class of the training samples, for every sample."""
    largest = np.bincount(splits["train"].labels).argmax()
    return Baseline({name: float((s.labels == largest).mean()) for name, s in splits.items() if name != "train"}, 0.0)


def bag_of_words(splits: dict[str, Split], words: int, classes: int) -> Baseline:
    """TF-IDF (sublinear, unit rows) and multinomial logistic regression, C chosen on the validation split."""
    counts = {name: _counts(split, words) for name, split in splits.items()}
    seen = np.bincount(counts["train"].indices, minlength=counts["train"].shape[1])
    idf = 1 + np.log((1 + len(splits["train"])) / (1 + seen))
    return _regression({name: _tf_idf(matrix, idf) for name, matrix in counts.items()}, splits, classes)


def mean_vector(splits: dict[str, Split], embedding: np.ndarray, classes: int) -> Baseline:
    """Logistic regression on the mean word vector of each segment (standardised), C chosen on the validation split."""
    means = {name: _means(split, embedding) for name, split in splits.items()}
    centre, spread = means["train"].mean(axis=0), np.maximum(means["train"].std(axis=0), 1e-12)
    for x in means.values():
        x -= centre
        x /= spread
    return _regression(means, splits, classes)


def _regression(features: dict, splits: dict[str, Split], classes: int) -> Baseline:
    best = Baseline({"validation": -1.0}, 0.0)
    weights = np.zeros((features["train"].shape[1] + 1, classes))
    for strength in STRENGTHS:
        weights = _fit(features["train"], splits["train"].labels, weights, strength)
        accuracy = {
            name: float((_scores(x, weights).argmax(axis=1) == splits[name].labels).mean())
            for name, x in features.items()
            if name != "train"
        }
        if accuracy["validation"] > best.accuracy["validation"]:
            best = Baseline(accuracy, strength)
    return best


def _means(split: Split, embedding: np.ndarray) -> np.ndarray:
    """The mean word vector of each segment, side by side; (n, segments · D)."""
    blocks = []
    for ids in split.segments.values():
        counts = sparse.csr_array(
            (np.ones(len(ids.ids), np.float32), ids.ids, ids.offsets), shape=(len(ids), len(embedding))
        )
        blocks.append(counts @ embedding)
        blocks[-1] /= np.maximum(ids.lengths, 1)[:, None]
    return np.hstack(blocks)


def _counts(split: Split, words: int) -> sparse.csr_array:
    """Word counts, a block of columns for each segment; (n, segments · words)."""
    blocks = []
    for ids in split.segments.values():
        ones = np.ones(len(ids.ids))
        # A copy: summing duplicates sorts the indices in place, and these are the token ids of the split.
        block = sparse.csr_array((ones, ids.ids, ids.offsets), shape=(len(ids), words), copy=True)
        block.sum_duplicates()
        blocks.append(block)
    return sparse.hstack(blocks, format="csr")


def _tf_idf(counts: sparse.csr_array, idf: np.ndarray) -> sparse.csr_array:
    values = counts.copy()
    values.data = (1 + np.log(values.data)) * idf[values.indices]
    length = np.sqrt(values.multiply(values).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-12)) @ values)


def _scores(features, weights: np.ndarray) -> np.ndarray:
    return features @ weights[:-1].astype(features.dtype) + weights[-1]


def _fit(features, labels: np.ndarray, start: np.ndarray, strength: float) -> np.ndarray:
    target = np.eye(start.shape[1])[labels]
    transposed = sparse.csr_array(features.T) if sparse.issparse(features) else features.T

    def objective(flat):
        weights = flat.reshape(start.shape)
        log_probability = log_softmax(_scores(features, weights), axis=1)
        error = np.exp(log_probability) - target
        gradient = np.vstack([transposed @ error.astype(features.dtype), error.sum(axis=0)]) * strength
        gradient[:-1] += weights[:-1]
        loss = -strength * (log_probability * target).sum() + (weights[:-1] ** 2).sum() / 2
        return loss, gradient.ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return found.x.reshape(start.shape)
