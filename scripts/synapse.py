"""One synapse: two units, the weight between them, and what each of its ends sees.

    python scripts/synapse.py  # a second; draws synapse.svg

Two logistic units see each other through one weight w: s₁ = σ(b₁ + w s₂), s₂ = σ(b₂ + w s₁). They settle free, then
with s₂ nudged by β towards its label 1, and from the free state once more with it nudged away. The weight learns from
the difference of the products of its two ends, and from nothing else. Left: the nudge pulls at s₂, and s₁ feels it
through the synapse. Right: the loss, −ln s₂, falls as the weight learns. As β becomes small, the update becomes the
slope of the loss.
"""

import numpy as np

from eqnp.app import charts

B1, B2, BETA, SWEEPS, STEPS, RATE = 0.5, -1.0, 0.2, 8, 30, 1.0


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def settle(w, beta=0.0, start=(0.0, 0.0), sweeps=100):
    """The two ends (s₁, s₂), sweep by sweep: each in turn takes the minimum of F = E + β cross-entropy."""
    path = [start]
    for _ in range(sweeps):
        s2 = (1 - beta) * sigmoid(B2 + w * path[-1][0]) + beta
        path.append((sigmoid(B1 + w * s2), s2))
    return np.array(path)


def update(w, beta=BETA):
    """What the synapse learns: the product of its ends, nudged towards the label less nudged away, over 2β."""
    free = settle(w)[-1]
    return (settle(w, beta, free)[-1].prod() - settle(w, -beta, free)[-1].prod()) / (2 * beta)


def main():
    w, losses, curves = 1.0, [], {}
    slope = -np.log(settle(w + 1e-5)[-1, 1] / settle(w - 1e-5)[-1, 1]) / 2e-5  # of the loss −ln s₂
    for beta in (0.2, 0.02, 0.002):
        print(f"β = {beta:<5}  update {update(w, beta):.6f}, minus the slope of the loss {-slope:.6f}")
    free = settle(w, sweeps=SWEEPS)
    for way, beta in (("towards 1", BETA), ("away", -BETA)):
        both = np.concatenate([free, settle(w, beta, free[-1], SWEEPS)[1:]])
        curves |= {f"s₁, {way}": (range(len(both)), both[:, 0]), f"s₂, {way}": (range(len(both)), both[:, 1])}
    for _ in range(STEPS):
        losses.append(-np.log(settle(w)[-1, 1]))
        w += RATE * update(w)
    right = charts.lines({"loss": (range(STEPS), losses)}, "The loss, as the weight learns", "update")
    left = charts.lines(curves, f"The two ends, free, and nudged from sweep {SWEEPS} on", "sweep")
    charts.save("synapse.svg", left, right)


if __name__ == "__main__":
    main()
