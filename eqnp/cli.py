"""The command line: ``eqnp train``, ``eqnp evaluate``, ``eqnp predict``, ``eqnp benchmark``, ``eqnp cache``.

Thin on purpose: it reads options, prints, and turns the package's errors into one line on stderr and exit code 2.
Imports that take long are inside the commands that need them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from eqnp.errors import ConfigError, DataError, EqnpError, nearest

INTERRUPTED, MISTAKEN = 130, 2
FEW_TEXTS = 64  # so few are predicted by the NumPy kernels sooner than the compiled ones are loaded


class Version(argparse.Action):
    """Print the installed version; looked up only when asked for."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, *_):
        """Print and exit."""
        from importlib.metadata import version

        parser.exit(0, f"eqnp {version('eqnp')}\n")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, with the nearest option where one is unknown."""

    def error(self, message: str):
        """Print one line and exit with code 2."""
        self.exit(MISTAKEN, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_args(self, args=None, namespace=None):
        """As argparse does, but naming the nearest option for one that does not exist."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = getattr(options, "known_options", [])
            hint = nearest(unknown[0].split("=")[0], known) if unknown[0].startswith("-") else ""
            self.exit(MISTAKEN, f"{self.prog}: unknown argument {unknown[0]!r}{hint}\n")
        return options


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="eqnp", description="Sequence classifiers trained by Equilibrium Propagation.")
    parser.add_argument("--version", action=Version, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = _command(commands, "train", run_train, "train a network and save it in a run folder")
    _data_options(train)
    train.add_argument("--algorithm", metavar="A", help="ep (default); or bptt, implicit: the same network, to compare")
    train.add_argument("--out", metavar="DIR", type=Path, help="run folder (default: runs/<preset>, numbered)")
    _threads(train)

    prepare = _command(commands, "prepare", run_prepare, "read texts and word vectors once, for several runs")
    _data_options(prepare)
    prepare.add_argument("--out", metavar="DIR", type=Path, help="folder (default: prepared/<preset>, numbered)")
    _know_options(prepare)

    evaluate = _command(commands, "evaluate", run_evaluate, "accuracy of a trained run")
    evaluate.add_argument("run", metavar="RUN", type=Path, help="run folder")
    evaluate.add_argument("--data", metavar="F", help="data to evaluate on (default: a split of the run's own)")
    evaluate.add_argument(
        "--split", metavar="S", help="split: train, validation or test (default: test if there is one)"
    )
    _threads(evaluate)

    predict = _command(commands, "predict", run_predict, "classify texts with a trained run")
    predict.add_argument("run", metavar="RUN", type=Path, help="run folder")
    predict.add_argument("text", metavar="TEXT", nargs="*", help="texts (default: the lines of standard input)")
    _threads(predict)

    check = _command(commands, "check", run_check, "hold the gradients of a network against exact ones")
    check.add_argument("source", metavar="RUN", help="run folder, or a preset or TOML file for fresh weights")
    check.add_argument("--data", metavar="F", help="training data of a preset")
    check.add_argument("--vectors", metavar="F", help="word vectors of a preset")
    check.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a key of the preset")
    check.add_argument("--samples", metavar="N", type=_at_least_one, default=8, help="size of the batch (8)")
    check.add_argument("--out", metavar="DIR", type=Path, help="write check.json and check.png there")
    _threads(check)

    benchmark = _command(commands, "benchmark", run_benchmark, "time training batches at full size")
    benchmark.add_argument("--task", choices=("imdb", "snli", "recommended"), help="which network (default: all)")
    benchmark.add_argument("--weights", metavar="RUN", type=Path, help="time a run's trained network on its own text")
    benchmark.add_argument("--repeat", metavar="N", type=_at_least_one, default=3, help="batches to time (3)")
    _threads(benchmark)

    cache = _command(commands, "cache", run_cache, "show or clear the compiled kernels kept on disk")
    cache.add_argument("--clear", action="store_true", help="remove them; the next run compiles again")
    _know_options(cache)
    return parser


def _command(commands, name: str, run, summary: str) -> Parser:
    command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="end with one line of JSON")
    command.set_defaults(run_command=run)
    return command


def _data_options(command: Parser) -> None:
    """What to read, and how."""
    command.add_argument("source", metavar="CONFIG", nargs="?", default="mini-sentiment",
                         help="preset, TOML file or prepared folder (mini-sentiment)")  # fmt: skip
    for option, what in (
        ("--data", "training data: .parquet, .csv, .tsv, .jsonl, hub or embedded name"),
        ("--val-data", "validation data (default: a random share of the training data)"),
        ("--test-data", "test data, looked at once at the end"),
        ("--vectors", "word vectors: file, installed package, or 'corpus'"),
    ):
        command.add_argument(option, metavar="F", help=what)
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change any key of the config")
    command.add_argument("--seed", metavar="N", type=int, help="seed of every random draw")


