"""The model of docs/cluster.md: what ranks of other machines would take, and how it stands beside ranks of this one.

python scripts/ranks_model.py                 the predicted table
python scripts/ranks_model.py 0.03            with so many seconds of work a batch and rank
python scripts/ranks_model.py check PREPARED  bytes and seconds on 1, 2, 4 and 8 ranks of this machine (see ranks.py)
"""

import os
import sys

from ranks import benchmark

from eqnp.config import load_config

GIGABIT = 1.25e8  # bytes a second
HANDLED = 0.15e-6  # seconds for a row of 300: gathered at its owner, and added up there (measured)
HANDLED_LOCAL = 0.55e-6  # the same after local steps, with a copy, and to half precision and back (measured)
AHEAD = {8: 0.35, 64: 0.07, 512: 0.02}  # of the rows of a batch, that no rank moves just before (IMDB, counted to 64)
GROWTH = 0.74  # k batches of a rank have k ** GROWTH times as many different rows as one (both presets, k = 8)
PRESETS = {"imdb": (0.047, 10_000, 7e3, 200), "snli": (0.08, 320, 1.3e6, 300)}  # seconds, rows, dense bytes, width


def bytes_in(rows: float, dense: float, width: int, ranks: int, local: bool = False) -> float:
    """Into a rank between two exchanges: rows of so many numbers, their ids, whether they move, and what its own are
    told; dense weights.

    After local steps rows are told in half precision, with how often they moved, and dense weights have Adam's means.
    """
    told = 2 * width + 2 if local else 4 * width
    return (rows * (4 * width + 4 + 1 + told) + 2 * dense * (3 if local else 1)) * (ranks - 1) / ranks


def at_work(work: float, rows: float, dense: float, width: int, ranks: int, rate: float, steps: int = 1) -> float:
    """The share of the time at work, without the rows that come while states settle: after local steps all of them,
    where there is time."""
    rows, local = rows * steps**GROWTH, steps > 1
    fetched = rows * 4 * width * (ranks - 1) / ranks
    hidden = min(fetched, steps * work * rate) if local else AHEAD[ranks] * fetched
    wait = (bytes_in(rows, dense, width, ranks, local) - hidden) / rate + rows * (HANDLED_LOCAL if local else HANDLED)
    wait += 0 if local else 3_200 * ranks / rate  # outputs, sweeps and residuals of all texts of an update
    return steps * work / (steps * work + wait)


def table(seconds: float | None = None) -> None:
    for name, (work, rows, dense, width) in PRESETS.items():
        for gigabits, steps in ((10, 1), (10, 8), (100, 1), (100, 8)):
            given = seconds or work, rows, dense, width
            shares = [f"{at_work(*given, ranks, gigabits * GIGABIT, steps):.0%}" for ranks in AHEAD]
            print(f"| `{name}`, {gigabits} Gbit/s, {steps} local step(s) | {', '.join(shares)} |")


def check(folder: str) -> None:
    one, cores = benchmark(1, folder, 32 - 1), os.cpu_count()
    width = load_config(f"{folder}/config.toml").vectors
    width = width.dimension + width.topics
    print(f"1 rank: {1e3 * one['mean_seconds']:.1f} ms a batch on the average")
    for ranks, steps in ((2, 1), (4, 1), (8, 1), (2, 8), (4, 8)):
        found = benchmark(ranks, folder, 32 - 1, f"--set=training.local_steps={steps}")  # 32 with the first one
        dense, turns = found["dense_bytes"], max(1, ranks / cores)  # ranks that take turns on a core
        rows = (found["least"] * ranks / (ranks - 1) / 2 - dense) / (4 * width + 8)
        model = bytes_in(rows, dense / steps, width, ranks, steps > 1)
        shares = f"bytes {found['received'] / model:.3f} of the model's, "
        shares += f"{found['ahead'] / found['received']:.0%} of them while states settled; "
        shares += f"a batch takes {found['mean_seconds'] / one['mean_seconds'] / turns:.2f} of one rank's time, "
        shares += f"{found['mean_work'] / one['mean_seconds'] / turns:.2f} at work"
        print(f"{ranks} ranks, {steps} step(s): {rows:,.0f} rows; {shares}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(*sys.argv[2:])
    else:
        table(*map(float, sys.argv[1:]))
