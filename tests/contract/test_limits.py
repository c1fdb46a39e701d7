"""Limits on the size of files, as of `ulimit -f` or a quota: one line, the old file whole, and nothing left behind."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from eqnp import files
from eqnp.app.cli import main
from eqnp.machine.ranks import ALONE
from eqnp.runs.model import Model
from eqnp.runs.training import TrainingRun
from tests.conftest import ROOT
from tests.contract.test_kernel_cache import CODE
from tests.runs import TRAIN, outcome

resource = pytest.importorskip("resource", reason="files have no limits here")


@contextlib.contextmanager
def limit(size: int):
    """No file of this process grows beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def drawn(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of every kind of number and shape: empty, of one number, and not in C order."""
    arrays = {}
    for number in range(rng.integers(0, 40)):
        shape = rng.integers(0, 9, rng.integers(0, 4)) if rng.random() < 0.9 else rng.integers(1, 40_000, 1)
        values = np.asarray(100 * rng.random(shape)).astype(rng.choice(["f2", "f4", "f8", "i4", "i8", "u1", ">f4"]))
        arrays[f"{rng.choice(['a', 'b/c', 'b'])}{number}"] = values.T if rng.random() < 0.3 else values
    return arrays


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_hdf5(seed, tmp_path):
    """If this fails, a file is not what it says it is, to us or to another reader of HDF5."""
    rng, path = np.random.default_rng(seed), tmp_path / "a.h5"
    arrays, about = drawn(rng), {"text": "é" * int(rng.integers(0, 100_000))}
    files.save(path, "model", arrays, about)
    for mapped in (False, True):
        found, described = files.load(path, "model", mapped=mapped)
        assert (set(found), described) == (set(arrays), about)
        for name, array in arrays.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found[name], array)
    with h5py.File(path) as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[f"arrays/{name}"][...], array)


def test_a_file_that_may_not_be_as_large_leaves_the_old_one(tmp_path):
    """If this fails, a quota that was lowered, or reached, costs the model that was there, or crashes the process."""
    path, rng = tmp_path / "model.h5", np.random.default_rng(0)
    old = {"weights": rng.random((90, 100))}
    files.save(path, "model", old, {"epoch": 1})
    before = path.read_bytes()
    new = {"weights": rng.random((80, 100)), "bias": rng.random(5)}
    files.save(tmp_path / "other.h5", "model", new, {"epoch": 2})
    size = (tmp_path / "other.h5").stat().st_size
    assert size < len(before)
    for most in [*range(0, size, 997), size - 1]:
        with limit(most), pytest.raises(OSError, match=f"{size / 2**20:.2f} MiB are needed") as caught:
            files.save(path, "model", new, {"epoch": 2})
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
        assert path.read_bytes() == before
        assert sorted(each.name for each in tmp_path.iterdir()) == ["model.h5", "other.h5"]
    with limit(size):
        files.save(path, "model", new, {"epoch": 2})
    assert path.read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_a_text_that_may_not_be_as_large_leaves_the_old_one(tmp_path):
    """If this fails, the metrics or the report of a run are half of a file, or the error does not name it."""
    path = tmp_path / "metrics.json"
    files.write_text(path, "old")
    with limit(100), pytest.raises(OSError, match=r"metrics\.json") as caught:
        files.write_text(path, "new" * 100)
    assert caught.value.errno == errno.EFBIG
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("metrics.json", "old")]


def test_commands_under_every_limit(small, capsys):
    """If this fails, a limit that a run reaches crashes it, leaves rubbish, or costs what was learned."""
    prepare = ["prepare", *TRAIN[1:-1]]
    assert main([*TRAIN, "--out", "whole"]) == 0
    expected, sizes = outcome("whole"), {path.name: path.stat().st_size for path in Path("whole").iterdir()}
    capsys.readouterr()
    ends = set()
    for most in (0, sizes["start.h5"], sizes["data.h5"] - 1, sizes["data.h5"], sizes["data.h5"] + 8000, 80_000):
        for command in (prepare, TRAIN):
            folder = Path(f"{command[0]}{most}")
            with limit(most):
                code, error = main([*command, "--out", str(folder)]), capsys.readouterr().err
            left = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
            assert not [name for name in left if name.startswith(".")]
            ends.add((command[0], code, tuple(left)))
            if code:
                assert (code, error.count("\n"), "File too large" in error) == (2, 1, True), error
            if command is TRAIN and "config.toml" in left:
                assert main(["train", "--resume", str(folder)]) == 0
                assert outcome(folder) == expected
    prepared = ("config.toml", "data.h5", "start.h5")
    assert ends >= {
        ("prepare", 2, ()),
        ("prepare", 0, prepared),
        ("train", 2, ()),
        ("train", 2, tuple(sorted((*prepared, "log.jsonl")))),
        ("train", 0, tuple(sorted(sizes))),
    }
    model = (Path("whole") / "model.h5").read_bytes()
    with limit(len(model) - 1), pytest.raises(OSError, match="File too large"):
        Model.load("whole").save(Path("whole"))
    assert (Path("whole") / "model.h5").read_bytes() == model


def test_a_line_of_the_log_is_whole_or_not_there(tmp_path, monkeypatch):
    """If this fails, a run that reached a limit cannot be resumed, or says that the disk is full where it is not."""
    run = TrainingRun(tmp_path, None, None, None, None, None, None, True)
    monkeypatch.setattr(TrainingRun, "ranks", ALONE)
    event, before = {"event": "x" * 20}, '{"event": 1}\n'
    whole = before + json.dumps(event) + "\n"
    for most in range(len(whole) + 1):
        (tmp_path / "log.jsonl").write_text(before)
        with (
            limit(most),
            contextlib.nullcontext() if most == len(whole) else pytest.raises(OSError, match=r"log\.jsonl"),
        ):
            run.log(event)
        assert (tmp_path / "log.jsonl").read_text() == (whole if most == len(whole) else before)


def test_kernels_that_may_not_be_kept(tmp_path):
    """If this fails, a limit on files stops a run for the sake of its compiled kernels, or leaves halves of them."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for most in (0, 5000):
        subprocess.run(
            [sys.executable, "-c", CODE, "f4"],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            preexec_fn=lambda most=most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )
        assert all(path.suffix in (".lock", ".nbi") for path in tmp_path.rglob("*") if path.is_file())
