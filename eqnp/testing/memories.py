"""Is it a memory made of tokens? See `eqnp.testing`."""

from __future__ import annotations

import numpy as np

from eqnp.kernels import naive
from eqnp.memories import Memory
from eqnp.parameters import drawn
from eqnp.states import Clamped, Segment
from eqnp.testing.compare import assert_agree


def check_memory(memory: Memory, *, width: int = 4, seed: int = 0, tolerance: float = 1e-6) -> None:
    """Raise AssertionError unless a memory is what `Memory` promises, on random tokens of ``width`` dimensions.

    Their ids are 1 to 8. Patterns are linear in the tokens and in each parameter; no sample sees another, and none what
    lies beyond its own tokens; what its ends multiply to is the slope by each parameter, and what goes back that by the
    tokens.
    """
    rng, name = np.random.default_rng(seed), memory.name
    parameters, lengths = drawn(memory.parameters, rng, np.dtype(np.float64)), np.array([5, 3, 1, 0])
    inside, slots = np.arange(5) < lengths[:, None], rng.standard_normal((4, 5, width))
    tokens, ids = rng.standard_normal(slots.shape) * inside[:, :, None], rng.integers(1, 9, (4, 5)) * inside
    x = _clamped(memory, tokens, ids, lengths)
    slots[~inside] = 0  # what no text uses is told nothing

    def patterns(tokens: np.ndarray, parameters=parameters) -> np.ndarray:
        out = np.full_like(tokens, np.nan)
        memory.patterns(parameters, _clamped(memory, tokens, ids, lengths), out)
        return np.where(inside[:, :, None], out, 0)

    y, v = patterns(tokens), rng.standard_normal(tokens.shape) * inside[:, :, None]
    assert_agree(f"{name}: patterns of a sum of tokens", patterns(tokens + 2 * v), y + 2 * patterns(v), tolerance)
    alone = patterns(np.where(np.arange(4)[:, None, None] == 0, tokens, 0))
    assert_agree(f"{name}: patterns of one text alone", alone[0], y[0], tolerance)
    wide = _clamped(memory, np.pad(tokens, ((0, 0), (0, 3), (0, 0))), np.pad(ids, ((0, 0), (0, 3))), lengths)
    out = np.full((4, 8, width), np.nan)
    memory.patterns(parameters, wide, out)
    assert_agree(f"{name}: patterns of padded texts", np.where(inside[:, :, None], out[:, :5], 0), y, tolerance)

    back = np.zeros_like(tokens)
    memory.back(parameters, x, slots, back)
    truth = (slots * patterns(v)).sum()
    assert_agree(f"{name}: what goes back to the tokens", (back * v).sum(), truth, tolerance)
    found = {key: np.zeros_like(value) for key, value in parameters.items()}
    for key, columns, post, pre in memory.ends(x, slots):
        found[key].reshape(post.shape[2], -1)[:, columns] += post[0].T @ pre[0]
    for key, value in parameters.items():
        w = rng.standard_normal(value.shape)
        ahead, behind = ({**parameters, key: value + step * w} for step in (1, -1))
        slope = (slots * (patterns(tokens, ahead) - patterns(tokens, behind))).sum() / 2
        assert_agree(f"{name}: the ends of {key}", (found[key] * w).sum(), slope, tolerance)


def _clamped(memory: Memory, tokens: np.ndarray, ids: np.ndarray, lengths: np.ndarray) -> Clamped:
    """A batch of such tokens (B, M, D)."""
    name, ids = memory.segment, ids.astype(np.int32)
    fixed = ({name: ids.shape[1]}, {}, len(ids), tokens.dtype, naive)
    return Clamped({name: Segment(ids, lengths)}, {name: tokens}, {name: lengths}, *fixed, ids={name: ids})
