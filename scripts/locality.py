"""Locality by poisoning: what an update depends on is found by spoiling everything, one thing at a time.

    python scripts/locality.py  # a second; draws locality.svg

A network settles free and nudged. Then one layer's states, or one kind of thing that a synapse should not know, become
NaN, and every update is made once more. An update that has read them is NaN too. Rows are updates, columns what was
spoiled, and a square says: it was read. Look for the ends of each synapse alone (hidden0 reads two layers side by side,
and so has three), and for none in the columns of weights and drives. (What reads the text has tokens at its lower end.)
"""

import numpy as np

from eqnp import AttentionConfig, Machine, NetworkConfig, Nudge, Segment, SettlingConfig, build_network, settle
from eqnp.app import charts
from eqnp.contrasts import contrast

BETA, SETTLING = 0.1, SettlingConfig(tolerance=1e-6)


def main():
    rng = np.random.default_rng(0)
    vectors = np.vstack([np.zeros(6), rng.standard_normal((9, 6))])  # row 0 is padding
    attention = (AttentionConfig("text", queries=2), AttentionConfig("text", queries="text"))
    config = NetworkConfig(attention, hidden=(7, 5), activation="tanh")
    network = build_network(config, vectors, 2, {"text": 5}, rng, machine=Machine("naive"))
    x = network.clamp({"text": Segment(np.array([[3, 1, 4, 1, 5]]), np.array([5]))})
    free, phases = network.zero_state(x), network.zero_state(x, 2)
    settle(network, x, free, SETTLING)
    for p, beta in enumerate((BETA, -BETA)):
        phases.phase(p).assign(free)
        settle(network, x, phases.phase(p), SETTLING, Nudge(beta, np.eye(2)[:1]))

    def updates():
        bundles = [bundle for synapse in network.synapses for bundle in synapse.ends(x, phases.states)]
        return {name: value.copy() for name, value in contrast(network, bundles, np.array([5.0, -5.0])).items()}

    things = {f"states of {name}": [states] for name, states in phases.states.items()}
    things |= {"all drives": list(phases.drives.values()), "all weights": list(network.parameters.values())}
    clean, read = updates(), {}
    for thing, arrays in things.items():
        kept = [array.copy() for array in arrays]
        for array in arrays:
            array[...] = np.nan
        spoiled = updates()
        read[thing] = [not np.array_equal(spoiled[name], clean[name]) for name in clean]
        for array, before in zip(arrays, kept, strict=True):
            array[...] = before
    table = np.array(list(read.values())).T
    for name, row in zip(clean, table, strict=True):
        print(f"{name:20} reads {' and '.join(thing for thing, found in zip(read, row, strict=True) if found)}")
    charts.save("locality.svg", charts.squares(table.astype(float), list(clean), list(read), "Which update reads what"))


if __name__ == "__main__":
    main()
