"""A run that takes a second, and what to compare of its outcome."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from eqnp import files
from eqnp.app.cli import main
from eqnp.optim import Adam

SETTINGS = [
    "data.train=own.csv",
    "data.max_tokens=12",
    "vectors.dimension=8",
    "network.hidden=[6]",
    "network.attention=[{queries=2, memory='text'}]",
    "network.output_activation=clipped",
    "network.initial_bias=1.0",
    "network.scale=0.5",
    "learning.beta=0.5",
    "optimizer.learning_rate=5e-3",
    "training.epochs=4",
    "training.batch=10",
    "training.word_dropout=0.2",
    "training.checkpoint_seconds=0",
    "optimizer.weight_decay=0.01",
    "optimizer.clip=1.0",
]
TRAIN = ["train", "mini-sentiment", *(f"--set={setting}" for setting in SETTINGS), "--threads=1"]

CLIMATES = {"cold": "ice snow frost", "hot": "fire sun lava", "wet": "rain sea mud", "dry": "sand dust salt"}


def own_data(path: Path) -> None:
    """Write 130 short texts of two classes."""
    rng = np.random.default_rng(0)
    words = (["ice", "snow", "frost", "cold"], ["fire", "sun", "lava", "hot"])
    lines = [f"there was {' and '.join(rng.choice(words[i % 2], 3))} {i % 7},{i % 2}" for i in range(130)]
    path.write_text("text,label\n" + "\n".join(lines) + "\n")


def weights(folder) -> dict[str, str]:
    """The digest of every array of the model of a run."""
    return {name: files.digest(a) for name, a in files.load(Path(folder) / "model.h5", "model")[0].items()}


def outcome(folder) -> tuple:
    """All of a finished run that does not depend on the clock."""
    metrics = json.loads((Path(folder) / "metrics.json").read_text())
    lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]
    found = [metrics[key] for key in ("accuracy", "best_epoch", "figures", "calibration")]
    return weights(folder), found, timeless


def killed_after(folder: Path, batches: int, source: list[str] | None = None) -> None:
    """A run that stopped after so many batches, with its checkpoint on the disk."""

    def stop(self, *arguments):
        step(self, *arguments)
        if self.taken > batches:
            raise KeyboardInterrupt

    step = Adam.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adam, "step", stop)
        command = ["train", *source, "--threads=1"] if source else TRAIN
        assert main([*command, "--out", str(folder)]) == 130


def weather(path: Path, texts: int, seed: int, kinds: int = 4) -> None:
    """Write texts of four classes, or many, the last of them rare; every fifth is of another class than its words."""
    rng, names = np.random.default_rng(seed), [*CLIMATES, *(f"k{i}" for i in range(4, kinds))]
    rows = []
    for i in range(texts):
        name = names[-1] if i % 16 == 15 else names[i % (kinds - 1)]
        words = CLIMATES.get(name, f"{name}a {name}b {name}c").split()
        label = names[rng.integers(kinds - 1)] if i % 5 == 0 else name
        rows.append([f"there was {' and '.join(rng.choice(words, 3))}, {i % 7}", label])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *rows])


def read_table(path: Path | str) -> tuple[list[str], list[str]]:
    """The texts and the labels of a file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def said(capsys, *arguments) -> tuple[dict, str]:
    """What a command ends with, and what it printed before."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1])
