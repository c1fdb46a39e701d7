"""Text to token ids: normalise, split into words, look up in a word-level vocabulary (library `tokenizers`).

Tags are removed, then entities decoded ("&amp;" → "&"), and format characters (soft hyphens, zero-width spaces, marks
of direction) left out. Words are lower-cased and split as in the Penn Treebank ("don't" → "do" "n't"), which is how the
common word vectors were made. Id 0 is padding and id 1 any word outside the vocabulary; neither ever reaches the
network's memory. Id 2 may be a token that every text begins with, so that what stands first can be told.
"""

from __future__ import annotations

import html
import html.entities
import json
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, pairwise

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from eqnp.machine.threads import let_go, on_threads, set_aside

PADDING, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
START = "<s>"  # no text can hold it: it is a tag
TAG = r"</?[a-zA-Z]\w*(?:\s[^<>=]*=[^<>]*|\s*/?)>"  # <br />, <a href="…">, but not "a <b and c> d"
ENTITY = r"&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"
MARKUP = re.compile(f"(?!{'|'.join(SPECIAL)}){TAG}|{ENTITY}")
UNSEEN = r"[\p{Cf}\x{FE00}-\x{FE0F}]"  # format characters and variation selectors: how a word looks, not what it is
WORD = r"\w+(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+|[^\w\s]"
ODD = re.compile("|".join([*SPECIAL, START]), re.IGNORECASE)  # is left to the library
FEW = 64  # texts or less are read, and predicted, without the compiled kernels, which take longer to load
CHUNK = 1000  # texts encoded at a time: an encoding holds far more than the ids that are kept of it


@dataclass
class Ragged:
    """Sequences of different lengths: ids flat (int32), sequence i at ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of every sequence, int64."""
        return np.diff(self.offsets)

    def lengths_at(self, rows: np.ndarray) -> np.ndarray:
        """Number of tokens of some sequences, (len(rows),), without a look at the others."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def take(self, rows: np.ndarray) -> Ragged:
        """The sequences at ``rows``, in that order."""
        return ragged([self[row] for row in rows])

    def part(self, start: int, stop: int) -> Ragged:
        """The sequences from one to before another; their ids are a view."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0])

    def parts(self, tokens: int) -> Iterator[Ragged]:
        """The sequences in parts of about so many ``tokens``, whose ids are views."""
        cuts = np.searchsorted(self.offsets, np.arange(tokens, self.offsets[-1], tokens))
        cuts = np.unique(np.concatenate([[0], cuts, [len(self)]]))
        for start, stop in pairwise(cuts):
            yield self.part(start, stop)
            let_go(self.ids)

    def padded(self, rows: np.ndarray, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """ids (len(rows), longest or ``width``), zero-padded on the right, and lengths (len(rows),)."""
        starts, lengths = self.offsets[rows], self.lengths_at(rows)
        ids = np.full((len(rows), max(width, lengths.max(initial=0))), PADDING, np.int32)
        for row, start, length in zip(ids, starts.tolist(), lengths.tolist(), strict=True):
            row[:length] = self.ids[start : start + length]
        return ids, lengths


def joined(parts: Iterable[Ragged]) -> Ragged:
    """The sequences of all parts, one part after the other; each is taken when the one before has been copied.

    Many ids are set aside in a file (`eqnp.machine.threads.set_aside`).
    """
    ids, offsets = array("i"), array("q", [0])  # which grow where they are, if there is room
    for part in parts:
        ids.frombytes(np.ascontiguousarray(part.ids, np.intc).data.cast("B") if len(part.ids) else b"")
        offsets.frombytes((part.offsets[1:] + offsets[-1]).astype(np.longlong).tobytes())
    every = set_aside(np.frombuffer(ids, np.int32) if ids else np.empty(0, np.int32))
    return Ragged(every, np.frombuffer(offsets, np.int64))


def ragged(sequences: Sequence[np.ndarray]) -> Ragged:
    """Concatenate sequences of token ids."""
    lengths = [len(s) for s in sequences]
    ids = np.concatenate([np.empty(0, np.int32), *sequences]).astype(np.int32)
    return Ragged(ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64))


@dataclass(frozen=True)
class Coverage:
    """How many tokens a text or corpus had, how many of them were left out as outside the vocabulary, and how many of
    the known ones were cut off at the end of too long a text."""

    tokens: int = 0
    unknown: int = 0
    cut: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(self.tokens + other.tokens, self.unknown + other.unknown, self.cut + other.cut)

    def __str__(self) -> str:
        tokens = max(1, self.tokens)
        return f"{self.unknown / tokens:.2%} unknown, {self.cut / tokens:.2%} cut off"


