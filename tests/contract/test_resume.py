"""Runs that are killed at random moments: they resume, and end as if nothing had happened."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from eqnp.run import resume_training, run_training
from tests.runs import outcome

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