def _threads(command: Parser) -> None:
    command.add_argument("--threads", metavar="N", type=_at_least_one, help="threads (default: one per core)")
    _know_options(command)


def _know_options(command: Parser) -> None:
    """Let a typo be answered with the nearest of the command's options."""
    options = [option for action in command._actions for option in action.option_strings]
    command.set_defaults(known_options=options)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or greater")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a mistake of the user's, 130 when interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        result = options.run_command(options)
    except EqnpError as error:
        print(f"eqnp: {error}", file=sys.stderr)
        return MISTAKEN
    except BrokenPipeError:  # the reader of our output has gone, as `head` does: nothing to say, and no one to hear it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError as error:
        print(f"eqnp: not enough memory ({error}); lower network or batch sizes", file=sys.stderr)
        return MISTAKEN
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"eqnp: {what}; check the path, its permissions and the free space", file=sys.stderr)
        return MISTAKEN
    except KeyboardInterrupt as interrupt:
        print(f"eqnp: interrupted{interrupt}", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(result))
    return 0


def run_train(options) -> dict:
    """``eqnp train``: returns the metrics of the run."""
    from eqnp.run import run_training

    folder = _prepared_folder(options)
    config, name, prepared = _config(options), _name(options), None
    if folder:
        from eqnp.text.prepare import load_prepared

        prepared = load_prepared(folder, config)
    out = options.out or Path("runs") / name
    return run_training(config, out, preset=name, prepared=prepared, numbered=not options.out, threads=options.threads)


def run_prepare(options) -> dict:
    """``eqnp prepare``: returns the folder and what is in it."""
    from eqnp.run import run_preparation

    if _prepared_folder(options):
        raise ConfigError(f"{Path(options.source).parent} is prepared already; give it to eqnp train")
    return run_preparation(_config(options), options.out or Path("prepared") / _name(options), numbered=not options.out)


def _name(options) -> str:
    source = Path(options.source)
    return source.resolve().parent.name if source.name == "config.toml" else source.stem


def _prepared_folder(options) -> Path | None:
    """The folder that is given as configuration, if one is (and no preset has its name): its texts are settled."""
    from eqnp.config import presets

    folder = Path(options.source)
    if options.source in presets() or not folder.is_dir():
        return None
    given = [key for key in ("data", "val_data", "test_data", "vectors") if getattr(options, key)]
    given += [setting for setting in options.set if setting.split(".")[0].strip() in ("data", "vectors")]
    if given:
        raise ConfigError(f"{folder} has its texts and vectors already; prepare again to change {given[0]!r}")
    options.source = str(folder / "config.toml")
    return folder


def _config(options):
    """The configuration that the options of a command describe."""
    from eqnp.config import load_config

    given = {
        "data.train": options.data,
        "data.validation": getattr(options, "val_data", None),
        "data.test": getattr(options, "test_data", None),
        "vectors.source": options.vectors,
        "training.seed": getattr(options, "seed", None),
        "learning.algorithm": getattr(options, "algorithm", None),
    }
    return load_config(options.source, options.set, {key: v for key, v in given.items() if v is not None})


def run_evaluate(options) -> dict:
    """``eqnp evaluate``: returns accuracy and loss."""
    from eqnp.classifier import SequenceClassifier
    from eqnp.parallel import workers
    from eqnp.text.store import STORE, read_split, split_names

    model = SequenceClassifier.load(options.run)
    if options.data:
        from eqnp.text.corpora import load_corpus, splits_of
        from eqnp.text.prepare import encode_corpus, is_numbered

        if options.split and not splits_of(options.data):
            raise ConfigError(f"--split {options.split}: {options.data} has no splits; leave --split out")
        data = model.config.data
        corpus = load_corpus(
            options.data,
            data.columns,
            data.label,
            split=options.split or "test",
            classes=model.classes,
            numbered=is_numbered(data, model.classes),
        )
        split, where = encode_corpus(model.tokenizer, corpus, data.max_tokens), options.data
        left_out = corpus.unlabelled
    else:
        names = split_names(options.run / STORE)
        where = options.split or ("test" if "test" in names else "validation")
        split, left_out = read_split(options.run / STORE, where), 0
    with workers(options.threads) as executor:
        score = model.evaluate(split, executor)
    print(
        f"{where}: accuracy {score.accuracy:.2%}, loss {score.loss:.4f}, {len(split):,} samples, "
        f"{split.coverage.tokens:,} tokens, {split.coverage}"
        + (f"; {left_out:,} rows without an agreed label left out" if left_out else "")
    )
    return {
        "data": where,
        "accuracy": score.accuracy,
        "loss": score.loss,
        "samples": len(split),
        "unlabelled": left_out,
        "tokens": split.coverage.tokens,
        "unknown_tokens": split.coverage.unknown,
        "cut_tokens": split.coverage.cut,
    }


