"""`--device`: what a user gets with a GPU, and without one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eqnp import files
from eqnp.app.cli import main
from eqnp.machine.device import why_no_gpu
from tests.runs import killed_after

TINY = {
    "data.train": "tiny.csv",
    "data.max_tokens": 6,
    "data.min_count": 1,
    "data.ngrams": 2,
    "data.ngram_min_texts": 2,
    "vectors.dimension": 3,
    "network.hidden": [3],
    "network.attention": "[{queries=1, memory='text', window=1}]",
    "settling.tolerance": 0,
    "settling.free_sweeps": 3,
    "settling.nudged_sweeps": 2,
    "settling.accelerate": "false",
    "training.epochs": 1,
    "training.batch": 6,
    "optimizer.clip": 1.0,
    "optimizer.weight_decay": 0.01,
}
SOURCE = ["mini-sentiment", *(f"--set={key}={value}" for key, value in TINY.items())]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Sixteen texts in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = (["ice", "snow", "frost"], ["fire", "sun", "lava"])
    lines = [f"{' and '.join(rng.choice(words[i % 2], 2))},{i % 2}" for i in range(16)]
    Path("tiny.csv").write_text("text,label\n" + "\n".join(lines) + "\n")


def parameters(folder) -> dict[str, np.ndarray]:
    return files.load(Path(folder) / "model.h5", "model")[0]


@pytest.mark.gpu
def test_training_on_a_gpu(tiny, capsys):
    """If this fails, a model trained on a GPU is not the one that a CPU trains, or cannot be resumed or used there."""
    assert main(["train", *SOURCE, "--out", "cpu", "--threads=1"]) == 0
    killed_after(Path("cuda"), 1, [*SOURCE, "--device=cuda"])
    capsys.readouterr()
    assert main(["train", "--resume", "cuda", "--device", "cuda"]) == 0
    assert "products by" in capsys.readouterr().out
    ours = parameters("cuda")
    for name, value in parameters("cpu").items():
        np.testing.assert_allclose(ours[name], value, atol=2e-5, err_msg=name)
    answers = []
    for device in ("cpu", "cuda"):
        assert main(["predict", "cuda", "ice and snow", "--device", device]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]


@pytest.mark.skipif(not why_no_gpu(), reason="there is a GPU")
def test_no_gpu_is_one_line(tiny, capsys):
    """If this fails, a user without a GPU sees a traceback, or trains on something else than was asked for."""
    for command in (["train", *SOURCE, "--out", "run"], ["predict", "run", "snow"], ["benchmark"]):
        assert main([*command, "--device", "cuda"]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "pip install 'eqnp[cuda]'" in line
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--device", "cudo"], "did you mean 'cuda'?"),
        (["--device", "cuda", "--algorithm", "bptt"], "--device cpu"),
        (["--device", "cuda", "--set=learning.estimator=holomorphic", "--set=network.activation=tanh"], "--device cpu"),
    ],
)
def test_mistaken_devices(tiny, capsys, monkeypatch, options, hint):
    """If this fails, a typo or a combination that is not there gets no help."""
    monkeypatch.setattr("eqnp.machine.device.why_no_gpu", lambda: "")
    assert main(["train", *SOURCE, *options]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--algorithm=implicit", "--set=learning.estimator=holomorphic"])
def test_auto_takes_what_can_do_the_job(tiny, capsys, monkeypatch, option):
    """If this fails, `--device auto` ends in an error on a machine with a GPU, where the CPU would have done."""
    monkeypatch.setattr("eqnp.machine.device.why_no_gpu", lambda: "")
    smooth = "--set=network.activation=logistic"
    assert main(["train", *SOURCE, smooth, option, "--device", "auto", "--out", "run"]) == 0
    assert "device: cpu" in capsys.readouterr().out


def test_the_cpu_needs_no_cuda(tiny):
    """If this fails, users of the CPU wait for CUDA to be imported, or need it."""
    code = f"import sys; from eqnp.app.cli import main; main({['train', *SOURCE, '--out', 'run']!r})"
    code += "; sys.exit(any(name.startswith('numba.cuda') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
