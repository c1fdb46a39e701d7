"""What the README and the recipes say is run, so that it stays true."""

import re
import shlex
import subprocess
import sys

import pytest

from eqnp.app.cli import build_parser
from eqnp.config import load_config
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, body in BLOCKS if kind == "bash" for line in body.splitlines()]
SNIPPETS = [body for kind, body in BLOCKS if kind == "python"]


def test_the_two_commands_come_first():
    """If this fails, a newcomer does not find the two commands that do everything."""
    assert COMMANDS[:2] == ["pip install . && eqnp train", "pip install '.[test]' && pytest"]


@pytest.mark.parametrize("line", [c for c in COMMANDS if "eqnp " in c])
def test_every_command_line_is_valid(line):
    """If this fails, the README names an option, preset or key that does not exist."""
    arguments = shlex.split(line.split("&&")[-1].split("<")[0])
    options = build_parser().parse_args(arguments[arguments.index("eqnp") + 1 :])
    if options.command == "train" and options.source:
        preset = "imdb" if options.source.endswith("config.toml") or "/" in options.source else options.source
        load_config(preset, options.set)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_snippet_runs(snippet):
    """If this fails, the first code a reader copies does not work."""
    result = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout


def test_proving_a_layer_of_ones_own_is_short():
    """If this fails, the first property test that a reader writes takes more than a look."""
    (snippet,) = (body for body in SNIPPETS if "eqnp.testing" in body)
    assert "@given" in snippet
    assert len(snippet.splitlines()) <= 15


@pytest.mark.parametrize("recipe", ["train_sentiment.py", "train_nli.py"])
def test_the_recipes_run(recipe):
    """If this fails, the script that a reader opens first is broken."""
    command = [sys.executable, ROOT / "scripts" / recipe, "--epochs", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert re.fullmatch(r"test \d+\.\d%", result.stdout.splitlines()[-1])


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_recipes_stay_short(script):
    """If this fails, a recipe has become a program."""
    limit = {"ep": 100, "train_sentiment": 80, "train_nli": 80}.get(script.stem, 90)
    assert len(script.read_text(encoding="utf-8").splitlines()) <= limit
