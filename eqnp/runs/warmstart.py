"""Going on from a trained model: its weights, vocabulary and classes, with further texts, words and classes.

Further texts are learned together with those of the run, against forgetting, in a quarter of its epochs; of few texts
in as many as make 100 batches, up to all. Where the model has learned from its validation texts, these are training
texts now, and others are held out of the further ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eqnp.config import Config, from_tree, to_tree
from eqnp.costs import CrossEntropy
from eqnp.errors import CheckpointError, ConfigError, DataError, some
from eqnp.network import EMBEDDING
from eqnp.runs.checkpoint import generators
from eqnp.runs.contents import METRICS, check_parts, instead, is_saved
from eqnp.runs.folder import read_json
from eqnp.runs.loop import epochs_of
from eqnp.runs.model import Model
from eqnp.text import tokens
from eqnp.text.corpora import Corpus, load_corpus
from eqnp.text.fitting import filled, of_labels
from eqnp.text.growing import from_neighbours, moved_up, with_rows, with_words_of
from eqnp.text.holding import hold_out
from eqnp.text.ngrams import NGrams
from eqnp.text.prepare import Prepared, Warm, encode_corpus, is_numbered, load_prepared, reading_of
from eqnp.text.start import first_votes
from eqnp.text.store import Split
from eqnp.text.subwords import with_slots

SHARE, BATCHES = 4, 100  # one in so many of the epochs of a run is enough to go on from it, with so many batches
SPLITS = ("train", "validation", "test")
LEARNING = ("settling", "learning", "optimizer", "training")  # sections that may be others than those of the model
# And keys of the section "data".
READING = (*SPLITS, "encoding", "header", "label", "weight", "validation_share", "min_count", "max_words", "seed")


@dataclass(frozen=True)
class Beginning:
    """A finished run, or a folder that `SequenceClassifier.save` wrote, that training goes on from."""

    run: Path
    model: Model

    @classmethod
    def load(cls, run: Path) -> Beginning:
        """Read its model; raises CheckpointError for a folder that is no such run."""
        if not is_saved(run):
            if not (run / METRICS).is_file():
                raise CheckpointError(instead(run))
            check_parts(run)
        model = Model.load(run)
        if model.several:
            raise ConfigError(f"{run} gives several labels to a text; --from is for one label each: train anew on all")
        return cls(run, model)

    def config(self, settings: list[str], given: Mapping[str, object]) -> Config:
        """The configuration of the run with other settings and values by key; raises ConfigError for keys of its shape.

        ``data.train``, ``data.validation`` and ``data.test`` are further texts, or "".
        """
        tree = to_tree(self.model.config)
        tree["data"] |= dict.fromkeys(SPLITS, "")
        tree["training"] |= {"epochs": -1, "min_updates": 0, "self_training": 0.0}
        config = from_tree(tree, settings, given)
        if config.training.self_training:
            raise ConfigError("training.self_training begins again, and --from goes on; give one of them")
        own, new = to_tree(self.model.config), to_tree(config)
        fixed = [(section, key) for section in own if section not in (*LEARNING, "name") for key in own[section]]
        for section, key in fixed:
            before, now = own[section][key], new[section][key]
            if key == "columns" and section == "data":  # another file may call them differently
                before, now = list(before), list(now)
            if before != now and not (section == "data" and key in READING):
                raise ConfigError(
                    f"{section}.{key} is {now!r:.60}, and {before!r:.60} in {self.run}, whose weights fit that alone; "
                    "leave it out, or train anew without --from"
                )
        if is_saved(self.run) and not config.data.train:
            raise ConfigError(f"{self.run} was saved from Python, without texts; give some to go on with (--data F)")
        return config

    def prepared(self, config: Config, say: Callable[[str], None]) -> Prepared:
        """The texts of the run and further ones, and its model as first weights; raises EqnpError."""
        own, data = self.model.config, config.data
        old = None if is_saved(self.run) else load_prepared(self.run, own)
        learned = bool(old and read_json(self.run / METRICS).get("refit"))
        further, classes = {}, self.model.classes
        for name in SPLITS:
            if source := getattr(data, name):
                corpus = _read(source, name, data, classes, is_numbered(own.data, classes), grow=name == "train")
                further[name], classes = corpus, corpus.classes
                for note in corpus.notes:
                    say(note)
        rng = generators(config.training.seed)[0]
        made = grown(self.model, config, further, rng, old=old, learned=learned, say=say)
        sources = {
            "train": _sources(own.data.train if old else "", data.train),
            "validation": data.validation or own.data.validation * bool(old),
            "test": data.test or own.data.test * bool(old),
            "classes": made.classes if own.data.classes else (),
        }
        epochs = config.training.epochs
        if epochs < 0:
            size = len(made.splits["train"])
            every, enough = epochs_of(own, size), -(-BATCHES // -(-size // config.training.batch))
            epochs = max(-(-every // SHARE), min(every, enough))
            say(f"chosen to go on: training.epochs = {epochs} of the {every} that {self.run} had")
        training = replace(config.training, epochs=epochs)
        return replace(made, config=replace(config, data=replace(data, **sources), training=training))


def _sources(before, further) -> str | tuple[str, ...]:
    every = [each for one in (before, further) for each in ([one] if isinstance(one, str) else one) if each]
    return every[0] if len(every) == 1 else tuple(every)


def _read(source, split: str, data, classes: tuple[str, ...], numbered: bool, grow: bool) -> Corpus:
    """A corpus of the known ``classes``, and if it may ``grow`` them, with further ones after those."""
    given = {"split": split, "reading": reading_of(data)}
    try:
        return load_corpus(source, data.columns, data.label, classes=classes, numbered=numbered, **given)
    except DataError:
        corpus = load_corpus(source, data.columns, data.label, **given) if grow else None
        if corpus is None or set(corpus.classes) <= set(classes):
            raise
        return of_classes(corpus, (*classes, *(name for name in corpus.classes if name not in classes)))


def as_before(config: Config, model: Model) -> Config:
    """A configuration with what it leaves open as it was chosen for a model; raises ConfigError for another shape."""
    own = model.config
    config = of_labels(filled(config, own), model.several)
    if (config.network, config.data, config.vectors) != (own.network, own.data, own.vectors):
        raise ConfigError(
            "settings of the network, its data or its vectors were changed after the first call; fit anew"
        )
    return config


def of_classes(corpus: Corpus, classes: tuple[str, ...]) -> Corpus:
    """The same texts among more classes, or in another order."""
    places = np.array([classes.index(name) for name in corpus.classes])
    return replace(corpus, labels=places[corpus.labels], classes=classes)


def grown(
    model: Model,
    config: Config,
    further: Mapping[str, Corpus],
    rng: np.random.Generator,
    *,
    old: Prepared | None = None,
    learned: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """What training needs to go on from a model: texts of before (``old``, perhaps none) and ``further`` ones by split.

    Corpora have all classes, those of the model in any place. New words start at the weighted mean of the known words
    around them, a new class at the mean of the others, with its log prior as the bias of a softmax, and with its votes
    at its log-count ratios. N-grams and subwords stay those that are known. ``learned`` says that the model has learned
    from the old validation texts. Raises DataError where nothing can be held out.
    """
    kept, further, held_out, learned = _held_out(config, dict(further), rng, old, learned)
    classes = next(iter(further.values())).classes if further else model.classes
    places = np.array([classes.index(name) for name in model.classes])
    known, tokenizer = len(model.tokenizer), model.tokenizer
    if "train" in further:
        texts = (text for column in further["train"].texts.values() for text in column)
        limits = {"min_count": config.data.min_count, "max_words": config.data.max_words}
        tokenizer = with_words_of(tokenizer, texts, **limits)
    new, ngrams = len(tokenizer) - known, NGrams(model.ngrams.parts, len(tokenizer))
    plain = {name: encode_corpus(tokenizer, corpus, config.data.max_tokens) for name, corpus in further.items()}
    vocabulary = (config, tokenizer, ngrams, model.subwords)
    read = {name: with_slots(split, further[name].texts, *vocabulary) for name, split in plain.items()}
    splits = _together({name: moved_up(split, known, new, places) for name, split in kept.items()}, read)
    _tell(model, classes, new, {name: (kept.get(name), read.get(name)) for name in splits}, learned, say)

    columns = list(plain["train"].segments.values()) if "train" in plain else []
    parameters = dict(model.network.host_parameters())
    extend = lambda table: with_rows(table, known, from_neighbours(columns, known, table, known + new))  # noqa: E731
    start = old.embedding if old and old.embedding.shape == parameters[EMBEDDING].shape else parameters[EMBEDDING]
    names = tokens.words(tokenizer)
    names += ngrams.names(names)
    votes: dict[str, np.ndarray] = {}
    if config.network.votes:
        features = len(names) + len(model.subwords)
        votes = first_votes(splits["train"], features, len(classes), config.network.votes)
    rows = np.concatenate([np.arange(known), np.arange(known + new, len(names) + len(model.subwords))])
    for synapse in model.network.features.values():
        table = votes[synapse.features].copy()
        table[np.ix_(rows, places)] = parameters[synapse.weight]
        parameters[synapse.weight] = table
    parameters[EMBEDDING] = extend(parameters[EMBEDDING])
    if len(classes) > len(model.classes):
        prior = np.bincount(splits["train"].labels, minlength=len(classes)) / len(splits["train"])
        _add_classes(model, parameters, places, prior)
    found = (old.found if old else known - tokenizer.specials) + new
    warm = Warm(parameters, model.temperature, model.floor, learned)
    made = (tokenizer, ngrams, model.subwords, names, classes, extend(start), votes, found, config)
    return Prepared(splits, *made, held_out, warm)


def _held_out(
    config: Config, further: dict[str, Corpus], rng: np.random.Generator, old: Prepared | None, learned: bool
) -> tuple[dict[str, Split], dict[str, Corpus], bool, bool]:
    """Old splits and further corpora, with validation texts that the model has not learned from, if there can be any.

    And whether validation texts are held out of those for training, and whether the model has learned from them.
    """
    kept, held_out = dict(old.splits) if old else {}, bool(old and old.held_out)
    fresh = "validation" in further
    if not fresh and "train" in further and (held_out or not old):
        try:
            further["train"], further["validation"] = hold_out(further["train"], config.data.validation_share, rng)
        except DataError:
            if not old:
                raise
    if "validation" in further and (fresh or learned) and held_out:
        kept["train"] = kept["train"].with_those_of(kept.pop("validation"))
    elif fresh:
        kept.pop("validation", None)
    if "test" in further:
        kept.pop("test", None)
    return kept, further, not fresh and (held_out or not old), learned and "validation" not in further


def _together(kept: Mapping[str, Split], read: Mapping[str, Split]) -> dict[str, Split]:
    parts = {name: [each[name] for each in (kept, read) if name in each] for name in SPLITS}
    return {n: each[0] if len(each) == 1 else each[0].with_those_of(each[1]) for n, each in parts.items() if each}


def _tell(model: Model, classes, new: int, parts: Mapping[str, tuple], learned: bool, say) -> None:
    for name, each in parts.items():
        old, further = (0 if split is None else len(split) for split in each)
        say(f"{name}: {old:,} texts of before and {further:,} further ones")
    added = [name for name in classes if name not in model.classes]
    say(f"vocabulary: {new:,} new words{f'; new classes {some(map(repr, added))}' if added else ''}")
    if learned:
        say("the model has learned from the validation texts: figures on them say nothing, and its temperature stays")


def _add_classes(model: Model, parameters: dict[str, np.ndarray], places: np.ndarray, prior: np.ndarray) -> None:
    """Give the output units for new classes, in place; ``prior`` (C,) are the shares of all classes."""
    softmax = isinstance(model.network.output.cost, CrossEntropy)
    for name in ("output.weight", "output.bias"):
        own = parameters[name]
        logs = np.log(np.maximum(prior, 1e-12)).astype(own.dtype) if softmax and own.ndim == 1 else 0 * prior
        before = np.log(np.maximum(model.prior, 1e-12)) if softmax and own.ndim == 1 else 0 * model.prior
        mean = (own - before.reshape(-1, *[1] * (own.ndim - 1))).mean(axis=0)
        table = (mean + logs.reshape(-1, *[1] * (own.ndim - 1))).astype(own.dtype)
        table = np.broadcast_to(table, (len(prior), *own.shape[1:])).copy()
        table[places] = own
        parameters[name] = table
