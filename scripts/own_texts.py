"""What the default makes of texts that nobody tuned on: a table over sets NAME.train.csv and NAME.test.csv of a folder.

usage: own_texts.py FOLDER [NAME …] [--seeds N] [--validation] [--set KEY=VALUE …] [--vectors F] [--keep FOLDER]

Each set is trained as `eqnp train --data NAME.train.csv` does it, on one thread, for every seed; beside it are the
rivals of the same runs. With --validation the test files are left alone; the accuracy is that of the texts held out.
With --keep the metrics of every run are kept, in FOLDER/NAME-SEED.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from eqnp.app.cli import main as eqnp

RIVALS = {
    "majority": "majority",
    "bag_of_words": "TF-IDF",
    "nb_svm": "NB-SVM",
    "mean_vector": "mean vector",
    "perceptron": "perceptron",
}


def trained(arguments: list[str]) -> dict:
    """The metrics of one training, whose other output is dropped."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as output:
        code = eqnp(["train", *arguments, "--threads", "1", "--out", f"{folder}/run", "--json"])
    if code:
        sys.exit(code)
    return json.loads(output.getvalue().splitlines()[-1])


def row(folder: Path, name: str, options: argparse.Namespace) -> str:
    """One line of the table."""
    test, where = folder / f"{name}.test.csv", "validation" if options.validation else "test"
    arguments = ["--data", str(folder / f"{name}.train.csv")]
    arguments += [] if options.validation else ["--test-data", str(test)]
    arguments += [f"--set={setting}" for setting in options.set]
    arguments += ["--vectors", options.vectors] if options.vectors else []
    started = time.perf_counter()
    runs = [trained([*arguments, "--seed", str(seed)]) for seed in range(options.seeds)]
    for seed, run in enumerate(runs if options.keep else ()):
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"{name}-{seed}.json").write_text(json.dumps(run, indent=2) + "\n", "utf-8")
    seconds = (time.perf_counter() - started) / options.seeds
    own = 100 * np.array([run["accuracy"][where] for run in runs])
    rivals = {key: 100 * np.mean([run["baselines"][key][where] for run in runs]) for key in RIVALS}
    spread = f" ± {own.std(ddof=1):.1f}" if len(own) > 1 else ""
    cells = [name, f"{runs[0]['samples']['train']:,}", f"{len(runs[0]['classes'])}", f"**{own.mean():.1f}{spread}**"]
    cells += [f"{rivals[key]:.1f}" for key in RIVALS]
    return f"| {' | '.join(cells)} | {own.mean() - max(rivals.values()):+.1f} | {seconds:.0f} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--vectors")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    found = sorted(path.name.removesuffix(".train.csv") for path in options.folder.glob("*.train.csv"))
    if not found:
        sys.exit(f"{options.folder} has no NAME.train.csv: there is nothing to train on")
    print(f"| set | texts | classes | EP, % | {' | '.join(RIVALS.values())} | gain | seconds |")
    print("|---" * (len(RIVALS) + 6) + "|")
    for name in options.names or found:
        print(row(options.folder, name, options), flush=True)


if __name__ == "__main__":
    main()
