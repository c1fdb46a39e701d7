"""Figures of a classifier against scikit-learn's, SciPy's and counts by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brute
from scipy.special import softmax
from scipy.stats import binom, binomtest, norm
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from eqnp.runs.calibration import calibration, fitted_floor, fitted_temperature, scaled
from eqnp.runs.metrics import (
    by_threshold,
    calibration_error,
    compared,
    figures,
    macro_f1,
    recall_at,
    reliability,
    wilson,
)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities and labels of a few classes, some of which may have no texts, or never be predicted."""
    rng = np.random.default_rng(seed)
    classes, samples = int(rng.integers(2, 6)), int(rng.integers(1, 60))
    probabilities = rng.dirichlet(np.full(classes, 0.5), samples).round(2) + 1e-3  # with ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, rng.integers(0, rng.integers(1, classes + 1), samples), [f"c{i}" for i in range(classes)]


@given(st.integers(0, 10_000))
def test_every_figure_is_scikit_learns(seed):
    """If this fails, a figure of `eqnp evaluate` has the name of another one."""
    probabilities, labels, names = drawn(seed)
    found, predicted = figures(probabilities, labels, names), probabilities.argmax(axis=1)
    every = list(range(len(names)))
    options = {"zero_division": 0.0}
    each = theirs.precision_recall_fscore_support(labels, predicted, labels=every, **options)
    for values, key in zip(each, ("precision", "recall", "f1", "support"), strict=True):
        np.testing.assert_allclose([found["classes"][name][key] for name in names], values, atol=1e-12)
    for kind in ("macro", "weighted"):
        means = theirs.precision_recall_fscore_support(labels, predicted, average=kind, **options)
        np.testing.assert_allclose(list(found[kind].values()), means[:3], atol=1e-12)
    assert found["macro"]["f1"] == pytest.approx(macro_f1(labels, predicted, len(names)), abs=1e-12)
    assert found["accuracy"] == theirs.accuracy_score(labels, predicted)
    recalls = theirs.recall_score(labels, predicted, labels=np.unique(labels), average="macro")
    assert found["balanced_accuracy"] == pytest.approx(recalls)
    assert found["log_loss"] == pytest.approx(theirs.log_loss(labels, probabilities, labels=every))
    table = theirs.confusion_matrix(labels, predicted, labels=every)
    pairs = {(each["true"], each["predicted"]): each["texts"] for each in found["confusions"]}
    assert pairs == {(names[i], names[j]): table[i, j] for i, j in itertools.permutations(every, 2) if table[i, j]}
    assert list(pairs.values()) == sorted(pairs.values(), reverse=True)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_recall_at_a_precision_is_the_best_of_the_curve(seed, least):
    """If this fails, a spam filter is promised more than it does."""
    probabilities, labels, _ = drawn(seed)
    scores, members = probabilities[:, 0], labels == 0
    recall, score = recall_at(scores, members, least)
    if not members.any():
        assert (recall, score) == (0.0, None)
        return
    precisions, recalls, _ = theirs.precision_recall_curve(members, scores)
    assert recall == pytest.approx(recalls[precisions >= least - 1e-12].max())
    if score is not None:
        taken = scores >= score
        assert (members & taken).sum() / members.sum() == pytest.approx(recall)
        assert members[taken].mean() >= least - 1e-12


@pytest.mark.parametrize(("right", "samples"), [(0, 10), (10, 10), (7, 10), (98, 100), (1504, 1821)])
def test_the_interval_is_wilsons(right, samples):
    """If this fails, the brackets beside an accuracy promise what they do not hold."""
    expected = binomtest(right, samples).proportion_ci(method="wilson")
    assert wilson(right / samples, samples) == pytest.approx((expected.low, expected.high))
    assert wilson(0.0, 0) == (0, 1)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 9), (104, 83), (40, 75)])
def test_two_classifiers_are_compared_on_the_texts_where_they_differ(first, second):
    """If this fails, a gain of half a point is taken for one, or one for none."""
    right = np.repeat([True, True, False, False], [300, first, second, 50])
    other = np.repeat([True, False, True, False], [300, first, second, 50])
    found, each = compared(right, other), first + second
    tail = binom.cdf(min(first, second), each, 0.5)
    assert found["p"] == pytest.approx(min(1, 2 * tail) if first != second else 1.0)
    assert (found["both_right"], found["only_first"], found["only_second"], found["neither"]) == (
        300,
        first,
        second,
        50,
    )
    assert found["difference"] == pytest.approx(other.mean() - right.mean())
    b, c, n = first + 0.5, second + 0.5, len(right) + 2  # Agresti and Min 2005
    half = norm.ppf(0.975) * np.sqrt(b + c - (c - b) ** 2 / n) / n
    assert found["interval"] == pytest.approx([(c - b) / n - half, (c - b) / n + half])
    back = compared(other, right)
    assert (back["p"], back["difference"]) == (pytest.approx(found["p"]), -found["difference"])


