"""What a table of results says of runs: means over seeds, the best rival, ranges; and the figures put into pages."""

import json
import os
import subprocess
import sys

import pytest

from eqnp.app.records import cell, table, written
from eqnp.runs.results import further_lines, headline
from tests.conftest import ROOT
from tests.runs import TRAIN, own_data


def run(accuracy: float, seconds: float, rival: float = 0.5) -> dict:
    """The metrics of a run, as far as a table asks for them."""
    return {
        "preset": "text",
        "algorithm": "ep",
        "accuracy": {"validation": 0.1, "test": accuracy},
        "baselines": {"majority": {"validation": 0.2, "test": 0.25}, "nb_svm": {"validation": 0.3, "test": rival}},
        "samples": {"train": 1234},
        "classes": ["a", "b"],
        "parameters": 2_500_000,
        "seconds": seconds,
        "peak_resident_gib": seconds / 60,
    }


RUNS = [run(0.7, 60, 0.5), run(0.8, 120, 0.6), run(0.9, 90, 0.7)]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("texts", "1,234"),
        ("classes", "2"),
        ("weights", "2.50 M"),
        ("seeds", "3"),
        ("accuracy", "**80.0 ± 10.0**"),
        ("majority", "25.0"),
        ("NB-SVM", "60.0"),
        ("perceptron", "–"),
        ("best rival", "60.0 (NB-SVM)"),
        ("gain", "+20.0"),
        ("minutes", "1 to 2"),
        ("memory", "2.0 GiB"),
    ],
)
def test_a_column_says_what_it_is_called(column, says):
    """If this fails, the tables of the README and of docs/results.md are wrong in this column."""
    assert cell(column, RUNS) == says


def test_one_run_has_no_deviation_and_a_loss_has_a_minus():
    """If this fails, a single seed looks as if it had a spread, or a loss as if it were a gain."""
    lines = table([("one", [run(0.4, 60)])], ["accuracy", "gain", "minutes"]).splitlines()
    assert lines == ["| | accuracy, % | gain | minutes |", "|---|---|---|---|", "| one | **40.0** | −10.0 | 1 |"]


def test_requests_are_written():
    """If this fails, a figure in a sentence is another than that of its record."""
    records = {"text": RUNS, "deep": [{"a": {"b": 0.1234}}]}.__getitem__
    assert written("share text accuracy.test", records) == "80.0 ± 10.0"
    assert written("value deep a.b .1%", records) == "12.3%"
    records = {"text": RUNS, "other": [run(0.4, 60)]}.__getitem__
    _, *lines = written("table accuracy; mine=text; mine=other", records).splitlines()[2:]  # two may have one label
    assert lines == ["| mine | **80.0 ± 10.0** |", "| mine | **40.0** |"]


def test_what_training_prints_is_made_of_its_metrics(tmp_path, monkeypatch, capfd):
    """If this fails, the lines in the README, which are made of a record, are not what `eqnp train` prints."""
    monkeypatch.chdir(tmp_path)
    own_data(tmp_path / "own.csv")
    subprocess.run([sys.executable, "-m", "eqnp", *TRAIN, "--out=run"], env=_paths(), check=True)
    printed = capfd.readouterr().out.splitlines()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    lines = [headline(metrics), *further_lines(metrics)]
    start = printed.index(lines[0])
    assert printed[start : start + len(lines)] == lines
    command = [sys.executable, ROOT / "scripts" / "results.py", "run"]
    shown = subprocess.run(command, env=_paths(), capture_output=True, text=True, check=True).stdout
    assert f"**{100 * metrics['accuracy']['validation']:.1f}**" in shown


def _paths() -> dict[str, str]:
    """An environment in which the package is this one, wherever a process runs."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}
