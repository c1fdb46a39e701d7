"""The embedded reviews are a test of word order, and their preset passes it: with shuffled words it cannot."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eqnp.app.cli import main
from tests.conftest import ROOT

WORDS = re.compile(r"[\w'-]+|[^\w\s]")
SPLITS = {"train": "--data", "validation": "--val-data", "test": "--test-data"}


def shuffled(split: str) -> Iterator[tuple[str, str]]:
    """The reviews of a split with their labels, words and signs of each in an order of its own."""
    rng = np.random.default_rng(list(SPLITS).index(split))
    for line in (ROOT / "data" / "mini-sentiment" / f"{split}.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield " ".join(rng.permutation(WORDS.findall(row["text"]))), row["label"]


def write(path: Path, rows: Iterator[tuple[str, str]]) -> Path:
    """A table of these rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.mark.slow
def test_order_decides(tmp_path, capsys):
    """If this fails, a network that counts words does as well as one that reads them, or the preset reads no order."""
    files = {name: write(tmp_path / f"{name}.csv", shuffled(name)) for name in SPLITS}
    given = [str(part) for name, option in SPLITS.items() for part in (option, files[name])]
    found = {}
    for name, options in (("in order", []), ("at random", given)):
        assert main(["train", "mini-sentiment", *options, "--out", str(tmp_path / name), "--json"]) == 0
        found[name] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["in order"]["accuracy"]["test"] >= 0.95
    assert found["at random"]["accuracy"]["test"] <= 0.89
