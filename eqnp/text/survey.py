"""A look at labelled texts before anything is learned from them: what would mislead a network, or its figures.

Two texts are the same where their words are, whatever their case and the blanks between them. Texts that were held out
of the training data for validation count as training data here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from eqnp.errors import some
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.text.corpora import Corpus
from eqnp.text.labels import class_counts
from eqnp.text.store import Split
from eqnp.text.together import own_texts, text_of

FEW, LOPSIDED = 10, 0.8  # texts of a class that are few; a share of the largest class that hides the others
STRANGE = 0.1  # more of the tokens unknown than in training texts: another language, time or source
GRAVE = 0.01  # of the data spoiled: told without being asked for
EXAMPLES, SHOWN = 20, 60  # texts kept of a finding, and characters of one in a line


@dataclass(frozen=True)
class Finding:
    """Something doubtful: its ``kind``, the share of the data that it spoils by a rule of thumb (``gravity``, 0 to 1),
    a line that says how to mend it, and some of the texts, each as {"text", "labels"} with the rows of each label."""

    kind: str
    gravity: float
    line: str
    examples: list[dict] = field(default_factory=list)


@dataclass(frozen=True)
class Survey:
    """Rows by split; training texts by class; quantiles of their lengths in known tokens; the findings, worst first.

    ``repeated`` counts training rows whose text stood before, ``contradictory`` those whose text has several labels,
    and ``overlap`` by other split the rows whose text stands in the training data. ``ceiling`` is the share of the
    training rows that can be right at most, for one text gets one label.
    """

    rows: dict[str, int]
    classes: dict[str, int]
    lengths: dict[str, int]
    repeated: int
    contradictory: int
    ceiling: float
    overlap: dict[str, int]
    findings: list[Finding]

    def grave(self, most: int) -> list[Finding]:
        """The worst of the findings, as far as they are grave."""
        return [each for each in self.findings[:most] if each.gravity >= GRAVE]


def survey(loaded: Mapping[str, Corpus], encoded: Mapping[str, Split], begun: int = 0, ranks: Ranks = ALONE) -> Survey:
    """Look at corpora by split name, "train" among them, and at the same encoded, whose texts begin with ``begun``
    tokens that are none of their own. Several ``ranks`` share the texts, and all of them have what is found."""
    own = {name: corpus for name, corpus in loaded.items() if name == "train" or corpus.held_out}
    train, classes = _Texts(list(own.values()), ranks), loaded["train"].classes
    counts = sum(class_counts(corpus.labels, len(classes)) for corpus in own.values())
    findings, overlap = [train.contradictions(), train.repetitions(), *_of_classes(counts, classes)], {}
    for name in [name for name in loaded if name not in own]:
        overlap[name], finding = train.overlap(name, loaded[name])
        findings.append(finding)
    findings += _of_tokens({name: encoded[name] for name in loaded}, begun)
    lengths = np.concatenate([encoded[name].lengths for name in own]) - begun
    quantiles = {"median": 0.5, "most": 0.95, "longest": 1.0}
    return Survey(
        {name: len(corpus) for name, corpus in loaded.items()},
        dict(zip(classes, counts.tolist(), strict=True)),
        {name: int(np.quantile(lengths, q)) for name, q in quantiles.items()},
        len(train.labels) - len(train.first),
        int(train.size[train.disputed].sum()),
        train.ceiling,
        overlap,
        sorted((each for each in findings if each and each.gravity > 0), key=lambda each: -each.gravity),
    )


class _Texts:
    """The texts of several corpora, in groups of the same text; several labels of one are a label of their own.

    ``first`` (G,) is the first row of each group, ``size`` (G,) its rows.
    """

    def __init__(self, corpora: Sequence[Corpus], ranks: Ranks = ALONE):
        self.corpora, self.starts, self.ranks = corpora, np.cumsum([0, *map(len, corpora)]), ranks
        self.labels, self.names = np.concatenate([corpus.labels for corpus in corpora]), corpora[0].classes
        if corpora[0].several:
            sets, self.labels = np.unique(self.labels, axis=0, return_inverse=True)
            self.labels = self.labels.reshape(-1)
            self.names = [" | ".join(self.names[i] for i in np.flatnonzero(each)) or "none" for each in sets]
        keys = np.concatenate([_keys(corpus, ranks) for corpus in corpora])
        order = np.argsort(keys, kind="stable").astype(np.int32)
        keys = keys[order]
        begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        self.keys, self.first, self.size = keys[begins], order[begins], np.diff(begins, append=len(keys))
        several, width = np.flatnonzero(self.size > 1), self.labels.max(initial=0) + 1
        labels = self.labels[order[np.repeat(self.size > 1, self.size)]]
        pairs, rows = np.unique(np.repeat(several, self.size[several]) * width + labels, return_counts=True)
        self.pairs = pairs // width, pairs % width, rows  # of such a group and a label, and the rows that have both
        largest = np.ones(len(self.first), np.int64)
        np.maximum.at(largest, pairs // width, rows)
        self.disputed = largest < self.size
        self.ceiling = float(largest.sum() / max(1, len(self.labels)))

    def text(self, group: int) -> str:
        """The text of a group, as it stands first."""
        part = np.searchsorted(self.starts, self.first[group], side="right") - 1
        row = self.first[group] - self.starts[part]
        return " | ".join(text_of(column, row, self.ranks) for column in self.corpora[part].texts.values())

    def examples(self, groups: np.ndarray) -> list[dict]:
        """The groups with most rows among these."""
        of, label, rows = self.pairs
        found = []
        for group in groups[np.argsort(-self.size[groups], kind="stable")][:EXAMPLES]:
            own = range(np.searchsorted(of, group), np.searchsorted(of, group, side="right"))
            labels = {self.names[label[i]]: int(rows[i]) for i in own}
            labels = labels or {self.names[self.labels[self.first[group]]]: 1}
            found.append({"text": self.text(group), "labels": labels})
        return found

    def contradictions(self) -> Finding:
        """Texts that stand with several labels."""
        examples = self.examples(np.flatnonzero(self.disputed))
        rows = int(self.size[self.disputed].sum())
        share = rows / max(1, len(self.labels))
        line = ""
        if examples:
            which = ", ".join(f"{name} {count:,}" for name, count in examples[0]["labels"].items())
            line = (
                f"{rows:,} rows ({share:.1%}) hold texts that stand with several labels, such as {_short(examples[0])} "
                f"({which}): at most {self.ceiling:.1%} of all can be right; decide for one label each"
            )
        return Finding("contradictory", share, line, examples)

    def repetitions(self) -> Finding:
        """Rows that repeat a text."""
        examples = self.examples(np.flatnonzero(self.size > 1))
        rows = len(self.labels) - len(self.first)
        share = rows / max(1, len(self.labels))
        line = ""
        if examples:
            times = sum(examples[0]["labels"].values())
            line = (
                f"{rows:,} rows ({share:.1%}) repeat another text, such as {_short(examples[0])} ({times:,} times): "
                "some that are held out have been seen; keep one of each"
            )
        return Finding("repeated", share / 2, line, examples)

    def overlap(self, name: str, other: Corpus) -> tuple[int, Finding]:
        """Texts of another corpus that stand here."""
        keys = _keys(other, self.ranks)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[place] == keys
        rows, share = int(known.sum()), float(known.mean())
        examples = self.examples(np.unique(place[known]))
        line = ""
        if examples:
            line = (
                f"{rows:,} of {len(other):,} {name} texts ({share:.1%}) stand in the training data too, such as "
                f"{_short(examples[0])}: they flatter the {name} figure; leave them out of one of the two"
            )
        return rows, Finding("overlap", share, line, examples)


def _short(example: Mapping) -> str:
    text = " ".join(example["text"].split())
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _keys(corpus: Corpus, ranks: Ranks) -> np.ndarray:
    """A number for each text, (n,) uint64, the same for the same text and else another: of its words in one case."""

    def key(parts: Sequence[str]) -> bytes:
        same = "\x1f".join(" ".join(part.casefold().split()) for part in parts)
        return hashlib.blake2b(same.encode(), digest_size=8).digest()

    found = bytearray()  # (to join them would hold all of them twice)
    for parts in zip(*(own_texts(column, ranks) for column in corpus.texts.values()), strict=True):
        found += key(parts)
    keys = np.frombuffer(found, np.uint64)
    return ranks.concatenate([keys[:, None]], 1, np.uint64)[:, 0]


def _of_classes(counts: np.ndarray, classes: Sequence[str]) -> list[Finding]:
    """Classes with few texts, and one that has nearly all of them."""
    findings, largest = [], int(counts.argmax())
    if few := [f"{classes[k]} {counts[k]}" for k in np.argsort(counts, kind="stable") if counts[k] < FEW]:
        line = (
            f"{len(few)} of {len(classes)} classes have fewer than {FEW} texts ({some(few, 4)}): too few to learn them "
            "or to tell whether they were; give more, or join classes"
        )
        findings.append(Finding("few", len(few) / len(classes) / 2, line))
    share = counts[largest] / counts.sum()
    if share >= LOPSIDED:
        line = (
            f"{share:.0%} of the texts are {classes[largest]!r}: always to say so is right as often; look at what "
            "becomes of the other classes, not at accuracy alone"
        )
        findings.append(Finding("lopsided", float(share - LOPSIDED) / 2, line))
    return findings


def _of_tokens(encoded: Mapping[str, Split], begun: int) -> list[Finding]:
    """Texts of which nothing, or not all, is seen."""
    findings, usual = [], _unknown(encoded["train"])
    for name, split in encoded.items():
        coverage, empty = split.coverage, int((split.lengths <= begun).sum())
        if empty:
            share = empty / len(split)
            line = (
                f"{empty:,} {name} texts ({share:.1%}) hold no known word, and get the prior; data.min_count=1 knows "
                "words that stand once"
            )
            findings.append(Finding("unread", share, line))
        cut = coverage.cut / max(1, coverage.tokens)
        if cut:
            line = (
                f"{cut:.1%} of the {name} tokens are cut off the ends of long texts; data.max_tokens says how many "
                "of a text are read"
            )
            findings.append(Finding("cut", cut, line))
        strange = _unknown(split) - usual
        if strange >= STRANGE:
            line = (
                f"{_unknown(split):.0%} of the {name} tokens are unknown, of the training tokens {usual:.0%}: look "
                "whether both are of one language and source"
            )
            findings.append(Finding("strange", strange, line))
    return findings


def of_vectors(source: str, words: Sequence[str], has_vector: np.ndarray, counts: np.ndarray) -> tuple[Finding, list]:
    """What word vectors lack: of these words (V,), with ``counts`` in the training texts; and the most frequent ones.

    The list has up to `EXAMPLES` pairs of a word and its count.
    """
    missing = np.flatnonzero(~has_vector & (counts > 0))
    most = [(words[i], int(counts[i])) for i in missing[np.argsort(-counts[missing], kind="stable")][:EXAMPLES]]
    share = float(counts[missing].sum() / max(1, counts.sum()))
    line = (
        f"{len(missing):,} of {int((counts > 0).sum()):,} words, {share:.1%} of the known tokens, have no vector in "
        f"{source} (most often {some([word for word, _ in most], 5)}): they start at zero; take vectors of such texts"
    )
    return Finding("vectors", share / 2, line if most else ""), most


def _unknown(split: Split) -> float:
    return split.coverage.unknown / max(1, split.coverage.tokens)
