"""Scores that are probabilities: one temperature for a network, and how far scores are from what comes true.

Probabilities are (n, C) float64 with rows that sum to 1, labels (n,) class numbers. Guo et al. 2017, *On Calibration of
Modern Neural Networks*: p^(1/T), divided by its sum, for the T of the least log loss on texts that taught the network
nothing. No label changes by it, nor by a floor that is added to p before, where outputs reach 0.

Where a text may have several labels, scores are those of a yes to each class, (n, C) in [0, 1], and labels 0 or 1.
There σ(logit(s)/T + b) is taken (Platt 1999), with one T and one b for all classes: most answers are no, so that a
network that has learned its texts by heart says yes too seldom. Labels do change by it.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.values import logistic_state
from eqnp.runs import label_sets
from eqnp.runs.metrics import BINS, calibration_error, log_loss, reliability

BOUNDS = (-3.0, 3.0)  # of ln T
FLOORS = (np.log(1e-6), np.log(0.3))  # of ln floor
OFFSET_SPREAD = 2.0  # of b before any text is seen
SPREAD = 0.5  # of ln T before any text is seen (a normal one): a handful of texts changes little, some hundred decide


def clipped(outputs: np.ndarray) -> np.ndarray:
    """Outputs (n, C) as float64 in [0, 1]."""
    return np.clip(outputs.astype(np.float64), 0, 1)


def normalised(outputs: np.ndarray) -> np.ndarray:
    """Outputs (n, C) as float64 that sum to 1; what is 0 or less becomes nearly 0."""
    positive = np.maximum(outputs.astype(np.float64), 0) + 1e-9
    return positive / positive.sum(axis=1, keepdims=True)


def scaled(probabilities: np.ndarray, temperature: float, floor: float = 0.0) -> np.ndarray:
    """(p + floor)^(1/T), divided by its sum: more even for T above 1; for T = 1 without a floor p itself."""
    if temperature == 1 and not floor:
        return probabilities
    logs = np.log(np.maximum(probabilities + floor, np.finfo(np.float64).tiny)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fitted_temperature(probabilities: np.ndarray, labels: np.ndarray, floor: float = 0.0) -> float:
    """The temperature of the least log loss, where ln T is normally distributed about 0 before any text is seen.

    1 without texts.
    """
    return _fitted(probabilities, labels, floor)[0] if len(labels) else 1.0


def fitted_floor(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The floor of the least log loss, with the temperature that then fits; 0 without texts, and where none is better.

    A unit of a bounded range can be 0, or nearly, and such a score stays so at any temperature.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 0.0
    loss = lambda log_floor: _fitted(probabilities, labels, np.exp(log_floor))[1]  # noqa: E731
    found = minimize_scalar(loss, bounds=FLOORS, method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x)) if found.fun < _fitted(probabilities, labels, 0.0)[1] else 0.0


def _fitted(probabilities: np.ndarray, labels: np.ndarray, floor: float) -> tuple[float, float]:
    """The temperature for a floor, and the loss that it comes to."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        seen = log_loss(scaled(probabilities, np.exp(log_temperature), floor), labels)
        return seen + log_temperature**2 / (2 * SPREAD**2 * len(labels))

    found = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)), float(found.fun)


def shifted(scores: np.ndarray, temperature: float, offset: float) -> np.ndarray:
    """σ(logit(s)/T + b) of scores in [0, 1]; for T = 1 and b = 0 the scores themselves."""
    if temperature == 1 and offset == 0:
        return scores
    return logistic_state(_logits(scores) / temperature + offset)


def fitted_shift(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """T and b of the least log loss, where ln T and b are normally distributed about 0 before any text is seen.

    (1, 0) without texts.
    """
    from scipy.optimize import minimize

    if not len(labels):
        return 1.0, 0.0
    logits = _logits(scores)

    def loss(point: np.ndarray) -> float:
        a = logits * np.exp(-point[0]) + point[1]
        before = (point[0] / SPREAD) ** 2 + (point[1] / OFFSET_SPREAD) ** 2
        return (np.logaddexp(0, a) - labels * a).sum() + before / 2

    log_temperature, offset = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[BOUNDS, BOUNDS]).x
    return float(np.exp(log_temperature)), float(offset)


def calibration_of_sets(scores: np.ndarray, labels: np.ndarray) -> dict:
    """T and b for these scores, and log loss of a text and calibration error of a label before and after, for JSON."""
    temperature, offset = fitted_shift(scores, labels)
    about: dict = {"temperature": temperature, "offset": offset, "texts": len(labels)}
    for name, each in (("before", scores), ("after", shifted(scores, temperature, offset))):
        parts = np.array_split(np.argsort(each, axis=None, kind="stable"), BINS)
        gaps = [abs(each.flat[at].mean() - labels.flat[at].mean()) * len(at) for at in parts if len(at)]
        about[name] = {
            "log_loss": label_sets.log_loss(each, labels),
            "calibration_error": float(sum(gaps) / max(1, each.size)),
        }
    return about


def _logits(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, label_sets.LEAST, 1 - label_sets.LEAST)
    return np.log(inside) - np.log1p(-inside)


def calibration(probabilities: np.ndarray, labels: np.ndarray, floors: bool = False) -> dict:
    """A temperature for these probabilities, and log loss and expected calibration error before and after, for JSON.

    With ``floors`` also a floor, else that is 0.
    """
    floor = fitted_floor(probabilities, labels) if floors else 0.0
    temperature = fitted_temperature(probabilities, labels, floor)
    about: dict = {"temperature": temperature, "floor": floor, "texts": len(labels)}
    for name, each in (("before", probabilities), ("after", scaled(probabilities, temperature, floor))):
        error = calibration_error(reliability(each, labels))
        about[name] = {"log_loss": log_loss(each, labels) if len(labels) else 0.0, "calibration_error": error}
    return about
