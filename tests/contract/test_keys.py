"""Every key is explained, by what the code allows, and the page of the documentation says the same."""

import dataclasses
import json
import re

import pytest

from eqnp.app.cli import main
from eqnp.app.keys import described, explained, page
from eqnp.config import Config, load_config
from eqnp.errors import ConfigError
from eqnp.settings import kind_of
from tests.conftest import ROOT

KEYS = {each.key: each for each in explained()}
SECTIONS = sorted({key.rpartition(".")[0] for key in KEYS})
OTHERS = {  # what else a value at the edge of its range needs
    "network.query_window": ["network.attention.0.queries=text"],
    "network.compare": ["network.attention.0.queries=text"],
    "network.cost": ["network.output_activation=logistic"],
}
EDGE = re.compile(r"(above |below )?(?<!\w)(−?[\d.]+(?:e-\d+)?)")


def accepts(key: str, value) -> bool:
    """Whether a configuration may have this value."""
    shorter = key.replace("attention.0.", "")
    base = ["network.attention=[{queries=1, memory='text'}]", "network.activation=tanh", "learning.beta=0.1"]
    try:
        load_config("mini-sentiment", [*base, *OTHERS.get(shorter, [])], {key: value})
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_a_line(section):
    """If this fails, a key was added without a word about it in the docstring of its section, or is gone from it."""
    kind = kind_of(Config, section)
    assert list(described(kind)) == [field.name for field in dataclasses.fields(kind)]
    for key, each in KEYS.items():
        assert 10 <= len(each.description) <= 120, key


@pytest.mark.parametrize("key", [key for key, each in KEYS.items() if EDGE.search(each.allowed)])
def test_a_range_is_what_the_code_allows(key):
    """If this fails, the page says of a number what the code refuses, or the other way round."""
    allowed, kind = KEYS[key].allowed, kind_of(Config, key)
    number = float if kind is float else int
    step = 1 if number is int else 1e-9
    alone, _, rest = allowed.rpartition(", or ") if allowed.startswith("−1, ") else ("", "", allowed)
    assert all(accepts(key, int(each.replace("−", "-"))) for each in filter(None, alone.split(", ")))
    for at, (excluded, edge) in enumerate(EDGE.findall(rest)):
        value, outwards = number(float(edge.replace("−", "-"))), (-1, 1)[at]
        if excluded:
            assert not accepts(key, value)
            assert accepts(key, value - outwards * step)
        else:
            assert accepts(key, value)
            assert not accepts(key, value + outwards * max(step, abs(value) * 1e-3))
    if "greater" in rest or len(EDGE.findall(rest)) == 1:
        assert accepts(key, number(1000) if key != "learning.beta" else 0.4)


@pytest.mark.parametrize("key", [key for key, each in KEYS.items() if re.search(r"\w or [a-z]\w+$", each.allowed)])
def test_choices_are_all_there_are(key):
    """If this fails, the page offers what the code refuses, or keeps a choice to itself."""
    names = re.split(r", | or ", KEYS[key].allowed)
    if names[0] in ("true", "a number", "1", "text", "0", "−1", "2"):
        return
    names = ["" if name == "empty" else name for name in names]
    with pytest.raises(ConfigError, match="allowed: ") as error:
        load_config("text", given={key: "zzzz"})
    offered = str(error.value).split("allowed: ")[1].split(", ")
    assert sorted(offered) == sorted(filter(None, names))
    assert all(accepts(key, name) for name in names)


def test_the_page_is_made_of_the_code():
    """If this fails, docs/keys.md is of another version; write it again: python scripts/keys.py."""
    assert (ROOT / "docs" / "keys.md").read_text("utf-8") == page()


def test_the_command_finds_keys_sections_and_presets(capsys):
    """If this fails, somebody who looks a key up is sent away, or shown another preset's values."""
    assert main(["config", "--json"]) == 0
    every = json.loads(capsys.readouterr().out.splitlines()[-1])["keys"]
    assert [each["key"] for each in every] == list(KEYS)
    assert main(["config", "text", "training", "lr", "network.attention.0.queries", "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    own = load_config("text")
    values = {each["key"]: each["value"] for each in found["keys"]}
    expected = {f"training.{name}": value for name, value in dataclasses.asdict(own.training).items()}
    assert values == expected | {"optimizer.learning_rate": 2e-3, "network.attention.0.queries": 8}
    assert found["preset"] == "text"
    assert "training.batch = 50   (1 or greater; default 100)\n    texts of an update\n" in out
    for names, advice in (
        (["bacth"], "did you mean 'training.batch'?"),
        (["training.lr"], "did you mean"),
        (["text", "pairs"], "give one at a time"),
    ):
        assert main(["config", *names]) == 2
        assert advice in capsys.readouterr().err
