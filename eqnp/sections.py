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

    Sources are as in `eqnp.text.corpora.load_corpus`, or lists of them. Keys, each with what is allowed (`eqnp config`
    reads them here):

    train : training data: a file, a pattern, a folder, a hub or embedded name, or a list of these
    validation : validation data; left empty: the split of that name of the training data, or a share of them
    test : test data, looked at once; left empty: the split of that name of the training data, if there is one
    encoding (one that Python knows) : how the bytes of text files are read
    header : whether tables in text files begin with the names of their columns; else columns go by number, from "1"
    columns : the column of every segment: one text, or two for pairs
    label : the column of the labels; where it holds lists, a text has several, or none
    label_separator : what stands between the labels of a text that may have several; left empty: it has one
    weight : the column of what each training text counts for; left empty: all count alike
    classes : the names that all labels must have, in order; left empty: those of the training data
    number_names : what the classes are called where the data have as many whole numbers
    validation_share (above 0, below 1) : the share of the training data held out where there is no validation data
    max_tokens (1 or greater) : tokens of a text that are read, the start token among them; the rest is cut off
    start_token : whether every text begins with the same token, so that n-grams and windows see what stands first
    min_count (1 or greater) : how often a word must stand in the training texts to be known
    max_words (1 or greater) : known words at most; with n-grams of three words at most 2,000,000
    ngrams (1 to 3) : the longest runs of words that are memory slots of their own; 1: words alone
    ngram_min_texts (−1, or 1 or greater) : training texts that an n-gram must stand in; −1: chosen by the data
    max_ngrams (1 or greater) : n-grams at most, those in most texts
    ngram_slots : whether n-grams are memory slots of their own; else they only vote (network.votes)
    distinct : whether a text has one slot for each of its words and n-grams, however often they stand there
    subwords (−1, 0, or 2 to 10) : the longest runs of characters that are features and vote; −1: chosen by the data
    max_subwords (1 or greater) : subwords at most, those in most texts
    seed (−1 or greater) : that of the share held out and of vectors from the corpus; −1: training.seed, until prepared
    """

    train: Source = "mini-sentiment"
    validation: Source = ""
    test: Source = ""
    encoding: str = "utf-8"
    header: bool = True
    columns: dict[str, str] = field(default_factory=lambda: {"text": "text"})
    label: str = "label"
    label_separator: str = ""
    weight: str = ""
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
    """Word vectors: where they come from, and what the embeddings start as (`eqnp.text.start`).

    source : "corpus" (learned from the training texts: PPMI and SVD), a file, or an installed package
    unlabelled : further texts for "corpus" to learn from, without those that stand in validation or test data
    dimension (1 or greater) : dimensions of vectors from the corpus; files bring their own
    topics (0 or greater) : dimensions beside those, learned from which texts a slot stands in (also unlabelled ones)
    norm (above 0) : the length that every vector is rescaled to
    topic_norm (above 0) : the length that the topics of every slot are rescaled to
    rarity (0 or greater) : embeddings start as vectors times the idf of their slot to this power
    ratio (0 or greater) : and with so many times the log-count ratio of each class as further dimensions; 0: without
    """

    source: str = "corpus"
    unlabelled: Source = ""
    dimension: int = 100
    topics: int = 0
    norm: float = 3.0
    topic_norm: float = 8.0
    rarity: float = 0.0
    ratio: float = 0.0

    def __post_init__(self):
        _at_least(1, "vectors.dimension", self.dimension)
        _at_least(0, "vectors.topics", self.topics)
        _at_least(0, "vectors.rarity", self.rarity)
        _at_least(0, "vectors.ratio", self.ratio)
        if self.unlabelled and self.source != "corpus":
            raise ConfigError('vectors.unlabelled is for vectors.source = "corpus"; leave it out, or --vectors corpus')
        for key in ("norm", "topic_norm"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"vectors.{key} is {getattr(self, key)}; it must be greater than 0")


@dataclass(frozen=True)
class TrainingConfig:
    """Epochs over batches, which are settled in shards, with word dropout.

    Shards are settled by one thread each, and a batch that is one shard by all threads together, layer by layer, where
    layers have millions of weights, which are then read once for all samples. A checkpoint is written after every epoch
    as well.

    epochs (−1, or 1 or greater) : passes over the training texts; −1: chosen by the data
    batch (1 or greater) : texts of an update
    local_steps (1 or greater) : updates that each of several ranks makes by itself before they take the mean of theirs
    shard (1 or greater) : texts of a batch that settle together
    word_dropout (0 to below 1) : the share of the words of a training text that is left out, drawn for each batch
    seed (0 or greater) : what every random draw depends on
    patience (0 or greater) : epochs no better on validation data than one before, after which to stop; 0: never
    checkpoint_seconds (0 or greater) : time between two checkpoints within an epoch
    precision (single or half) : how embeddings are written to the model file; half takes half of the room
    min_updates (0 or greater) : updates at least: small data get more epochs
    self_training (0 to 1) : the surest share of the unlabelled texts, which the network labels itself after
        training, to begin again with them
    refit : whether to train once more on all texts where validation texts were held out of them, to the last epoch
    metric (accuracy, macro-f1 or loss) : what the best epoch is best by, on validation data; equals by the loss
    class_weight : what a text counts for by its class: "balanced", or {class = weight}; left empty: all alike
    """

    epochs: int = -1
    batch: int = 100
    local_steps: int = 1
    shard: int = 25
    word_dropout: float = 0.3
    seed: int = 0
    patience: int = 0
    checkpoint_seconds: float = 300.0
    precision: str = "single"
    min_updates: int = 0
    self_training: float = 0.0
    refit: bool = False
    metric: str = "accuracy"
    class_weight: str | dict[str, float] = ""

    def __post_init__(self):
        _at_least_or_fitted(1, "training.epochs", self.epochs)
        for key in ("batch", "shard", "local_steps"):
            _at_least(1, f"training.{key}", getattr(self, key))
        for key in ("seed", "patience", "min_updates", "checkpoint_seconds"):
            _at_least(0, f"training.{key}", getattr(self, key))
        if self.precision not in PRECISIONS:
            raise ConfigError(f"unknown training.precision {self.precision!r}{nearest(self.precision, PRECISIONS)}")
        if self.metric not in METRICS:
            raise ConfigError(f"unknown training.metric {self.metric!r}{nearest(self.metric, METRICS)}")
        by_name = not isinstance(self.class_weight, str)
        if not by_name and self.class_weight not in ("", "balanced"):
            raise ConfigError(
                f'training.class_weight is {self.class_weight!r}; it must be "balanced", or a weight for each class, '
                "{NAME = 5, OTHER = 1}"
            )
        for name, weight in self.class_weight.items() if by_name else ():
            _at_least(0, f"training.class_weight.{name}", weight)
        if not 0 <= self.self_training <= 1:
            raise ConfigError(f"training.self_training is {self.self_training}; it must be in [0, 1]")
        if self.self_training and self.refit:
            raise ConfigError("training.self_training and training.refit both train a second time; give one of them")
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
