"""Hypothesis profiles and paths shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# A first example compiles kernels, so no deadline; derandomised in CI, so that a red run can be repeated.
common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("dev", max_examples=25, **common)
settings.register_profile("ci", max_examples=25, derandomize=True, **common)
settings.register_profile("thorough", max_examples=250, **common)
settings.load_profile(os.environ.get("EQNP_HYPOTHESIS", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture
def shared() -> Path:
    """The folder with real corpora and traces; a test that needs it is skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real corpora and traces is not there")
    return SHARED
