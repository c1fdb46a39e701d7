"""Bad input: one line on stderr, exit code 2, nothing written."""

import json

import numpy as np
import pytest

from eqnp.app.cli import main

ROWS = [{"text": f"word{i} good film number{i % 3}", "label": i % 2} for i in range(40)]


def jsonl(path, rows):
    """Write rows as JSON lines and return the path as text."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def refuse(capsys, folder, *arguments) -> str:
    """Run a command that must fail; returns its one line."""
    before = sorted(folder.rglob("*"))
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.endswith("\n")
    assert error.count("\n") == 1, error
    assert sorted(folder.rglob("*")) == before
    return error


@pytest.fixture
def train(capsys, tmp_path, monkeypatch):
    """Run ``eqnp train`` in an empty folder and return its complaint."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: refuse(capsys, tmp_path, "train", *arguments)


def test_missing_empty_and_wrong_files(train, tmp_path):
    """If this fails, a wrong path ends in a traceback, or worse, in a run on no data."""
    assert "no such file" in train("--data", "absent.csv")
    (tmp_path / "empty.csv").touch()
    assert "empty" in train("--data", "empty.csv")
    assert "cannot tell" in train("--data", "mini-sentimnt")
    assert "mini-sentiment" in train("--data", "mini-sentimnt")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    assert "broken.parquet" in train("--data", "broken.parquet")
    (tmp_path / "header.csv").write_text("text,label\n")
    assert "no rows" in train("--data", "header.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "folder" in train("--data", "folder.csv")
    assert "no such file" in train("--data", jsonl(tmp_path / "ok.jsonl", ROWS), "--test-data", "absent.csv")


def test_wrong_columns_and_labels(train, tmp_path):
    """If this fails, a mistaken column or label trains on nonsense."""
    rows = [{"review": r["text"], "stars": r["label"]} for r in ROWS]
    assert "'review', 'stars'" in train("--data", jsonl(tmp_path / "columns.jsonl", rows))
    for labels, complaint in (
        ([1, 2], "0 … C−1"),
        ([0, 5], "0 … C−1"),
        ([-1, 0], "0 … C−1"),
        ([0.5, 1.0], "fractions"),
        ([None, 1], "no label"),
        ([0, 0], "same label"),
        ([{"a": 0}, {"a": 1}], "neither numbers nor text"),
    ):
        rows = [{"text": r["text"], "label": labels[i % 2]} for i, r in enumerate(ROWS)]
        assert complaint in train("--data", jsonl(tmp_path / "labels.jsonl", rows)), labels
    names = [{"text": r["text"], "label": ["bad", "good"][r["label"]]} for r in ROWS]
    good = jsonl(tmp_path / "names.jsonl", names)
    other = jsonl(tmp_path / "other.jsonl", [{"text": "a film", "label": "goood"}])
    assert "did you mean 'good'" in train("--data", good, "--test-data", other)
    numbers = jsonl(tmp_path / "numbers.jsonl", ROWS)
    assert "which number is which" in train("--data", good, "--test-data", numbers)
    nested = [{"text": {"a": r["text"]}, "label": r["label"]} for r in ROWS]
    assert "text column" in train("--data", jsonl(tmp_path / "nested.jsonl", nested))


def test_empty_and_unknown_text(train, tmp_path):
    """If this fails, empty rows are trained on in silence."""
    assert "row 3" in train("--data", jsonl(tmp_path / "hole.jsonl", [*ROWS[:2], {"text": "  ", "label": 1}, *ROWS]))
    strange = jsonl(tmp_path / "strange.jsonl", [{"text": "zq qz", "label": 0}] * 3)
    assert "known word" in train("--data", jsonl(tmp_path / "ok.jsonl", ROWS), "--test-data", strange)
    single = [{"text": f"unique{i}", "label": i % 2} for i in range(40)]
    assert "known word" in train("--data", jsonl(tmp_path / "single.jsonl", single))


def test_bad_vectors(train, tmp_path):
    """If this fails, a damaged vectors file trains a network on garbage."""
    data = ["--data", jsonl(tmp_path / "ok.jsonl", ROWS), "--vectors"]
    assert "absent.txt" in train(*data, "absent.txt")
    (tmp_path / "glove.txt").write_text("good 1.0 2.0 3.0\nfilm 1.0 2.0\n")
    assert "line 2" in train(*data, "glove.txt")
    (tmp_path / "nan.txt").write_text("good 1.0 nan 3.0\nfilm 1.0 2.0 1.0\n")
    assert "good" in train(*data, "nan.txt")
    np.savez(tmp_path / "wrong.npz", words=np.array(["good"]), vectors=np.zeros((2, 3)))
    assert "wrong.npz" in train(*data, "wrong.npz")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["imdbb"], "'imdb'"),
        (["absent.toml"], "absent.toml"),
        (["--sed", "1"], "'--seed'"),
        (["--set", "learning.betta=1"], "'learning.beta'"),
        (["--set", "lerning.beta=1"], "'learning'"),
        (["--set", "learning.beta"], "section.key=value"),
        (["--set", "learning.beta=high"], "a number"),
        (["--set", "training.epochs=2.5"], "a whole number"),
        (["--set", "training.epochs=0"], "1 or greater"),
        (["--set", "learning.beta=2"], "β < 1"),
        (["--set", "learning.beta=0"], "greater than 0"),
        (["--set", "learning.beta=nan"], "a number"),
        (["--set", "network.activation=relu"], "clipped"),
        (["--set", "network.attention.0.queries=0"], "at least 1"),
        (["--set", "network.attention.0.memory=txt"], "'text'"),
        (["--set", "network.attention.7.queries=1"], "0 … 0"),
        (["--set", "network.scale=-1"], "greater than 0"),
        (["--set", "network.hidden=[0]"], "at least 1"),
        (["--set", "settling.order=odd-even"], "'even-odd'"),
        (["--set", "optimizer.learning_rates.projction=1.0"], "optimizer.learning_rates"),
        (["--set", "training.seed=-1"], "0 or greater"),
        (["--set", "training.word_dropout=1.0"], "[0, 1)"),
        (["--set", "vectors.norm=-1.0"], "greater than 0"),
        (["--set", "data.columns={}"], "unknown segment 'text'"),
        (["--set", "data.columns={labels='text'}"], "has a segment 'labels'; a name of letters"),
        (["--set", "data.train.x.y=5"], "not a key inside a table"),
        (["--set", "data.classes=['a', 'a']"], "twice"),
        (["--set", "data.label=2020-01-01"], "data.label"),
        (["--set", "network.attention=[]"], "at least one"),
        (["--set", "network.hidden=64"], "a list"),
        (["--set", "network.hidden=[1000000000000]"], "at most"),
        (["--set", "network.scale=inf"], "at most"),
        (["--set", "optimizer.decay_mean=1.0"], "[0, 1)"),
        (["--set", "optimizer.epsilon=0.0"], "epsilon"),
        (["--set", "optimizer.learning_rate=1e39"], "at most"),
        (["--set", "settling.tolerance=-1"], "0 or greater"),
        (["--set", "settling.free_sweeps=0"], "1 or greater"),
        (["--seed", "one"], "invalid int"),
        (["--threads", "x"], "1 or greater"),
        (["--threads", "0"], "1 or greater"),
    ],
)
def test_options_and_keys(train, arguments, hint):
    """If this fails, a typo is ignored, or answered by a page of text."""
    assert hint in train(*arguments)


