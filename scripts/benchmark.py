"""Time our training batch and a peer's in turn, on one machine, at the same shapes and batch.

    python scripts/benchmark.py --task snli --peer peer.py [--peer-python PYTHON] [--peer-batch N] [--weights RUN]
    python scripts/benchmark.py --growth growth.png --task snli

The peer is any script that takes --task, --batch, --repeat and --threads and prints {"seconds": …} as its last line.
``PYTHON`` is the interpreter that has what the peer needs (this package does not). ``--growth`` draws the time per
batch against batch size, positions and hidden units; it needs matplotlib.
"""

import argparse
import json
import sys
from pathlib import Path

from eqnp.app.benchmark import GROWTH, PRESETS, Peer, growth, measure, table
from eqnp.machine.device import choose

SIZES = {  # the last is the paper's own
    "imdb": {"batch": (25, 50, 100), "positions": (150, 300, 600), "hidden": (250, 500, 1000)},
    "snli": {"batch": (50, 100, 200, 400), "positions": (13, 25, 50, 100), "hidden": (100, 200, 400, 800)},
    "recommended": {"batch": (25, 50, 100, 200), "positions": (100, 200, 400, 800), "hidden": (16, 32, 64, 128)},
}


def say(line: str) -> None:
    print(line, file=sys.stderr)


def draw_growth(task: str, repeat: int, path: Path) -> list[dict]:
    """Measure and plot; the dashed line is proportional growth from the smallest size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(GROWTH), figsize=(11, 3.5), layout="constrained")
    rows = []
    for axis, panel in zip(GROWTH, panels, strict=True):
        measured = growth(task, axis, SIZES[task][axis], repeat)
        sizes, seconds = [r["size"] for r in measured], [r["seconds"] for r in measured]
        panel.loglog(sizes, seconds, "o-", color="black", label="measured")
        panel.loglog(sizes, [seconds[0] * n / sizes[0] for n in sizes], "--", color="gray", label="proportional")
        panel.set(xlabel=axis, ylabel="seconds per training batch", xticks=sizes, xticklabels=sizes)
        panel.set_yticks(seconds, [f"{s:.2g}" for s in seconds])
        panel.minorticks_off()
        say(f"{axis}: " + ", ".join(f"{n} → {s:.3f} s" for n, s in zip(sizes, seconds, strict=True)))
        rows += measured
    panels[0].legend(frameon=False)
    figure.suptitle(f"{task}: time per training batch")
    figure.savefig(path, dpi=120)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=PRESETS, action="append", help="may be given several times (default: all)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto; the peer gets --device cuda too")
    parser.add_argument("--peer", help="the peer's script")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter to run it with")
    parser.add_argument("--peer-batch", type=int, help="measure the peer at this batch size and scale in proportion")
    parser.add_argument("--weights", type=Path, metavar="RUN", help="time a run's trained network on its own text")
    parser.add_argument("--growth", type=Path, metavar="PNG", help="plot the time against the size instead")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    o = parser.parse_args()
    figures, device = [], choose(o.device)
    for task in o.task or PRESETS:
        if o.growth:
            figures += draw_growth(task, o.repeat, o.growth)
            continue
        known = o.peer and task != "recommended"  # the peer has the paper's networks only
        peer = Peer(o.peer, o.peer_python, o.peer_batch) if known else None
        given = {"repeat": o.repeat, "threads": o.threads, "weights": o.weights, "device": device}
        figures.append(measure(task, peer=peer, **given, say=say))
    if not o.growth:
        print(table(figures))
    if o.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