def run_predict(options) -> dict:
    """``eqnp predict``: returns a list of predictions."""
    from dataclasses import asdict

    from eqnp.classifier import SequenceClassifier

    given = [readable(text) for text in options.text or _lines(sys.stdin)]
    if not given:
        raise ConfigError("there is no text to predict; give texts as arguments or lines on standard input")
    few = len(given) <= FEW_TEXTS
    model = SequenceClassifier.load(options.run, "naive" if few else "cpu")
    texts = _by_segment(given, list(model.config.data.columns), from_lines=not options.text)
    if few:
        predictions = model.predict(texts)
    else:
        from eqnp.parallel import workers

        with workers(options.threads) as executor:
            predictions = model.predict(texts, executor)
    for parts, prediction in zip(zip(*texts.values(), strict=True), predictions, strict=True):
        note = "" if prediction.known_words else "  [no known word: the prior]"
        print(f"{prediction.label}  {prediction.scores[prediction.label]:.3f}  {' | '.join(parts)}{note}")
    return {"predictions": [asdict(prediction) for prediction in predictions]}


def run_check(options) -> dict:
    """``eqnp check``: returns the report."""
    import numpy as np

    from eqnp.check import check, draw, in_float64, table
    from eqnp.checkpoint import write_text
    from eqnp.classifier import SequenceClassifier
    from eqnp.parallel import workers
    from eqnp.run import fresh_network
    from eqnp.text.store import STORE, bucketed, read_split
    from eqnp.training import one_hot

    if options.out:
        import importlib.util

        if importlib.util.find_spec("matplotlib") is None:
            raise ConfigError("--out draws with matplotlib, which is not installed; pip install 'eqnp[plots]'")
        options.out.mkdir(parents=True, exist_ok=True)
    with workers(options.threads):
        if Path(options.source).is_dir():
            if options.data or options.vectors or options.set:
                raise ConfigError("--data, --vectors and --set are for presets; a run has its own")
            model = SequenceClassifier.load(options.source)
            network, config = model.network, model.config
            split = read_split(Path(options.source) / STORE, "train")
        else:
            config = _config(options)
            network, split = fresh_network(config)
        rows = next(bucketed(split, options.samples, np.random.default_rng(0)))
        segments, labels = split.batch(rows)
        network = in_float64(network)
        report = check(network, segments, one_hot(labels, network), config)
    print(table(report))
    if options.out:
        write_text(options.out / "check.json", json.dumps(report, indent=1) + "\n")
        draw(report, options.out / "check.png")
        print(f"written to {options.out}")
    return report


def run_benchmark(options) -> dict:
    """``eqnp benchmark``: returns the figures of every task."""
    from eqnp.benchmark import PRESETS, measure, table

    if options.weights and not options.task:
        raise ConfigError("--weights needs the --task that the run was trained for")
    tasks = [options.task] if options.task else list(PRESETS)
    given = {"repeat": options.repeat, "threads": options.threads, "weights": options.weights, "say": print}
    figures = [measure(task, **given) for task in tasks]
    print(table(figures))
    return {"tasks": figures}


def run_cache(options) -> dict:
    """``eqnp cache``: returns where the compiled kernels are, and their size in bytes."""
    from eqnp.kernels import cache, load

    load("cpu")
    found = cache.files()
    size = cache.clear() if options.clear else sum(path.stat().st_size for path in found)
    folders = sorted({str(path.parent) for path in found})
    where = f"{'removed from' if options.clear else 'in'} {', '.join(folders)}"
    print(f"{len(found)} files, {size / 2**20:.1f} MiB {where}" if found else "no compiled kernels on disk")
    return {"files": len(found), "bytes": size, "folders": folders, "cleared": options.clear}


def _lines(stream) -> list[str]:
    """The lines of standard input, none when it is closed; bytes that are not UTF-8 are marked, not fatal."""
    if stream is None:
        return []
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    lines = [line.rstrip("\r\n") for line in stream]
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
    if empty is not None:
        raise DataError(f"line {empty} of standard input is empty; every line is a text")
    return lines


def readable(text: str) -> str:
    """The text with undecodable bytes of an argument replaced by a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _by_segment(given: list[str], segments: list[str], from_lines: bool) -> dict[str, list[str]]:
    """Texts by segment: one argument each, or the tab-separated parts of a line, for networks of several segments."""
    parts = len(segments)
    if parts == 1:
        return {segments[0]: given}
    rows = (
        [line.split("\t") for line in given]
        if from_lines
        else [given[i : i + parts] for i in range(0, len(given), parts)]
    )
    wrong = next((number for number, row in enumerate(rows, start=1) if len(row) != parts), None)
    if wrong is not None:
        raise ConfigError(
            f"sample {wrong} has {len(rows[wrong - 1])} text(s), but this network reads {parts} "
            f"({', '.join(segments)}); give them as {parts} arguments, or tab-separated on a line"
        )
    return {name: [row[i] for row in rows] for i, name in enumerate(segments)}


if __name__ == "__main__":
    sys.exit(main())
