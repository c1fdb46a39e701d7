"""Nested dataclasses from tables as TOML gives them and from ``key=value``, each value held against its annotation.

A key names a value by its path: ``training.epochs``, ``data.columns.text``, ``network.attention.0.queries``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence

from eqnp.errors import ConfigError, nearest

LARGEST = 10**7  # of any number in a configuration: products of two stay finite in float32 and countable in int64
LARGEST_SEED = 2**63 - 1
PAIR = re.compile(r"\s*['\"]?([^'\"=:]+?)['\"]?\s*[=:]\s*['\"]?(.*?)['\"]?\s*")


class UnknownKeyError(ConfigError):
    """A key that no dataclass has; ``key`` is its path."""

    def __init__(self, key: str, known: Sequence[str], value: object):
        super().__init__(f"unknown key {key!r}{nearest(key, known)}")
        self.key, self.value = key, value


class TypeOfValueError(ConfigError):
    """A value of another type than its key has; ``key`` is its path."""

    def __init__(self, key: str, value: object, kind: object):
        super().__init__(f"{key} is {value!r}; it must be {name_of(kind)}")
        self.key = key


def read_setting(root: type, setting: str) -> tuple[str, object]:
    """The key and the value of ``key=value``; raises ConfigError where there is no "=".

    The value is what TOML reads, or the text itself: where TOML cannot read it, and where the key's type is text.
    """
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--set {setting!r} has no '='; write --set section.key=value")
    key, text = key.strip(), text.strip()
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key, text
    return key, text if kind_of(root, key) is str and not isinstance(value, str) else value


def put(tree, key: str, value) -> None:
    """Put a value into nested tables and lists at its path; raises ConfigError where there is no such place."""
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


def build(kind, value, where: str = ""):
    """Check a value against a type annotation and convert it: tables to dataclasses, arrays to tuples.

    Raises ConfigError, and of its kinds UnknownKeyError and TypeOfValueError.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {value!r}; it must be a table of keys")
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise UnknownKeyError(_join(where, key), [_join(where, hint) for hint in hints], value[key])
        missing = [f.name for f in dataclasses.fields(kind) if _required(f) and f.name not in value]
        if missing:
            raise ConfigError(f"{where} lacks the key {missing[0]!r}; add it")
        return kind(**{k: build(hints[k], v, _join(where, k)) for k, v in value.items()})
    if isinstance(value, str) and not value.isprintable() and not _is_utf8(value):
        raise ConfigError(f"{where} is {value!a}, which is no UTF-8 text; rename the file")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(build(arguments[0], v, f"{where}.{i}") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(k): build(arguments[1], v, _join(where, k)) for k, v in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= LARGEST:
            raise ConfigError(f"{where} is {value}; it must be a number of at most {LARGEST:g}")
        return float(value)
    if type(value) is int and abs(value) > (LARGEST_SEED if where.endswith(".seed") else LARGEST):
        raise ConfigError(f"{where} is {value}; it must be at most {LARGEST:,} (a seed: {LARGEST_SEED:,})")
    lists = [each for each in arguments if typing.get_origin(each) is tuple]
    if isinstance(kind, types.UnionType) and lists and isinstance(value, list | tuple):
        return build(lists[0], value, where)
    tables = [each for each in arguments if typing.get_origin(each) is dict]
    if isinstance(kind, types.UnionType) and tables and isinstance(value, Mapping):
        return build(tables[0], value, where)
    plain = arguments if isinstance(kind, types.UnionType) else (kind,)
    if any(p in (str, int, float, bool) and type(value) is p for p in plain):
        return value
    raise TypeOfValueError(where, value, kind)


def kind_of(root: type, key: str):
    """The type of the value at a path, by the annotations; None where there is none."""
    kind = root
    for step in key.split("."):
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(step)
        else:
            kind = arguments[1] if origin is dict else arguments[0] if origin is tuple and step.isdigit() else None
    return kind


def keys_of(kind: type, where: str = "") -> list[str]:
    """The paths of all values that can be set, those of a list's entries by the first of them."""
    keys = []
    for name, hint in typing.get_type_hints(kind).items():
        key, arguments = _join(where, name), typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            keys += keys_of(hint, key)
        elif arguments and dataclasses.is_dataclass(arguments[0]):
            keys += [key, *keys_of(arguments[0], f"{key}.0")]
        else:
            keys.append(key)
    return keys


def name_of(kind) -> str:
    """A type in words."""
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    if kind in names:
        return names[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"a list, each entry {name_of(arguments[0])}"
    if origin is dict:
        return f"a table, each value {name_of(arguments[1])}"
    return " or ".join(name_of(a) for a in arguments) if arguments else "a table"


def mended(kind, value):
    """What a value of another type was probably meant to be, of the type ``kind``; None where that is not plain."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is str:
        if isinstance(value, bool):
            return str(value).lower()
        return str(value) if isinstance(value, str | int | float | datetime.date | datetime.time) else None
    if origin is tuple:
        if isinstance(value, Mapping):
            return None
        entries = value if isinstance(value, list | tuple) else str(value).strip("[]() ").split(",")
        entries = [e.strip(" '\"") if isinstance(e, str) else e for e in entries]
        entries = [mended(arguments[0], entry) for entry in entries if entry != ""]
        return None if any(entry is None for entry in entries) else entries
    if origin is dict:
        if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
            pairs = [PAIR.fullmatch(part) for part in value[1:-1].split(",") if part.strip()]
            value = dict(pair.groups() for pair in pairs) if all(pairs) else None
        if not isinstance(value, Mapping):
            return None
        entries = {str(k): mended(arguments[1], v) for k, v in value.items()}
        return None if any(entry is None for entry in entries.values()) else entries
    if kind in (int, float) and isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            return None
    plain = arguments if isinstance(kind, types.UnionType) else (kind,)
    return value if type(value) in plain else None


def inline(value) -> str:
    """A value as TOML has it, without a space that a shell or a reader would stumble over."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}={inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
