"""Runs that are killed at random moments: they resume, and end as if nothing had happened."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.runs.folder import in_use
from eqnp.runs.training import resume_training, run_training
from tests.runs import SETTINGS, TRAIN, killed_after, outcome

KILLS = 50


def in_a_process_of_its_own(work) -> int:
    """Fork: what is imported and compiled already need not be again. Returns the child's id."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        work()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(small):
    """If this fails, a power cut costs a run, or changes its result without a word."""
    small = load_config("mini-sentiment", [*SETTINGS, "training.refit=true"])  # so that it may be killed there too
    run_training(small, Path("whole"), threads=1)
    expected, rng, kills, number = outcome("whole"), random.Random(0), 0, 0
    while kills < KILLS:
        folder, number = Path(f"run{number}"), number + 1
        while True:
            fresh = not (folder / "config.toml").exists()  # killed before there was a run to resume
            work = (lambda: run_training(small, folder, threads=1)) if fresh else lambda: resume_training(folder, 1)  # noqa: B023
            child = in_a_process_of_its_own(work)
            time.sleep(rng.uniform(0, 0.6))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFSIGNALED(status):
                kills += 1
                continue
            assert status == 0
            break
        assert outcome(folder) == expected
        assert sorted(f.name for f in folder.iterdir()) == sorted(f.name for f in Path("whole").iterdir())


def test_a_run_from_a_prepared_folder_resumes_to_the_same_bits(small, tmp_path):
    """If this fails, a run that was started from prepared texts resumes with others, or needs their source."""
    assert main(["prepare", *TRAIN[1:-1], "--out", "prepared"]) == 0
    assert main(["train", "prepared", "--seed", "7", "--threads=1", "--out", "whole"]) == 0
    killed_after(Path("half"), 15, source=["prepared", "--seed", "7"])
    assert main(["train", "prepared", "--seed", "7", "--threads=1", "--out", "third"]) == 0
    Path("own.csv").rename("gone.csv")
    assert main(["train", "--resume", "half", "--threads", "1"]) == 0
    assert outcome("half") == outcome("whole") == outcome("third")
    Path("gone.csv").rename("own.csv")
    for again in ("whole", "whole/config.toml"):  # from its own files, and from its sources
        folder = again.replace("/", "-")
        assert main(["train", again, "--threads=1", "--out", f"again-{folder}"]) == 0
        assert outcome(f"again-{folder}") == outcome("whole")


def test_a_prepared_folder_is_no_run_and_nothing_in_it_is_lost(small, capsys):
    """If this fails, --resume turns prepared texts into a run, or removes them with the user's own files."""
    assert main(["prepare", *TRAIN[1:-1], "--out", "prepared"]) == 0
    Path("prepared/NOTES.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in Path("prepared").iterdir()}
    assert main(["train", "--resume", "prepared"]) == 2
    assert "eqnp train prepared" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("prepared").iterdir()} == before
    assert main(["info", "prepared"]) == 0
    assert "prepared" in capsys.readouterr().out


def test_a_run_in_use_is_left_alone(small, capsys):
    """If this fails, two processes that resume one run write into each other's files."""
    killed_after(Path("run"), 15)
    with in_use(Path("run")):
        assert main(["train", "--resume", "run"]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["train", "--resume", "run"]) == 0


def test_a_folder_that_was_begun_can_be_taken_again(small):
    """If this fails, a kill before the first file leaves a folder that is of no use."""
    Path("run").mkdir()
    Path("run/.config.toml.123.tmp").write_text("x")
    Path("run/start.h5").write_text("half")
    assert main([*TRAIN, "--out", "run"]) == 0
    assert not list(Path("run").glob(".*.tmp"))


def test_a_finished_run_keeps_no_checkpoint(small):
    """If this fails, a kill at the very end leaves a checkpoint of three times the model for ever."""
    killed_after(Path("run"), 15)
    last = Path("run/last.h5").read_bytes()
    assert main(["train", "--resume", "run", "--threads", "1"]) == 0
    before = outcome("run")
    Path("run/last.h5").write_bytes(last)
    assert main(["train", "--resume", "run"]) == 0
    assert not Path("run/last.h5").exists()
    assert outcome("run") == before


def test_patience_stops_early_and_small_data_get_more_epochs(small):
    """If this fails, a run goes on long after it stopped to learn, or ends before it began to."""
    stuck = ["--set=optimizer.learning_rate=1e-9", "--set=training.epochs=30", "--set=training.patience=2"]
    assert main([*TRAIN, *stuck, "--out", "stuck"]) == 0
    metrics = json.loads(Path("stuck/metrics.json").read_text())
    assert metrics["epochs"] == metrics["best_epoch"] + 2 < 30
    assert main([*TRAIN, "--set=training.min_updates=61", "--out", "more"]) == 0
    assert json.loads(Path("more/metrics.json").read_text())["epochs"] == 6  # of 12 batches each
