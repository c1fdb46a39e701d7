"""What the README, the pages of docs/ and the recipes say is run, or at least understood, so that it stays true."""

import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from eqnp.app.cli import build_parser, main
from eqnp.app.keys import explained
from eqnp.config import load_config
from eqnp.errors import EqnpError
from tests.conftest import ROOT
from tests.runs import weather

PAGES = {p.name: p.read_text("utf-8") for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = [
    (page, *found) for page, text in PAGES.items() for found in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
]
COMMANDS = [(page, line) for page, kind, body in BLOCKS if kind == "bash" for line in body.splitlines()]
SNIPPETS = [(page, body) for page, kind, body in BLOCKS if kind == "python"]
INLINE = [(page, code) for page, text in PAGES.items() for code in re.findall(r"(?<!`)`([^`\n]+)`", text)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
MARKERS = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
KEYS = {each.key for each in explained()}
SECTIONS = {key.partition(".")[0] for key in KEYS}
PARSER = build_parser()
OPTIONS = {
    name: {option for action in command._actions for option in action.option_strings}
    for name, command in PARSER._subparsers._group_actions[0].choices.items()
}


def pieces(line: str) -> list[list[str]]:
    """The commands of a line of shell, without comments and what they read from."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found = [[]]
    for word in lexer:
        if word in ("&&", "|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words[: words.index("<")] if "<" in words else words for words in found]


def understand(words: list[str]) -> None:
    """Raise unless a command would be understood; commands that are not listed here are refused."""
    if words[:2] == ["mpirun", "-n"]:
        words = words[3:]
    program, *given = words
    if program == "eqnp":
        options = PARSER.parse_args(given)
        if options.command == "config":
            assert set(options.names) <= KEYS | SECTIONS | {"imdb"}, options.names
        if hasattr(options, "set"):
            source = getattr(options, "source", None) or "text"
            load_config("imdb" if "/" in source else source, options.set)
    elif program == "python":
        script = (ROOT / given[0]).read_text("utf-8")
        assert [word for word in given if word.startswith("--") and f'"{word}"' not in script] == []
    elif words[:2] == ["pip", "install"]:
        wanted = re.findall(r"^\.\[(.*)\]$", "\n".join(given), re.MULTILINE)
        assert {name for names in wanted for name in names.split(",")} <= EXTRAS.keys()
    elif program == "pytest":
        assert not given or (given[0] == "-m" and given[1] in MARKERS)
    else:
        assert program in ("tail", "cp"), f"nothing checks {program}"


def test_the_two_commands_come_first():
    """If this fails, a newcomer does not find the two commands that do everything."""
    first = [line for page, line in COMMANDS if page == "README.md"]
    assert first[:2] == ["pip install . && eqnp train", "pip install '.[test]' && pytest"]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_line_is_valid(page, line):
    """If this fails, a page names an option, preset, key, extra or script that does not exist."""
    for words in pieces(line):
        understand(words)


def test_a_wrong_command_is_told():
    """If this fails, the test above passes whatever the pages say."""
    wrong = ["eqnp train --epochs 3", "eqnp train --set training.epoch=3", "eqnp config trainning", "eqnp fly"]
    wrong += ["python scripts/results.py --all", "python scripts/gone.py", "pip install '.[gpu]'", "pytest -m quick"]
    for line in [*wrong, "conda install eqnp"]:
        with pytest.raises((AssertionError, SystemExit, OSError, EqnpError)):
            understand(*pieces(line))


@pytest.mark.parametrize(("page", "code"), [each for each in INLINE if each[1].startswith("eqnp ")])
def test_commands_within_sentences_exist(page, code):
    """If this fails, a sentence names a command, or an option of it, that does not exist."""
    _, command, *rest = code.replace("[", " ").replace("]", " ").split()
    assert command in OPTIONS or command == "--version" or command == "…"
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= OPTIONS.get(command, set())


def test_keys_within_sentences_exist():
    """If this fails, a sentence names a key of the configuration that does not exist."""
    named = {(page, match[1]) for page, code in INLINE if (match := re.match(r"(?:--set )?'?([a-z]+\.[\w.]+)", code))}
    named = {(page, key) for page, key in named if key.partition(".")[0] in SECTIONS and key != "data.h5"}
    assert len(named) > 30
    held = {key for each in KEYS for key in (each, each.replace(".0.", "."))}
    tables = {"data.columns.", "optimizer.learning_rates.", "training.class_weight.", "network.attention.0."}
    assert [each for each in sorted(named) if each[1] not in held and not each[1].startswith(tuple(tables))] == []


@pytest.mark.parametrize(("page", "body"), [(page, body) for page, kind, body in BLOCKS if kind == "toml"])
def test_every_file_of_settings_is_read(page, body, tmp_path):
    """If this fails, a configuration that a reader copies is refused."""
    (tmp_path / "own.toml").write_text(body, "utf-8")
    load_config(str(tmp_path / "own.toml"))


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS)
def test_every_snippet_runs(page, snippet):
    """If this fails, the first code a reader copies does not work."""
    result = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout


def test_every_block_has_a_language():
    """If this fails, a block of code is of a kind that no test here looks at."""
    assert {kind for _, kind, _ in BLOCKS} == {"bash", "python", "toml", "text"}
    fences = sum(len(re.findall(r"^```", text, re.MULTILINE)) for text in PAGES.values())
    assert fences == 2 * len(BLOCKS)


def test_the_commands_for_ones_own_texts_run(tmp_path, monkeypatch, capsys):
    """If this fails, a newcomer does not get from a file to predictions by the README alone."""
    (body,) = (body for page, kind, body in BLOCKS if page == "README.md" and "eqnp data mail.csv" in body)
    install, *lines = body.splitlines()
    assert install == "pip install ."
    assert len(lines) <= 4
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("mail", "later", "new")):
        weather(tmp_path / f"{name}.csv", 120, seed)
    for line in lines:
        quick = ["--set=training.epochs=3", "--set=vectors.dimension=8"] if " train " in line else []
        assert main([*shlex.split(line)[1:], *quick]) == 0, line
    assert "predicted" in (tmp_path / "predictions.csv").read_text("utf-8").splitlines()[0]
    assert "by class" in capsys.readouterr().out


def test_proving_a_layer_of_ones_own_is_short():
    """If this fails, the first check of a layer that a reader writes takes more than a look."""
    (snippet,) = (body for page, body in SNIPPETS if page == "README.md" and "eqnp.testing" in body)
    assert "check_potential" in snippet
    assert len(snippet.splitlines()) <= 10


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
