"""The whole idea in one file, `scripts/ep.py`: the same gradients as the package, and it learns."""

import ast
import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

from eqnp import AttentionConfig, LearningConfig, NetworkConfig, Segment, SettlingConfig, build_network, estimate
from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "ep.py"
BAG_OF_WORDS = 66.8  # test accuracy in percent of the linear rival on the same reviews


@pytest.fixture(scope="module")
def ep():
    spec = importlib.util.spec_from_file_location("ep", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def estimate_by_eqnp(ep, theta, ids, y, beta) -> dict[str, np.ndarray]:
    """The package's gradients for the parameters, reviews and nudge of the script, dense and by name."""
    config = NetworkConfig(
        (AttentionConfig("text", len(theta["queries0.weight"])),),
        hidden=theta["hidden0.bias"].shape,
        activation="clipped",
        scale=ep.KAPPA,
    )
    words, classes = theta["embedding.weight"], y.shape[1]
    network = build_network(config, words, classes, {"text": ids.shape[1]}, parameters=theta)
    segments = {"text": Segment(ids.astype(np.int32), (ids > 0).sum(axis=1))}
    settling = SettlingConfig("even-odd", tolerance=0.0, free_sweeps=200, nudged_sweeps=200, accelerate=False)
    gradients = estimate(network, segments, y, LearningConfig("symmetric", beta), settling).gradients
    return gradients | {"embedding.weight": gradients["embedding.weight"].dense(words)}


@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_the_script_computes_what_the_package_computes(ep, beta):
    """If this fails, the file that a student reads first is about something other than what the package does."""
    rng, vocabulary = np.random.default_rng(0), {}
    ep.read("train", vocabulary)
    ids, y = ep.read("test", vocabulary)
    some = rng.choice(len(ids), 20, replace=False)
    ids, y = ids[some], y[some].astype(float)
    theta = {name: value.astype(float) for name, value in ep.draw(len(vocabulary), rng).items()}
    for name in ("hidden0.weight", "output.weight"):
        theta[name] *= 2  # so that feedback counts for something
    found, expected = ep.estimate(theta, ids, y, beta, tolerance=0.0), estimate_by_eqnp(ep, theta, ids, y, beta)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        largest = np.abs(gradient).max()
        assert largest > 1e-6
        np.testing.assert_allclose(found[name], gradient, rtol=0, atol=1e-12 * largest, err_msg=name)


def test_the_script_learns():
    """If this fails, the command in its first lines ends no better than a bag of words."""
    result = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    accuracy = re.fullmatch(r"test (\d+\.\d)%", result.stdout.splitlines()[-1])
    assert float(accuracy[1]) > BAG_OF_WORDS + 5


def test_the_script_stands_alone():
    """If this fails, it is no longer read in one sitting, or hides a part of the idea in another module."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {name.split(".")[0] for name in names} <= {"numpy", *sys.stdlib_module_names}
