"""Every key of a configuration, explained: its default, what is allowed, and a line from the docstring of its section.

A section is a dataclass whose docstring has an entry ``key (what is allowed) : what it is`` for each of its fields;
without the brackets, what is allowed is said by the type.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from eqnp.config import Config, keys_named, load_config, presets
from eqnp.errors import ConfigError, nearest
from eqnp.settings import inline, keys_of, kind_of, name_of

ENTRY = re.compile(r"^(\w+)(?: \(([^)]*)\))? : (.+(?:\n    +\S.*)*)", re.MULTILINE)
NEEDED = None  # the default of a key that has none


@dataclass(frozen=True)
class Key:
    """A key: its default (None: it must be given), its value in a preset, what is allowed, and what it is."""

    key: str
    default: object
    value: object
    allowed: str
    description: str


def described(section: type) -> dict[str, tuple[str, str]]:
    """By the field of a section what is allowed ("" where the type says it), and the description."""
    entries = ENTRY.findall(inspect.getdoc(section) or "")
    return {name: (allowed, " ".join(text.split())) for name, allowed, text in entries}


def explained(preset: str = "") -> list[Key]:
    """All keys, in their order, with the values of a preset (without one: the defaults)."""
    defaults, config = Config(), load_config(preset) if preset else Config()
    found = []
    for key in keys_of(Config):
        path = key.split(".")
        if key == "name":
            continue
        section = kind_of(Config, key.rpartition(".")[0])
        allowed, text = described(section).get(path[-1], ("", ""))
        if path[-2].isdigit():  # of an entry of a list: of the first one, where there is a preset
            (field,) = (each for each in dataclasses.fields(section) if each.name == path[-1])
            default = value = NEEDED if field.default is dataclasses.MISSING else field.default
            if preset:
                value = getattr(getattr(getattr(config, path[0]), path[1])[0], path[-1])
        else:
            default, value = (_plain(getattr(getattr(each, path[0]), path[1])) for each in (defaults, config))
        found.append(Key(key, default, value, allowed or name_of(kind_of(Config, key)), text))
    return found


def chosen(names: Sequence[str]) -> tuple[str, list[Key]]:
    """The preset among these names, if there is one, and the keys that the others mean: keys, sections, other names.

    Raises ConfigError for a name that means nothing, and for two presets.
    """
    named = [name for name in names if name in presets()]
    if len(named) > 1:
        raise ConfigError(f"{len(named)} presets are given ({', '.join(named)}); give one at a time")
    every = explained(*named)
    known, wanted = [each.key for each in every], []
    for name in names:
        if name in named:
            continue
        own = [key for key in known if key == name or key.startswith(f"{name}.")]
        own = own or [key for key in keys_named(name, cutoff=1) if key in known]
        if not own:
            sections = sorted({key.partition(".")[0] for key in known})
            close = keys_named(name) or [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]]
            hint = (
                f"; did you mean {' or '.join(map(repr, close))}?" if close else nearest(name, [*sections, *presets()])
            )
            raise ConfigError(f"no key, section or preset {name!r}{hint}")
        wanted += own
    return "".join(named), [each for each in every if each.key in wanted or not wanted]


def lines(each: Key) -> str:
    """A key for the terminal."""
    value = "needed" if each.value is NEEDED else inline(each.value)
    default = "" if each.default in (NEEDED, each.value) else f"; default {inline(each.default)}"
    return f"{each.key} = {value}   ({each.allowed}{default})\n    {each.description}"


def page() -> str:
    """The page of the documentation that has all keys, in Markdown."""
    parts = [
        "# Every key of a configuration\n\n[← eqnp](../README.md) · [texts of your own](texts.md)\n\n"
        "`eqnp config` prints the same, `eqnp config KEY` one of them, and `eqnp config PRESET` the values of a "
        "preset.\n`--set section.key=value` changes one, or a TOML file does. This page is made by "
        "`python scripts/keys.py`\nfrom the docstrings of the sections.\n"
    ]
    section = ""
    for each in explained():
        if each.key.partition(".")[0] != section:
            section = each.key.partition(".")[0]
            summary = (inspect.getdoc(typing.get_type_hints(Config)[section]) or "").split("\n\n")[0]
            parts.append(f"\n## {section}\n\n{summary}\n\n| key | default | allowed | |\n|---|---|---|---|\n")
        default = "needed" if each.default is NEEDED else f"`{inline(each.default)}`"
        cells = (f"`{each.key.partition('.')[2]}`", default, each.allowed, each.description)
        parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def _plain(value):
    """Nested dataclasses as tables."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
