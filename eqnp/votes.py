"""Votes: what the parts of a text say of its classes by themselves, beside all that attention makes of them.

A linear model of words, word pairs and parts of words is hard to beat on short texts, and it is an energy too: a table
with a row of C numbers for each feature, whose sum over the features of a text drives the output. It is where a network
begins (`eqnp.text.start`), and the layers below learn what it cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from eqnp.machine.gradients import RowGradient, rows_added_up
from eqnp.parameters import constant
from eqnp.states import Clamped, Layer
from eqnp.synapses import Bilinear, Bundle, States

VOTES = "votes"  # their family; a learning rate for it may be named where there are none, as presets do


def features_of(segment: str) -> str:
    """The name of the features of a segment in a batch."""
    return f"{segment} features"


class Votes(Bilinear):
    """Synapses ⟨s_post, Σ_n v[id_n] / √N⟩ from the N features of a text; v is (V, C), a row for each feature.

    The features are ids of a segment of their own, without vectors and without order. Only the rows of those that occur
    in a batch move.
    """

    compiled = True

    def __init__(self, name: str, features: str, rows: int, post: Layer, family: str = ""):
        super().__init__(name, post)
        self.features, self.weight = features, f"{name}.weight"
        self.declare("weight", (rows, *post.shape), constant(0.0), family, decays=False)

    def prepare(self, x: Clamped) -> None:
        """The shares (B, M) of the features: 1/√N for each, 0 beyond."""
        ids, lengths = x.segments[self.features]
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        shares = inside / np.sqrt(np.maximum(lengths, 1))[:, None]
        x.prepared[self.name, "shares"] = x.kernels.device(shares.astype(x.dtype))

    def drive(self, at: str, parameters, x: Clamped, states: States) -> np.ndarray:
        """As `Synapse.drive`; (B, C)."""
        votes = parameters[self.weight][x.segments[self.features].ids]
        return np.einsum("bm,bmc->bc", x.prepared[self.name, "shares"], votes)

    def static(self, parameters, x: Clamped, buffers: Callable) -> np.ndarray:
        """Σ_n v[id_n] / √N, (B, C)."""
        ids, table = x.ids[self.features], parameters[self.weight]
        each = x.kernels.scratch(("votes", self.name), (*ids.shape, table.shape[1]), x.dtype)
        x.kernels.gather(table, ids, each)
        drive = buffers((self.name, "static"), (len(ids), table.shape[1]), x.dtype)
        x.kernels.mean_rows(x.prepared[self.name, "shares"], each, drive)
        return drive

    def ends(self, x: Clamped, states: States) -> Iterator[Bundle]:
        """None: see `row_updates`."""
        return iter(())

    def row_updates(
        self, parameters, x: Clamped, states: States, coefficients: np.ndarray, empty: Callable
    ) -> Iterator[tuple[str, RowGradient]]:
        """Each feature hears Σ_p c_p s_p / √N of the texts that have it."""
        kernels, post, table = x.kernels, states[self.post.name], parameters[self.weight]
        told = kernels.zeros((x.size, 1, table.shape[1]), post.dtype)
        one = kernels.device(np.eye(table.shape[1], dtype=post.dtype))
        kernels.add_contrast(post.reshape(*post.shape[:2], 1, -1), one, coefficients, told)
        ids = x.segments[self.features].ids
        each = kernels.scratch(("told", self.name), (*ids.shape, table.shape[1]), post.dtype)
        kernels.spread_rows(x.prepared[self.name, "shares"], told[:, 0], each)
        yield self.weight, rows_added_up(kernels, table.shape, [(ids, each)], empty)
