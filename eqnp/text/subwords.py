"""Features of a text, which have no order and no vector: its words and n-grams, and the subwords that these are spelled
with.

A subword is a run of 2 … n characters of a word with a blank at either end. It says what "unhelpful" shares with "help"
and "unhappy", and what a misspelt word, or one that training has never seen, still tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from eqnp.config import Config
from eqnp.sections import DataConfig
from eqnp.text.ngrams import NGrams, memory_slots, without_repeats
from eqnp.text.store import Split
from eqnp.text.tokens import Ragged, WordTokenizer, joined, plain, ragged
from eqnp.votes import features_of

SHORTEST = 2  # characters of a subword
LONGEST_WORD = 50  # characters of a word that are looked at: what is longer is an address, or no word
CHUNK = 1000  # texts encoded at a time
REMEMBERED = 1 << 17  # words whose subwords are kept at hand


class Subwords:
    """The subwords of 2 … ``longest`` characters that are known, by ``names``; the id of each is its place."""

    def __init__(self, names: Sequence[str], longest: int):
        self.names, self.longest = list(names), longest
        self._ids, self._of_words = {name: i for i, name in enumerate(self.names)}, {}

    def __len__(self) -> int:
        return len(self.names)

    def about(self) -> dict:
        """All of it, as JSON can hold it; `from_about` makes the same from it."""
        return {"subwords": {"longest": self.longest, "names": "\n".join(self.names)}}

    @classmethod
    def from_about(cls, about: Mapping) -> Subwords:
        """Those of a file; none in one of an earlier release."""
        kept = about.get("subwords", {"longest": 0, "names": ""})
        return cls(kept["names"].split("\n") if kept["names"] else [], int(kept["longest"]))

    def encode(self, tokenizer: WordTokenizer, texts: Sequence[str]) -> Ragged:
        """The ids of the subwords of each text, each once, rising."""
        if not self.names:
            return Ragged(np.empty(0, np.int32), np.zeros(len(texts) + 1, np.int64))
        starts = range(0, len(texts), CHUNK)
        return joined(ragged([self._of_text(tokenizer, t) for t in texts[i : i + CHUNK]]) for i in starts)

    def _of_text(self, tokenizer: WordTokenizer, text: str) -> np.ndarray:
        found = [self._of_word(word) for word in spelled(tokenizer, text)]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int32)

    def _of_word(self, word: str) -> np.ndarray:
        found = self._of_words.get(word)
        if found is None:
            ids = (self._ids.get(part) for part in subwords_of(word, self.longest))
            found = np.array([each for each in ids if each is not None], np.int32)
            if len(self._of_words) >= REMEMBERED:
                self._of_words = {}  # another thread may still look into the old one
            self._of_words[word] = found
        return found


def spelled(tokenizer: WordTokenizer, text: str) -> list[str]:
    """What stands between blanks in a text, normalised as its tokens are: words as they are spelled, known or not."""
    return tokenizer.rules.normalizer.normalize_str(plain(text) if tokenizer.markup else text).split()


def subwords_of(word: str, longest: int) -> set[str]:
    """The runs of 2 … ``longest`` characters of a word with a blank at either end."""
    word = f" {word[:LONGEST_WORD]} "
    return {word[i : i + n] for n in range(SHORTEST, longest + 1) for i in range(len(word) - n + 1)}


def learn_subwords(
    tokenizer: WordTokenizer,
    texts: Iterable[str],
    *,
    longest: int,
    min_texts: int,
    most: int,
    added_up: Callable[[Counter], Counter] = lambda counts: counts,
) -> Subwords:
    """The subwords that stand in at least ``min_texts`` texts; of too many, those in most. None if ``longest`` is 0.

    ``added_up`` is told in how many of the texts each stands, and says in how many of all texts.
    """
    counts: Counter[str] = Counter()
    known: dict[str, set[str]] = {}
    for text in texts if longest else ():
        found: set[str] = set()
        for word in spelled(tokenizer, text):
            if word not in known:
                known[word] = subwords_of(word, longest)
            found |= known[word]
        counts.update(found)
    kept = sorted((-count, part) for part, count in added_up(counts).items() if count >= min_texts)[:most]
    return Subwords([part for _, part in kept], longest)


def as_read(split: Split, data: DataConfig, ngrams: NGrams, subwords: Mapping[str, Ragged] | None) -> Split:
    """The samples as a network reads them: memory slots, and with the ``subwords`` of every segment what votes.

    Features are the ids of words and n-grams, each once, then those of subwords, counted on from the last n-gram.
    N-grams are slots too, unless ``data.ngram_slots`` says otherwise.
    """
    every = memory_slots(split, ngrams, data.distinct)
    slots = every if data.ngram_slots else memory_slots(split, ngrams.none(), data.distinct)
    if subwords is None:
        return slots
    features, first_id = {}, ngrams.first_id + len(ngrams)
    for name, ids in every.segments.items():
        once, parts = without_repeats(ids), subwords[name]
        offsets = once.offsets + parts.offsets
        joint = np.empty(offsets[-1], np.int32)
        joint[_places(once, offsets[:-1])] = once.ids
        joint[_places(parts, offsets[:-1] + once.lengths)] = parts.ids + first_id
        features[features_of(name)] = Ragged(joint, offsets)
    return replace(slots, features=features)


def with_slots(
    split: Split,
    texts: Mapping[str, Sequence[str]],
    config: Config,
    tokenizer: WordTokenizer,
    ngrams: NGrams,
    subwords: Subwords,
) -> Split:
    """Texts as word ids with all that a network of this configuration and vocabulary reads of them."""
    spelling = None
    if config.network.votes:
        spelling = {name: subwords.encode(tokenizer, column) for name, column in texts.items()}
    return as_read(split, config.data, ngrams, spelling)


def slots_of(data: DataConfig, ngrams: NGrams) -> int:
    """How many memory slots there are, each with a vector."""
    return ngrams.first_id + len(ngrams) * data.ngram_slots


def _places(texts: Ragged, starts: np.ndarray) -> np.ndarray:
    """Where the ids of texts go that begin at ``starts``."""
    return np.arange(len(texts.ids)) + np.repeat(starts - texts.offsets[:-1], texts.lengths)
