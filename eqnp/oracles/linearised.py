"""The dynamics around given states, in plain NumPy: what backpropagation and implicit differentiation are made of.

A step is s ← ∇Λ(u) with the drive u = ∂Φ/∂s = A s + b, where A couples neighbouring layers and is symmetric, because Φ
is one scalar. With H = ∇²Λ(u), symmetric too, a change of the parameters moves a step by ds = H (A ds + du) + dX-part.
So an adjoint v of the states becomes λ = H v of the drives, then A λ of the states a step before, and

    dL/dW = λ_post ⊗ s_pre + s_post ⊗ λ_pre,        dL/db = λ_post,        dL/dX = vᵀ ∂(softmax(κ u Xᵀ) X)/∂X.

None of this uses nudges, contrasts or the compiled kernels: it is a route of its own to the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from eqnp.kernels import naive
from eqnp.network import Network
from eqnp.potentials import Hopfield
from eqnp.synapses import Clamped, flat

Layers = dict[str, np.ndarray]


class Linearised:
    """One batch around given drives; every method takes and gives arrays (B, *shape) by layer."""

    def __init__(self, network: Network, clamped: Clamped, drives: Mapping[str, np.ndarray]):
        self.network, self.clamped, self.drives = network, clamped, drives
        self.attention: Layers = {}
        self.hessians: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        for layer in network.layers:
            potential, drive = clamped.potentials[layer.name], drives[layer.name]
            if isinstance(potential, Hopfield):
                weights = np.zeros((*drive.shape[:2], potential.memory.shape[1]), drive.dtype)
                content = (potential.memory, potential.slots, potential.phantoms, potential.rows, potential.scale)
                naive.attend(drive, *content, weights)
                self.attention[layer.name] = weights
            else:
                self.hessians[layer.name] = potential.hessian(drive)

    def hessian(self, v: Mapping[str, np.ndarray]) -> Layers:
        """H v. For attention: κ (A ∘ (v Xᵀ − ⟨v, s⟩)) X per row, with weights A and s = A X."""
        result = {name: hessian(v[name]) for name, hessian in self.hessians.items()}
        for name in self.attention:
            potential = self.clamped.potentials[name]
            result[name] = potential.scale * self._logit_adjoint(name, v[name]) @ potential.memory
        return result

    def _logit_adjoint(self, name: str, v: np.ndarray) -> np.ndarray:
        """A ∘ (v Xᵀ − ⟨v, s⟩), (B, R, M): the softmax's own derivative."""
        weights, memory = self.attention[name], self.clamped.potentials[name].memory
        agreement = v @ memory.transpose(0, 2, 1)
        return weights * (agreement - (weights * agreement).sum(axis=2, keepdims=True))

    def coupling(self, v: Mapping[str, np.ndarray]) -> Layers:
        """A v: what the drives of all layers change by when the states change by v."""
        result = {layer.name: np.zeros_like(v[layer.name]) for layer in self.network.layers}
        parameters = self.network.parameters
        for synapse in self.network.synapses:
            weight, post = parameters[f"{synapse.name}.weight"], synapse.post.name
            for pre, columns in synapse.columns.items():
                result[post] += synapse.seen(pre, v[pre], self.clamped) @ weight[:, columns].T
                back = np.empty_like(v[pre])
                synapse.feedback(parameters, self.clamped, v[post], pre, flat(back))
                result[pre] += back
        return result

    def output_adjoint(self, states: Mapping[str, np.ndarray], target: np.ndarray) -> Layers:
        """∂L/∂s of the mean cost over the batch: ∂C/∂s / B at the output, zero elsewhere."""
        v = {layer.name: np.zeros_like(states[layer.name]) for layer in self.network.layers}
        name = self.network.output.name
        v[name] += self.network.output_activation.cost_slope(states[name], target) / len(target)
        return v

    def gradients(self, v: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]) -> tuple[Layers, Layers]:
        """The parameters' part in one step from ``states``, for the adjoint v of the states after it.

        Returns gradients by parameter (without the embeddings), and by segment those of its tokens (B, M, D).
        """
        lam, gradients = self.hessian(v), {}
        tokens = {name: np.zeros_like(x) for name, x in self.clamped.tokens.items()}
        for synapse in (*self.network.inputs, *self.network.synapses):
            post = synapse.post.name
            self._add_product(gradients, synapse, {**states, post: lam[post]})
            if synapse.pres:  # the pre end moves too
                self._add_product(gradients, synapse, {**lam, post: states[post]}, bias=False)
        for synapse in self.network.inputs:
            one_phase = {synapse.post.name: lam[synapse.post.name][None]}
            synapse.add_token_update(self.network.parameters, one_phase, np.ones(1), tokens)
        for layer, config in zip(self.network.attention, self.network.config.attention, strict=True):
            tokens[config.memory] += self._memory_gradient(layer.name, v[layer.name])
        return gradients, tokens

    def _add_product(self, gradients: Layers, synapse, at: Mapping[str, np.ndarray], bias: bool = True) -> None:
        """Add post ⊗ pre of every bundle of a synapse to its gradient."""
        for name, columns, post, pre in synapse.ends({layer: value[None] for layer, value in at.items()}, self.clamped):
            if bias or not name.endswith(".bias"):
                whole = gradients.setdefault(name, np.zeros_like(self.network.parameters[name]))
                whole.reshape(post.shape[-1], -1)[:, columns] += post[0].T @ pre[0]

    def _memory_gradient(self, name: str, v: np.ndarray) -> np.ndarray:
        """vᵀ ∂(softmax(κ u Xᵀ) X)/∂X, (B, M, D): patterns are retrieved, and decide what is retrieved."""
        potential, drive = self.clamped.potentials[name], self.drives[name]
        retrieved = self.attention[name].transpose(0, 2, 1) @ v
        return retrieved + potential.scale * self._logit_adjoint(name, v).transpose(0, 2, 1) @ drive
