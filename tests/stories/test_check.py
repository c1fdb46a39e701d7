"""`eqnp check` and training by other routes, as a user calls them."""

import ast
import json
import tomllib

import pytest

from eqnp.app.cli import main
from tests.conftest import ROOT

SMALL = ("--set=network.hidden=[12]", "--set=vectors.dimension=16")


def report(capsys, *arguments) -> tuple[dict, str]:
    """Run `eqnp check`; returns its JSON and its text."""
    assert main(["check", *arguments, "--samples=4", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    return json.loads(last), "\n".join(lines)


def worst(result: dict, name: str, beta: float | None = None) -> float:
    """The largest error of a row."""
    (row,) = (r for r in result["rows"] if r["name"] == name and beta in (None, r["beta"]))
    return max(row["errors"].values())


def test_check_of_a_smooth_network(capsys, tmp_path):
    """If this fails, the gradients of a user's network are wrong, or the report of them is."""
    pytest.importorskip("matplotlib")
    units = ("network.hidden=[64]", "network.activation=logistic", "network.output_activation=logistic")
    smooth = (f"--set={setting}" for setting in units)
    result, text = report(capsys, "mini-sentiment", *SMALL, *smooth, f"--out={tmp_path}")
    assert worst(result, "symmetric", 0.01) <= 1e-3
    assert worst(result, "richardson", 0.05) <= 1e-5
    assert worst(result, "holomorphic", 0.05) <= 1e-8
    assert worst(result, "BPTT, 400 steps") <= 1e-8
    assert max(result["finite_differences"].values()) <= 1e-6
    assert result["orders"]["richardson"] == pytest.approx(4, abs=0.4)
    assert result["orders"]["holomorphic"] >= 6
    assert max(result["gdu"]["error"].values()) <= 1e-3
    assert max(phase["rise"] for kind in ("even-odd", "accelerated") for phase in result["phases"][kind]) <= 1e-12
    ep, bptt = ([row[route] for row in result["memory"]] for route in ("ep", "bptt"))
    assert max(ep) <= 1.05 * min(ep)
    assert bptt[-1] > 2 * bptt[0]
    assert "holomorphic" in text
    assert json.loads((tmp_path / "check.json").read_text()) == result
    assert (tmp_path / "check.png").stat().st_size > 10_000


def test_check_of_a_network_with_kinks_and_two_texts(capsys):
    """If this fails, the default networks cannot be checked, or the refusal has no reason."""
    result, text = report(capsys, "mini-nli", *SMALL)
    assert "kinks" in result["refused"]["holomorphic"]
    assert worst(result, "symmetric", 0.01) <= 1e-3
    assert "refused" in text


def test_check_takes_no_data_for_a_run(tmp_path, capsys):
    """If this fails, a user believes that a run was checked on other data."""
    assert main(["check", str(tmp_path), "--data", "x.csv"]) == 2
    assert "presets" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["implicit", "bptt"])
def test_other_routes_train_the_same_network(algorithm, tmp_path, capsys):
    """If this fails, EP against backpropagation is not one option."""
    small = ("--set=training.epochs=2", "--set=settling.nudged_sweeps=5")
    assert main(["train", "--algorithm", algorithm, "--out", str(tmp_path / "run"), *small, "--json"]) == 0
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [event["train"]["loss"] for event in events if event["event"] == "epoch"]
    assert losses[1] < 0.9 * losses[0]
    assert f'algorithm = "{algorithm}"' in (tmp_path / "run" / "config.toml").read_text()


def test_an_unknown_algorithm_is_one_line(capsys):
    """If this fails, a typo trains something else."""
    assert main(["train", "--algorithm", "implict"]) == 2
    assert "implicit" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_a_batch_whose_units_are_all_at_their_bounds(capsys):
    """If this fails, a network that has learned its texts by heart cannot be checked, and its vectors are blamed."""
    result, text = report(capsys, "mini-sentiment", *SMALL, "--set=network.initial_bias=-50")
    assert max(result["finite_differences"].values()) <= 1e-9
    assert "units have kinks" in text


def test_every_listed_defect_still_has_a_place():
    """If this fails, a change of the code has made a line of tests/defects.toml void."""
    for defect in tomllib.loads((ROOT / "tests" / "defects.toml").read_text("utf-8"))["defect"]:
        source = (ROOT / "eqnp" / defect["file"]).read_text("utf-8")
        assert source.count(defect["right"]) == 1, defect["name"]
        ast.parse(source.replace(defect["right"], defect["wrong"]))  # else it is caught for nothing
        assert defect["right"] != defect["wrong"]
