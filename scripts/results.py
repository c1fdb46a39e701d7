"""A table of results from run folders: runs that differ by their seed alone are one line, mean ± standard deviation.

python scripts/results.py runs/imdb-0 runs/imdb-1 runs/imdb-2 runs/snli-*
"""

import json
import statistics
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

RIVALS = {
    "majority": "majority",
    "bag_of_words": "bag of words",
    "nb_svm": "NB-SVM",
    "mean_vector": "mean vector",
    "perceptron": "perceptron",
}


def read(folder: Path) -> tuple[str, dict]:
    """The configuration without its seed, as a key, and the figures of a run."""
    try:
        config = tomllib.loads((folder / "config.toml").read_text("utf-8"))
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{folder}: {error}; give folders of finished runs")
    if "baselines" not in metrics:
        sys.exit(f"{folder}: from a release without these figures; train it again")
    config["training"].pop("seed")
    config["data"].pop("seed", None)  # −1 in a configuration, but in a run that of its texts
    return json.dumps(config, sort_keys=True), metrics


def spread(values: list[float], digits: int = 1, unit: float = 100) -> str:
    """Mean ± standard deviation, or the value alone."""
    mean = f"{unit * statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {unit * statistics.stdev(values):.{digits}f}"


def row(runs: list[dict]) -> str:
    """One line of the table."""
    first = runs[0]
    split = "test" if "test" in first["accuracy"] else "validation"
    rivals = (
        spread([run["baselines"][name][split] for run in runs]) if name in first["baselines"] else "–"
        for name in RIVALS
    )
    return (
        f"| {first['preset']} | {first['algorithm']} | {first['parameters'] / 1e6:.2f} M | {len(runs)} | {split} | "
        f"**{spread([run['accuracy'][split] for run in runs])}** | {' | '.join(rivals)} | "
        f"{spread([run['seconds'] / 60 for run in runs], unit=1)} | "
        f"{max(run['peak_resident_gib'] or 0 for run in runs):.1f} GiB |"
    )


def table(folders: list[Path]) -> str:
    """All of it as Markdown."""
    groups = defaultdict(list)
    for folder in folders:
        key, metrics = read(folder)
        groups[key].append(metrics)
    columns = ["preset", "by", "parameters", "seeds", "split", "accuracy, %", *RIVALS.values(), "minutes", "memory"]
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*head, *(row(runs) for runs in groups.values())])


if __name__ == "__main__":
    print(table([Path(name) for name in sys.argv[1:]] or sys.exit(__doc__)))
