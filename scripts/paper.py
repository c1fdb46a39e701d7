"""The paper's experiment, to the end: both of its networks, by EP and by backpropagation, with tables and pictures.

    python scripts/paper.py --quick
    python scripts/paper.py --data FOLDER --vectors F

Hours; `--device auto` has a GPU train by EP, where there is one, and `--only NAME` is one training, so that several
commands can share the work (on another machine, bring its folder of `runs/paper` back too); --write draws what is
there. What is done is kept as JSON, and not done again; what was stopped goes on. FOLDER has
snli_train.parquet, snli_dev.parquet, snli_test.parquet, imdb_train.parquet and imdb_test.parquet. With --quick a small
network of the same kind reads embedded texts for minutes.
"""

import argparse
import sys
from pathlib import Path

from eqnp.errors import EqnpError, Interrupted
from eqnp.files import write_text
from eqnp.paper.experiment import TITLES, Experiment
from eqnp.paper.plan import named

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="minutes, on embedded texts; changes nothing in docs/")
    parser.add_argument("--out", type=Path, help="folder of the trainings (default: runs/paper, or runs/paper-quick)")
    parser.add_argument("--data", type=Path, help="folder of both corpora (default: as the presets say)")
    parser.add_argument("--vectors", help="word vectors (default: learned from the training texts)")
    where = "where EP trains: cpu (default), or auto: a GPU, if one is ready"
    parser.add_argument("--device", choices=("cpu", "auto"), default="cpu", help=where)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--task", choices=TITLES, help="one of the two (default: both)")
    part.add_argument("--only", metavar="NAME", action="append", help="this training alone; may be given again")
    part.add_argument("--write", action="store_true", help="train nothing: tables and pictures alone")
    options = parser.parse_args()
    runs = options.out or Path("runs") / ("paper-quick" if options.quick else "paper")
    results = runs / "results" if options.quick else DOCS / "results" / "paper"
    experiment = Experiment(runs, results, options.data, options.vectors, options.quick, options.device)
    tasks = [options.task] if options.task else TITLES
    try:
        for trial in named(options.only or ()):
            experiment.train(trial)
        for task in () if options.write or options.only else tasks:
            experiment.run(task)
    except Interrupted as stopped:
        sys.exit(str(stopped))
    except EqnpError as error:
        sys.exit(f"paper.py: {error}")
    if options.only:
        return
    page, where = DOCS / "paper.md", runs if options.quick else DOCS
    write_text(where / "paper.md", experiment.write(page.read_text("utf-8"), where / "paper"))
    print(f"written: {where / 'paper.md'}")


if __name__ == "__main__":
    main()
