"""Is it a term of Φ? See `eqnp.testing`."""

from __future__ import annotations

import numpy as np

from eqnp.contrasts import contrast
from eqnp.network import Network
from eqnp.states import Batch, Clamped, Layer
from eqnp.synapses import Synapse
from eqnp.testing.compare import assert_agree, slopes_by


def check_synapse(synapse: Synapse, network: Network, batch: Batch, *, seed: int = 0, tolerance: float = 1e-6) -> None:
    """Raise AssertionError unless a synapse of a network is what `Synapse` promises, at random states, settled or not.

    Drives forward and back are the derivatives of its term φ, which is linear in each layer; its ends are ∂φ/∂θ and see
    no other layer and no other sample; tokens learn from ∂φ/∂x; oracles are told right how all that changes.
    """
    network, rng = network.astype(np.float64), np.random.default_rng(seed)
    x = network.clamp(batch)
    states, second = (_random_states(network, x, rng) for _ in range(2))
    drives = {layer.name: _check_drive(synapse, network, x, states, layer, tolerance) for layer in _joined(synapse)}
    _check_company(synapse, network, x, states, drives, tolerance)
    _check_ends(synapse, network, batch, x, (states, second), tolerance)
    _check_routes(synapse, network, x, states, tolerance)


def _joined(synapse: Synapse) -> list[Layer]:
    return [synapse.post, *synapse.pres]


