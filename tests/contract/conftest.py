"""What several tests of files and errors start from."""

from pathlib import Path

import numpy as np
import pytest

from eqnp.config import load_config
from tests.runs import SETTINGS


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small run on data of its own: 4 epochs of 12 batches, a checkpoint after each batch."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = (["ice", "snow", "frost", "cold"], ["fire", "sun", "lava", "hot"])
    lines = [f"there was {' and '.join(rng.choice(words[i % 2], 3))} {i % 7},{i % 2}" for i in range(130)]
    Path("own.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return load_config("mini-sentiment", SETTINGS)
