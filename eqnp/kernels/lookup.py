"""Ids found among many others: what NumPy would sort for, by tables that are read at random."""

import numpy as np

from eqnp.kernels.cache import compiled


@compiled()
def places(codes, sought):
    """Where each of ``sought`` stands in ``codes``, and −1 where it does not, by a hash table; all int64.

    A binary search through as many n-grams waits for memory at every step.
    """
    size = 2
    while size < 2 * len(codes):
        size *= 2
    table = np.full(size, -1, np.int32)
    for place in range(len(codes)):
        slot = _hashed(codes[place], size)
        while table[slot] >= 0:
            slot = (slot + 1) % size
        table[slot] = place
    places = np.empty(len(sought), np.int64)
    for i in range(len(sought)):
        slot = _hashed(sought[i], size)
        while table[slot] >= 0 and codes[table[slot]] != sought[i]:
            slot = (slot + 1) % size
        places[i] = table[slot]
    return places


@compiled()
def _hashed(code, size):
    """A slot of a table of 2^k: what the golden ratio leaves in the upper bits of the product."""
    return np.int64((np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % size


@compiled()
def stands_first(ids, offsets):
    """Whether an id has not stood before in its text, for all ids of all texts."""
    last = np.full(1 + max(0, ids.max()) if len(ids) else 0, -1, np.int64)  # the last text with this id
    first = np.empty(len(ids), np.bool_)
    for text in range(len(offsets) - 1):
        for i in range(offsets[text], offsets[text + 1]):
            first[i] = last[ids[i]] != text
            last[ids[i]] = text
    return first