def _random_states(network: Network, x: Clamped, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal states of every layer; rows without a token are silent, as they are, or are the same, in all phases."""
    states = {name: rng.standard_normal((x.size, *shape)) for name, shape in x.shapes.items()}
    for layer in network.layers:
        if layer.segment:
            states[layer.name][np.arange(x.shapes[layer.name][0]) >= x.live_rows(layer)[:, None]] = 0
    return states


def _blind(synapse: Synapse, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The states, but for NaN in the layers that a synapse does not join."""
    own = {layer.name for layer in _joined(synapse)}
    return {name: s if name in own else np.full_like(s, np.nan) for name, s in states.items()}


def _check_drive(synapse: Synapse, network: Network, x: Clamped, states, layer: Layer, tolerance: float) -> np.ndarray:
    """The drive of one layer is ∂φ/∂s, and φ is linear in it."""
    name, at, s = synapse.name, layer.name, states[layer.name]
    drive, truth, bend = synapse.drive(at, network.parameters, x, _blind(synapse, states)), np.empty_like(s), 0.0

    def phi(index, step: float) -> np.ndarray:
        moved = s.copy()
        moved[:, *index] += step
        return synapse.phi(network.parameters, x, {**states, at: moved})

    for index in np.ndindex(s.shape[1:]):
        here, ahead, behind, far = (phi(index, step) for step in (0, 1, -1, 3))
        truth[:, *index] = (ahead - behind) / 2
        size = 1 + max(np.abs(far).max(), np.abs(here).max())
        bend = max(bend, float(np.abs(far - here - 3 * truth[:, *index]).max() / size))
    assert bend <= tolerance, f"{name}: φ bends by {bend:.2%} in the states of {at}, and must be linear in them"
    assert_agree(f"{name}: the drive of {at}", drive, truth, tolerance)
    return drive


def _check_company(synapse: Synapse, network: Network, x: Clamped, states, drives, tolerance: float) -> None:
    """What a drive may depend on: its own sample, the layers that φ multiplies, and a post layer that is not silent."""
    name, parameters, post = synapse.name, network.parameters, synapse.post.name
    other = {n: np.concatenate([a[:1] + 1, a[1:]]) for n, a in states.items()}
    index = np.arange(x.size)[::-1][: max(1, x.size - 1)]
    part = x.take(index)
    few = {n: s[index] for n, s in states.items()}
    silent = {**states, post: np.zeros_like(states[post])}
    for at, drive in drives.items():
        seen = synapse.drive(at, parameters, x, other)
        assert_agree(f"{name}: the drive of {at} in other samples", seen[1:], drive[1:], tolerance)
        if synapse.pres:
            left = synapse.drive(at, parameters, part, few)
            assert_agree(f"{name}: the drive of {at} when samples are left behind", left, drive[index], tolerance)
        if at == post:
            continue
        quiet = np.abs(synapse.drive(at, parameters, x, silent)).max(initial=0)
        assert quiet <= tolerance, f"{name}: a silent {post} drives {at} by {quiet:.3g}, and must not drive it at all"
        if not synapse.crossed:
            pres = {layer.name: states[layer.name] + 1 for layer in synapse.pres if layer.name != at}
            seen = synapse.drive(at, parameters, x, {**states, **pres})
            assert_agree(f"{name} is not crossed: the drive of {at} by other pre layers", seen, drive, tolerance)


def _check_ends(synapse: Synapse, network: Network, batch: Batch, x: Clamped, phases, tolerance: float) -> None:
    """In two phases at once: ends are ∂φ/∂θ, also of samples that have weights, and tokens learn ∂φ/∂x."""
    name, parameters, c = synapse.name, network.parameters, np.array([1.0, -0.4])
    weight = np.linspace(0.5, 2, x.size)
    stacked = {n: np.stack([phase[n] for phase in phases]) for n in phases[0]}
    seen = {n: np.stack([_blind(synapse, phase)[n] for phase in phases]) for n in phases[0]}
    before = {n: s.copy() for n, s in seen.items()}
    gradients = contrast(network, list(synapse.ends(x, seen)), c)
    weighed = contrast(network, list(synapse.ends(x, seen)), c, weight=weight)
    for parameter, rows in synapse.row_updates(parameters, x, seen, c, np.empty):
        gradients[parameter] = rows.dense(parameters[parameter])
    post = synapse.post.name
    heavier = {**seen, post: seen[post] * weight.reshape(-1, *[1] * (seen[post].ndim - 2))}
    for parameter, rows in synapse.row_updates(parameters, x, heavier, c, np.empty):
        weighed[parameter] = rows.dense(parameters[parameter])
    for n, s in seen.items():
        assert np.array_equal(s, before[n], equal_nan=True), f"{name}: `ends` changes the states of {n}"

    def contrasted_phi() -> np.ndarray:
        synapse.prepare(x)
        return sum(c_p * synapse.phi(parameters, x, phase) for c_p, phase in zip(c, phases, strict=True))

    for parameter in synapse.parameters:
        truth = slopes_by(contrasted_phi, parameters[parameter], 1e-3, per_sample=False)
        value = gradients.get(parameter, np.zeros_like(truth))
        assert_agree(f"{name}: the ends of {parameter}", value, truth, tolerance)
        truth = slopes_by(lambda: weight * contrasted_phi(), parameters[parameter], 1e-3, per_sample=False)
        value = weighed.get(parameter, np.zeros_like(truth))
        assert_agree(f"{name}: the ends of {parameter}, of samples with weights", value, truth, tolerance)
    if synapse.wide:
        whole = contrast(network, list(synapse.ends(network.unclamped(batch), seen)), c)
        for parameter, value in whole.items():
            assert_agree(f"{name}: the ends of {parameter} over a batch", value, gradients[parameter], tolerance)
    update = {segment: np.zeros_like(x.tokens[segment]) for segment in synapse.segments}
    synapse.token_update(parameters, x, stacked, c, update)
    for segment, learned in update.items():
        tokens = x.tokens[segment]
        real = np.arange(tokens.shape[1]) < x.lengths[segment][:, None]  # what padding would learn is dropped
        truth = slopes_by(contrasted_phi, tokens, 1.0, per_sample=True)
        assert_agree(f"{name}: what the tokens of {segment} learn", learned[real], truth[real], tolerance)
        synapse.prepare(x)
        drives = [synapse.drive(segment, parameters, x, phase) for phase in phases]
        drive = c[0] * drives[0] + c[1] * drives[1]
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
        constant = np.broadcast_to(0.0 if constant is None else constant, truth.shape)
        assert_agree(f"{name}: the constant part", constant, truth, tolerance)
    else:
        static = synapse.static(parameters, x, lambda key, shape, dtype: np.empty(shape, dtype))
        assert_agree(f"{name}: the static drive", static, forward, tolerance)
    for pre in synapse.pres:
        out = np.empty_like(states[pre.name])
        synapse.feedback(parameters, x, states, pre.name, out)
        assert_agree(f"{name}: feedback to {pre.name}", out, synapse.drive(pre.name, parameters, x, states), tolerance)
    rng = np.random.default_rng(1)
    by = {n: rng.standard_normal(s.shape) for n, s in states.items()}
    for at in _joined(synapse):
        for layer in _joined(synapse):
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
