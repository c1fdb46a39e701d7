"""Texts prepared by several ranks: each works on its own part of them, and all of them know what is found in any.

What comes of it is what one rank makes, to the last bit: counts of words, subwords and n-grams are added up before any
of them is chosen, and parts of texts are put together in their order. With one rank there is nothing to put together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import chain

import numpy as np

from eqnp.machine.ranks import Ranks
from eqnp.machine.threads import set_aside
from eqnp.sections import DataConfig
from eqnp.text import tokens
from eqnp.text.corpora import Corpus, Part
from eqnp.text.ngrams import NGrams
from eqnp.text.store import Split
from eqnp.text.subwords import as_read
from eqnp.text.tokens import UNKNOWN, Coverage, Ragged, WordTokenizer, joined

PIECE = 1 << 21  # tokens renumbered at a time
ANY = 1 << 40  # words: more than a part of a corpus can have

Columns = Mapping[str, Sequence[str]]


def own_texts(column: Sequence[str], ranks: Ranks) -> Sequence[str]:
    """The texts of a column that are this rank's: those that it has read, or as many as others have."""
    if isinstance(column, Part):
        return column.own
    own = ranks.part(len(column))
    return column if ranks.size == 1 else column.take(np.arange(own.start, own.stop))


def rest(loaded: Mapping[str, Corpus]) -> None:
    """Let the texts of corpora not count as this process's memory until they are looked at again."""
    for column in (column for corpus in loaded.values() for column in corpus.texts.values()):
        column.rest()


def text_of(column: Sequence[str], row: int, ranks: Ranks) -> str:
    """A text of a column, on all ranks, of whichever one has it."""
    if not isinstance(column, Part):
        return column[row]
    return next(text for text in ranks.communicator.allgather(column[row]) if text is not None)


def all_texts(column: Sequence[str], ranks: Ranks) -> set[str]:
    """The texts of a column without the blanks around them, on all ranks, whichever of them have it."""
    own = {text.strip() for text in own_texts(column, ranks)}
    return own if ranks.size == 1 else set().union(*ranks.communicator.allgather(own))


def characters(columns: Columns, ranks: Ranks) -> int:
    """How many characters all texts of the columns have together."""
    own = sum(len(text) for column in columns.values() for text in own_texts(column, ranks))
    return int(ranks.concatenate([np.array([[own]])], 1, np.int64).sum())


def put_together(own: Ragged, ranks: Ranks, everywhere: bool = True) -> Ragged:
    """The sequences of all ranks, in the order of the ranks, on each of them, or on the first one alone."""
    if ranks.size == 1:
        return own
    ids = set_aside(ranks.concatenate([own.ids[:, None]], 1, np.int32, everywhere)[:, 0])
    lengths = ranks.concatenate([own.lengths[:, None].astype(np.int32)], 1, np.int32, everywhere)[:, 0]
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(ids, offsets)


def each_in_part(call: Callable[[Sequence[str]], Ragged], column: Sequence[str], ranks: Ranks) -> Ragged:
    """What a call makes of the texts of a column, each rank of its own part."""
    return put_together(call(own_texts(column, ranks)), ranks)


def encode_part(tokenizer: WordTokenizer, columns: Columns, max_tokens: int, ranks: Ranks) -> tuple[dict, Coverage]:
    """Token ids of columns of texts, as `eqnp.text.tokens.encode` has them."""
    encoded = {n: tokens.encode(tokenizer, own_texts(column, ranks), max_tokens) for n, column in columns.items()}
    return _all_parts(encoded, ranks)


def learn_and_encode(
    columns: Columns, max_tokens: int, ranks: Ranks, *, min_count: int, max_words: int, start: bool
) -> tuple[WordTokenizer, dict[str, Ragged], Coverage]:
    """A tokenizer of all texts of the columns, and their token ids, as `learn_tokenizer` and `encode` have them.

    Each rank learns all words of its own part, and reads it by these; then the counts of all are added up.
    """
    if ranks.size == 1:
        every = chain.from_iterable(columns.values())
        tokenizer = tokens.learn_tokenizer(every, min_count=min_count, max_words=max_words, start=start)
        return tokenizer, *encode_part(tokenizer, columns, max_tokens, ranks)
    own = {name: own_texts(column, ranks) for name, column in columns.items()}
    local = tokens.learn_tokenizer(chain.from_iterable(own.values()), min_count=1, max_words=ANY)
    raw = {name: tokens.encode(local, column, ANY)[0] for name, column in own.items()}
    names = tokens.words(local)
    often = sum(np.bincount(ids.ids, minlength=len(names)) for ids in raw.values())
    counts = added_up(Counter(dict(zip(names[local.specials :], often[local.specials :].tolist(), strict=True))), ranks)
    ranked = sorted((-count, word) for word, count in counts.items() if count >= min_count)[:max_words]
    tokenizer = tokens.tokenizer_of([word for _, word in ranked], start)
    ids = {word: tokenizer.specials + i for i, (_, word) in enumerate(ranked)}
    place = np.array([ids.get(word, UNKNOWN) for word in names], np.int32)
    first, longest = tokenizer.start, max_tokens - len(tokenizer.start)
    encoded = {}
    for name in list(raw):
        found: list[Coverage] = []
        parts = (_renumbered(texts, place, longest, first, found) for texts in raw.pop(name).parts(PIECE))
        encoded[name] = joined(parts), sum(found, Coverage())
    return tokenizer, *_all_parts(encoded, ranks)


def _renumbered(texts: Ragged, place: np.ndarray, longest: int, first: np.ndarray, found: list[Coverage]) -> Ragged:
    """`known_words` of texts with other ids; what was left out is appended to ``found``."""
    known, left_out = tokens.known_words(Ragged(place[texts.ids], texts.offsets), longest, first)
    found.append(left_out)
    return known


def _all_parts(encoded: Mapping[str, tuple[Ragged, Coverage]], ranks: Ranks) -> tuple[dict[str, Ragged], Coverage]:
    own = sum((coverage for _, coverage in encoded.values()), Coverage())
    total = np.sum(ranks.communicator.allgather(astuple(own)), axis=0).tolist() if ranks.size > 1 else astuple(own)
    return {name: put_together(ids, ranks) for name, (ids, _) in encoded.items()}, Coverage(*total)


def added_up(counts: Counter, ranks: Ranks) -> Counter:
    """What was counted by all ranks."""
    if ranks.size == 1:
        return counts
    return sum(ranks.communicator.allgather(counts), Counter())


def read_in_part(
    split: Split, vocabulary: tuple[DataConfig, NGrams], spelling: Mapping[str, Ragged] | None, ranks: Ranks
) -> Split:
    """A split as a network reads it (`eqnp.text.subwords.as_read`), each rank its own part of the samples.

    The first rank has all of it, and the others nothing.
    """
    if ranks.size == 1:
        return as_read(split, *vocabulary, spelling)
    own = ranks.part(len(split))
    segments = {name: texts.part(own.start, own.stop) for name, texts in split.segments.items()}
    spelled = spelling and {name: texts.part(own.start, own.stop) for name, texts in spelling.items()}
    part = as_read(replace(split, segments=segments, labels=split.labels[own], weights=None), *vocabulary, spelled)
    segments, features = (
        {name: put_together(each.pop(name), ranks, everywhere=False) for name in list(each)}
        for each in (part.segments, part.features)
    )
    return replace(split, segments=segments, features=features)
