"""The dynamics around given states, in plain NumPy: what backpropagation and implicit differentiation are made of.

A step is s ← ∇Λ(u) with the drive u = ∂Φ/∂s = A s + b, where A couples neighbouring layers and is symmetric, because Φ
is one scalar. With H = ∇²Λ(u), symmetric too, a change of the parameters moves a step by ds = H (A ds + du) + dX-part.
So an adjoint v of the states becomes λ = H v of the drives, then A λ of the states a step before, and

    dL/dW = λ_post ⊗ s_pre + s_post ⊗ λ_pre,        dL/db = λ_post,        dL/dX = vᵀ ∂(softmax(κ u Xᵀ) X)/∂X.

None of this uses nudges, contrasts or the compiled kernels: it is a route of its own to the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqnp.kernels import naive
from eqnp.network import Network
from eqnp.potentials import Hopfield
from eqnp.synapses import Clamped, Projection, flat

Layers = dict[str, np.ndarray]


class Linearised:
    """One batch around given drives; every method takes and gives arrays (B, *shape) by layer."""

    def __init__(self, network: Network, clamped: Clamped, drives: Mapping[str, np.ndarray]):
        self.network, self.clamped, self.drives = network, clamped, drives
        self.attention: Layers = {}
        self.slopes: Layers = {}
        for layer in network.layers:
            potential, drive = clamped.potentials[layer.name], drives[layer.name]
            if isinstance(potential, Hopfield):
                weights = np.zeros((*drive.shape[:2], potential.memory.shape[1]), drive.dtype)
                content = (potential.memory, potential.slots, potential.phantoms, potential.rows, potential.scale)
                naive.attend(drive, *content, weights)
                self.attention[layer.name] = weights
            else:
                self.slopes[layer.name] = potential.slope(drive)

    def hessian(self, v: Mapping[str, np.ndarray]) -> Layers:
        """H v. For attention: κ (A ∘ (v Xᵀ − ⟨v, s⟩)) X per row, with weights A and s = A X."""
        result = {name: slope * v[name] for name, slope in self.slopes.items()}
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
        for synapse in self.network.synapses:
            weight, post = self.network.parameters[f"{synapse.name}.weight"], synapse.post.name
            for pre, columns in synapse.columns.items():
                result[post] += flat(v[pre]) @ weight[:, columns].T
                result[pre] += (v[post] @ weight[:, columns]).reshape(v[pre].shape)
        return result

    def output_adjoint(self, states: Mapping[str, np.ndarray], target: np.ndarray) -> Layers:
        """∂L/∂s of the mean squared error over the batch: (s_out − y)/B at the output, zero elsewhere."""
        v = {layer.name: np.zeros_like(states[layer.name]) for layer in self.network.layers}
        v[self.network.output.name] += (states[self.network.output.name] - target) / len(target)
        return v

    def gradients(self, v: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]) -> tuple[Layers, Layers]:
        """The parameters' part in one step from ``states``, for the adjoint v of the states after it.

        Returns gradients by parameter (without the embeddings), and by segment those of its tokens (B, M, D).
        """
        lam, gradients = self.hessian(v), {}
        tokens = {name: np.zeros_like(x) for name, x in self.clamped.tokens.items()}
        for synapse in self.network.synapses:
            post = synapse.post.name
            weight = np.empty_like(self.network.parameters[f"{synapse.name}.weight"])
            for pre, columns in synapse.columns.items():
                weight[:, columns] = lam[post].T @ flat(states[pre]) + states[post].T @ flat(lam[pre])
            gradients[f"{synapse.name}.weight"] = weight
            gradients[f"{synapse.name}.bias"] = lam[post].sum(axis=0)
        for synapse in self.network.inputs:
            rows = lam[synapse.post.name]
            if isinstance(synapse, Projection):
                x = self.clamped.tokens[synapse.segment]
                rows, width = rows[:, : x.shape[1]], x.shape[2]
                gradients[f"{synapse.name}.weight"] = rows.reshape(-1, width).T @ x.reshape(-1, width)
                tokens[synapse.segment] += rows @ self.network.parameters[f"{synapse.name}.weight"]
            else:
                gradients[f"{synapse.name}.weight"] = rows.sum(axis=0)
        for layer, config in zip(self.network.attention, self.network.config.attention, strict=True):
            tokens[config.memory] += self._memory_gradient(layer.name, v[layer.name])
        return gradients, tokens

    def _memory_gradient(self, name: str, v: np.ndarray) -> np.ndarray:
        """vᵀ ∂(softmax(κ u Xᵀ) X)/∂X, (B, M, D): patterns are retrieved, and decide what is retrieved."""
        potential, drive = self.clamped.potentials[name], self.drives[name]
        retrieved = self.attention[name].transpose(0, 2, 1) @ v
        return retrieved + potential.scale * self._logit_adjoint(name, v).transpose(0, 2, 1) @ drive
