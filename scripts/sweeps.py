"""Energy against sweeps: a network settles, in three orders of updating its layers.

    python scripts/sweeps.py  # two seconds; draws sweeps.svg

Even–odd sweeps update every second layer, then the others; each takes the exact minimum of F given its neighbours, so
F never rises. Synchronous sweeps update all layers at once from the states before, as in the paper, and need about
twice as many; nothing keeps F from rising. Accelerated sweeps go on along the way that the last two have shown. Left:
straight falls on a logarithmic scale, so every sweep takes a like share of what is left, down to rounding. Right:
nudged phases, which start where the free one ends, have less to do.
"""

import numpy as np

from eqnp import AttentionConfig, Machine, NetworkConfig, Nudge, Segment, SettlingConfig, Trace, build_network, settle
from eqnp.app import charts

SWEEPS, BETA = 30, 0.5


def main():
    rng = np.random.default_rng(1)
    vectors = np.vstack([np.zeros(8), 1.5 * rng.standard_normal((19, 8))])  # row 0 is padding
    config = NetworkConfig((AttentionConfig("text", 3),), hidden=(16, 16), activation="tanh", scale=0.5)
    network = build_network(config, vectors, 2, {"text": 8}, rng, machine=Machine("naive"))
    for name, weight in network.parameters.items():
        if name.startswith("hidden"):
            weight *= 2.2  # strong synapses settle slowly, and there is more to see
    x = network.clamp({"text": Segment(np.array([[3, 1, 4, 1, 5, 9, 2, 6]]), np.array([8]))})

    def energies(order, accelerate=False, nudge=None, start=None):
        state, trace = network.zero_state(x), Trace()
        if start:
            state.assign(start)
        settle(network, x, state, SettlingConfig(order, 0.0, SWEEPS, SWEEPS, accelerate), nudge, trace)
        return np.array([energy[0] for energy in trace.energy]), state

    orders = {"even–odd": ("even-odd",), "accelerated": ("even-odd", True), "synchronous": ("synchronous",)}
    free = {name: energies(*order)[0] for name, order in orders.items()}
    least = min(energy.min() for energy in free.values())
    for name, energy in free.items():
        taken = int(np.argmax(energy - least < 1e-6)) + 1
        print(f"{name:12} within 10⁻⁶ of the minimum after {taken} sweeps; largest rise {np.diff(energy).max():.0e}")
    left = {name: (np.arange(len(energy)) + 1, energy - least) for name, energy in free.items()}
    start, target = energies("even-odd")[1], np.eye(2)[:1]
    phases = {"free": None, f"β = {BETA}": Nudge(BETA, target), f"β = −{BETA}": Nudge(-BETA, target)}
    right = {}
    for name, nudge in phases.items():
        energy = energies("even-odd", nudge=nudge, start=start if nudge else None)[0]
        right[name] = (np.arange(len(energy)) + 1, energy - energy.min())
    panels = (
        ("F above its minimum, free, in three orders", left),
        ("F above its minimum in the phases, even–odd", right),
    )
    drawn = [charts.lines(curves, title, "sweep", log_y=True) for title, curves in panels]
    charts.save("sweeps.svg", *drawn)


if __name__ == "__main__":
    main()
