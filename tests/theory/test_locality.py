"""The locality claim: what a synapse learns is a function of the states at its two ends, and of nothing else."""

import numpy as np
import pytest

from eqnp.contrasts import contrast
from eqnp.testing import KINDS, problem

COEFFICIENTS = np.array([-0.7, 0.7])


def random_phases(p, rng):
    """States of two phases of a batch, as if settled."""
    state = p.network.zero_state(p.network.clamp(p.batch), 2)
    for s in (*state.states.values(), *state.drives.values()):
        s[...] = rng.standard_normal(s.shape)
    return state


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_does_not_move_by_a_bit_when_all_else_changes(kind):
    """If this fails, a synapse reads something that is not at its own ends."""
    p, rng = problem(kind=kind, hidden=(5, 4)), np.random.default_rng(0)
    network, x = p.network, p.network.clamp(p.batch)
    state = random_phases(p, rng)
    for synapse in network.synapses:
        own = {synapse.post.name, *(layer.name for layer in synapse.pres)}
        before = contrast(network, synapse.ends(x, state.states), COEFFICIENTS)
        kept = {name: s.copy() for name, s in state.states.items()}
        weights = {name: w.copy() for name, w in network.parameters.items()}
        for name, s in state.states.items():
            if name not in own:
                s[...] = np.nan
        for drive in state.drives.values():
            drive[...] = np.nan
        for weight in network.parameters.values():  # its own weight included
            weight[...] = np.nan
        after = contrast(network, synapse.ends(x, state.states), COEFFICIENTS)
        for name, update in before.items():
            assert np.isfinite(update).all()
            np.testing.assert_array_equal(update, after[name])
        for name in kept:
            state.states[name][...] = kept[name]
        for name in weights:
            network.parameters[name][...] = weights[name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_does_move_with_either_end(kind):
    """If this fails, the test above would pass for an update that reads nothing at all."""
    p, rng = problem(kind=kind, hidden=(5, 4)), np.random.default_rng(0)
    x = p.network.clamp(p.batch)
    for synapse in (synapse for synapse in p.network.synapses if synapse.pres):
        for layer in (synapse.post, *synapse.pres):
            state = random_phases(p, rng)
            before = contrast(p.network, synapse.ends(x, state.states), COEFFICIENTS)[f"{synapse.name}.weight"]
            state.states[layer.name][0] += 1
            after = contrast(p.network, synapse.ends(x, state.states), COEFFICIENTS)[f"{synapse.name}.weight"]
            assert (before != after).any()


def test_a_memory_slot_learns_from_its_own_attention_and_drive():
    """If this fails, a word's vector learns from words of other texts."""
    p, rng = problem(kind="pooling", batch=2, shortest=5), np.random.default_rng(0)
    x, drive = p.network.clamp(p.batch), rng.standard_normal((2, 2, 2, 4))
    potential = x.potentials["attention0"]
    before, after = np.empty((2, 5, 4)), np.empty((2, 5, 4))
    potential.memory_update(drive, COEFFICIENTS, before)
    drive[:, 1], potential.X[1] = np.nan, np.nan
    potential.memory_update(drive, COEFFICIENTS, after)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.isfinite(after[0]).all()
