"""The strongest rival that sees words and not their order: a perceptron with one hidden layer on a sparse matrix.

Plain NumPy: h = relu(X W + b), softmax(h V + c), cross-entropy and an L2 penalty, minibatches, Adagrad with one step
size for each row of W. Only the rows of words in a batch are touched, so that its time goes with the entries of X. The
epochs are as many as `WORK` allows; where that is less than one, a part of the texts is learned from, evenly spread. Of
all penalties and epochs the one with the best validation accuracy counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.special import softmax

UNITS = 64  # of the hidden layer
PENALTIES = (3e-4, 1e-3)  # how much of each weight every step takes, in units of the learning rate
EPOCHS, WORK = 20, 12_000_000  # at most so many for each penalty; entries of X that all of them read together
BATCH, RATE = 50, 0.15


def perceptron(
    features: Mapping[str, sparse.csr_array], labels: Mapping[str, np.ndarray], classes: int
) -> tuple[dict[str, float], float]:
    """Accuracy by split other than "train", and the penalty; features (n, columns) and labels (n,) are by split."""
    work = len(PENALTIES) * max(1, features["train"].nnz)
    epochs, texts = max(1, min(EPOCHS, WORK // work)), np.arange(0, len(labels["train"]), -(-work // WORK))
    best, chosen = {"validation": -1.0}, 0.0
    for penalty in PENALTIES:
        model, rng = Perceptron(features["train"].shape[1], classes, penalty), np.random.default_rng(1)
        for _ in range(epochs):
            order = rng.permutation(texts)
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                model.step(features["train"][rows], labels["train"][rows])
            found = model.accuracy(features["validation"], labels["validation"])
            if found > best["validation"]:
                others = features.keys() - {"train", "validation"}
                best = {"validation": found} | {n: model.accuracy(features[n], labels[n]) for n in sorted(others)}
                chosen = penalty
    return best, chosen


class Perceptron:
    """Weights W (columns, H), b (H,), V (H, C), c (C,), and the sums of squares that Adagrad divides by."""

    def __init__(self, columns: int, classes: int, penalty: float):
        rng = np.random.default_rng(0)
        self.first = rng.standard_normal((columns, UNITS), np.float32) * np.float32(0.3)
        self.last = rng.standard_normal((UNITS, classes), np.float32) * np.float32(UNITS**-0.5)
        self.biases = np.zeros(UNITS, np.float32), np.zeros(classes, np.float32)
        self.squares = np.zeros((columns, 1), np.float32)
        self.others = [np.zeros_like(each) for each in (self.last, *self.biases)]
        self.penalty = penalty

    def step(self, x: sparse.csr_array, labels: np.ndarray) -> None:
        """Learn from one batch x (B, columns)."""
        words, at = np.unique(x.indices, return_inverse=True)
        x = sparse.csr_array((x.data, at, x.indptr), shape=(x.shape[0], len(words)))
        weights, bias = self.first[words], self.biases[0]
        hidden = np.maximum(x @ weights + bias, 0)
        error = (softmax(hidden @ self.last + self.biases[1], axis=1) - np.eye(self.last.shape[1])[labels]) / len(
            labels
        )
        error = error.astype(np.float32)
        told = (error @ self.last.T) * (hidden > 0)
        gradients = hidden.T @ error + self.penalty * self.last, told.sum(axis=0), error.sum(axis=0)
        for value, gradient, squares in zip((self.last, *self.biases), gradients, self.others, strict=True):
            squares += gradient**2
            value -= RATE * gradient / (np.sqrt(squares) + 1e-6)
        gradient = x.T @ told + self.penalty * weights
        self.squares[words] += np.square(gradient).mean(axis=1, keepdims=True)
        self.first[words] = weights - RATE * gradient / (np.sqrt(self.squares[words]) + 1e-6)

    def accuracy(self, x: sparse.csr_array, labels: np.ndarray) -> float:
        """The share of texts whose class is found, a block of them at a time."""
        right = 0
        for start in range(0, len(labels), 4096):
            hidden = np.maximum(x[start : start + 4096] @ self.first + self.biases[0], 0)
            found = (hidden @ self.last + self.biases[1]).argmax(axis=1)
            right += int((found == labels[start : start + 4096]).sum())
        return right / len(labels)
