"""A layer of one's own, with its proof: a convex function Λ is all that a layer is.

    python scripts/own_layer.py  # a few seconds; draws own_layer.svg

Here Λ(u) = Σ √(1 + u²), whose slope u / √(1 + u²) is the state: a soft step that levels off more slowly than tanh. The
package's checkers hold it to what a layer promises (the state is ∇Λ, Λ is convex, no sample sees another), then a
network with it to what EP promises: the energy never rises, and the update is the gradient. At last the state is too
large by one part in a thousand, and the checker notices. Left: the state. Right: the update's error falls as β².
"""

import numpy as np

import eqnp
from eqnp.app import charts
from eqnp.oracles import implicit
from eqnp.testing import check_energy, check_gradients, check_potential, relative_error

BETAS, SETTLING = (0.4, 0.2, 0.1, 0.05), eqnp.SettlingConfig(tolerance=1e-12, free_sweeps=500, nudged_sweeps=500)


class Root(eqnp.Potential):
    separable, max_slope, off = True, 1.0, 1.0

    def value(self, drive):
        return np.sqrt(1 + drive**2).sum(axis=1)

    def state(self, drive):
        return self.off * drive / np.sqrt(1 + drive**2)


def main():
    rng, cost, wrong = np.random.default_rng(0), eqnp.SquaredError(), Root()
    check_potential(Root(), cost)
    vectors = np.vstack([np.zeros(4), rng.standard_normal((9, 4))])  # row 0 is padding
    words, own = eqnp.Layer("words", (2, 4), eqnp.Hopfield("text", scale=0.5)), eqnp.Layer("own", (6,), Root())
    output = eqnp.Layer("output", (2,), eqnp.elementwise("logistic"), cost)
    synapses = [eqnp.Queries("queries", words), eqnp.Dense("below", (words,), own), eqnp.Dense("above", (own,), output)]
    network = eqnp.Network([words, own, output], synapses, vectors, {"text": 5}, rng)
    batch, target = {"text": eqnp.Segment(np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]]), np.array([5, 3]))}, np.eye(2)
    print(f"largest rise of the energy, over 1 + |F|: {check_energy(network, batch, target):.0e}")
    print(f"largest error of an update at β = 0.001: {check_gradients(network, batch, target):.0e}")
    try:
        wrong.off = 1.001
        check_potential(wrong, cost)
    except AssertionError as error:
        print(f"a state that is 0.1 % too large: {error}")
    exact = implicit.estimate(network, batch, target, SETTLING).gradients["below.weight"]
    runs = [eqnp.estimate(network, batch, target, eqnp.LearningConfig(beta=beta), SETTLING) for beta in BETAS]
    errors = {"symmetric": (BETAS, [relative_error(run.gradients["below.weight"], exact) for run in runs])}
    u = np.linspace(-4, 4, 60)
    left = charts.lines(
        {"u / √(1 + u²)": (u, Root().state(u)), "tanh u": (u, np.tanh(u))}, "The state ∇Λ(u)", "drive u"
    )
    right = charts.lines(errors, "Relative error of the update", "β", log_x=True, log_y=True)
    charts.save("own_layer.svg", left, right)


if __name__ == "__main__":
    main()
