"""The sections of a configuration that say which texts are read, with which vectors, and for how long they train.

What a key may be by itself is checked here; what hangs on several sections, by `eqnp.config.Config`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from eqnp.errors import ConfigError, nearest

PRECISIONS = ("single", "half")
METRICS = ("accuracy", "macro-f1", "loss")  # on the validation texts, that an epoch is chosen by
Source = str | tuple[str, ...]  # of texts: one, or several that are read one after the other
MOST_WORDS_IN_TRIPLES = 2_000_000  # three of them still fit into one int64
SEGMENT = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class DataConfig:
    """Where the samples come from, which columns they are in, and how their text becomes ids.

    ``train``, ``validation`` and ``test`` are sources as in `eqnp.text.corpora.load_corpus`, or lists of them. Text
    files are read as ``encoding`` says, and tables in them as beginning with the names of their columns; without such a
    ``header``, columns go by number, "1" being the first. Left empty, validation and test are the splits of those names
    of the training source, if it has them; else validation is a random ``validation_share`` of the training samples and
    there is no test. ``columns`` gives the column of every segment. ``classes`` are the names that all labels must
    have, in order; without them, the classes are those of the training data, and ``number_names`` what they are called
    where they are as many whole numbers.
    With ``start_token``, every text begins with the same token, one of its at most ``max_tokens``, which n-grams and
    windows see: what stands first can be told. With ``ngrams`` n above 1, runs of 2 … n tokens that stand in
    ``ngram_min_texts`` training texts or more (−1: chosen by the data; at most ``max_ngrams`` of them) are memory slots
    of their own, or with ``ngram_slots`` false features that vote (``network.votes``), and no more than that. With
    ``distinct``, a text has one slot for each of its words and n-grams, however often they stand there. With
    ``subwords`` n (−1: chosen by the data), the runs of 2 … n characters of every word, with a blank at either end, are
    features too, at most ``max_subwords`` of them. ``seed`` is that of the share held out and of vectors from the
    corpus; −1: ``training.seed``, until it is prepared.
    """

    train: Source = "mini-sentiment"
    validation: Source = ""
    test: Source = ""
    encoding: str = "utf-8"
    header: bool = True
    columns: dict[str, str] = field(default_factory=lambda: {"text": "text"})
    label: str = "label"
    classes: tuple[str, ...] = ()
    number_names: tuple[str, ...] = ()
    validation_share: float = 0.1
    max_tokens: int = 400
    start_token: bool = False
    min_count: int = 2
    max_words: int = 100_000
    ngrams: int = 1
    ngram_min_texts: int = -1
    max_ngrams: int = 200_000
    ngram_slots: bool = True
    distinct: bool = False
    subwords: int = 0
    max_subwords: int = 100_000
    seed: int = -1

    def __post_init__(self):
        for name in self.columns:
            if not SEGMENT.fullmatch(name) or name in ("labels", "vocabulary"):
                raise ConfigError(f"data.columns has a segment {name!r}; a name of letters, digits and _ is needed")
        if len(set(self.classes)) < len(self.classes):
            raise ConfigError("data.classes names a class twice; every name must differ")
        for key in ("max_tokens", "max_words", "min_count", "ngrams", "max_ngrams", "max_subwords"):
            _at_least(1, f"data.{key}", getattr(self, key))
        _at_least_or_fitted(1, "data.ngram_min_texts", self.ngram_min_texts)
        if self.subwords not in (-1, 0, *range(2, 11)):
            raise ConfigError(
                f"data.subwords is {self.subwords}; it must be 2 to 10 characters, 0 (none) or -1 (fitted)"
            )
        _at_least(-1, "data.seed", self.seed)
        if self.start_token and self.max_tokens < 2:
            raise ConfigError("data.max_tokens is 1, and the start token is one; set it to 2 or greater")
        if self.ngrams > 3:
            raise ConfigError(f"data.ngrams is {self.ngrams}; it must be 1 (words alone), 2 or 3")
        if self.ngrams > 2 and self.max_words > MOST_WORDS_IN_TRIPLES:
            raise ConfigError(f"data.max_words must be at most {MOST_WORDS_IN_TRIPLES:,} with data.ngrams = 3")
        if not _is_encoding(self.encoding):
            hint = nearest(self.encoding, ("utf-8", "utf-16", "latin-1", "cp1252"))
            raise ConfigError(f"unknown data.encoding {self.encoding!r}{hint}, or another that Python knows")
        if not 0 < self.validation_share < 1:
            raise ConfigError(f"data.validation_share is {self.validation_share}; it must lie between 0 and 1")


@dataclass(frozen=True)
class VectorsConfig:
    """Word vectors: a file, an installed package, or "corpus" (learned from the training texts: PPMI and SVD).

    ``dimension`` and ``unlabelled`` are for "corpus" alone: files bring their own dimension, and the vectors can be
    learned from further texts, a source without labels whose columns are called as those of the training data. Texts of
    it that stand in the validation or test data are left out. Every vector is rescaled to length ``norm``.
    Slots start with their vector times idf^``rarity``, and ``ratio`` times the log-count ratio of each class as further
    dimensions (`eqnp.text.start`).
    """

    source: str = "corpus"
    unlabelled: Source = ""
    dimension: int = 100
    norm: float = 3.0
    rarity: float = 0.0
    ratio: float = 0.0

    def __post_init__(self):
        _at_least(1, "vectors.dimension", self.dimension)
        _at_least(0, "vectors.rarity", self.rarity)
        _at_least(0, "vectors.ratio", self.ratio)
        if self.unlabelled and self.source != "corpus":
            raise ConfigError('vectors.unlabelled is for vectors.source = "corpus"; leave it out, or --vectors corpus')
        if not self.norm > 0:
            raise ConfigError(f"vectors.norm is {self.norm}; it must be greater than 0")


@dataclass(frozen=True)
class TrainingConfig:
    """Epochs over batches of ``batch`` samples, settled in shards of ``shard``, with word dropout.

    Shards are settled by one thread each, and a batch that is one shard by all threads together, layer by layer, where
    layers have millions of weights, which are then read once for all samples.
    There are ``epochs`` of them (−1: chosen by the data, `eqnp.text.fitting`), and on small data as many more as make
    ``min_updates`` updates. The best epoch is the one with the best ``metric`` on the validation texts: the accuracy,
    the mean F1 of all classes ("macro-f1", where rare ones count as much as others), or the loss; equals are told apart
    by the loss. Training stops before its last epoch when ``patience`` epochs in a row were no better by it than one
    before them (0: never). A checkpoint is written after every epoch, and in between every
    ``checkpoint_seconds``. With ``refit``, a network whose validation texts were held out of those for training is
    trained once more, on all of them, to the last epoch.
    """

    epochs: int = -1
    batch: int = 100
    shard: int = 25
    word_dropout: float = 0.3
    seed: int = 0
    patience: int = 0
    checkpoint_seconds: float = 300.0
    precision: str = "single"
    min_updates: int = 0
    refit: bool = False
    metric: str = "accuracy"

    def __post_init__(self):
        _at_least_or_fitted(1, "training.epochs", self.epochs)
        for key in ("batch", "shard"):
            _at_least(1, f"training.{key}", getattr(self, key))
        for key in ("seed", "patience", "min_updates", "checkpoint_seconds"):
            _at_least(0, f"training.{key}", getattr(self, key))
        if self.precision not in PRECISIONS:
            raise ConfigError(f"unknown training.precision {self.precision!r}{nearest(self.precision, PRECISIONS)}")
        if self.metric not in METRICS:
            raise ConfigError(f"unknown training.metric {self.metric!r}{nearest(self.metric, METRICS)}")
        if not 0 <= self.word_dropout < 1:
            raise ConfigError(f"training.word_dropout is {self.word_dropout}; it must be in [0, 1)")


def _at_least(lowest: int, key: str, value: float) -> None:
    if not value >= lowest:
        raise ConfigError(f"{key} is {value}; it must be {lowest} or greater")


def _at_least_or_fitted(lowest: int, key: str, value: int) -> None:
    """Like `_at_least`, with −1 for what the data choose (`eqnp.text.fitting`)."""
    if value != -1:
        _at_least(lowest, key, value)


def _is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of that name that turns bytes to text."""
    try:
        return bool("a".encode(name) and b"a".decode(name, "replace"))
    except (LookupError, ValueError):
        return False
