"""Parity with recorded runs of the paper's published procedure, state by state."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.simulator import SIMULATED

SCRIPT = ROOT / "scripts" / "parity.py"


def replay(path, device="cpu") -> dict[str, float]:
    """Run the script as a user does and read its line of JSON."""
    command = [sys.executable, SCRIPT, path, "--device", device, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(result.stdout.splitlines()[-1])


SMALL = ROOT / "tests" / "fixtures" / "parity" / "imdb_small.npz"


def test_states_and_gradients_of_the_paper_on_imdb():
    """If this fails, this is not the paper's network, or not its learning rule."""
    deviation = replay(SMALL)
    assert set(deviation) == {"states", "grad_sym", "grad_one"}
    assert max(deviation.values()) <= 1e-10


@pytest.mark.parametrize("name", ["imdb_small", "snli_small"])
def test_states_and_gradients_of_the_paper(shared, name):
    """If this fails, this is not the paper's network for pairs of texts either, or the trace kept here is another."""
    deviation = replay(shared / "parity" / f"{name}.npz")
    assert set(deviation) == {"states", "grad_sym", "grad_one"}
    assert max(deviation.values()) <= 1e-10


@pytest.mark.gpu
@pytest.mark.skipif(SIMULATED, reason="a simulated GPU takes hours for it")
@pytest.mark.parametrize("name", ["imdb_small", "snli_small"])
def test_states_and_gradients_of_the_paper_on_a_gpu(shared, name):
    """If this fails, a GPU trains another network than the CPU does."""
    assert max(replay(shared / "parity" / f"{name}.npz", "cuda").values()) <= 1e-9


@pytest.mark.parametrize("key", ["free_s1", "grad_one_b2"])
def test_nan_in_a_trace_is_noticed(tmp_path, key):
    """If this fails, a comparison with NaN counts as agreement."""
    with np.load(SMALL) as file:
        trace = {name: file[name].copy() for name in file.files}
    trace[key][-1] = np.nan
    np.savez(tmp_path / "changed.npz", **trace)
    assert any(np.isnan(value) for value in replay(tmp_path / "changed.npz").values())


@pytest.mark.parametrize("key", ["free_s1", "minus_s0", "grad_sym_W1", "grad_one_b2"])
def test_a_changed_trace_is_noticed(tmp_path, key):
    """If this fails, the comparison above does not look at all that it reports."""
    with np.load(SMALL) as file:
        trace = {name: file[name].copy() for name in file.files}
    trace[key][-1] += 1e-6
    np.savez(tmp_path / "changed.npz", **trace)
    assert max(replay(tmp_path / "changed.npz").values()) == pytest.approx(1e-6, rel=1e-3)
