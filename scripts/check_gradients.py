"""Bias against β: how far EP's update is from the gradient, on a small network and a few sentences.

    python scripts/check_gradients.py  # a few seconds; draws check_gradients.svg

The gradient is known by two other routes, finite differences of the loss and implicit differentiation, which agree.
An estimate from one nudged phase and the free one is off by about β; with a phase on either side by β², with two on
either side by β⁴ (Richardson), with eight around a circle by β⁸ (holomorphic). Look for the slopes of the lines: they
are these powers. The same for a network and texts of your own: eqnp check RUN
"""

import numpy as np

from eqnp import (
    AttentionConfig,
    LearningConfig,
    Machine,
    NetworkConfig,
    Segment,
    SettlingConfig,
    build_network,
    estimate,
)
from eqnp.app import charts
from eqnp.oracles import finite_difference, implicit
from eqnp.testing import relative_error

SETTLING = SettlingConfig(tolerance=1e-13, free_sweeps=500, nudged_sweeps=500)
SENTENCES = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8]]
BETAS = (0.8, 0.4, 0.2, 0.1, 0.05)


def main():
    rng = np.random.default_rng(0)
    vectors = np.vstack([np.zeros(6), rng.standard_normal((9, 6))])  # row 0 is padding
    attention = (AttentionConfig("text", queries="text"), AttentionConfig("text", queries=3))
    config = NetworkConfig(attention, hidden=(8,), activation="tanh", output_activation="logistic", scale=0.5)
    network = build_network(config, vectors, 2, {"text": 5}, rng, machine=Machine("naive"))
    lengths = np.array([len(sentence) for sentence in SENTENCES])
    ids = np.array([sentence + [0] * (5 - len(sentence)) for sentence in SENTENCES])
    batch, target = {"text": Segment(ids, lengths)}, np.eye(2)[[0, 1, 1]]

    exact = implicit.estimate(network, batch, target, SETTLING).gradients["hidden0.weight"]
    slopes = finite_difference.gradient(network, batch, target, SETTLING, "hidden0.weight")
    print(f"finite differences against implicit differentiation: {relative_error(slopes, exact):.0e}")
    curves = {}
    for estimator in ("one-sided", "symmetric", "richardson", "holomorphic"):
        runs = [estimate(network, batch, target, LearningConfig(estimator, beta), SETTLING) for beta in BETAS]
        errors = [relative_error(run.gradients["hidden0.weight"], exact) for run in runs]
        curves[estimator] = (BETAS, errors)
        print(f"{estimator:12}", "  ".join(f"β = {b}: {e:.0e}" for b, e in zip(BETAS, errors, strict=True)))
    charts.save(
        "check_gradients.svg", charts.lines(curves, "Relative error of the update", "β", log_x=True, log_y=True)
    )


if __name__ == "__main__":
    main()
