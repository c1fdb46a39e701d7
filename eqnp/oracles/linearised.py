"""The dynamics around given states, in plain NumPy: what backpropagation and implicit differentiation are made of.

A step is s ← ∇Λ(u) with the drive u = ∂Φ/∂s = A s + b, where A couples neighbouring layers and is symmetric, because Φ
is one scalar. With H = ∇²Λ(u), symmetric too, a change of the parameters moves a step by ds = H (A ds + du) + dX-part.
So an adjoint v of the states becomes λ = H v of the drives, then A λ of the states a step before, and

    dL/dθ = the change of ∂Φ/∂θ as the states change by λ  (for a weight λ_post ⊗ s_pre + s_post ⊗ λ_pre),
    dL/dX = vᵀ ∂s/∂X                                       (for attention vᵀ ∂(softmax(κ u Xᵀ) X)/∂X).

None of this uses nudges, contrasts or the compiled kernels: it is a route of its own to the gradient. It asks the
layers and synapses for their derivatives, which those from outside need not bring (`eqnp.potentials`, `eqnp.synapses`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqnp.contrasts import by_word
from eqnp.machine.gradients import RowGradient
from eqnp.network import EMBEDDING, Network
from eqnp.states import Batch, Clamped

Layers = dict[str, np.ndarray]


class Linearised:
    """One batch around given states and drives; every method takes and gives arrays (B, *shape) by layer."""

    def __init__(
        self, network: Network, x: Clamped, states: Mapping[str, np.ndarray], drives: Mapping[str, np.ndarray]
    ):
        self.network, self.x, self.states, self.drives = network, x, states, drives
        self.hessians = {name: x.potentials[name].hessian(drive) for name, drive in drives.items()}

    def hessian(self, v: Mapping[str, np.ndarray]) -> Layers:
        """H v."""
        return {name: self.hessians[name](change) for name, change in v.items()}

    def coupling(self, v: Mapping[str, np.ndarray]) -> Layers:
        """A v: what the drives of all layers change by when the states of some layers change by v."""
        result = {name: np.zeros_like(state) for name, state in self.states.items()}
        for synapse in self.network.synapses:
            joined = [synapse.post, *synapse.pres]
            for by in (layer for layer in joined if layer.name in v):
                for at in joined:
                    # Terms are linear in each layer, and those of one pre layer add up with those of another.
                    if at is not by and (synapse.post in (at, by) or synapse.crossed):
                        result[at.name] += self._change(synapse, at.name, by.name, v)
        return result

    def _change(self, synapse, at: str, by: str, v: Mapping[str, np.ndarray]) -> np.ndarray:
        return synapse.drive_change(at, by, self.network.parameters, self.x, self.states, v[by])

    def output_adjoint(
        self, states: Mapping[str, np.ndarray], target: np.ndarray, weight: np.ndarray | None = None
    ) -> Layers:
        """∂L/∂s of the mean cost over the batch: ∂C/∂s / B at the output, times the weight (B,); zero elsewhere."""
        output, v = self.network.output, {name: np.zeros_like(s) for name, s in states.items()}
        v[output.name] += output.cost.slope(states[output.name], target) / len(target)
        if weight is not None:
            v[output.name] *= weight[:, None]
        return v

    def gradients(
        self,
        v: Mapping[str, np.ndarray],
        states: Mapping[str, np.ndarray],
        of_tokens: bool = True,
        onto: Layers | None = None,
    ) -> tuple[Layers, Layers]:
        """The parameters' part in one step from ``states``, for the adjoint v of the states after it.

        Returns gradients by parameter (without the embeddings), added to those of ``onto`` in place, and by segment
        those of its tokens (B, M, D): none where they are not asked for, ``of_tokens``, and no memory made of tokens
        needs them for its own weights.
        """
        lam, gradients, network = self.hessian(v), {} if onto is None else onto, self.network
        for synapse in network.synapses:
            for name, columns, product in synapse.gradient_change(self.x, states, lam):
                whole = self._whole(name, gradients)
                whole.reshape(len(product), -1)[:, columns] += product
            one = {synapse.post.name: lam[synapse.post.name][None]}
            for name, rows in synapse.row_updates(network.parameters, self.x, one, np.ones(1), np.empty):
                whole = self._whole(name, gradients)
                whole += rows.dense(whole)
        if not (of_tokens or network.memories):
            return gradients, {}
        tokens = {name: np.zeros_like(x) for name, x in self.x.tokens.items()}
        for synapse in network.synapses:
            if not synapse.pres:  # φ is linear in the post layer, and that is all there is
                one_phase = {synapse.post.name: lam[synapse.post.name][None]}
                synapse.token_update(network.parameters, self.x, one_phase, np.ones(1), tokens)
                continue
            for segment in synapse.segments:
                for layer in (synapse.post, *synapse.pres):
                    tokens[segment] += self._change(synapse, segment, layer.name, lam)
        for layer in network.attention:
            potential = self.x.potentials[layer.name]
            tokens[layer.potential.memory] += potential.memory_adjoint(self.drives[layer.name], v[layer.name])
        for memory in network.memories:
            slots = tokens.pop(memory.name)
            for name, columns, post, pre in memory.ends(self.x, slots):
                whole = self._whole(name, gradients)
                whole.reshape(post.shape[2], -1)[:, columns] += post[0].T @ pre[0]
            memory.back(network.parameters, self.x, slots, tokens[memory.segment])
        return gradients, tokens

    def _whole(self, name: str, gradients: Layers) -> np.ndarray:
        """The gradient of a parameter, of zeros where there is none yet."""
        if name not in gradients:
            gradients[name] = np.zeros(self.network.parameters[name].shape, self.network.dtype)
        return gradients[name]


def rows_of(network: Network, batch: Batch, gradients: Layers, tokens: Layers) -> dict[str, RowGradient]:
    """The gradients of tables by the rows that a batch touches: of the embedding from those of tokens, if they are
    given, and of features from dense ones."""
    result = {EMBEDDING: by_word(network, batch, tokens)} if tokens else {}
    for features, synapse in network.features.items():
        rows = np.setdiff1d(batch[features].ids, 0).astype(np.int32)
        result[synapse.weight] = RowGradient(rows, gradients[synapse.weight][rows])
    return result