def test_an_existing_run_is_not_overwritten(train, tmp_path):
    """If this fails, a second run with the same --out destroys the first."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.h5").write_text("precious")
    assert "--out" in train("--out", "run")
    assert (tmp_path / "run" / "model.h5").read_text() == "precious"


def test_runs_that_are_none(capsys, tmp_path, monkeypatch):
    """If this fails, a wrong run folder or a damaged model ends in a traceback."""
    monkeypatch.chdir(tmp_path)
    assert "no such run" in refuse(capsys, tmp_path, "predict", "absent", "a film")
    (tmp_path / "run").mkdir()
    assert "no such model" in refuse(capsys, tmp_path, "evaluate", "run")
    (tmp_path / "run" / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "not of this format" in refuse(capsys, tmp_path, "predict", "run", "a film")
    (tmp_path / "run" / "model.h5").write_bytes(bytes(1000))
    assert "not a file of this package" in refuse(capsys, tmp_path, "predict", "run", "a film")
    assert "unknown argument" in refuse(capsys, tmp_path, "predict", "run", "--jsn")
    assert "COMMAND" in refuse(capsys, tmp_path, "predikt")


def test_reserved_names_are_no_files(tmp_path, monkeypatch, small):
    """If this fails, a file called "corpus" in the folder breaks every training there."""
    for name in ("corpus", "mini-sentiment"):
        (tmp_path / name).touch()
    assert main(["train", "mini-sentiment", "--set=training.epochs=1", "--out", "run"]) == 0


def test_a_preset_is_named_and_not_set(train, tmp_path):
    """If this fails, a run is written that cannot be read again."""
    assert "cannot be set" in train("mini-sentiment", "--set", "preset=foo")
    assert "cannot be set" in train("mini-sentiment", "--set", "name=foo")
    (tmp_path / "own.toml").write_text('preset = "mini-sentimnt"\n')
    assert "mini-sentiment" in train("own.toml")
    assert "UTF-8" in train("--data", b"caf\xe9.csv".decode("utf-8", "surrogateescape"))
    assert "half precision" in train("--out", "x", "--set=training.precision=half", "--set=vectors.norm=1e6")


def test_no_command_is_one_line(capsys, tmp_path):
    """If this fails, the bare command is a traceback."""
    refuse(capsys, tmp_path)