def plain(text: str) -> str:
    """The text without markup: tags become blanks, entities what they stand for, which is not looked at again."""
    quick = text.replace("<br />", " ")  # often the only markup there is
    return MARKUP.sub(_meaning, text) if "<" in quick or "&" in quick else quick


def _meaning(markup: re.Match) -> str:
    """What a tag or an entity stands for; an unknown name stands for itself."""
    found = markup[0]
    if found[0] == "<":
        return " "
    return html.unescape(found) if found[1] == "#" else html.entities.html5.get(found[1:], found)


@dataclass(frozen=True)
class WordTokenizer:
    """What is done to a text, what a word is, and which words are known: kept with a model, so that it reads as it did.

    ``markup`` says whether tags and entities are dealt with before ``rules`` see a text. For models of earlier releases
    they are not: their rules remove tags, and leave entities alone.
    """

    rules: Tokenizer
    markup: bool = True

    def about(self) -> dict:
        """All of it, as JSON can hold it; `from_about` makes the same from it."""
        return {"tokenizer": self.rules.to_str(), "markup": self.markup}

    @classmethod
    def from_about(cls, about: Mapping) -> WordTokenizer:
        """The one of a file, also of earlier releases, which say nothing of markup."""
        return cls(Tokenizer.from_str(about["tokenizer"]), bool(about.get("markup", False)))

    def __len__(self) -> int:
        """The number of ids."""
        return self.rules.get_vocab_size()

    @cached_property
    def start(self) -> np.ndarray:
        """The id of the token that every text begins with, (1,), or (0,) for none; int32."""
        found = self.rules.token_to_id(START)
        return np.array([] if found is None else [found], np.int32)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The id of every word."""
        return self.rules.get_vocab()

    @cached_property
    def is_common(self) -> bool:
        """Whether it reads texts by the rules of this release, and not by those of an earlier one."""
        own, common = (json.loads(rules.to_str()) for rules in (self.rules, _rules(start=False)[0]))
        return self.markup and all(own[part] == common[part] for part in ("normalizer", "pre_tokenizer"))

    @cached_property
    def known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray]:
        """The words of ASCII for `eqnp.kernels.words`: their characters, where each begins, their ids, and the bits and
        slots of a table of their hashes."""
        from eqnp.kernels.words import fill_words

        words = [word for word in self.vocabulary if word.isascii()]  # others are looked up by the library
        bits = max(1, (2 * len(words)).bit_length())
        table = np.full(1 << bits, -1, np.int32)
        fill_words(*_bytes(words), bits, table)
        ids = np.fromiter((self.vocabulary[word] for word in words), np.int32, len(words))
        return *_bytes(words), ids, bits, table

    @property
    def specials(self) -> int:
        """How many ids, the first ones, are no words."""
        return len(SPECIAL) + len(self.start)

    def places(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Of every token of a text: its id, and where it begins and ends in the text as it was given."""
        there, here, without = [0], [0], text  # places in the plain text from which on the given one runs alike
        if self.markup:
            without, at = plain(text), 0
            for found in MARKUP.finditer(text):
                at += found.start() - here[-1] + len(_meaning(found))
                there.append(at)
                here.append(found.end())
        encoding = self.rules.encode(without)
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            first, last = bisect_right(there, start) - 1, bisect_right(there, stop) - 1
            yield token, here[first] + start - there[first], here[last] + stop - there[last]


def learn_tokenizer(texts: Iterable[str], *, min_count: int, max_words: int, start: bool = False) -> WordTokenizer:
    """One with the words seen at least ``min_count`` times in the texts, at most ``max_words`` of them.

    Ids follow frequency (ties alphabetically) after the special ids; with ``start`` there is one that texts begin with.
    """
    rules, special = _rules(start)
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words + len(special),
        min_frequency=min_count,
        special_tokens=special,
        show_progress=False,
    )
    rules.train_from_iterator(map(plain, texts), trainer)
    return WordTokenizer(rules)


def tokenizer_of(words: Sequence[str], start: bool = False) -> WordTokenizer:
    """The one that `learn_tokenizer` makes of texts with these words, given in the order of their ids."""
    rules, special = _rules(start)
    names = {word: i for i, word in enumerate([*special, *words])}
    rules.model = models.WordLevel(names, unk_token=SPECIAL[UNKNOWN])
    rules.add_special_tokens(special)
    return WordTokenizer(rules)