def test_the_interval_of_a_difference_holds_it_as_often_as_it_says():
    """If this fails, it is too narrow to be believed."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(1000):
        cells = rng.choice(4, 200, p=[0.7, 0.08, 0.14, 0.08])
        low, high = compared((cells == 0) | (cells == 1), (cells == 0) | (cells == 2))["interval"]
        held += low <= 0.06 <= high
    assert 0.93 <= held / 1000 <= 0.97


def test_coverage_and_accuracy_by_threshold():
    """If this fails, what is kept above a threshold is not what is measured."""
    probabilities = np.array([[0.95, 0.05], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    rows = by_threshold(probabilities, np.array([0, 1, 1, 0]), (0.0, 0.8, 0.9, 0.99))
    assert rows == [
        {"at_least": 0.0, "coverage": 1.0, "accuracy": 0.75},
        {"at_least": 0.8, "coverage": 0.5, "accuracy": 1.0},
        {"at_least": 0.9, "coverage": 0.25, "accuracy": 1.0},
        {"at_least": 0.99, "coverage": 0.0, "accuracy": None},
    ]


def unsure(rng: np.random.Generator, samples: int, classes: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure by a temperature, and labels that are drawn from what is true."""
    drive = rng.normal(0, 1.5, (samples, classes))
    truth = softmax(drive, axis=1)
    labels = (truth.cumsum(axis=1) < rng.random((samples, 1))).sum(axis=1)
    return softmax(drive * temperature, axis=1), labels


@pytest.mark.parametrize(("classes", "temperature"), [(2, 2.0), (5, 0.6), (20, 1.5)])
def test_the_temperature_that_made_scores_too_sure_is_found(classes, temperature):
    """If this fails, scores are no probabilities after calibration either."""
    probabilities, labels = unsure(np.random.default_rng(0), 20_000, classes, temperature)
    found = calibration(probabilities, labels)
    assert found["temperature"] == pytest.approx(temperature, rel=0.04)
    assert found["after"]["calibration_error"] < 0.015 < found["before"]["calibration_error"]
    best = brute(
        lambda t: theirs.log_loss(labels, softmax(np.log(probabilities) / t, axis=1), labels=range(classes)),
        [(temperature * 0.8, temperature * 1.2)],
        Ns=20,
    )
    assert found["temperature"] == pytest.approx(best.item(), rel=2e-3)
    assert found["after"]["log_loss"] == pytest.approx(
        theirs.log_loss(labels, softmax(np.log(probabilities) / best, axis=1), labels=range(classes)), abs=1e-4
    )


def test_a_floor_brings_back_what_has_come_to_nothing():
    """If this fails, outputs that are cut off at 0 are as sure as ever, whatever the temperature."""
    true, labels = unsure(np.random.default_rng(0), 20_000, 2, 1.0)
    cut = np.where(true.min(axis=1, keepdims=True) < 0.1, true.round(), true)
    alone, found = calibration(cut, labels), calibration(cut, labels, floors=True)
    assert alone["floor"] == 0
    assert found["floor"] > 0.01
    assert found["after"]["calibration_error"] < 0.01 < alone["after"]["calibration_error"]
    assert found["after"]["log_loss"] < 0.6 * alone["after"]["log_loss"]
    assert (scaled(cut, found["temperature"], found["floor"]).argmax(axis=1) == cut.argmax(axis=1)).all()
    assert fitted_floor(cut[:0], labels[:0]) == 0
    assert fitted_floor(true, labels) < 0.02


@given(st.integers(0, 10_000))
def test_no_label_changes_by_a_temperature(seed):
    """If this fails, a calibrated network says something else."""
    rng = np.random.default_rng(seed)
    outputs = rng.dirichlet(np.full(int(rng.integers(2, 9)), 0.3), 50).astype(np.float32).astype(np.float64)
    outputs[:10] = outputs[:10, :1]  # where all are alike
    probabilities = (outputs + 1e-9) / (outputs + 1e-9).sum(axis=1, keepdims=True)
    after = scaled(probabilities, float(np.exp(rng.uniform(-3, 3))))
    np.testing.assert_allclose(after.sum(axis=1), 1)
    np.testing.assert_array_equal(after.argmax(axis=1), probabilities.argmax(axis=1))
    assert scaled(probabilities, 1.0) is probabilities


def test_few_texts_change_little():
    """If this fails, a dozen texts that happen to be right make a network swear to everything."""
    sure = np.tile([[0.9, 0.1]], (12, 1))
    assert 0.6 < fitted_temperature(sure, np.zeros(12, int)) < 1
    assert 0.2 < fitted_temperature(np.tile([[0.9, 0.1]], (1200, 1)), np.zeros(1200, int)) < 0.4
    assert fitted_temperature(sure[:0], np.zeros(0, int)) == 1
    wrong = fitted_temperature(np.tile([[1 - 1e-12, 1e-12]], (3, 1)), np.ones(3, int))
    assert 1 < wrong < np.exp(3)


@given(st.integers(0, 10_000))
def test_bins_and_their_error_are_scikit_learns(seed):
    """If this fails, the expected calibration error is another one than that of the field."""
    probabilities, labels = unsure(np.random.default_rng(seed), 400, 3, 2.0)
    bins, best = reliability(probabilities, labels), probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    shares, means = calibration_curve(right, best, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([each["accuracy"] for each in bins], shares)
    np.testing.assert_allclose([each["score"] for each in bins], means)
    assert calibration_error(bins) == pytest.approx(np.abs(shares - means).mean())
    few = reliability(probabilities[:3], labels[:3])
    assert [each["texts"] for each in few] == [1, 1, 1]
