"""Configurations: nested dataclasses, read from TOML, changed by ``key=value``, checked before anything runs.

A preset is a TOML file in ``eqnp/presets``. Every key has a default, so a file names only what it changes.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from eqnp.architecture import AttentionConfig, NetworkConfig, check_network, output
from eqnp.dynamics import SettlingConfig
from eqnp.errors import ConfigError, nearest
from eqnp.learning import LearningConfig, phases
from eqnp.optim import OptimizerConfig
from eqnp.potentials import elementwise

PRECISIONS = ("single", "half")
Source = str | tuple[str, ...]  # of texts: one, or several that are read one after the other
LARGEST = 10**7  # of any number in a configuration: products of two stay finite in float32 and countable in int64
LARGEST_SEED = 2**63 - 1
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
    With ``ngrams`` n above 1, runs of 2 … n words that stand in ``ngram_min_texts`` training texts or more (at most
    ``max_ngrams`` of them) are memory slots of their own. With ``distinct``, a text has one slot for each of its words
    and n-grams, however often they stand there. ``seed`` is that of the share held out and of vectors from the corpus;
    −1: ``training.seed``, until it is prepared.
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
    min_count: int = 2
    max_words: int = 100_000
    ngrams: int = 1
    ngram_min_texts: int = 8
    max_ngrams: int = 200_000
    distinct: bool = False
    seed: int = -1


@dataclass(frozen=True)
class VectorsConfig:
    """Word vectors: a file, an installed package, or "corpus" (learned from the training texts: PPMI and SVD).

    ``dimension`` and ``unlabelled`` are for "corpus" alone: files bring their own dimension, and the vectors can be
    learned from further texts, a source without labels whose columns are called as those of the training data. Texts of
    it that stand in the validation or test data are left out. Every vector is rescaled to length ``norm``.
    """

    source: str = "corpus"
    unlabelled: Source = ""
    dimension: int = 100
    norm: float = 3.0


@dataclass(frozen=True)
class TrainingConfig:
    """Epochs over batches of ``batch`` samples, settled in shards of ``shard``, with word dropout.

    Shards are settled by one thread each, and a batch that is one shard by all threads together, layer by layer, where
    layers have millions of weights, which are then read once for all samples.
    There are ``epochs`` of them, and on small data as many more as make ``min_updates`` updates.

    Training stops before its last epoch when ``patience`` epochs in a row were no better on validation data than one
    before them (0: never). A checkpoint is written after every epoch, and in between every ``checkpoint_seconds``.
    """

    epochs: int = 5
    batch: int = 100
    shard: int = 25
    word_dropout: float = 0.3
    seed: int = 0
    patience: int = 0
    checkpoint_seconds: float = 300.0
    precision: str = "single"
    min_updates: int = 0


@dataclass(frozen=True)
class Config:
    """Everything that determines a run, and is stored with it.

    ``name`` is a label: that of the preset it was made from. A TOML file may say ``preset = "…"`` to start from one.
    """

    name: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    vectors: VectorsConfig = field(default_factory=VectorsConfig)
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig((AttentionConfig("text", 8),)))
    settling: SettlingConfig = field(default_factory=SettlingConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self):
        check_network(self.network, self.data.columns)
        for name in self.data.columns:
            if not SEGMENT.fullmatch(name) or name in ("labels", "vocabulary"):
                raise ConfigError(f"data.columns has a segment {name!r}; a name of letters, digits and _ is needed")
        if len(set(self.data.classes)) < len(self.data.classes):
            raise ConfigError("data.classes names a class twice; every name must differ")
        hidden, (readout, cost) = elementwise(self.network.activation), output(self.network)
        phases(self.learning, cost.betas(readout))
        if self.learning.estimator == "holomorphic" and not (hidden.analytic and readout.analytic):
            raise ConfigError(
                "the holomorphic estimator needs analytic activations: network.activation logistic or tanh"
            )
        for key, value in (
            ("data.max_tokens", self.data.max_tokens),
            ("data.max_words", self.data.max_words),
            ("data.min_count", self.data.min_count),
            ("data.ngrams", self.data.ngrams),
            ("data.ngram_min_texts", self.data.ngram_min_texts),
            ("data.max_ngrams", self.data.max_ngrams),
            ("vectors.dimension", self.vectors.dimension),
            ("training.epochs", self.training.epochs),
            ("training.batch", self.training.batch),
            ("training.shard", self.training.shard),
        ):
            if value < 1:
                raise ConfigError(f"{key} is {value}; it must be 1 or greater")
        for key, value in (
            ("data.seed", 1 + self.data.seed),
            ("training.seed", self.training.seed),
            ("training.patience", self.training.patience),
            ("training.min_updates", self.training.min_updates),
            ("training.checkpoint_seconds", self.training.checkpoint_seconds),
        ):
            if not value >= 0:
                raise ConfigError(f"{key} is {value}; it must be 0 or greater")
        if self.data.ngrams > 3:
            raise ConfigError(f"data.ngrams is {self.data.ngrams}; it must be 1 (words alone), 2 or 3")
        if self.data.ngrams > 2 and self.data.max_words > MOST_WORDS_IN_TRIPLES:
            raise ConfigError(f"data.max_words must be at most {MOST_WORDS_IN_TRIPLES:,} with data.ngrams = 3")
        by_tokens = any(attention.by_tokens for attention in self.network.attention)
        if (self.data.ngrams > 1 or self.data.distinct) and (by_tokens or self.network.padding != "masked"):
            key = "data.distinct" if self.data.distinct else "data.ngrams above 1"
            raise ConfigError(
                f'{key} needs learned queries in every attention layer, and network.padding = "masked"; leave it out'
            )
        if not _is_encoding(self.data.encoding):
            hint = nearest(self.data.encoding, ("utf-8", "utf-16", "latin-1", "cp1252"))
            raise ConfigError(f"unknown data.encoding {self.data.encoding!r}{hint}, or another that Python knows")
        if self.training.precision not in PRECISIONS:
            hint = nearest(self.training.precision, PRECISIONS)
            raise ConfigError(f"unknown training.precision {self.training.precision!r}{hint}")
        if not 0 < self.data.validation_share < 1:
            raise ConfigError(f"data.validation_share is {self.data.validation_share}; it must lie between 0 and 1")
        if not 0 <= self.training.word_dropout < 1:
            raise ConfigError(f"training.word_dropout is {self.training.word_dropout}; it must be in [0, 1)")
        if self.vectors.unlabelled and self.vectors.source != "corpus":
            raise ConfigError('vectors.unlabelled is for vectors.source = "corpus"; leave it out, or --vectors corpus')
        if not self.vectors.norm > 0:
            raise ConfigError(f"vectors.norm is {self.vectors.norm}; it must be greater than 0")


def _is_encoding(name: str) -> bool:
    """Whether Python knows an encoding of that name that turns bytes to text."""
    try:
        return bool("a".encode(name))
    except (LookupError, ValueError):
        return False


def presets() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(f.name[:-5] for f in resources.files("eqnp.presets").iterdir() if f.name.endswith(".toml"))


def load_config(source: str, settings: Sequence[str] = (), given: Mapping[str, object] | None = None) -> Config:
    """A preset or a TOML file, then ``section.key=value`` settings, then values by key; raises ConfigError."""
    if source in presets():
        tree = {"name": source, "preset": source}
    elif source.endswith(".toml"):
        tree = _read_toml(source)
    else:
        raise ConfigError(f"unknown preset {source!r} (a .toml file works too){nearest(source, presets())}")
    return from_tree(_over_preset(tree), settings, given)


def _read_toml(source: str) -> dict:
    try:
        return tomllib.loads(Path(source).read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read ({error}); give a TOML file or a preset") from error


def _over_preset(tree: dict) -> dict:
    """The keys of a file over those of the preset that it names, if it does."""
    name = tree.pop("preset", "")
    if not name:
        return tree
    if name not in presets():
        raise ConfigError(f"unknown preset {name!r}{nearest(str(name), presets())}")
    base = tomllib.loads((resources.files("eqnp.presets") / f"{name}.toml").read_text("utf-8"))
    both = [key for key in tree if isinstance(tree[key], Mapping) and isinstance(base.get(key), Mapping)]
    return {**base, **tree, **{key: {**base[key], **tree[key]} for key in both}}


def from_tree(tree: Mapping, settings: Sequence[str] = (), given: Mapping[str, object] | None = None) -> Config:
    """A configuration from nested mappings (as TOML gives them), settings and values; raises ConfigError."""
    tree = copy.deepcopy(dict(tree))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r} has no '='; write --set section.key=value")
        _put(tree, key.strip(), _value(value.strip()))
    for key, value in (given or {}).items():
        _put(tree, key, value)
    return _build(Config, tree, "")


def to_tree(config: Config) -> dict:
    """The whole configuration as nested dicts and lists; `from_tree` reads it back to the same."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def to_toml(config: Config) -> str:
    """The whole configuration as TOML, every key spelled out; `load_config` reads it back to the same."""
    sections = [f"name = {_toml(config.name)}"]
    for name, section in to_tree(config).items():
        if name != "name":
            sections.append("\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]))
    return "\n\n".join(sections) + "\n"


def _toml(value) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(text: str):
    """A setting's value as TOML reads it; what TOML cannot read is taken as a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(tree, key: str, value) -> None:
    path = key.split(".")
    if path[0] in ("preset", "name"):
        raise ConfigError(f"{path[0]!r} cannot be set; name the preset itself, or begin a TOML file with preset = …")
    for step in path[:-1]:
        if isinstance(tree, list):
            if not (step.isdigit() and int(step) < len(tree)):
                raise ConfigError(f"--set {key}: there is no entry {step!r}; it has entries 0 … {len(tree) - 1}")
            tree = tree[int(step)]
        elif isinstance(tree, dict):
            tree = tree.setdefault(step, {})
    if not isinstance(tree, dict):
        raise ConfigError(f"--set {key}: {path[-1]!r} is not a key inside a table; check the spelling of the key")
    tree[path[-1]] = value


def _build(kind, value, where: str):
    """Check a value against a type annotation and convert it: tables to dataclasses, arrays to tuples."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; it must be a table of keys")
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                known = [_join(where, hint) for hint in hints]
                raise ConfigError(f"unknown key {_join(where, key)!r}{nearest(_join(where, key), known)}")
        missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in value]
        if missing:
            raise ConfigError(f"{where} lacks the key {missing[0]!r}; add it")
        return kind(**{k: _build(hints[k], v, _join(where, k)) for k, v in value.items()})
    if isinstance(value, str) and not value.isprintable() and not _is_utf8(value):
        raise ConfigError(f"{where} is {value!a}, which is no UTF-8 text; rename the file")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_build(arguments[0], v, f"{where}.{i}") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _build(arguments[1], v, _join(where, k)) for k, v in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= LARGEST:
            raise ConfigError(f"{where} is {value}; it must be a number of at most {LARGEST:g}")
        return float(value)
    if type(value) is int and abs(value) > (LARGEST_SEED if where.endswith(".seed") else LARGEST):
        raise ConfigError(f"{where} is {value}; it must be at most {LARGEST:,} (a seed: {LARGEST_SEED:,})")
    if kind == Source and not isinstance(value, str):
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"{where} is {value!r}; it must be text, or a list of texts")
        return _build(tuple[str, ...], value, where)
    plain = arguments if isinstance(kind, types.UnionType) else (kind,)
    if any(p in (str, int, float, bool) and type(value) is p for p in plain):
        return value
    raise ConfigError(f"{where} is {value!r}; it must be {_name(kind)}")


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _name(kind) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if kind in names:
        return names[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"a list, each entry {_name(arguments[0])}"
    if origin is dict:
        return f"a table, each value {_name(arguments[1])}"
    return " or ".join(_name(a) for a in arguments) if arguments else "a table"
