"""Compiled kernels on disk: quick for the next run, and harmless whatever happens to the files or beside them."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from eqnp.app.cli import main
from tests.conftest import ROOT

CODE = """
import sys, numpy as np
from eqnp.kernels import cache, cpu
missed = []
with cache.listening(lambda: missed.append(1)):
    for kind in sys.argv[1:]:
        drive, state = np.array([[1, 0.5]], kind), np.zeros((1, 2), kind)
        cpu.clipped(drive, state, np.zeros(1, kind), np.zeros(1))
        assert state.tolist() == [[0.5, 0.25]], state
        mean, square, parameter = np.zeros((3, 4), kind)
        cpu.adam(parameter, np.ones(4, kind), mean, square, 0.5, 0.9, 0.999, 1e-8, 1)
        assert np.allclose(parameter, -0.5), parameter
print(len(missed))
"""


@pytest.fixture
def kernels(tmp_path):
    """Start a process that uses two kernels in some float types, with a cache folder of its own."""

    def start(*kinds: str, **environment: str) -> subprocess.Popen:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)} | environment
        return subprocess.Popen([sys.executable, "-c", CODE, *kinds], env=environment, stdout=-1, stderr=-1, text=True)

    return start


def misses(process: subprocess.Popen) -> int:
    """How many kernels a process had to compile; it must have ended well."""
    out, error = process.communicate()
    assert process.returncode == 0, error
    return int(out)


def cached(tmp_path, pattern: str = "*.nb[ic]") -> list:
    """The files of the cache."""
    return sorted((tmp_path / "cache").rglob(pattern))


def test_the_next_run_compiles_nothing(kernels, tmp_path):
    """If this fails, every run waits for the compiler."""
    assert misses(kernels("f4", "f8")) > 0
    assert misses(kernels("f4", "f8")) == 0


def test_processes_that_compile_at_the_same_time(kernels, tmp_path):
    """If this fails, two runs started together may load each other's machine code, or stop."""
    for process in [kernels(*kinds) for kinds in (("f4",), ("f8",), ("f8", "f4"), ("f4", "f8"))]:
        misses(process)
    assert misses(kernels("f4", "f8")) == 0


def test_code_of_another_signature_is_not_run(kernels, tmp_path):
    """If this fails, code for float32 is run on float64 arrays: the order in which processes write may mix them up."""
    misses(kernels("f4", "f8"))
    for index in cached(tmp_path, "*.nbi"):
        codes = cached(tmp_path, f"{index.stem}.*.nbc")
        if len(codes) == 2:
            shutil.copy(codes[0], codes[1])
    assert misses(kernels("f8", "f4")) > 0
    assert misses(kernels("f8", "f4")) == 0


@pytest.mark.parametrize(("pattern", "keep"), [("*.nbi", 0), ("*.nbi", 0.5), ("*.nbc", 0.5)])
def test_damaged_files_count_as_absent(kernels, tmp_path, pattern, keep):
    """If this fails, one torn file stops every run until someone finds it."""
    misses(kernels("f4"))
    for path in cached(tmp_path, pattern):
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert misses(kernels("f4")) > 0
    assert misses(kernels("f4")) == 0


def test_a_killed_run_leaves_a_usable_cache(kernels, tmp_path):
    """If this fails, a run killed while it compiles breaks those that follow."""
    for seconds in (0.6, 1.0, 1.4, 1.8):
        process = kernels("f4", "f8")
        time.sleep(seconds)
        process.kill()
        process.communicate()
    misses(kernels("f4", "f8"))
    assert misses(kernels("f4", "f8")) == 0


def test_a_folder_that_cannot_be_written(kernels, tmp_path):
    """If this fails, a full disk or a read-only folder stops the run instead of costing it a compilation."""
    misses(kernels("f4"))
    for index in cached(tmp_path, "*.nbi"):
        index.unlink()
        index.mkdir()  # no file can take its place, whoever we are (root ignores permissions)
    assert misses(kernels("f4")) > 0


def test_no_folder_at_all(tmp_path):
    """If this fails, an installation without a writable folder cannot train at all."""
    shutil.copytree(ROOT / "eqnp", tmp_path / "eqnp", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "eqnp" / "kernels" / "__pycache__").touch()  # a file where the folder would be
    environment = os.environ | {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "PYTHONPATH": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", CODE, "f4"], check=True, env=environment, cwd=tmp_path)


def test_the_cache_can_be_switched_off(kernels, tmp_path):
    """If this fails, EQNP_CACHE=off does not do what it says."""
    misses(kernels("f4", EQNP_CACHE="off"))
    assert cached(tmp_path) == []


def test_the_cache_can_be_cleared(kernels, tmp_path):
    """If this fails, there is no way out of a bad cache but knowing where it is."""
    misses(kernels("f4"))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "eqnp", "cache", "--clear", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(result.stdout.splitlines()[-1])["bytes"] > 0
    assert cached(tmp_path) == []


def test_the_cache_is_shown(capsys):
    """If this fails, nobody can find the compiled kernels."""
    assert main(["cache"]) == 0
    assert "compiled kernels" in (out := capsys.readouterr().out) or "MiB in" in out
