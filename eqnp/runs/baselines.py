"""The honest rivals, with the same tokens and splits as the network: the largest class, logistic regression on bags of
words (by TF-IDF, and by the log-count ratios of NB-SVM) and on mean word vectors, and a perceptron on bags of words. Of
a very large corpus (`MOST`) they learn from an even part, and are tried on one; and nothing in them that is larger than
some 100 MiB (`DENSE`) is as large as the samples times the dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from eqnp.machine.threads import let_go
from eqnp.runs import label_sets
from eqnp.runs.perceptron import perceptron
from eqnp.text.start import log_count_ratios
from eqnp.text.store import Split
from eqnp.text.tokens import Ragged, joined

MOST, PART = 20_000_000, 4_000_000  # tokens of a corpus; of a larger one about so many teach a linear model as well
RUN = 100  # samples in a row that are taken or left
DENSE = 1 << 24  # entries of the mean vectors of all samples, up to which they are in memory (64 MiB)
BLOCK = 1 << 16  # samples whose mean vectors are in memory together; word vectors that are read together
STRENGTHS = (0.3, 1.0, 3.0, 10.0)  # inverse penalties C, as scikit-learn counts them
OF_SEVERAL = (10.0, 100.0, 1000.0)  # where each class has a regression of its own, and few texts


@dataclass(frozen=True)
class Baseline:
    """Accuracy, or micro F1 of several labels, by split name, of the model that is best on validation, and its C (or
    its penalty)."""

    accuracy: dict[str, float]
    strength: float


def baselines(
    splits: dict[str, Split], embedding: np.ndarray, classes: int, each: Callable = map
) -> dict[str, Baseline]:
    """All rivals by name; embedding (V, D) holds the word vectors that the network starts from.

    Of texts with several labels, those that answer yes or no to each class. ``each`` calls a function for every rival,
    as `map` does.
    """
    splits, words = thinned(splits), len(embedding)
    rivals: dict[str, Callable[[], Baseline]] = {
        "bag_of_words": lambda: bag_of_words(splits, words, classes),
        "mean_vector": lambda: mean_vector(splits, embedding, classes),
    }
    if not splits["train"].several:
        rivals = {
            "majority": lambda: majority(splits),
            "bag_of_words": rivals["bag_of_words"],
            "nb_svm": lambda: nb_svm(splits, words, classes),
            "mean_vector": rivals["mean_vector"],
            "perceptron": lambda: hidden_layer(splits, words, classes),
        }
    return dict(zip(rivals, each(lambda rival: rival(), rivals.values()), strict=True))


def thinned(splits: dict[str, Split]) -> dict[str, Split]:
    """The same samples, or of more than `MOST` tokens of them a run of `RUN` samples of every so many."""
    tokens = sum(len(texts.ids) for split in splits.values() for texts in split.segments.values())
    return {name: _thinned(split, -(-tokens // PART)) for name, split in splits.items()} if tokens > MOST else splits


def _thinned(split: Split, every: int) -> Split:
    runs = [(start, min(start + RUN, len(split))) for start in range(0, len(split), RUN * every)]
    segments = {name: joined(texts.part(*run) for run in runs) for name, texts in split.segments.items()}
    labels = np.concatenate([split.labels[slice(*run)] for run in runs])
    return Split(segments, labels, split.coverage)  # rivals take all texts alike


def majority(splits: dict[str, Split]) -> Baseline:
    """The most frequent class of the training samples, for every sample."""
    largest = np.bincount(splits["train"].labels).argmax()
    return Baseline({name: float((s.labels == largest).mean()) for name, s in splits.items() if name != "train"}, 0.0)


def bag_of_words(splits: dict[str, Split], words: int, classes: int) -> Baseline:
    """TF-IDF (sublinear, unit rows) and multinomial logistic regression, C chosen on the validation split."""
    matrices = _tf_idfs(splits, words)
    return _regression({name: _of_matrix(matrices.pop(name)) for name in splits}, splits, classes)


def hidden_layer(splits: dict[str, Split], words: int, classes: int) -> Baseline:
    """The same TF-IDF and a perceptron with a hidden layer, penalty and epoch chosen on the validation split."""
    matrices = _tf_idfs(splits, words, np.float32)
    return Baseline(*perceptron(matrices, {name: split.labels for name, split in splits.items()}, classes))


def nb_svm(splits: dict[str, Split], words: int, classes: int) -> Baseline:
    """Logistic regression of each class against the others on presence times log-count ratio (Wang & Manning 2012).

    All classes are fitted at once, with C = 1.
    """
    present = {name: _counts(split, words) for name, split in splits.items()}
    for matrix in present.values():
        matrix.data[:] = 1
    target = np.eye(classes)[splits["train"].labels]
    ratios = log_count_ratios(np.asarray(present["train"].T @ target))
    features, start = _of_matrix(present["train"]), np.zeros((len(ratios) + 1, classes))

    def objective(flat):
        weights = flat.reshape(start.shape)
        scores = features.times(weights[:-1] * ratios) + weights[-1]
        error = expit(scores) - target
        gradient = np.vstack([features.back(error) * ratios + weights[:-1], error.sum(axis=0)])
        return (np.logaddexp(0, scores) - target * scores).sum() + (weights[:-1] ** 2).sum() / 2, gradient.ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    weights = found.reshape(start.shape)
    scores = {n: m @ (weights[:-1] * ratios) + weights[-1] for n, m in present.items() if n != "train"}
    return Baseline({n: float((s.argmax(axis=1) == splits[n].labels).mean()) for n, s in scores.items()}, 1.0)


def mean_vector(splits: dict[str, Split], embedding: np.ndarray, classes: int) -> Baseline:
    """Logistic regression on the mean word vector of each segment (standardised), C chosen on the validation split."""
    shares = {name: [_shares(texts, len(embedding)) for texts in s.segments.values()] for name, s in splits.items()}
    centre, spread = _moments(shares["train"], embedding)
    of = _of_dense_means if sum(map(len, splits.values())) * len(centre) <= DENSE else _of_means
    features = {name: of(each, embedding, centre, spread) for name, each in shares.items()}
    return _regression(features, splits, classes)


@dataclass(frozen=True)
class _Features:
    """A matrix X (n, columns) by what it does to others: X w, and Xᵀ e."""

    columns: int
    times: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def _of_matrix(matrix: sparse.csr_array) -> _Features:
    turned = sparse.csr_array(matrix.T)
    return _Features(matrix.shape[1], lambda weights: matrix @ weights, lambda error: turned @ error)


def _of_means(shares: list, embedding: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> _Features:
    """The mean word vectors of every segment side by side, less their centre and in units of their spread."""
    parts = len(shares)

    def times(weights: np.ndarray) -> np.ndarray:
        scaled = (weights / spread[:, None]).astype(embedding.dtype)
        blocks = np.split(scaled, parts)
        words = [np.empty((len(embedding), scaled.shape[1]), embedding.dtype) for _ in blocks]
        for part, vectors in _by_parts(embedding):
            for found, block in zip(words, blocks, strict=True):
                np.matmul(vectors, block, out=found[part])
        return sum(a @ found for a, found in zip(shares, words, strict=True)) - centre @ scaled

    def back(error: np.ndarray) -> np.ndarray:
        error = error.astype(embedding.dtype)
        words = [a.T @ error for a in shares]
        means = sum(np.vstack([vectors.T @ each[part] for each in words]) for part, vectors in _by_parts(embedding))
        return (means - np.outer(centre, error.sum(axis=0))) / spread[:, None]

    return _Features(len(centre), times, back)


def _of_dense_means(shares: list, embedding: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> _Features:
    """The same of few enough samples, whose mean word vectors are made once."""
    means = (_means(shares, embedding) - centre) / spread
    return _Features(
        len(centre),
        lambda weights: means @ weights.astype(means.dtype),
        lambda error: means.T @ error.astype(means.dtype),
    )


def _means(shares: list, embedding: np.ndarray) -> np.ndarray:
    """The mean word vectors of every segment side by side, (n, segments · D)."""
    return sum(np.hstack([a[:, part] @ vectors for a in shares]) for part, vectors in _by_parts(embedding))


def _shares(texts: Ragged, words: int) -> sparse.csr_array:
    """What each word counts for in the mean over its text, (n, words)."""
    shares = np.repeat(1 / np.maximum(texts.lengths, 1).astype(np.float32), texts.lengths)
    return sparse.csr_array((shares, texts.ids, texts.offsets), shape=(len(texts), words))


def _by_parts(embedding: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Word vectors, `BLOCK` at a time: a run of several ranks has them in a file, of which no more is in memory."""
    for start in range(0, len(embedding), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, embedding[part]
        let_go(embedding)


def _moments(shares: list, embedding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column of the mean vectors."""
    count = shares[0].shape[0]
    total, squares = (np.zeros(len(shares) * embedding.shape[1]) for _ in range(2))
    for start in range(0, count, BLOCK):
        means = _means([a[start : start + BLOCK] for a in shares], embedding)
        total += means.sum(axis=0, dtype=np.float64)
        squares += np.square(means).sum(axis=0, dtype=np.float64)
    centre = total / count
    spread = np.sqrt(np.maximum(squares / count - centre**2, 0))
    return centre.astype(embedding.dtype), np.maximum(spread, 1e-12).astype(embedding.dtype)


def _regression(features: dict[str, _Features], splits: dict[str, Split], classes: int) -> Baseline:
    best, several = Baseline({"validation": -1.0}, 0.0), splits["train"].several
    # From 0, weights of classes that exclude each other add up to 0 at every step: one column less holds them.
    basis = np.eye(classes) if several or classes < 2 else helmert(classes)
    weights = np.zeros((features["train"].columns + 1, len(basis)))
    for strength in OF_SEVERAL if several else STRENGTHS:
        weights = _fit(features["train"], splits["train"].labels, weights, basis, strength)
        scores = {n: _scores(x, weights) @ basis for n, x in features.items() if n != "train"}
        accuracy = {n: _figure(each, splits[n].labels) for n, each in scores.items()}
        if accuracy["validation"] > best.accuracy["validation"]:
            best = Baseline(accuracy, strength)
    return best


def _figure(scores: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy, or micro F1 of several labels."""
    if labels.ndim == 2:
        return label_sets.micro_f1(label_sets.counted(scores >= 0, labels))
    return float((scores.argmax(axis=1) == labels).mean())


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


def _tf_idfs(splits: dict[str, Split], words: int, dtype: type = np.float64) -> dict[str, sparse.csr_array]:
    """TF-IDF by split, (n, segments · words); the training split says how rare a word is."""
    counts = {name: _counts(split, words) for name, split in splits.items()}
    seen = np.bincount(counts["train"].indices, minlength=counts["train"].shape[1])
    idf = 1 + np.log((1 + len(splits["train"])) / (1 + seen))
    return {name: _tf_idf(counts.pop(name), idf).astype(dtype, copy=False) for name in splits}


def _tf_idf(counts: sparse.csr_array, idf: np.ndarray) -> sparse.csr_array:
    """(1 + log count) · idf, in rows of length 1; the counts are used up."""
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    length = np.sqrt(counts.multiply(counts).sum(axis=1))
    return sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-12)) @ counts)


def _scores(features: _Features, weights: np.ndarray) -> np.ndarray:
    return features.times(weights[:-1]) + weights[-1]


def _fit(features: _Features, labels: np.ndarray, start: np.ndarray, basis: np.ndarray, strength: float) -> np.ndarray:
    """Weights in the coordinates of ``basis``, whose rows are orthonormal directions of the scores of all classes."""
    several = labels.ndim == 2
    target = labels.astype(float) if several else np.eye(basis.shape[1])[labels]

    def objective(flat):
        weights = flat.reshape(start.shape)
        scores = _scores(features, weights) @ basis
        if several:  # a yes or no to each class
            error, cost = expit(scores) - target, (np.logaddexp(0, scores) - target * scores).sum()
        else:
            log_probability = log_softmax(scores, axis=1)
            error, cost = np.exp(log_probability) - target, -(log_probability * target).sum()
        error = error @ basis.T
        gradient = np.vstack([features.back(error), error.sum(axis=0)]) * strength
        gradient[:-1] += weights[:-1]
        return strength * cost + (weights[:-1] ** 2).sum() / 2, gradient.ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return found.x.reshape(start.shape)
