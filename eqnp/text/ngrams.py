"""Runs of words as memory slots of their own: what "not good" says is in neither word.

A network with learned queries sees which words a text has, not their order. Slots for its n-grams, after those of its
words, give back the order that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from eqnp.machine.ranks import ALONE, Ranks
from eqnp.text.store import Split
from eqnp.text.tokens import Ragged, joined

MANY = 20_000  # tokens, for which a compiled kernel pays
TOKENS = 1 << 21  # looked at together: what is made of them takes a hundred bytes of each


@dataclass
class NGrams:
    """The n-grams of a vocabulary: ``parts`` (G, longest) int32 word ids, zero-padded on the right, shorter ones first.

    N-gram g has the id ``first_id`` + g; ``first_id`` is the number of words.
    """

    parts: np.ndarray
    first_id: int

    def __len__(self) -> int:
        return len(self.parts)

    def none(self) -> NGrams:
        """None of them, after the same words."""
        return NGrams(self.parts[:0], self.first_id)

    def occurrences(self, texts: Ragged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every occurrence in texts of word ids: its text, its id, and the place of its first word in ``texts.ids``."""
        found = []
        for length, ids, places in self._by_length:
            text, code, start = _runs(texts, length, self.first_id, 0, self.first_id)
            place = places.of(code)
            known = place >= 0
            found.append((text[known], ids[place[known]], start[known]))
        if not found:
            return (np.empty(0, np.int64),) * 3
        text, ids, start = (np.concatenate(part) for part in zip(*found, strict=True))
        return text, ids, start

    @cached_property
    def _by_length(self) -> list[tuple[int, np.ndarray, Places]]:
        """The ids of the n-grams of each length, and where to find their codes."""
        lengths, result = (self.parts > 0).sum(axis=1), []
        for length in np.unique(lengths).tolist():
            rows = np.flatnonzero(lengths == length)
            codes = _codes(self.parts[rows, :length].T, self.first_id)
            result.append((length, self.first_id + rows, Places(codes)))
        return result

    def appended(self, texts: Ragged) -> Ragged:
        """The texts, each followed by the ids of its n-grams: shorter ones first, then in the order of the text."""
        text, ids, _ = self.occurrences(texts)
        owner = np.concatenate([np.repeat(np.arange(len(texts)), texts.lengths), text])
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=len(texts))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Ragged(np.concatenate([texts.ids, ids])[order].astype(np.int32), offsets)

    def names(self, words: Sequence[str]) -> list[str]:
        """The n-grams as text."""
        return [" ".join(words[i] for i in row if i) for row in self.parts.tolist()]

    def vectors(self, table: np.ndarray) -> np.ndarray:
        """Where their embeddings start: the mean of the rows of their words in ``table`` (V, D), (G, D)."""
        result = np.zeros((len(self), table.shape[1]), table.dtype)
        for column in self.parts.T:
            result += table[column]  # row 0 is zero
        return result / np.maximum((self.parts > 0).sum(axis=1), 1)[:, None].astype(table.dtype)


def memory_slots(split: Split, ngrams: NGrams, distinct: bool) -> Split:
    """The same samples, with the ids of their n-grams after those of their words; ``distinct``: each id once."""
    if not (len(ngrams) or distinct):
        return split

    def slots(texts: Ragged) -> Ragged:
        if len(texts.ids) >= MANY and len(ngrams):
            return _in_one_pass(texts, ngrams, distinct)
        longer = ngrams.appended(texts)
        return without_repeats(longer) if distinct else longer

    segments = {name: joined(map(slots, texts.parts(TOKENS))) for name, texts in split.segments.items()}
    return replace(split, segments=segments)


def _in_one_pass(texts: Ragged, ngrams: NGrams, distinct: bool) -> Ragged:
    """Many texts with the ids of their n-grams, as `NGrams.appended` has them, and with ``distinct`` each id once."""
    from eqnp.kernels.slots import fill_slots

    runs = tuple((length, places.bits, places.codes, places.table, ids) for length, ids, places in ngrams._by_length)
    seen = np.zeros(ngrams.first_id + len(ngrams), np.int32)
    out = np.empty((1 + len(runs)) * len(texts.ids), np.int32)
    ends = np.zeros(len(texts) + 1, np.int64)
    fill_slots(np.ascontiguousarray(texts.ids), texts.offsets, ngrams.first_id, runs, distinct, seen, out, ends)
    return Ragged(out[: ends[-1]].copy(), ends)


def without_repeats(texts: Ragged) -> Ragged:
    """The texts with every id only where it stands first."""
    last, first = np.empty(1 + texts.ids.max(initial=0), np.int64), np.empty(len(texts.ids), bool)
    for start, stop in pairwise(texts.offsets):
        ids, places = texts.ids[start:stop], np.arange(start, stop)
        last[ids[::-1]] = places[::-1]  # of the places of one id the first is written last, and stays
        first[start:stop] = last[ids] == places
    before = np.concatenate([[0], np.cumsum(first)])
    return Ragged(texts.ids[first], before[texts.offsets])


