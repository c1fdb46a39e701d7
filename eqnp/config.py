"""Configurations: nested dataclasses, read from TOML, changed by ``key=value``, checked before anything runs.

A preset is a TOML file in ``eqnp/presets``. Every key has a default, so a file names only what it changes.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import re
import shlex
import tomllib
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
from eqnp.sections import DataConfig, TrainingConfig, VectorsConfig
from eqnp.settings import (
    TypeOfValueError,
    UnknownKeyError,
    build,
    inline,
    keys_of,
    kind_of,
    mended,
    put,
    read_setting,
)

ALSO_CALLED = {  # keys by names that they have elsewhere
    "data.label": "label_column label_col label_field label_name labels target target_column y category",
    "data.columns.text": "text text_column text_col text_field text_name column columns x sentence content",
    "data.label_separator": "label_delimiter label_sep multilabel multi_label",
    "data.weight": "sample_weight sample_weights weight_column weight_col",
    "data.classes": "class_names label_names labels_list",
    "data.validation_share": "validation_split val_split validation_fraction validation_size val_size holdout",
    "data.max_tokens": "max_len max_length maxlen max_seq_len max_seq_length max_sequence_length seq_len",
    "data.start_token": "bos start_of_text add_bos",
    "data.min_count": "min_freq min_frequency min_df min_word_count",
    "data.max_words": "vocab vocab_size vocabulary_size max_vocab max_features num_words",
    "data.ngrams": "ngram_range word_ngrams n_grams",
    "vectors.dimension": "dim dims embedding_dim embedding_size vector_size embed_dim",
    "network.hidden": "hidden_size hidden_units hidden_dim hidden_layers layers units",
    "network.attention.0.queries": "heads num_heads n_heads num_queries",
    "settling.free_sweeps": "sweeps free_steps",
    "settling.nudged_sweeps": "nudged_steps",
    "settling.tolerance": "tol",
    "learning.beta": "nudge nudging",
    "optimizer.name": "optimizer optimiser optim",
    "optimizer.learning_rate": "lr rate eta alpha learningrate step_size",
    "optimizer.schedule": "scheduler lr_scheduler lr_schedule",
    "optimizer.decay_mean": "momentum beta1 beta_1",
    "optimizer.decay_square": "beta2 beta_2",
    "optimizer.epsilon": "eps",
    "optimizer.weight_decay": "wd l2 decay regularization",
    "optimizer.clip": "grad_clip clip_grad gradient_clipping clipping clip_norm max_grad_norm gradient_clip",
    "training.epochs": "n_epochs num_epochs nb_epochs num_train_epochs max_epochs iterations n_iter max_iter",
    "training.batch": "batch_size batchsize bs minibatch mini_batch_size train_batch_size",
    "training.word_dropout": "dropout drop_out dropout_rate p_drop",
    "training.class_weight": "class_weights balanced pos_weight scale_pos_weight",
    "training.patience": "early_stopping early_stop early_stopping_patience",
    "training.checkpoint_seconds": "checkpoint_every save_every",
    "training.metric": "monitor eval_metric metric_for_best_model scoring metrics",
    "training.precision": "dtype fp16 half",
}


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
        hidden, (readout, cost) = elementwise(self.network.activation), output(self.network)
        phases(self.learning, cost.betas(readout))
        if self.learning.estimator == "holomorphic" and not (hidden.analytic and readout.analytic):
            raise ConfigError(
                "the holomorphic estimator needs analytic activations: network.activation logistic or tanh"
            )
        by_tokens = any(attention.by_tokens for attention in self.network.attention)
        if (self.data.ngrams > 1 or self.data.distinct) and (by_tokens or self.network.padding != "masked"):
            key = "data.distinct" if self.data.distinct else "data.ngrams above 1"
            raise ConfigError(
                f'{key} needs learned queries in every attention layer, and network.padding = "masked"; leave it out'
            )
        windows = any(attention.window or attention.query_window for attention in self.network.attention)
        if self.data.distinct and windows:
            raise ConfigError("a window reads words in their order, which data.distinct loses; leave one of them out")


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
    named = segments_named({**dict(read_setting(Config, setting) for setting in settings), **(given or {})})
    return from_tree(_over_preset(tree, named), settings, given)


def segments_named(settings: Mapping[str, object]) -> dict[str, object]:
    """The columns that values by key give, by segment: of ``data.columns``, or of ``data.columns.NAME``."""
    named: dict[str, object] = {}
    for key, value in settings.items():
        if key == "data.columns" and isinstance(value, Mapping):
            named = dict(value)
        elif key.startswith("data.columns."):
            named[key.removeprefix("data.columns.")] = value
    return named


def _read_toml(source: str) -> dict:
    try:
        return tomllib.loads(Path(source).read_text("utf-8-sig"))  # some editors begin with a byte order mark
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object.count(b"\n", 0, error.start)
        byte = error.object[error.start]
        raise ConfigError(f"{source}: line {line}: byte 0x{byte:02x} is no UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error}); give a TOML file or a preset") from error


def _over_preset(tree: dict, named: Mapping[str, object]) -> dict:
    """The keys of a file over those of the preset that it names, if it does.

    Where the file, or ``named``, has two segments of other names than a preset for pairs of texts, its attention is
    between these.
    """
    name = tree.pop("preset", "")
    if not name:
        return tree
    if name not in presets():
        raise ConfigError(f"unknown preset {name!r}{nearest(str(name), presets())}")
    base = tomllib.loads((resources.files("eqnp.presets") / f"{name}.toml").read_text("utf-8"))
    own, data = list(base["data"].get("columns", ())), tree.get("data", {})
    new = list(named or (data.get("columns", {}) if isinstance(data, Mapping) else {}))
    if len(own) == len(new) == 2 and {*own} != {*new}:
        base["data"]["columns"] = dict(zip(new, new, strict=True))
        to = dict(zip(own, new, strict=True))
        for each in base["network"]["attention"]:
            each |= {key: to[value] for key, value in each.items() if value in to}
    both = [key for key in tree if isinstance(tree[key], Mapping) and isinstance(base.get(key), Mapping)]
    return {**base, **tree, **{key: {**base[key], **tree[key]} for key in both}}


def from_tree(tree: Mapping, settings: Sequence[str] = (), given: Mapping[str, object] | None = None) -> Config:
    """A configuration from nested mappings (as TOML gives them), settings and values; raises ConfigError."""
    tree = copy.deepcopy(dict(tree))
    typed = [read_setting(Config, setting) for setting in settings]
    for key, value in (*typed, *(given or {}).items()):
        put(tree, key, value)
    try:
        return build(Config, tree)
    except UnknownKeyError as error:
        meant = [] if "." in error.key or isinstance(error.value, Mapping) else keys_named(error.key)
        hint = f"unknown key {error.key!r}; did you mean {' or '.join(map(repr, meant))}?"
        raise ConfigError(hint if meant else str(error)) from error
    except TypeOfValueError as error:
        raise ConfigError(f"{error}{_how_to_write(error.key, tree, dict(typed), given or {})}") from error


def _how_to_write(where: str, tree: Mapping, typed: Mapping, given: Mapping) -> str:
    """What to type for the value at ``where``, which is of a wrong type; nothing where that cannot be told."""
    key = next((k for k in (*given, *typed) if where == k or where.startswith(f"{k}.")), where)
    while key == where and where not in (*given, *typed) and key.rpartition(".")[2].isdigit():
        key = where = key.rpartition(".")[0]  # of a list in a file, the whole list
    value = tree
    for step in key.split("."):
        value = value[int(step) if isinstance(value, list) else step]
    kind = kind_of(Config, key)
    right = mended(kind, value)
    if right is None:
        return f"; write --set {key}.NAME=VALUE" if key in typed and typing.get_origin(kind) is dict else ""
    quotes = " in quotes" if '"' in inline(right) else ""
    if key in given:
        return f"; write it{quotes}: {json.dumps(right, ensure_ascii=False)}"
    if key in typed:
        return f"; write it{quotes}: --set {shlex.quote(f'{key}={inline(right)}')}"
    return f"; write it{quotes}: {key.rpartition('.')[2]} = {_toml(right)}"


def keys_named(word: str, cutoff: float = 0.8) -> list[str]:
    """The keys that somebody means by a word: their last part, or another name that they have in the field.

    ``cutoff`` is the least likeness, 1 for the very word. Hyphens, capitals and a plural make no difference.
    """
    named: dict[str, list[str]] = {}
    for key in keys_of(Config):
        if key not in ("name", "data.columns"):
            for name in {key.rpartition(".")[2], key.replace(".", "_")}:
                named.setdefault(name, []).append(key)
    for key, names in ALSO_CALLED.items():
        for name in names.split():
            named.setdefault(name, []).append(key)
    word = re.sub(r"[-. ]", "_", word.strip().lower())
    for same in (word, f"{word}s", word.removesuffix("s")):
        if same in named:
            return named[same]
    close = difflib.get_close_matches(word, named, n=1, cutoff=cutoff)
    return named[close[0]] if close else []


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
