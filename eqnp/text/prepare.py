"""From sources to what training needs: encoded splits, a tokenizer with its vocabulary, and an embedding table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from eqnp import files
from eqnp.config import Config, to_tree
from eqnp.errors import CheckpointError, ConfigError, DataError, some
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import trim
from eqnp.sections import DataConfig, Source
from eqnp.text import corpora, together, tokens
from eqnp.text.cooccurrence import corpus_vectors
from eqnp.text.corpora import Corpus
from eqnp.text.fitting import fitted
from eqnp.text.holding import hold_out
from eqnp.text.labels import class_counts
from eqnp.text.ngrams import NGrams, learn_ngrams
from eqnp.text.sources import splits_of
from eqnp.text.start import first_votes, informed
from eqnp.text.store import STORE, Split, read_split, read_store, write_store
from eqnp.text.subwords import Subwords, learn_subwords, slots_of
from eqnp.text.survey import Survey, survey
from eqnp.text.tables import Reading
from eqnp.text.tokens import Ragged, WordTokenizer
from eqnp.text.topics import topic_vectors
from eqnp.text.vectors import load_vectors, rescale
from eqnp.text.weights import weighed

START, UNLABELLED = "start.h5", "unlabelled.h5"
VOTES_OF, WARM = "votes/", "warm/"  # the names of features and of trained parameters, in that file
VOTES = 20_000_000  # of subwords for classes, at most: each is three numbers in training
TOLD = 2  # findings about the texts that are told unasked


@dataclass
class Warm:
    """Where training goes on from, in place of first weights that are drawn: those of a trained model, by name.

    ``temperature`` and ``floor`` are those of its scores. ``learned`` says that it has learned from the validation
    texts, whose figures are then worth nothing.
    """

    parameters: dict[str, np.ndarray]
    temperature: float
    floor: float
    learned: bool


@dataclass
class Prepared:
    """Splits by name ("train", "validation", perhaps "test"), vocabulary, classes, and embedding (V, D) float32.

    ``words`` has the n-grams after the words. ``found`` counts the words of the vocabulary that have a word vector; the
    others start at zero. ``config`` is the configuration with what it left open chosen. ``held_out`` says that the
    validation texts are some of those given for training. ``warm`` is there where training goes on from a model, and
    ``unlabelled`` texts where the network is to label them itself.
    """

    splits: dict[str, Split]
    tokenizer: WordTokenizer
    ngrams: NGrams
    subwords: Subwords
    words: list[str]
    classes: tuple[str, ...]
    embedding: np.ndarray
    votes: dict[str, np.ndarray]
    found: int
    config: Config
    held_out: bool = False
    warm: Warm | None = None
    unlabelled: Split | None = None

    def weighed_texts(self, train: Split | None = None) -> tuple[Split, Split]:
        """Training texts (or these), and validation texts, with what each counts for; raises as `weighed`."""
        train, validation = train or self.splits["train"], self.splits["validation"]
        return weighed(train, validation, self.classes, self.config.training.class_weight)


def prepare(
    config: Config, rng: np.random.Generator, say: Callable[[str], None] = lambda line: None, ranks: Ranks = ALONE
) -> Prepared | None:
    """Load, split and encode the corpora and make the embedding table; ``say`` gets a line per step.

    Several ``ranks`` share the work, to the same bits; what is prepared is at the first of them, and None at others.
    Raises DataError or VectorsError, before anything is written anywhere.
    """
    return prepare_corpora(config, load_splits(config.data, rng, ranks), rng, say, ranks)


def prepare_corpora(
    config: Config,
    loaded: dict[str, Corpus],
    rng: np.random.Generator,
    say: Callable[[str], None] = lambda line: None,
    ranks: Ranks = ALONE,
) -> Prepared | None:
    """The same for corpora by split name that are loaded already; vocabulary and classes come from "train"."""
    config, chosen = fitted_to(config, loaded["train"], ranks)
    encoded = encode_corpora(config, loaded, say, ranks=ranks)
    held_out = "validation" in loaded and loaded["validation"].held_out
    del loaded  # a few numbers for every text, which would be there until the end
    if chosen:
        say(chosen)
    return _complete(config, encoded, rng, say, held_out, ranks)


def fitted_to(config: Config, train: Corpus, ranks: Ranks = ALONE) -> tuple[Config, str]:
    """As `fitted`, by the training texts."""
    characters = together.characters(train.texts, ranks) / max(1, len(train))
    return fitted(config, train.labels, characters)


@dataclass
class Encoded:
    """Corpora as word ids, with the unlabelled texts if there are any (and no label of theirs), and what was found."""

    splits: dict[str, Split]
    subwords: Subwords
    spelling: dict[str, dict[str, Ragged]]
    unlabelled: Split | None
    tokenizer: WordTokenizer
    classes: tuple[str, ...]
    survey: Survey


def encode_corpora(
    config: Config, loaded: dict[str, Corpus], say: Callable[[str], None], told: int = TOLD, ranks: Ranks = ALONE
) -> Encoded:
    """Learn the vocabulary and encode all texts, which are not needed after that; the worst findings are ``told``."""
    train = loaded["train"]
    if train.several and config.vectors.unlabelled and config.training.self_training:
        raise ConfigError("training.self_training is for one label to a text; --set training.self_training=0")
    counts = ", ".join(f"{len(corpus):,} {name}" for name, corpus in loaded.items())
    for note in dict.fromkeys(note for corpus in loaded.values() for note in corpus.notes):
        say(note)
    several = f"; several labels to a text, {train.labels.sum() / len(train):.1f} on average" if train.several else ""
    say(f"data: {counts}; classes {some(train.classes)}{several}")
    if left_out := {name: corpus.unlabelled for name, corpus in loaded.items() if corpus.unlabelled}:
        say(f"left out, without an agreed label: {', '.join(f'{n:,} {name}' for name, n in left_out.items())}")

    kept = {"min_count": config.data.min_count, "max_words": config.data.max_words, "start": config.data.start_token}
    tokenizer, *read = together.learn_and_encode(train.texts, config.data.max_tokens, ranks, **kept)
    splits = {"train": Split(read[0], train.labels, read[1], weights=train.weights)}
    rest = {name: corpus for name, corpus in loaded.items() if name != "train"}
    splits |= {name: encode_corpus(tokenizer, each, config.data.max_tokens, ranks) for name, each in rest.items()}
    for name, split in splits.items():
        if split.coverage.tokens == split.coverage.unknown:
            raise DataError(f"no text of the {name} data has a known word; check the language and data.min_count")
    together.rest(loaded)
    say(f"vocabulary: {len(tokenizer) - tokenizer.specials:,} words")
    for name, split in splits.items():
        say(f"  {name}: {split.coverage.tokens:,} tokens, {split.coverage}")
    found = survey(loaded, splits, len(tokenizer.start), ranks)
    together.rest(loaded)
    for finding in found.grave(told):
        say(f"look at the data: {finding.line} (eqnp data says more)")
    most = min(config.data.max_subwords, VOTES // len(train.classes))
    kept = {"longest": config.data.subwords if config.network.votes else 0, "min_texts": 2, "most": most}
    own = chain.from_iterable(together.own_texts(column, ranks) for column in train.texts.values())
    subwords = learn_subwords(tokenizer, own, **kept, added_up=partial(together.added_up, ranks=ranks))
    encode = partial(subwords.encode, tokenizer)
    spelling = {
        name: {segment: together.each_in_part(encode, texts, ranks) for segment, texts in corpus.texts.items()}
        for name, corpus in (loaded.items() if config.network.votes else ())
    }
    unlabelled = None
    if config.vectors.unlabelled:
        columns = unlabelled_texts(config, loaded, say, ranks)
        segments, _ = together.encode_part(tokenizer, columns, config.data.max_tokens, ranks)
        unlabelled = Split(segments, np.zeros(len(next(iter(columns.values()))), np.int64))
        if config.network.votes and config.training.self_training:
            spelling[UNLABELLED] = {n: together.each_in_part(encode, texts, ranks) for n, texts in columns.items()}
    together.rest(loaded)
    return Encoded(splits, subwords, spelling, unlabelled, tokenizer, train.classes, found)


def _complete(
    config: Config, encoded: Encoded, rng: np.random.Generator, say: Callable[[str], None], held_out: bool, ranks: Ranks
) -> Prepared | None:
    """Add word vectors, and the n-grams of the training texts as memory slots."""
    splits, words = encoded.splits, tokens.words(encoded.tokenizer)
    further = {} if encoded.unlabelled is None else {UNLABELLED: encoded.unlabelled}
    texts = [ids for split in (splits["train"], *further.values()) for ids in split.segments.values()]
    specials = encoded.tokenizer.specials
    ngrams = find_ngrams(config.data, splits["train"], len(words), ranks)
    trim()
    embedding, found = embed(config, texts, words, specials, rng, ranks)
    del texts
    say(f"vectors: {config.vectors.source}, {found:,} of {len(words) - specials:,} words have one")
    vocabulary = config.data, ngrams
    if not (config.vectors.topics or config.training.self_training):
        further.clear()  # what was of use for vectors alone
    for each in (splits, further):
        for name in list(each):  # one after the other, so that none is there twice
            each[name] = together.read_in_part(each[name], vocabulary, encoded.spelling.get(name), ranks)
    if not ranks.first:
        return None
    if len(ngrams):
        say(f"n-grams: {len(ngrams):,} of {'2' if config.data.ngrams == 2 else '2 or 3'} words")
        if config.data.ngram_slots:
            embedding = np.concatenate([embedding, ngrams.vectors(embedding)])
    if config.vectors.topics:
        slots = [ids for split in (splits["train"], *further.values()) for ids in split.segments.values()]
        topics = topic_vectors(slots, len(embedding), config.vectors.topics, rng)
        embedding = np.hstack([embedding, rescale(topics, config.vectors.topic_norm)])
        del slots, topics
    words += ngrams.names(words)
    embedding = informed(embedding, splits["train"], len(encoded.classes), config.vectors.rarity, config.vectors.ratio)
    votes, features = {}, len(words) + len(encoded.subwords)
    if config.network.votes:
        votes = first_votes(splits["train"], features, len(encoded.classes), config.network.votes)
        say(f"votes: of {features:,} features, {len(encoded.subwords):,} of them subwords")
    vocabulary = (encoded.tokenizer, ngrams, encoded.subwords, words, encoded.classes)
    made = (splits, *vocabulary, embedding, votes, found, config)
    return Prepared(*made, held_out, unlabelled=further.get(UNLABELLED) if config.training.self_training else None)


def save_prepared(folder: Path, prepared: Prepared) -> None:
    """Write the splits as a token store, and the rest beside it, with the settings that all of it was made by."""
    about = {
        **prepared.tokenizer.about(),
        **prepared.subwords.about(),
        "classes": list(prepared.classes),
        "found": prepared.found,
        "held_out": prepared.held_out,
        "made_by": _sources(prepared.config),
    }
    write_store(folder / STORE, prepared.splits, prepared.words)
    if prepared.unlabelled is not None:
        write_store(folder / UNLABELLED, {UNLABELLED: prepared.unlabelled}, [])
    votes = {VOTES_OF + name: table for name, table in prepared.votes.items()}
    arrays = {"embedding.weight": prepared.embedding, "ngrams": prepared.ngrams.parts, **votes}
    if warm := prepared.warm:
        arrays |= {WARM + name: value for name, value in warm.parameters.items()}
        about["warm"] = {"temperature": warm.temperature, "floor": warm.floor, "learned": warm.learned}
    files.save(folder / START, "start", arrays, about)


def load_prepared(folder: Path, config: Config, mapped: bool = False) -> Prepared:
    """Read what `save_prepared` wrote; raises CheckpointError where it is missing, damaged or of other settings.

    With ``mapped``, its tables are maps of the file, of which ranks take their own rows.
    """
    for name in (START, STORE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no {name}; make such a folder with eqnp prepare")
    arrays, about = files.load(folder / START, "start", mapped=mapped)
    try:
        made_by = {name: {**keys, **about["made_by"][name]} for name, keys in _sources(Config()).items()}
        for key in ("ngram_min_texts", "subwords"):
            if getattr(config.data, key) < 0:  # it was chosen then
                config = replace(config, data=replace(config.data, **{key: made_by["data"][key]}))
        if made_by != _sources(config):  # a key that was not there when it was made has its default
            raise CheckpointError(
                f"{folder}: its config.toml has other data or vectors than it was made by; prepare again"
            )
        tokenizer, subwords = WordTokenizer.from_about(about), Subwords.from_about(about)
        words, embedding, classes = tokens.words(tokenizer), arrays["embedding.weight"], tuple(about["classes"])
        found, held_out = int(about["found"]), bool(about.get("held_out", False))
        ngrams = NGrams(arrays["ngrams"], len(words))
        words += ngrams.names(words)
        splits = read_store(folder / STORE)
        if len(embedding) != slots_of(config.data, ngrams) or not {"train", "validation"} <= set(splits):
            raise ValueError("a split or a part of the vocabulary is missing")
        for split in splits.values():
            if (
                set(split.segments) != set(config.data.columns)
                or max(int(ids.ids.max(initial=0)) for ids in split.segments.values()) >= len(embedding)
                or not split.is_of(len(classes), splits["train"].several)
            ):
                raise ValueError("its texts are of other segments, words or classes")
        config, _ = fitted(config, splits["train"].labels)
        votes = {n.removeprefix(VOTES_OF): table for n, table in arrays.items() if n.startswith(VOTES_OF)}
        vocabulary = (tokenizer, ngrams, subwords, words, classes)
        parameters = {n.removeprefix(WARM): value for n, value in arrays.items() if n.startswith(WARM)}
        warm = Warm(parameters, **about["warm"]) if parameters else None
        further = read_unlabelled(folder, config)
        return Prepared(splits, *vocabulary, embedding, votes, found, config, held_out, warm, further)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the JSON inside may hold
        raise CheckpointError(f"{folder}: damaged ({error}); prepare again") from error


def read_unlabelled(folder: Path, config: Config) -> Split | None:
    """The unlabelled texts of a folder, if the network is to label some; raises CheckpointError if they are missing."""
    if not (config.vectors.unlabelled and config.training.self_training):
        return None
    if not (folder / UNLABELLED).is_file():
        raise CheckpointError(f"{folder} holds no {UNLABELLED} for training.self_training; prepare again with that")
    return read_split(folder / UNLABELLED, UNLABELLED)


def _sources(config: Config) -> dict:
    tree = to_tree(config)
    return {"data": tree["data"], "vectors": tree["vectors"]}


def load_splits(config: DataConfig, rng: np.random.Generator, ranks: Ranks = ALONE) -> dict[str, Corpus]:
    """The corpora of a run by split name; validation is drawn from train where there is none of its own."""

    def load(source: Source, split: str, classes=(), numbered=True, several=None) -> Corpus:
        given = {"split": split, "classes": classes, "numbered": numbered, "reading": reading_of(config)}
        given |= {"separator": config.label_separator, "several": several, "ranks": ranks}
        given |= {"weight": config.weight} if split == "train" else {}
        return corpora.load_corpus(source, config.columns, config.label, **given)

    train = load(config.train, "train", config.classes)
    if np.count_nonzero(class_counts(train.labels)) < 2:
        raise DataError(f"{config.train}: all texts have one and the same label; at least two classes are needed")
    own, known = splits_of(config.train), (train.classes, is_numbered(config, train.classes), train.several)
    loaded = {"train": train}
    if config.validation or "validation" in own:
        loaded["validation"] = load(config.validation or config.train, "validation", *known)
    else:
        loaded["train"], loaded["validation"] = hold_out(train, config.validation_share, rng)
    if config.test or "test" in own:
        loaded["test"] = load(config.test or config.train, "test", *known)
    if known[1] and not config.classes and len(config.number_names) == len(train.classes):
        for corpus in loaded.values():
            corpus.classes = config.number_names
    return loaded


def reading_of(config: DataConfig) -> Reading:
    """How text files are read, also those that are given later."""
    return Reading(config.encoding, config.header)


def is_numbered(config: DataConfig, classes: Sequence[str]) -> bool:
    """Whether bare numbers may stand for the classes: their order was given, or they are numbers themselves."""
    given = config.classes or tuple(classes) == config.number_names
    return bool(given) or [name.removesuffix(".0") for name in classes] == [str(i) for i in range(len(classes))]


def encode_corpus(tokenizer: WordTokenizer, corpus: Corpus, max_tokens: int, ranks: Ranks = ALONE) -> Split:
    """Token ids of a corpus, with the count of what was left out."""
    segments, coverage = together.encode_part(tokenizer, corpus.texts, max_tokens, ranks)
    return Split(segments, corpus.labels, coverage, weights=corpus.weights)


def find_ngrams(config: DataConfig, train: Split, words: int, ranks: Ranks = ALONE) -> NGrams:
    """The n-grams of the training texts that get memory slots of their own; none without ``data.ngrams``."""
    options = {"longest": config.ngrams, "min_texts": config.ngram_min_texts, "most": config.max_ngrams}
    return learn_ngrams(list(train.segments.values()), words, **options, ranks=ranks)


def unlabelled_texts(
    config: Config, loaded: dict[str, Corpus], say: Callable[[str], None], ranks: Ranks
) -> dict[str, corpora.Texts]:
    """The unlabelled texts by segment, without the rows of which a text stands in validation or test data."""
    columns = corpora.load_unlabelled(config.vectors.unlabelled, config.data.columns, reading_of(config.data), say)
    held = [corpus.texts[name] for split, corpus in loaded.items() if split != "train" for name in corpus.texts]
    known = set().union(*(together.all_texts(column, ranks) for column in held))
    rows = zip(*columns.values(), strict=True)
    kept = [row for row in rows if not any(text.strip() in known for text in row)]
    left_out = len(next(iter(columns.values()))) - len(kept)
    say(f"unlabelled: {len(kept):,} texts; {left_out:,} that stand in validation or test data left out")
    return {name: corpora.Texts(row[i] for row in kept) for i, name in enumerate(columns)}


def embed(
    config: Config,
    texts: Sequence[Ragged],
    words: list[str],
    specials: int,
    rng: np.random.Generator,
    ranks: Ranks = ALONE,
) -> tuple[np.ndarray, int]:
    """The embedding table (V, D) that training starts from, and how many words have a vector; raises VectorsError.

    The first ``specials`` of the ``words`` are none. Corpus vectors are learned from ``texts``.
    """
    if config.vectors.source == "corpus":
        table = corpus_vectors(texts, len(words), config.vectors.dimension, rng=rng, ranks=ranks)
        found = int(table[specials:].any(axis=1).sum())
    else:
        table, has_vector = load_vectors(config.vectors.source, words)
        table[:specials] = 0
        found = int(has_vector[specials:].sum())
    return rescale(table, config.vectors.norm), found
