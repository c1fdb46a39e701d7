"""Time our training batch and a peer's in turn, on one machine, at the same shapes and batch.

    python scripts/benchmark.py --task snli --peer peer.py [--peer-python PYTHON] [--peer-batch N]

The peer is any script that takes --task, --batch, --repeat and --threads and prints {"seconds": …} as its last line.
``PYTHON`` is the interpreter that has what the peer needs (this package does not).
"""

import argparse
import json
import sys

from eqnp.benchmark import PRESETS, measure, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=PRESETS, action="append", help="may be given several times (default: all)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peer", help="the peer's script")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter to run it with")
    parser.add_argument("--peer-batch", type=int, help="measure the peer at this batch size and scale in proportion")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    figures = []
    for task in options.task or PRESETS:
        peer = options.peer if task != "recommended" else None  # the peer has the paper's networks only
        figures.append(
            measure(
                task,
                repeat=options.repeat,
                threads=options.threads,
                peer=peer,
                peer_python=options.peer_python,
                peer_batch=options.peer_batch,
                say=lambda line: print(line, file=sys.stderr),
            )
        )
    print(table(figures))
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
