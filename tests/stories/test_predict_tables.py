"""Predictions of tables and streams: columns are kept, lines are answered as they come, nothing is half there."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.app.predictions import Predictor, predict_table
from tests.conftest import ROOT
from tests.runs import TRAIN

COMMAND = [sys.executable, "-m", "eqnp", "predict", "run"]
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
TEXTS = ["there was lava", "", 'ice, "snow"\nand\rfrost', "zzz ☃ é", "fire and sun"]


@pytest.fixture
def trained(small, capsys):
    """A run on texts of a column ``text``, in the present folder."""
    assert main([*TRAIN, "--out", "run"]) == 0
    capsys.readouterr()


def table_of(path: str) -> list[dict]:
    """A CSV file as the standard library reads it."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def write_table(path: str) -> list[dict]:
    """Texts of all kinds between columns of another use, one of them called as a new one would be."""
    rows = [{"id": f"00{i}", "text": text, "predicted": f"a,{i}", "label": "x"} for i, text in enumerate(TEXTS)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_table_keeps_its_columns(trained, capsys):
    """If this fails, a column is lost or changed, or a prediction stands in another row."""
    rows = write_table("in.csv")
    assert main(["predict", "run", "--data", "in.csv", "--out", "out.csv", "--json"]) == 0
    about = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = table_of("out.csv")
    classifier = SequenceClassifier.load("run")
    expected = [classifier.predict_proba([row["text"]])[0] for row in rows if row["text"]]
    expected.insert(1, classifier.model_.prior)
    for row, own, scores in zip(found, rows, expected, strict=True):
        assert list(row) == ["id", "text", "predicted", "label", "predicted_2", "score.0", "score.1"]
        assert {name: row[name] for name in own} == own
        assert [float(row["score.0"]), float(row["score.1"])] == pytest.approx(scores, abs=2e-3)
        assert row["predicted_2"] == str(np.argmax([float(row["score.0"]), float(row["score.1"])]))
    counts = {name: sum(row["predicted_2"] == name for row in found) for name in "01"}
    assert about == {"out": "out.csv", "rows": 5, "predicted": {k: n for k, n in counts.items() if n}, "prior": 2}
    assert main(["predict", "run", "--data", "in.csv", "--out", "sure.csv", "--at-least", "0.6"]) == 0
    sure = ["unsure" if max(float(row[f"score.{k}"]) for k in "01") < 0.6 else row["predicted_2"] for row in found]
    assert [row["predicted_2"] for row in table_of("sure.csv")] == sure
    assert "unsure" in sure
    assert main(["predict", "run", "--data", "out.csv", "--out", "out.csv"]) == 0  # over itself
    assert list(table_of("out.csv")[0])[-3:] == ["predicted_3", "score.0_2", "score.1_2"]


def test_kinds_of_tables_keep_their_values(trained):
    """If this fails, a number becomes text on the way, or a list is written in another form."""
    import pyarrow
    import pyarrow.parquet

    values = '{"text": "there was lava", "n": 1.10, "deep": {"a": [1, null, "é"]}, "on": true}\n'
    Path("in.jsonl").write_text(values + values.replace("lava", "ice").replace("1.10", "123456789012345678901"))
    for out in ("out.jsonl", "out.csv", "out.parquet"):
        assert main(["predict", "run", "--data", "in.jsonl", "--out", out]) == 0
    first = Path("out.jsonl").read_text("utf-8").splitlines()[0]
    assert re.match(re.escape(values.strip()[:-1]) + r', "predicted": "[01]", "score.0": 0\.\d+, "score.1": 0', first)
    scores = [[json.loads(line)[f"score.{k}"] for k in "01"] for line in Path("out.jsonl").read_text().splitlines()]
    assert [[float(row[f"score.{k}"]) for k in "01"] for row in table_of("out.csv")] == scores
    assert table_of("out.csv")[0]["deep"] == '{"a": [1, null, "é"]}'
    table = pyarrow.parquet.read_table("out.parquet")
    assert np.column_stack([table["score.0"], table["score.1"]]).tolist() == scores
    typed = pyarrow.table({"text": ["lava", "ice", None], "n": [1, None, 3], "l": [[1.5], [], None]})
    pyarrow.parquet.write_table(typed, "in.parquet")
    assert main(["predict", "run", "--data", "in.parquet", "--out", "typed.parquet"]) == 0
    back = pyarrow.parquet.read_table("typed.parquet")
    assert back.select(["text", "n", "l"]).equals(typed)
    assert back["score.1"].type == pyarrow.float64()


def test_from_python_and_of_several_files(trained):
    """If this fails, predictions of tables need the command line, or a second file is lost."""
    rows = write_table("a.csv")
    write_table("b.csv")
    with Predictor(Path("run"), "cpu", 1) as predictor:
        outcome = predict_table(predictor, ["a.csv", "b.csv"], Path("out.csv"))
        assert outcome.rows == 2 * len(rows)
        alone = [each.label for each in predictor.predict({"text": TEXTS})]
    assert [row["predicted_2"] for row in table_of("out.csv")] == alone * 2
    Path("c.csv").write_text("text,other\nlava,1\n")
    assert main(["predict", "run", "--data", "a.csv", "--data", "c.csv", "--out", "other.csv"]) == 2
    assert not Path("other.csv").exists()


def test_data_without_out_is_a_line_each(trained, capsys):
    """If this fails, --data prints something else than the lines of standard input would."""
    Path("in.csv").write_text("text,x\nthere was lava,1\nice,2\n")
    assert main(["predict", "run", "--data", "in.csv"]) == 0
    of_data = capsys.readouterr().out
    assert main(["predict", "run", "there was lava", "ice"]) == 0
    assert capsys.readouterr().out == of_data


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ("--data in.csv --out out.txt", "out.txt: a table is written as .csv, .jsonl, .parquet"),
        ("--out out.csv", "--out needs --data F"),
        ("--data in.csv lava", "give one of them"),
        ("--data in.csv --out out.csv --explain", "leave --out out"),
        ("--data none.csv --out out.csv", "none.csv: no such file"),
        ("--data other.csv --out out.csv", "no column 'text'"),
        ("--data twice.csv --out out.csv", "2 columns are called 'x'"),
        ("--data broken.csv --out out.csv", "line 20002"),
        ("--data in.csv --out none/out.csv", "none: no such folder"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(trained, capsys, options, advice):
    """If this fails, half a table is left where a file has a fault, or an old one is lost."""
    Path("in.csv").write_text("text\nlava\n")
    Path("other.csv").write_text("body\nlava\n")
    Path("twice.csv").write_text("text,x,x\nlava,1,2\n")
    Path("broken.csv").write_text("text\n" + "lava\n" * 20000 + "a,b\n")
    Path("out.csv").write_text("what was there before")
    before = sorted(os.listdir())
    assert main(["predict", "run", *options.split()]) == 2
    assert advice in capsys.readouterr().err
    assert sorted(os.listdir()) == before
    assert Path("out.csv").read_text() == "what was there before"


def many(path: str, rows: int) -> None:
    """A table of so many short texts."""
    Path(path).write_text(
        "text,n\n" + "".join(f"there was {'lava' if i % 2 else 'ice'} w{i % 97},{i}\n" for i in range(rows))
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_in_the_middle_leaves_nothing(trained, number):
    """If this fails, a table is there that ends in the middle, and nobody can tell."""
    many("many.csv", 300_000)
    before = sorted(os.listdir())
    process = subprocess.Popen([*COMMAND, "--data", "many.csv", "--out", "out.csv"], env=HERE, stderr=subprocess.PIPE)
    files = Path(f"/proc/{process.pid}/fd")
    begun, until = False, time.monotonic() + 60
    while not begun and time.monotonic() < until:
        time.sleep(0.1)
        begun = any(each.is_symlink() and _size(each) > 1 << 16 for each in files.iterdir() if _is_ours(each))
    assert begun
    process.send_signal(number)
    process.communicate()
    assert process.returncode in (-number, 128 + number)
    assert sorted(os.listdir()) == before


def _is_ours(link: Path) -> bool:
    """Whether an open file is one that has no name, in the present folder, or the hidden one that stands in for it."""
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target.startswith(f"{Path.cwd()}/") and ("(deleted)" in target or ".tmp" in target)


def _size(link: Path) -> int:
    try:
        return link.stat().st_size
    except OSError:
        return 0


def test_memory_does_not_grow_with_the_file(trained):
    """If this fails, a file of a million texts is held in memory, or nothing is told on the way."""
    peaks = []
    code = (
        "import sys, pathlib, eqnp.app.predictions as p; p.TELL = 0.1\n"
        "from eqnp.app.cli import main; code = main(sys.argv[1:])\n"
        # what getrusage says may be of the process that started this one
        "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    )
    for rows in (20_000, 100_000):
        many("many.csv", rows)
        command = [sys.executable, "-c", code, *COMMAND[3:], "--data", "many.csv", "--out", "out.csv", "--threads=1"]
        result = subprocess.run(command, env=HERE, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.splitlines()[-1]) / 1024)
        assert re.search(r"^[\d,]+ texts, [\d,]+ a second$", result.stderr, re.MULTILINE)
        assert sum(1 for _ in open("out.csv")) == rows + 1  # noqa: SIM115
    assert peaks[1] <= 600
    assert peaks[1] - peaks[0] <= 30


def test_a_stream_is_answered_as_its_lines_come(trained):
    """If this fails, `tail -f log | eqnp predict RUN` says nothing before the end."""
    with subprocess.Popen(COMMAND, env=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        took = []
        for text in ("there was lava", "ice", "", "there was sun and fire", "snow"):
            began = time.monotonic()
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert process.stdout.readline().rstrip("\n").rpartition("  ")[2] in (text, "[no text: the prior]")
            took.append(time.monotonic() - began)
        assert np.median(took[1:]) <= 0.2  # the first waits for the model
        process.stdin.write("half a li")
        process.stdin.flush()
        time.sleep(0.3)
        process.stdin.write("ne\r\nlast, without an end")
        process.stdin.close()
        rest = process.stdout.read().splitlines()
    assert [line.split("  ")[2] for line in rest] == ["half a line", "last, without an end"]
    assert process.returncode == 0


def test_a_stream_without_a_reader_ends(trained):
    """If this fails, `… | eqnp predict RUN | head` never comes back."""
    source = subprocess.Popen(["yes", "there was lava"], stdout=subprocess.PIPE)
    process = subprocess.Popen(COMMAND, env=HERE, stdin=source.stdout, stdout=subprocess.PIPE)
    source.stdout.close()
    assert process.stdout.readline().endswith(b"  there was lava\n")
    process.stdout.close()
    assert process.wait(60) == 0
    source.kill()
    source.wait()
