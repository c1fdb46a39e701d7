"""Changes of rows in local rounds, and in half precision, as ranks tell them: bfloat16, the upper halves of float32.

They are rounded to one part in 500, and uint16 here, which MPI can send. (NumPy takes ten times as long to make its
float16.) Tables in parts are in the host's memory, so there are no twins.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.cache import compiled

exact = compiled()
LOWER = np.uint32(16)  # bits that are left out
ROUND = np.uint32(1 << 15)


@exact
def halve(values, before, out):
    """out = values − before, all (n, D), in half precision."""
    for i in range(out.shape[0]):
        for d in range(out.shape[1]):
            out[i, d] = (np.float32(values[i, d] - before[i, d]).view(np.uint32) + ROUND) >> LOWER


@exact
def add_halves(halves, rows, factors, table):
    """table[r] += factors[r] · halves[i] with r = rows[i], in the order of i; halves (n, D), table (V, D)."""
    for i in range(halves.shape[0]):
        row, factor = table[rows[i]], factors[rows[i]]
        for d in range(halves.shape[1]):
            row[d] += factor * np.uint32(np.uint32(halves[i, d]) << LOWER).view(np.float32)


@exact
def add_changes(values, before, places, table):
    """table[p] += values[i] − before[i] with p = places[i], where that is not 0; values and before (n, D)."""
    for i in range(values.shape[0]):
        if places[i]:
            row = table[places[i]]
            for d in range(values.shape[1]):
                row[d] += values[i, d] - before[i, d]
