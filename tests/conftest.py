"""Hypothesis profiles and paths shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from eqnp.machine.device import why_no_gpu
from tests import simulator

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# A first example compiles kernels, so no deadline; derandomised in CI, so that a red run can be repeated.
common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("dev", max_examples=25, **common)
settings.register_profile("simulator", max_examples=5, derandomize=True, **common)  # Python runs its threads
settings.register_profile("ci", max_examples=25, derandomize=True, **common)
settings.register_profile("thorough", max_examples=250, **common)
settings.load_profile(os.environ.get("EQNP_HYPOTHESIS", "ci" if os.environ.get("CI") else "dev"))


if simulator.SIMULATED:
    simulator.mend()


def pytest_runtest_setup(item):
    """Tests marked `gpu` run on a GPU, or on the simulated one of NUMBA_ENABLE_CUDASIM=1."""
    if item.get_closest_marker("gpu") and (trouble := why_no_gpu()):
        pytest.skip(f"{trouble}; tests/twins/test_simulator.py runs it on a simulated one")


@pytest.fixture
def shared() -> Path:
    """The folder with real corpora and traces; a test that needs it is skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real corpora and traces is not there")
    return SHARED


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small run on data of its own: 4 epochs of 12 batches, a checkpoint after each batch."""
    monkeypatch.chdir(tmp_path)
    from eqnp.config import load_config
    from tests.runs import SETTINGS, own_data

    own_data(Path("own.csv"))
    return load_config("mini-sentiment", SETTINGS)
