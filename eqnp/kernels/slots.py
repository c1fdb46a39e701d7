"""Memory slots of many texts in one pass: words, and the n-grams that they make, looked up in tables of hashes.

`eqnp.text.ngrams` does the same in NumPy for a few texts, for which it would not pay to load a compiler.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.cache import compiled

exact = compiled()
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio


@exact
def fill_slots(ids, offsets, words, runs, distinct, seen, out, ends):
    """Ids of each text and then of its n-grams, into ``out`` from the start on; ``ends`` (texts + 1,) says where.

    ``runs`` has for each number of words that number, and bits, codes and table of `eqnp.text.ngrams.Places`, and ids.
    With ``distinct`` each id is written once, where it stands first; ``seen`` (slots,) int32 is zero before.
    """
    filled = 0
    for text in range(len(offsets) - 1):
        start, stop = offsets[text], offsets[text + 1]
        for i in range(start, stop):
            if not distinct or seen[ids[i]] != text + 1:
                seen[ids[i]] = text + 1
                out[filled] = ids[i]
                filled += 1
        for length, bits, codes, table, names in runs:
            for i in range(start, stop - length + 1):
                code = np.int64(0)
                for place in range(length):
                    code = code * words + ids[i + place]
                slot = np.int64((np.uint64(code) * GOLDEN) >> np.uint64(64 - bits))
                while table[slot] >= 0 and codes[table[slot]] != code:
                    slot = (slot + 1) % len(table)
                if table[slot] >= 0:
                    name = names[table[slot]]
                    if not distinct or seen[name] != text + 1:
                        seen[name] = text + 1
                        out[filled] = name
                        filled += 1
        ends[text + 1] = filled
