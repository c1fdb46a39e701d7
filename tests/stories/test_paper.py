"""The paper's experiment: a quick look at all of it, and that it can be stopped anywhere."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.errors import Interrupted
from eqnp.paper import document, measures
from eqnp.paper.experiment import Experiment
from eqnp.paper.plan import QUICK, QUICK_RATES, QUICK_TEXTS, TASKS, Trial, named
from eqnp.runs.loop import one_hot
from eqnp.runs.training import fresh_network
from tests.conftest import ROOT
from tests.runs import killed_after, outcome

SCRIPT = ROOT / "scripts" / "paper.py"
SHORT = {"training.epochs": 1, "training.checkpoint_seconds": 0, "training.batch": 100}
PICTURES = ("curves", "settling", "steps", "memory", "ablation")


def quick(task: str) -> list[str]:
    """The command that trains a small network of a task's preset."""
    settings = {**QUICK, **QUICK_RATES, **QUICK_TEXTS[task], **SHORT}
    return ["train", TASKS[task], *(f"--set={key}={_toml(value)}" for key, value in settings.items()), "--threads=1"]


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={each}" for key, each in value.items()) + "}"
    return repr(value) if isinstance(value, str) else str(value)


@pytest.mark.slow
def test_a_quick_look_at_all_of_it(tmp_path):
    """If this fails, hours of training end in a page that is not written, or begin again where they were stopped."""
    command = [sys.executable, SCRIPT, "--quick", "--out", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    results = tmp_path / "out" / "results"
    deadline = time.monotonic() + 120
    while not (results / "snli-ep-0.json").exists() and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = (results / "snli-ep-0.json").read_bytes()
    before = (ROOT / "docs" / "paper.md").read_bytes()
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "--- snli-ep-0" not in ended.stdout
    assert "--- snli-implicit-0" in ended.stdout
    assert (results / "snli-ep-0.json").read_bytes() == done
    assert (ROOT / "docs" / "paper.md").read_bytes() == before
    page = (tmp_path / "out" / "paper.md").read_text("utf-8")
    assert document.MISSING not in page.splitlines()
    for name in PICTURES:
        assert (tmp_path / "out" / "paper" / f"{name}.png").stat().st_size > 5000
    for name in ("snli-ep-0", "imdb-once-bptt-0"):
        record = json.loads((results / f"{name}.json").read_text())
        trained = re.sub(r"(-ep|-bptt)-0$", "", name)
        by = document.ALGORITHMS[record["metrics"]["algorithm"]]
        line = next(line for line in page.splitlines() if line.startswith(f"| {trained} | {by} |"))
        assert f"**{100 * record['metrics']['accuracy']['test']:.1f}**" in line
    untouched = (results / "imdb-steps.json").stat().st_mtime_ns
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "---" not in again.stdout
    assert (results / "imdb-steps.json").stat().st_mtime_ns == untouched
    assert (tmp_path / "out" / "paper.md").read_text("utf-8") == page


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_networks_go_on_where_they_were_killed(task, tmp_path, monkeypatch):
    """If this fails, a network that trains for hours cannot be stopped."""
    monkeypatch.chdir(tmp_path)
    assert main([*quick(task), "--out", "whole"]) == 0
    killed_after(tmp_path / "killed", 3, quick(task)[1:])
    assert main(["train", "--resume", "killed", "--threads=1"]) == 0
    assert outcome("killed") == outcome("whole")


@pytest.fixture(scope="module")
def problem():
    """The small network of SNLI, untrained, with a batch."""
    config = Trial("snli", "snli", "accuracy", {}).config(None, None, quick=True)
    network, split = fresh_network(config)
    batch, labels = split.batch(np.arange(16))
    return network, batch, one_hot(labels, network), config


def test_backpropagation_keeps_what_the_formula_says(problem):
    """If this fails, the paper's argument for EP is drawn from a wrong formula."""
    network, batch, target, config = problem
    measured = measures.memory(network.astype(np.float32), batch, target, config.learning)
    step = sum(layer["step"] for layer in measured["layers"].values())
    steps = measures.STEPS[-1] - measures.STEPS[0]
    assert (measured["bptt"][-1] - measured["bptt"][0]) / steps == pytest.approx(step, rel=0.1)
    assert measured["ep"][-1] == pytest.approx(measured["ep"][-2], rel=0.01)
    assert max(measured["ep"]) < 2 * min(measured["ep"])


def test_small_nudges_have_little_bias_and_follow_backpropagation(problem):
    """If this fails, what the page says of the gradient is of something else than the gradient."""
    network, batch, target, config = problem
    network = network.astype(np.float64)
    nearly_none, trained = measures.steps(network, batch, target, config.learning, 6)
    assert max(nearly_none["error"].values()) < 1e-5
    assert nearly_none["beta"] < trained["beta"] == config.learning.beta
    orders = measures.settling(network, batch, target, config.learning, config.settling)
    for phases in orders.values():
        assert [phase["beta"] for phase in phases] == [0, 0.5, -0.5]
    assert max(phase["rise"] for phase in orders["even-odd"]) < 1e-12
    assert orders["even-odd"][0]["residual"][5] < orders["synchronous"][0]["residual"][5] / 10


def test_a_gradient_that_is_zero_has_no_relative_error():
    """If this fails, a network at its bounds, where EP moves alone, is said to have updates like BPTT's."""
    norms = {"bptt": [0.0, 0.0], "ep": [0.0, 0.25], "apart": [0.0, 0.25]}
    still = {"bptt": [0.0], "ep": [0.0], "apart": [0.0]}
    moves, none = (
        {"beta": beta, "norms": {"w": each}, "error": {"w": 0.25}} for beta, each in ((1, norms), (0, still))
    )
    assert document.steps({"IMDB": [none, moves]}).splitlines()[-1] == "| IMDB | `w` | both 0 | of 0: 2e-01 |"


def test_a_block_of_the_page_that_is_not_there():
    """If this fails, a table that was measured is left out of the page without a word."""
    page = "a\n<!-- one -->\nold\n<!-- end -->\nb\n"
    assert document.filled(page, {"one": "new"}) == "a\n<!-- one -->\nnew\n<!-- end -->\nb\n"
    with pytest.raises(KeyError, match="two"):
        document.filled(page, {"two": "new"})


def test_one_training_by_its_name(tmp_path):
    """If this fails, several machines cannot share the trainings, or a typo in a name ends in a traceback."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, SCRIPT, "--quick", "--out", tmp_path / "out", "--only"]
    ended = subprocess.run([*command, "snli-implict-0"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "paper.py: no training is called 'snli-implict-0'; did you mean 'snli-implicit-0'?\n"
    ended = subprocess.run([*command, "imdb-150-ep-0"], env=environment, capture_output=True, text=True, check=True)
    assert [path.name for path in (tmp_path / "out" / "results").iterdir()] == ["imdb-150-ep-0.json"]
    assert ended.stdout.count("---") == 1
    assert not (tmp_path / "out" / "paper.md").exists()  # which another command may be at


def test_where_ep_trains(tmp_path, monkeypatch):
    """If this fails, the experiment's `device` is without effect, or a run that was stopped goes on elsewhere."""
    asked, experiment = [], Experiment(tmp_path / "runs", tmp_path / "results", quick=True, device="auto")

    def instead(*arguments, device):
        asked.append(device)
        raise Interrupted("stopped", "as if a signal had come")

    for name in ("run_training", "resume_training"):
        monkeypatch.setattr(f"eqnp.paper.trials.{name}", instead)
    folder = tmp_path / "runs" / "snli-ep-1"
    for _ in range(2):
        with pytest.raises(Interrupted):
            experiment.train(*named(["snli-ep-1"]))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").touch()
    assert asked == ["auto", "auto"]


def test_a_network_that_was_trained_elsewhere(tmp_path, capsys, monkeypatch):
    """If this fails, a record without its run stops all trainings after it."""
    experiment = Experiment(tmp_path / "runs", tmp_path / "results", quick=True)
    monkeypatch.setattr("eqnp.paper.experiment.result", lambda trial, *_, **__: {"name": trial.name})
    experiment.run("imdb")
    assert "imdb-ep-0 was trained elsewhere: bring its folder to" in capsys.readouterr().out
