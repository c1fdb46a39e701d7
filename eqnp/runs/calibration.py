"""Scores that are probabilities: one temperature for a network, and how far scores are from what comes true.

Probabilities are (n, C) float64 with rows that sum to 1, labels (n,) class numbers. Guo et al. 2017, *On Calibration of
Modern Neural Networks*: p^(1/T), divided by its sum, for the T of the least log loss on texts that taught the network
nothing. No label changes by it.
"""

from __future__ import annotations

import numpy as np

from eqnp.runs.metrics import calibration_error, log_loss, reliability

BOUNDS = (-3.0, 3.0)  # of ln T
SPREAD = 0.5  # of ln T before any text is seen (a normal one): a handful of texts changes little, some hundred decide


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), divided by its sum: more even for T above 1; for T = 1 the probabilities themselves."""
    if temperature == 1:
        return probabilities
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fitted_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least log loss, where ln T is normally distributed about 0 before any text is seen.

    1 without texts.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0

    def loss(log_temperature: float) -> float:
        seen = log_loss(scaled(probabilities, np.exp(log_temperature)), labels)
        return seen + log_temperature**2 / (2 * SPREAD**2 * len(labels))

    return float(np.exp(minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-6}).x))


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    """A temperature for these probabilities, and log loss and expected calibration error before and after, for JSON."""
    temperature = fitted_temperature(probabilities, labels)
    about: dict = {"temperature": temperature, "texts": len(labels)}
    for name, each in (("before", probabilities), ("after", scaled(probabilities, temperature))):
        error = calibration_error(reliability(each, labels))
        about[name] = {"log_loss": log_loss(each, labels) if len(labels) else 0.0, "calibration_error": error}
    return about
