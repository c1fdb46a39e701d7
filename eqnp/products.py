"""Products: how alike a token and what it retrieved are, dimension by dimension.

A compare layer that sees both cannot tell whether they agree: that is no sum of what each of them says. Their product,
of a token that is clamped and a state that moves, is linear in the state, and so it may stand in Φ.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from eqnp.parameters import Bundle, even_rows
from eqnp.states import Clamped, Layer, State
from eqnp.synapses import States, Synapse, phase_rows, rows


class Product(Synapse):
    """Synapses ⟨s_post[n], W (x[n] ∘ s_pre[n])⟩ from each row of a layer times the token of that row; W is (H, D).

    A unit that sees x ∘ s sees how alike the two are, which no sum of parts of x and of s says. At first each sees
    ⟨x, s⟩ times a number of its own, within ±``gain``.
    """

    compiled = True
    crossed = False

    def __init__(self, name: str, segment: str, pre: Layer, post: Layer, gain: float, family: str = ""):
        super().__init__(name, post, (pre,), (segment,))
        self.segment, self.weight = segment, f"{name}.weight"
        self.declare("weight", (post.shape[1], pre.shape[1]), even_rows(gain), family)

    def prepare(self, x: Clamped) -> None:
        """The tokens, which are read as long as states settle."""
        x.prepared[self.segment, "tokens"] = x.tokens[self.segment]

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """As `Synapse.drive`: W (x ∘ s_pre), or s_post W times x or s_pre, row by row."""
        tokens, weight, pre = x.prepared[self.segment, "tokens"], parameters[self.weight], self.pres[0].name
        if at == self.post.name:
            return (tokens * states[pre]) @ weight.T
        return states[self.post.name] @ weight * (tokens if at == pre else states[pre])

    def forward(self, parameters, x: Clamped, state: State, out: np.ndarray) -> None:
        """out (B, R, H) ← W (x ∘ s_pre)."""
        pre = state.states[self.pres[0].name]
        both = x.kernels.scratch("both", pre.shape, pre.dtype)
        x.kernels.times(x.prepared[self.segment, "tokens"], pre, both)
        x.kernels.product(rows(both), parameters[self.weight], rows(out), turned=True)

    def feedback(self, parameters, x: Clamped, states: States, pre: str, out: np.ndarray) -> None:
        """out (B, R, D) ← x[n] ∘ s_post[n] W for every row."""
        x.kernels.product(rows(states[self.post.name]), parameters[self.weight], rows(out))
        x.kernels.times(x.prepared[self.segment, "tokens"], out, out)

    def constant(self, parameters, x: Clamped) -> None:
        """Nothing."""

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """Every row of every sample shares the weight; at its other end is x ∘ s_pre."""
        tokens, post, pre = x.prepared[self.segment, "tokens"], states[self.post.name], states[self.pres[0].name]
        both = x.kernels.empty(pre.shape, pre.dtype)
        for p in range(len(pre)):
            x.kernels.times(tokens, pre[p], both[p])
        yield Bundle(self.weight, slice(None), phase_rows(post), phase_rows(both))

    def token_update(self, parameters, x: Clamped, states: States, coefficients: np.ndarray, out: States) -> None:
        """out[segment] (B, M, D) += Σ_p c_p s_post_p W ∘ s_pre_p."""
        post, pre = states[self.post.name], states[self.pres[0].name]
        back = x.kernels.scratch("both", pre.shape[1:], pre.dtype)
        for p, coefficient in enumerate(coefficients):
            x.kernels.product(rows(post[p]), parameters[self.weight], rows(back))
            x.kernels.add_times(back, pre[p], coefficient, out[self.segment])
