"""Words of many plain texts in one pass: found by the rules of `eqnp.text.tokens`, and looked up by their hashes.

Texts are bytes of UTF-8. What stands between two blanks and is not plain ASCII is left to the library that learned the
words, as `eqnp.text.tokens` leaves a few texts to it, which takes about ten times as long, to the same ids.
"""

from __future__ import annotations

import numpy as np

from eqnp.kernels.cache import compiled

exact = compiled()
SEED, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # of the hash FNV-1a
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
BLANK, WORD, QUOTE, MARK = range(4)  # kinds of characters
T, N, S, D, M, R, E, V, L = (ord(letter) for letter in "tnsdmrevl")


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Of every byte, the kind and the small letter."""
    kinds, small = np.full(256, MARK, np.uint8), np.arange(256, dtype=np.uint8)
    kinds[:33] = kinds[127] = BLANK
    for first, last in (b"09", b"az", b"AZ", b"__"):
        kinds[first : last + 1] = WORD
    kinds[list(b"'`")] = QUOTE
    small[ord("A") : ord("Z") + 1] += 32
    small[ord("`")] = ord("'")
    return kinds, small


KINDS, SMALL = _tables()


@exact
def hash_of(characters, start, stop):
    """The hash of a word, in small letters."""
    value = SEED
    for i in range(start, stop):
        value = (value ^ np.uint64(SMALL[characters[i]])) * PRIME
    return value


@exact
def fill_words(characters, offsets, bits, table):
    """Put each word of a vocabulary, its characters one after the other, into ``table`` (1 << bits,), −1 before."""
    for word in range(len(offsets) - 1):
        slot = np.int64((hash_of(characters, offsets[word], offsets[word + 1]) * GOLDEN) >> np.uint64(64 - bits))
        while table[slot] >= 0:
            slot = (slot + 1) % len(table)
        table[slot] = word


@exact
def _is(characters, i, stop, letter):
    """Whether a letter stands there, before the end of the text."""
    return i < stop and SMALL[characters[i]] == letter


@exact
def _ends(characters, i, stop):
    """Whether no word goes on there."""
    return i >= stop or KINDS[characters[i]] != WORD


@exact
def _negates(characters, i, stop):
    """Whether "n't" stands there, and no word goes on behind it."""
    if not (_is(characters, i, stop, N) and _is(characters, i + 2, stop, T) and _ends(characters, i + 3, stop)):
        return False
    return KINDS[characters[i + 1]] == QUOTE


@exact
def _clitic(characters, i, stop):
    """How many characters from an apostrophe on are one word: 's 're 've 'll 'd 'm, or it alone."""
    for letter in (S, D, M):
        if _is(characters, i + 1, stop, letter) and _ends(characters, i + 2, stop):
            return 2
    if _ends(characters, i + 3, stop):
        for first, second in ((R, E), (V, E), (L, L)):
            if _is(characters, i + 1, stop, first) and _is(characters, i + 2, stop, second):
                return 3
    return 1


@exact
def read_words(characters, offsets, known, starts, ids, bits, table, unknown, out, ends, others):
    """The ids of the words of each text into ``out`` from the start on; ``ends`` (texts + 1,) says where.

    Text i is ``characters[offsets[i]:offsets[i + 1]]``; ``known`` and ``starts`` are the vocabulary, ``ids`` its ids,
    and ``table`` is that of `fill_words`. A word that is not there has the id ``unknown``, and what is left to the
    library −1; where that begins and ends is written to the rows of ``others``, and how often that was is returned.
    ``out`` has room for as many as there are characters, and ``others`` for a third of the characters and texts.
    """
    filled = left = 0
    for text in range(len(offsets) - 1):
        i, stop, plain = offsets[text], offsets[text + 1], offsets[text]
        while i < stop:
            kind = KINDS[characters[i]]
            if kind == BLANK:
                i += 1
                continue
            if i >= plain:  # the next blank, up to which there may be something else than ASCII
                end, highest = i, np.uint8(0)
                while end < stop and KINDS[characters[end]] != BLANK:
                    highest = max(highest, characters[end])
                    end += 1
                if highest > 127:
                    others[left, 0], others[left, 1] = i, end
                    out[filled] = -1
                    left, filled, i = left + 1, filled + 1, end
                    continue
                plain = end
            end = i + 1
            if kind == QUOTE:
                end = i + _clitic(characters, i, stop)
            elif kind == WORD:
                if _negates(characters, i, stop):
                    end = i + 3
                else:
                    while end < stop and KINDS[characters[end]] == WORD and not _negates(characters, end, stop):
                        end += 1
            slot = np.int64((hash_of(characters, i, end) * GOLDEN) >> np.uint64(64 - bits))
            found = unknown
            while table[slot] >= 0:
                word = table[slot]
                if starts[word + 1] - starts[word] == end - i:
                    same = True
                    for j in range(end - i):
                        if known[starts[word] + j] != SMALL[characters[i + j]]:
                            same = False
                            break
                    if same:
                        found = ids[word]
                        break
                slot = (slot + 1) % len(table)
            out[filled] = found
            filled += 1
            i = end
        ends[text + 1] = filled
    return left