class Places:
    """Where numbers stand in ``codes`` (n,), which are distinct, int64.

    A hash table: a binary search through as many n-grams waits for memory at every step.
    """

    def __init__(self, codes: np.ndarray):
        self.codes, self.bits = codes, max(1, (4 * len(codes)).bit_length())
        self.table, place, slot = np.full(1 << self.bits, -1), np.arange(len(codes)), self._slots(codes)
        while len(place):
            free = self.table[slot] < 0
            self.table[slot[free]] = place[free]  # one of those for the same slot
            left = self.table[slot] != place
            place, slot = place[left], self._next(slot[left])

    def of(self, sought: np.ndarray) -> np.ndarray:
        """The place of each number in the codes, −1 where it is none of them."""
        slot = self._slots(sought)
        found = self.table[slot]
        other = self._others(np.arange(len(sought)), found, sought)
        while len(other):
            slot[other] = self._next(slot[other])
            found[other] = self.table[slot[other]]
            other = self._others(other, found, sought)
        return found

    def _others(self, which: np.ndarray, found: np.ndarray, sought: np.ndarray) -> np.ndarray:
        """Those that met another code in their slot."""
        which = which[found[which] >= 0]
        return which[self.codes[found[which]] != sought[which]]

    def _slots(self, codes: np.ndarray) -> np.ndarray:
        """A slot for each code: the upper bits of its product with the golden ratio, on which all of its bits bear."""
        return (codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - self.bits)).astype(np.int64)

    def _next(self, slot: np.ndarray) -> np.ndarray:
        return (slot + 1) % len(self.table)


def learn_ngrams(
    columns: Sequence[Ragged], words: int, *, longest: int, min_texts: int, most: int, ranks: Ranks = ALONE
) -> NGrams:
    """The n-grams of 2 … ``longest`` words that stand in at least ``min_texts`` texts, at most ``most`` of them.

    columns: word ids of all texts, ``words`` the size of the vocabulary. Of too many, those in most texts are kept.
    Those that begin with one range of words are counted after those that begin with another, for most n-grams of a
    large corpus stand in one text alone, and all of them together would need many times its memory. Ranks, which have
    all texts, share these ranges.
    """
    parts, counts = [np.zeros((0, max(2, longest)), np.int32)], [np.zeros(0, np.int64)]
    tasks = [(length, *ends) for length in range(2, longest + 1) for ends in _ranges(columns, words)]
    for length, first, last in tasks[ranks.part(len(tasks))]:
        codes, texts = _counted(columns, length, words, first, last)
        codes, texts = codes[texts >= min_texts], texts[texts >= min_texts]
        rows = np.zeros((len(codes), parts[0].shape[1]), np.int32)
        for place in range(length - 1, -1, -1):
            codes, rows[:, place] = np.divmod(codes, words)
        parts.append(rows)
        counts.append(texts)
    if ranks.size > 1:
        parts = [ranks.concatenate(parts, parts[0].shape[1], np.int32)]
        counts = [ranks.concatenate([each[:, None] for each in counts], 1, np.int64)[:, 0]]
    every, often = np.concatenate(parts), np.concatenate(counts)
    kept = np.sort(np.argsort(-often, kind="stable")[:most])
    return NGrams(every[kept], words)


def _ranges(columns: Sequence[Ragged], words: int) -> list[tuple[int, int]]:
    """Words from one to before another, such that those of each range stand at about `TOKENS` places."""
    places = np.zeros(words, np.int64)
    for column in columns:
        for texts in column.parts(TOKENS):
            places += np.bincount(texts.ids, minlength=words)
    ends = np.cumsum(places)
    cuts = np.searchsorted(ends, np.arange(TOKENS, ends[-1], TOKENS))
    cuts = np.unique(np.concatenate([[0], cuts, [words]])).tolist()
    return list(pairwise(cuts))


def _counted(
    columns: Sequence[Ragged], length: int, words: int, first: int, last: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the runs that begin with a word from ``first`` to before ``last``, rising, and in how many texts."""
    found, often = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for column in columns:
        for texts in column.parts(TOKENS):
            text, code, _ = _runs(texts, length, words, first, last)
            codes, number = np.unique(code, return_inverse=True)
            in_texts = np.unique(number * len(texts) + text) // len(texts)
            found.append(codes)
            often.append(np.bincount(in_texts, minlength=len(codes)))
    codes, number = np.unique(np.concatenate(found), return_inverse=True)
    counts = np.zeros(len(codes), np.int64)
    np.add.at(counts, number, np.concatenate(often))
    return codes, counts


def _runs(texts: Ragged, length: int, words: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text, code and first place of every run of so many words within a text that begins with a word from ``first`` to
    before ``last``."""
    starts = max(0, len(texts.ids) - length + 1)
    owner = np.repeat(np.arange(len(texts)), texts.lengths)
    begins = texts.ids[:starts]
    inside = (begins >= first) & (begins < last)
    start = np.flatnonzero(inside & (owner[:starts] == owner[length - 1 :][:starts]))
    code = _codes([texts.ids[start + place] for place in range(length)], words)
    return owner[start], code, start


def _codes(columns: Sequence[np.ndarray], words: int) -> np.ndarray:
    """One number per run, rising as the runs do in the order of their ids. Three words of 100,000 fit into int64."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        code = code * words + column
    return code
