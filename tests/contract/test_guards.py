"""Numbers that are not finite, disks that are full and folders that are read-only: one line, and nothing is lost."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from eqnp import files, learning
from eqnp.app.cli import main
from eqnp.network import Network
from eqnp.optim import Adam
from tests.runs import TRAIN, outcome

KINDS = {"model.h5": "model", "last.h5": "checkpoint", "start.h5": "start", "data.h5": "token store"}


def one_line(capsys, *arguments) -> str:
    """Run a command that must fail with code 2; returns its one line."""
    code, error = main([str(a) for a in arguments]), capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    return error


def files_are_sound(folder: Path) -> list[str]:
    """Every file of a run folder is whole and every number in it finite; returns their names."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    for name in names:
        if name in KINDS:
            for array in files.load(folder / name, KINDS[name])[0].values():
                assert np.isfinite(array).all()
        elif name == "log.jsonl":
            assert all(json.loads(line) for line in (folder / name).read_text().splitlines())
        else:
            assert name in ("config.toml", "metrics.json"), names
    return names


def broken_weights(monkeypatch, at: int) -> None:
    step = Adam.step

    def broken(self, network, *arguments):
        step(self, network, *arguments)
        if self.taken == at:
            network.parameters["hidden0.weight"][0, 0] = np.nan

    monkeypatch.setattr(Adam, "step", broken)


def broken_states(monkeypatch, at: int) -> None:
    drive, calls = Network.compute_drive, [0]

    def broken(self, layer, x, state):
        drive(self, layer, x, state)
        calls[0] += 1
        if calls[0] >= at * 20 and layer.name == "attention0":
            state.drives[layer.name][...] = np.inf

    monkeypatch.setattr(Network, "compute_drive", broken)


def broken_updates(monkeypatch, at: int) -> None:
    contrast, calls = learning.contrast, [0]

    def broken(*arguments, **named):
        gradients = contrast(*arguments, **named)
        calls[0] += "output.weight" in gradients
        if calls[0] == at and "output.weight" in gradients:
            gradients["output.weight"][0] = np.inf
        return gradients

    monkeypatch.setattr(learning, "contrast", broken)


@pytest.mark.parametrize("at", [2, 30])
@pytest.mark.parametrize(
    ("breaks", "names"),
    [
        (broken_weights, ("hidden0.weight", "after batch")),
        (broken_states, ("attention0", "phase")),
        (broken_updates, ("output.weight", "not applied")),
    ],
)
def test_what_is_not_finite_never_reaches_the_disk(breaks, names, at, small, capsys):
    """If this fails, one NaN overwrites hours of training, or nobody can tell where it came from."""
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, at)
        error = one_line(capsys, *TRAIN, "--out", "run")
    assert all(name in error for name in (*names, "epoch", "batch")), error
    files_are_sound(Path("run"))
    if at > 2:
        assert main(["train", "--resume", "run"]) == 0
        assert main([*TRAIN, "--out", "whole"]) == 0
        assert outcome("run") == outcome("whole")


@pytest.fixture
def disk(tmp_path):
    """A file system of its own of 2 MiB; only root can make one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if not shutil.which("mount") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all room but ``leave`` bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return ballast


def test_a_full_disk_costs_nothing_but_the_run(disk, small, capsys):
    """If this fails, a disk that fills up during any write leaves half a file, or loses what was there."""
    assert main([*TRAIN, "--out", "whole"]) == 0
    expected, failed_with = outcome("whole"), set()
    for leave in (0, 4, 8, 12, 20, 40, 70, 90, 100, 110, 120, 130, 140, 160, 180, 200, 220, 240):
        run, ballast = disk / f"run{leave}", fill(disk, leave * 1024)
        code, error = main([*TRAIN, "--out", str(run)]), capsys.readouterr().err
        if code:
            assert (code, error.count("\n")) == (2, 1), error
            assert "space" in error
        failed_with.add(tuple(files_are_sound(run)))
        ballast.unlink()
        if code and (run / "config.toml").exists():
            assert main(["train", "--resume", str(run)]) == 0
        if (run / "metrics.json").exists():
            assert outcome(run) == expected
        shutil.rmtree(run, ignore_errors=True)
    assert len(failed_with) >= 3, failed_with


def test_a_read_only_folder_is_one_line(disk, small, capsys):
    """If this fails, a folder that cannot be written to is a traceback, or what is in it is lost."""
    run, remount = disk / "run", ["mount", "-o", "remount,ro", str(disk)]
    assert main([*TRAIN, "--out", str(run)]) == 0
    (run / "metrics.json").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    subprocess.run(remount, check=True)
    assert "read-only" in one_line(capsys, "train", "--resume", run).lower()
    assert "read-only" in one_line(capsys, *TRAIN, "--out", disk / "other").lower()
    assert "read-only" in one_line(capsys, "prepare", "--out", disk / "other").lower()
    assert "read-only" in one_line(capsys, "check", run, "--out", disk / "other", "--samples", 2).lower()
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert main(["predict", str(run), "there was lava"]) == 0


def test_phases_that_do_not_settle_are_told_with_advice(small, capsys):
    """If this fails, a user learns from states that never settled, and is not told."""
    hasty = ["--set=settling.free_sweeps=1", "--set=settling.nudged_sweeps=1", "--set=settling.tolerance=1e-7"]
    assert main([*TRAIN, *hasty, "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "had not settled" in said
    assert "raise settling." in said