def _rules(start: bool) -> tuple[Tokenizer, list[str]]:
    """What is done to texts, without words yet, and the special words."""
    rules = Tokenizer(models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
    rules.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(UNSEEN), ""),
            normalizers.Replace(Regex(r"[\x00-\x1f\x7f]"), " "),
            normalizers.Replace(Regex("[\u2018\u2019`\u00b4]"), "'"),
            normalizers.Lowercase(),
        ]
    )
    rules.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    return rules, [*SPECIAL, *[START] * start]


def words(tokenizer: WordTokenizer) -> list[str]:
    """The vocabulary in the order of ids, special ones included."""
    return sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)


def ids_of(tokenizer: WordTokenizer, texts: Sequence[str], many: bool = True) -> Ragged:
    """The ids of all tokens of texts without markup.

    Of ``many`` texts, what is plain ASCII between two blanks is read by a compiled kernel (`eqnp.kernels.words`), to
    the same ids that the library finds in ten times as long.
    """
    many = many and tokenizer.is_common
    quick = [many and not ("<" in text and ODD.search(text)) for text in texts]
    found = _quick_ids(tokenizer, list(compress(texts, quick)))
    if all(quick):
        return found
    others = tokenizer.rules.encode_batch_fast([text for text, done in zip(texts, quick, strict=True) if not done])
    at, slow = iter(range(len(found))), (np.array(each.ids, np.int32) for each in others)
    return ragged([found[next(at)] if done else next(slow) for done in quick])


def _quick_ids(tokenizer: WordTokenizer, texts: Sequence[str]) -> Ragged:
    """The same for texts without special words."""
    ends = np.zeros(len(texts) + 1, np.int64)
    if not texts:
        return Ragged(np.empty(0, np.int32), ends)
    from eqnp.kernels.words import read_words

    characters, offsets = _bytes(texts)
    ids = np.empty(len(characters), np.int32)
    others = np.empty(((len(characters) + len(texts)) // 3, 2), np.int64)  # two bytes or more, and then an end
    left = read_words(characters, offsets, *tokenizer.known, UNKNOWN, ids, ends, others)
    ids = ids[: ends[-1]].copy()
    if not left:
        return Ragged(ids, ends)
    pieces = [characters[start:stop].tobytes().decode() for start, stop in others[:left].tolist()]
    different = list(dict.fromkeys(pieces))  # no rule of a tokenizer looks past a blank
    encoded = tokenizer.rules.encode_batch_fast(different)
    ids_of_piece = {piece: each.ids for piece, each in zip(different, encoded, strict=True)}
    counts, holes = np.ones(len(ids), np.int64), ids < 0
    counts[holes] = [len(ids_of_piece[piece]) for piece in pieces]
    whole = np.repeat(ids, counts)
    whole[np.repeat(holes, counts)] = [each for piece in pieces for each in ids_of_piece[piece]]
    return Ragged(whole, np.concatenate([[0], np.cumsum(counts)])[ends])


def _bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The characters of texts in UTF-8, one after the other, and where each text begins and the last one ends."""
    encoded = [text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def known_words(texts: Ragged, longest: int, first: np.ndarray) -> tuple[Ragged, Coverage]:
    """The ids of texts without those of unknown words, cut to the ``longest``, behind the token that all begin with, if
    there is one; and what was left out."""
    known = texts.ids > UNKNOWN
    before = np.concatenate([[0], np.cumsum(known)])  # known words before each
    kept = known & (before[:-1] - np.repeat(before[texts.offsets[:-1]], texts.lengths) < longest)
    ends = np.concatenate([[0], np.cumsum(kept)])[texts.offsets]
    coverage = Coverage(len(known), int((~known).sum()), int(known.sum() - kept.sum()))
    if not len(first):
        return Ragged(texts.ids[kept], ends), coverage
    return Ragged(
        np.insert(texts.ids[kept], ends[:-1], first[0]).astype(np.int32), ends + np.arange(len(ends))
    ), coverage


def encode(tokenizer: WordTokenizer, texts: Sequence[str], max_tokens: int) -> tuple[Ragged, Coverage]:
    """Token ids of every text without its unknown words, cut after ``max_tokens``, and what was left out as unknown.

    A token that all texts begin with counts among the ``max_tokens``, and not in the coverage.
    """
    begin, many, coverages = tokenizer.start, len(texts) > FEW, []

    def encoded(chunk: list[str]) -> tuple[Ragged, Coverage]:
        every = ids_of(tokenizer, list(map(plain, chunk)) if tokenizer.markup else chunk, many)
        return known_words(every, max_tokens - len(begin), begin)

    def each() -> Iterator[Ragged]:
        chunks = (list(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK))
        for known, coverage in on_threads(encoded, chunks):
            coverages.append(coverage)
            yield known

    return joined(each()), sum(coverages, Coverage())
