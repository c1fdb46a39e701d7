"""Is it a term of Φ? See `eqnp.testing`."""

from __future__ import annotations

import numpy as np

from eqnp.contrasts import contrast
from eqnp.network import Network
from eqnp.states import Batch, Clamped
from eqnp.synapses import Synapse
from eqnp.testing.compare import assert_agree, slopes_by


def check_synapse(synapse: Synapse, network: Network, batch: Batch, *, seed: int = 0, tolerance: float = 1e-6) -> None:
    """Raise AssertionError unless a synapse of a network is what `Synapse` promises, at random states, settled or not.

    Drives forward and back are the derivatives of its term φ, which is linear in each layer; its ends are ∂φ/∂θ and see
    no other layer and no other sample; tokens learn from ∂φ/∂x; oracles are told right how all that changes.
    """
    network, rng = network.astype(np.float64), np.random.default_rng(seed)
    x, parameters, name = network.clamp(batch), network.parameters, synapse.name
    joined = (synapse.post, *synapse.pres)
    states = {n: rng.standard_normal((x.size, *shape)) for n, shape in x.shapes.items()}
    for layer in network.layers:  # rows without a token are silent, or the same in all phases
        if layer.segment:
            states[layer.name][np.arange(x.shapes[layer.name][0]) >= x.live_rows(layer)[:, None]] = 0
    blind = {n: s if n in [layer.name for layer in joined] else np.full_like(s, np.nan) for n, s in states.items()}

    def phi(at=states) -> np.ndarray:
        return synapse.phi(parameters, x, at)

    for layer in joined:
        s, drive = states[layer.name], synapse.drive(layer.name, parameters, x, blind)
        truth = np.empty_like(s)
        for index in np.ndindex(s.shape[1:]):
            ahead, behind, far = ({**states, layer.name: s.copy()} for _ in range(3))
            for changed, step in ((ahead, 1), (behind, -1), (far, 3)):
                changed[layer.name][:, *index] += step
            truth[:, *index] = (phi(ahead) - phi(behind)) / 2
            bend = phi(far) - phi(states) - 3 * truth[:, *index]
            assert_agree(
                f"{name}: 1 + what φ bends by in {layer.name}{list(index)}", 1 + bend, np.ones(x.size), tolerance
            )
        assert_agree(f"{name}: the drive of {layer.name}", drive, truth, tolerance)
        other = {n: np.concatenate([a[:1] + 1, a[1:]]) for n, a in states.items()}
        seen = synapse.drive(layer.name, parameters, x, other)[1:]
        assert_agree(f"{name}: the drive of {layer.name} in other samples", seen, drive[1:], tolerance)
    ends = list(synapse.ends(x, {n: s[None] for n, s in blind.items()}))
    one = np.ones(1)
    gradients = contrast(network, ends, one)
    for parameter in synapse.parameters:
        truth = slopes_by(lambda: np.atleast_1d(phi().sum()), parameters[parameter], 1e-3)[0]
        value = gradients.get(parameter, np.zeros_like(truth))
        assert_agree(f"{name}: the ends of {parameter}", value, truth, tolerance)
    _check_routes(synapse, network, x, states, tolerance)
    for segment in synapse.segments:
        tokens = x.tokens[segment]
        truth = np.empty_like(tokens)
        for index in np.ndindex(tokens.shape):
            kept = tokens[index]
            tokens[index] = kept + 1
            above = phi().sum()
            tokens[index] = kept - 1
            truth[index] = (above - phi().sum()) / 2
            tokens[index] = kept
        update = {segment: np.zeros_like(tokens)}
        one_phase = {n: s[None] for n, s in states.items()}
        synapse.token_update(parameters, x, one_phase, one, {**dict.fromkeys(synapse.segments, 0), **update})
        real = np.arange(tokens.shape[1]) < x.lengths[segment][:, None]  # what padding would learn is dropped
        drive = synapse.drive(segment, parameters, x, states)
        assert_agree(f"{name}: what the tokens of {segment} learn", update[segment][real], truth[real], tolerance)
        assert_agree(f"{name}: the drive of {segment}", drive[real], truth[real], tolerance)


def _check_routes(synapse: Synapse, network: Network, x: Clamped, states, tolerance: float) -> None:
    """What settling and oracles call gives what `drive` and `ends` say."""
    parameters, name, post = network.parameters, synapse.name, synapse.post.name
    forward = synapse.drive(post, parameters, x, states)
    if synapse.pres:
        state, out = network.zero_state(x), np.empty_like(states[post])
        state.states |= {n: s.copy() for n, s in states.items()}
        synapse.forward(parameters, x, state, out)
        assert_agree(f"{name}: forward", out, forward, tolerance)
        silent = {**states, **{layer.name: 0 * states[layer.name] for layer in synapse.pres}}
        constant, truth = synapse.constant(parameters, x), synapse.drive(post, parameters, x, silent)
        assert_agree(f"{name}: the constant part", 0.0 if constant is None else constant, truth, tolerance)
    else:
        static = synapse.static(parameters, x, lambda key, shape, dtype: np.empty(shape, dtype))
        assert_agree(f"{name}: the static drive", static, forward, tolerance)
    for pre in synapse.pres:
        out = np.empty_like(states[pre.name])
        synapse.feedback(parameters, x, states, pre.name, out)
        assert_agree(f"{name}: feedback to {pre.name}", out, synapse.drive(pre.name, parameters, x, states), tolerance)
    rng = np.random.default_rng(1)
    by = {n: rng.standard_normal(s.shape) for n, s in states.items()}
    joined = [synapse.post, *synapse.pres]
    for at in joined:
        for layer in joined:
            if at is not layer and (synapse.crossed or synapse.post in (at, layer)):
                given = (at.name, layer.name, parameters, x, states, by[layer.name])
                value, truth = synapse.drive_change(*given), Synapse.drive_change(synapse, *given)
                assert_agree(f"{name}: the change of {at.name} with {layer.name}", value, truth, tolerance)
    changes = []
    for route in (synapse.gradient_change, lambda *given: Synapse.gradient_change(synapse, *given)):
        total = {n: np.zeros_like(parameters[n]) for n in synapse.parameters}
        for parameter, columns, product in route(x, states, by):
            total[parameter].reshape(len(product), -1)[:, columns] += product
        changes.append(total)
    for parameter, value in changes[0].items():
        assert_agree(f"{name}: the change of ∂φ/∂{parameter}", value, changes[1][parameter], tolerance)
