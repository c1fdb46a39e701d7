"""Is EP's update the gradient? Three routes to it, on a small network and a few sentences.

    python scripts/check_gradients.py

The same for a network and a text of your own, with more routes: eqnp check RUN
"""

import numpy as np

from eqnp import AttentionConfig, LearningConfig, NetworkConfig, Segment, SettlingConfig, build_network, estimate
from eqnp.oracles import finite_difference, implicit
from eqnp.testing import relative_error

SETTLING = SettlingConfig(tolerance=1e-13, free_sweeps=500, nudged_sweeps=500)
SENTENCES = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8]]


def main() -> None:
    rng = np.random.default_rng(0)
    vectors = np.vstack([np.zeros(6), rng.standard_normal((9, 6))])  # row 0 is padding
    attention = (AttentionConfig("text", queries="text"), AttentionConfig("text", queries=3))
    config = NetworkConfig(attention, hidden=(8,), activation="tanh", output_activation="logistic", scale=0.5)
    network = build_network(config, vectors, classes=2, positions={"text": 5}, rng=rng)
    lengths = np.array([len(sentence) for sentence in SENTENCES])
    ids = np.array([sentence + [0] * (5 - len(sentence)) for sentence in SENTENCES])
    batch, target = {"text": Segment(ids, lengths)}, np.eye(2)[[0, 1, 1]]

    exact = implicit.estimate(network, batch, target, SETTLING).gradients["hidden0.weight"]
    slopes = finite_difference.gradient(network, batch, target, SETTLING, "hidden0.weight")
    print(f"finite differences against implicit differentiation: {relative_error(slopes, exact):.0e}")
    for estimator in ("one-sided", "symmetric", "richardson", "holomorphic"):
        for beta in (0.2, 0.1, 0.05):
            learning = LearningConfig(estimator, beta)
            update = estimate(network, batch, target, learning, SETTLING).gradients["hidden0.weight"]
            print(f"{estimator:12} β = {beta:<5} error {relative_error(update, exact):.1e}")


if __name__ == "__main__":
    main()
