"""A vocabulary that grows: words that a trained model lacks, where their vectors start, and ids that move up for them.

Further words have the ids after those that are known; n-grams and subwords, which come after all words, move up. There
are no further n-grams and subwords: those of new words alone would say little that the words do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer

from eqnp.text.store import Split
from eqnp.text.tokens import Ragged, WordTokenizer, learn_tokenizer, words

REACH = 5  # words to either side that say where a new one starts


def with_words_of(tokenizer: WordTokenizer, texts: Iterable[str], *, min_count: int, max_words: int) -> WordTokenizer:
    """The tokenizer with the words that stand ``min_count`` times in the texts, at most ``max_words`` with its own.

    The ids of its own words stay, and those of others follow frequency. Without any, it is returned as it is.
    """
    known, learned = words(tokenizer), learn_tokenizer(texts, min_count=min_count, max_words=max_words)
    there, room = set(known), max(0, max_words + tokenizer.specials - len(known))
    new = [word for word in words(learned)[learned.specials :] if word not in there][:room]
    if not new:
        return tokenizer
    rules = json.loads(tokenizer.rules.to_str())
    rules["model"]["vocab"] |= {word: len(known) + i for i, word in enumerate(new)}
    return WordTokenizer(Tokenizer.from_str(json.dumps(rules)), tokenizer.markup)


def from_neighbours(columns: Sequence[Ragged], known: int, table: np.ndarray, size: int) -> np.ndarray:
    """Where the vectors of words ``known`` … ``size`` − 1 start, (size − known, D) of the dtype of ``table`` (V, D).

    Each is the mean of the vectors of the known words within `REACH` of it in the texts (word ids by column), weighted
    by 1/distance; zero where there are none.
    """
    total, weight = np.zeros((size - known, table.shape[1])), np.zeros(size - known)
    for texts in columns:
        ids, owner = texts.ids, np.repeat(np.arange(len(texts)), texts.lengths)
        for distance in range(1, REACH + 1):
            near = np.flatnonzero(owner[:-distance] == owner[distance:])
            for word, other in ((ids[near], ids[near + distance]), (ids[near + distance], ids[near])):
                counts = (word >= known) & (other < known)
                np.add.at(total, word[counts] - known, table[other[counts]] / distance)
                np.add.at(weight, word[counts] - known, 1 / distance)
    return (total / np.maximum(weight, 1e-12)[:, None]).astype(table.dtype)


def moved_up(split: Split, first: int, by: int, classes: np.ndarray) -> Split:
    """A split of before: ids from ``first`` on are ``by`` greater, and class c is ``classes[c]``."""
    moved = lambda texts: Ragged(texts.ids + by * (texts.ids >= first).astype(np.int32), texts.offsets)  # noqa: E731
    segments = {name: moved(texts) for name, texts in split.segments.items()}
    features = {name: moved(texts) for name, texts in split.features.items()}
    return replace(split, segments=segments, features=features, labels=classes[split.labels])


def with_rows(table: np.ndarray, first: int, rows: np.ndarray) -> np.ndarray:
    """A table (V, …) with further rows before row ``first``."""
    return np.concatenate([table[:first], rows, table[first:]])
