"""Runs that are killed, interrupted or starved of disk: they resume, and end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eqnp import checkpoint
from eqnp.cli import main
from eqnp.config import load_config
from eqnp.run import resume_training, run_training
from tests.conftest import ROOT

KILLS = 50
SETTINGS = [
    "data.train=own.csv",
    "data.max_tokens=12",
    "vectors.dimension=8",
    "network.hidden=[6]",
    "network.attention=[{queries=2, memory='text'}]",
    "training.epochs=4",
    "training.batch=10",
    "training.word_dropout=0.2",
    "training.checkpoint_seconds=0",
    "optimizer.weight_decay=0.01",
    "optimizer.clip=1.0",
]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A small run on data of its own: 4 epochs of 12 batches, a checkpoint after each batch."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = (["ice", "snow", "frost", "cold"], ["fire", "sun", "lava", "hot"])
    lines = [f"there was {' and '.join(rng.choice(words[i % 2], 3))} {i % 7},{i % 2}" for i in range(130)]
    Path("own.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return load_config("mini-sentiment", SETTINGS)


def weights(folder) -> dict[str, str]:
    """The digest of every array of the model of a run."""
    return {name: checkpoint.digest(a) for name, a in checkpoint.load(Path(folder) / "model.h5", "model")[0].items()}


def outcome(folder) -> tuple:
    """All of a finished run that does not depend on the clock."""
    metrics = json.loads((Path(folder) / "metrics.json").read_text())
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]
    return weights(folder), metrics["accuracy"], metrics["best_epoch"], timeless


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
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(config):
    """If this fails, a power cut costs a run, or changes its result without a word."""
    run_training(config, Path("whole"), threads=1)
    expected, rng, kills, number = outcome("whole"), random.Random(0), 0, 0
    while kills < KILLS:
        folder, number = Path(f"run{number}"), number + 1
        while True:
            fresh = not (folder / "config.toml").exists()  # killed before there was a run to resume
            work = (lambda: run_training(config, folder, threads=1)) if fresh else lambda: resume_training(folder, 1)  # noqa: B023
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
