"""The command line: options in, exit code out. What the commands do is in `eqnp.app.commands` and `answers`.

Exit codes: 0 when all went well, also where the reader of the output has gone (as `head` does); 2 for what the user can
mend (one line on stderr says how); 129, 130 or 143 when a signal ended it; 1 for a fault of ours.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from eqnp.app import answers, commands
from eqnp.app.output import Output
from eqnp.errors import EqnpError, Interrupted

AFTER = "\0"  # put before arguments that come after "--"; no shell can pass one on
MISTAKEN, SIGNALLED = 2, 128  # the latter plus the signal's number, as shells have it


class Version(argparse.Action):
    """Print the installed version; looked up only when asked for."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, *_):
        """Print and exit."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"eqnp {version('eqnp')}")
        except PackageNotFoundError:  # a checkout on the path, not installed
            print("eqnp of an unknown version: it is not installed")
        parser.exit()


class Sources(argparse.Action):
    """A source, or a list of them where the option is given more than once."""

    def __call__(self, parser, namespace, value, option_string=None):
        """Keep what came before."""
        before = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*([before] if isinstance(before, str) else before), value] if before else value)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, with what was probably meant where that can be told."""

    example = ""  # a whole command line, for a complaint about what is missing

    def error(self, message: str):
        """Print one line and exit with code 2."""
        if self.example and message.startswith("the following arguments are required"):
            message = f"{message.split(': ')[1].removesuffix(', TEXT')} is missing; for example: {self.example}"
        self.exit(MISTAKEN, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_args(self, args=None, namespace=None):
        """As argparse does, with texts after options and after ``--``, and advice on options that do not exist."""
        given = [*(sys.argv[1:] if args is None else args)]
        commands = self._subparsers._group_actions[0].choices
        command = commands.get(next((each for each in given if not each.startswith("-")), ""))
        takes_text = command is not None and any(action.dest == "text" for action in command._actions)
        if takes_text and "--" in given:
            end = given.index("--")
            given = [*given[:end], *(f"{AFTER}{each}" for each in given[end + 1 :])]
        if command and (glued := [each for each in given if each.startswith("-h") and each != "-h"]):
            self._refuse(glued, given, argparse.Namespace(command=command.prog.split()[-1]))  # for argparse it is -h
        options, unknown = self.parse_known_args(given, namespace)
        if takes_text:
            if not any(argument.startswith("-") for argument in unknown):
                options.text, unknown = [*options.text, *unknown], []  # after options, which argparse does not expect
            options.text = [text.removeprefix(AFTER) for text in options.text]
            options.run = Path(str(options.run).removeprefix(AFTER))
        if unknown or any("=" not in setting or setting.endswith("=") for setting in getattr(options, "set", ())):
            self._refuse(unknown, given, options)
        return options

    def _refuse(self, unknown: Sequence[str], given: list[str], options: argparse.Namespace) -> None:
        """Exit with what to write instead of what is not known, and of ``--set`` without "="."""
        from eqnp.app.hints import missing_value, unknown_option

        if line := missing_value(given):
            self.exit(MISTAKEN, f"{self.prog}: {line}\n")
        if not unknown:
            return
        known = {
            name: [option for action in command._actions for option in action.option_strings]
            for name, command in self._subparsers._group_actions[0].choices.items()
        }
        wrong, lines = [each for each in unknown if each.startswith("-") and each != "-"], []
        for each in wrong:
            place = given.index(each)
            after = given[place + 1] if place + 1 < len(given) else "-"
            value = None if after.startswith("-") and not after[1:2].isdigit() else after
            others = [g for i, g in enumerate(given) if not g.startswith("-") and (value is None or i != place + 1)]
            run = shlex.quote(others[1].removeprefix(AFTER)) if len(others) > 1 else "RUN"
            advice = unknown_option(options.command, each, value, run, known)
            lines.append(f"unknown argument {each!r}; {advice}")
        first = f"unknown argument {unknown[0]!r}; see {self.prog} {options.command} --help"
        self.exit(MISTAKEN, f"{self.prog}: {'; '.join(dict.fromkeys(lines)) or first}\n")


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="eqnp", description="Sequence classifiers trained by Equilibrium Propagation.")
    parser.add_argument("--version", action=Version, help="print the version and exit")
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = _command(added, "train", commands.train_command, "train a network and save it in a run folder")
    _data_options(train)
    train.add_argument("--algorithm", metavar="A", help="ep (default); or bptt, implicit: the same network, to compare")
    train.add_argument("--out", metavar="DIR", type=Path, help="run folder (default: runs/<preset>, numbered)")
    _distributed(train, "mpi: one network on all ranks of an mpirun")
    train.add_argument(
        "--from",
        metavar="RUN",
        dest="from_run",
        type=Path,
        help="go on from a finished run: with --data on further texts too, else on its own",
    )
    train.add_argument("--resume", metavar="RUN", type=Path, help="go on with a run that was stopped; no other options")
    _device(train)
    _threads(train)

    data = _command(added, "data", commands.data_command, "what is in data, and what is doubtful about it")
    data.example = "eqnp data mail.csv --test-data later.csv"
    data.add_argument("data", metavar="F", nargs="+", help="training data: a table, a folder of texts, a hub name")
    _more_data(data)
    data.add_argument("--vectors", metavar="F", help="word vectors to look words up in: file or installed package")
    data.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change any key of the config")

    tune = _command(
        added, "tune", commands.tune_command, "search for better settings, and test whether they are better"
    )
    _data_options(tune)
    tune.add_argument("--trials", metavar="N", type=_at_least_one, help="settings to draw (16)")
    tune.add_argument("--minutes", metavar="M", type=_minutes, help="as many as can be trained in this time instead")
    tune.add_argument("--out", metavar="DIR", type=Path, help="folder (default: tuned/<preset>), to go on from too")
    _threads(tune)

    prepare = _command(added, "prepare", commands.prepare_command, "read texts and word vectors once, for several runs")
    _data_options(prepare)
    prepare.add_argument("--out", metavar="DIR", type=Path, help="folder (default: prepared/<preset>, numbered)")
    prepare.add_argument("--distributed", metavar="ENGINE", help="mpi: all ranks of an mpirun share the work")

    evaluate = _command(added, "evaluate", answers.evaluate_command, "accuracy of a trained run, and of each class")
    evaluate.example = "eqnp evaluate runs/mini-sentiment"
    evaluate.add_argument("run", metavar="RUN", type=Path, help="run folder")
    _texts_to_ask(evaluate)

    versus = _command(added, "versus", answers.versus_command, "two trained runs on the same texts: is one better")
    versus.example = "eqnp versus runs/mail runs/mail-2"
    versus.add_argument("run", metavar="RUN", type=Path, help="run folder")
    versus.add_argument("other", metavar="RUN", type=Path, help="another")
    _texts_to_ask(versus)

    predict = _command(added, "predict", answers.predict_command, "classify texts with a trained run")
    predict.usage = (
        "eqnp predict RUN [TEXT ...] [options]  or  eqnp predict RUN [options] < FILE  or  "
        "eqnp predict RUN --data F [--out F] [options]"
    )
    predict.epilog = (
        "Texts are arguments, or the lines of standard input, which are answered as they come, or in the columns of a "
        "table. Put -- before one that begins with a dash."
    )
    predict.example = 'eqnp predict runs/mini-sentiment "a fine film" (without texts, lines of standard input are read)'
    predict.add_argument("run", metavar="RUN", type=Path, help="run folder")
    predict.add_argument("text", metavar="TEXT", nargs="*", help="texts (default: the lines of standard input)")
    predict.add_argument(
        "--explain", action="store_true", help="mark the words with most attention; name what speaks for the class"
    )
    predict.add_argument(
        "--at-least", metavar="P", type=_share, default=0.0, help="say 'unsure' where the best class has a lower score"
    )
    what = "predict the rows of a table, or other data; again for more of it"
    predict.add_argument("--data", metavar="F", action=Sources, help=what)
    what = "with --data: write its columns and the predictions to this .csv, .jsonl or .parquet"
    predict.add_argument("--out", metavar="F", type=Path, help=what)
    _device(predict)
    predict.add_argument("--html", metavar="F", type=Path, help="with --explain: write a page with every word shaded")
    _threads(predict)

    words = _command(added, "words", answers.words_command, "words and n-grams that speak most for each class")
    words.example = "eqnp words runs/mini-sentiment"
    words.add_argument("run", metavar="RUN", type=Path, help="run folder")
    words.add_argument("cls", metavar="CLASS", nargs="?", help="one class (default: every class)")
    words.add_argument("--top", metavar="N", type=_at_least_one, default=15, help="how many for each class (15)")
    words.add_argument(
        "--least", metavar="N", type=_at_least_one, help="texts that each must stand in (20, of few texts fewer)"
    )
    _threads(words)

    what = "write a page on which a network settles on a text, sweep by sweep"
    watch = _command(added, "watch", commands.watch_command, what)
    watch.usage = "eqnp watch RUN TEXT [TEXT] [options]"
    watch.epilog = "A network that reads pairs takes two texts. Put -- before one that begins with a dash."
    watch.example = 'eqnp watch runs/mini-sentiment "not a bad film"'
    watch.add_argument("run", metavar="RUN", type=Path, help="run folder")
    watch.add_argument("text", metavar="TEXT", nargs="+", help="the text, or one for each that the network reads")
    watch.add_argument("--towards", metavar="CLASS", help="nudge towards this class first (default: the likeliest)")
    watch.add_argument("--out", metavar="F", type=Path, help="the page (default: watch.html in the run folder)")

    report = _command(added, "report", commands.report_command, "write report.html and pictures about a run")
    report.example = "eqnp report runs/mini-sentiment"
    report.add_argument("run", metavar="RUN", type=Path, help="run folder")
    report.add_argument("text", metavar="TEXT", nargs="*", help="texts to shade (default: some of the run)")
    report.add_argument("--out", metavar="DIR", type=Path, help="folder for it (default: the run folder)")
    _threads(report)

    info = _command(added, "info", commands.info_command, "what is known of a run, finished or not")
    info.example = "eqnp info runs/mini-sentiment"
    info.add_argument("run", metavar="RUN", type=Path, help="run folder")

    _command(added, "list", commands.list_command, "list presets, data sets and word vectors found")

    config = _command(added, "config", commands.config_command, "what every key of a configuration is and may be")
    config.usage = "eqnp config [PRESET] [KEY ...] [options]"
    config.add_argument(
        "names", metavar="KEY", nargs="*", help="key, section (training) or preset, whose values to show (default: all)"
    )

    check = _command(added, "check", commands.check_command, "hold the gradients of a network against exact ones")
    check.example = "eqnp check mini-sentiment"
    check.add_argument("source", metavar="RUN", help="run folder, or a preset or TOML file for fresh weights")
    check.add_argument("--data", metavar="F", action=Sources, help="training data of a preset")
    check.add_argument("--vectors", metavar="F", help="word vectors of a preset")
    check.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a key of the preset")
    check.add_argument("--samples", metavar="N", type=_at_least_one, default=8, help="size of the batch (8)")
    check.add_argument("--out", metavar="DIR", type=Path, help="write check.json and check.png there")
    _threads(check)

    benchmark = _command(added, "benchmark", commands.benchmark_command, "time training batches at full size")
    benchmark.add_argument("--task", choices=("imdb", "snli", "recommended"), help="which network (default: all)")
    benchmark.add_argument("--weights", metavar="RUN", type=Path, help="time a run's trained network on its own text")
    _distributed(benchmark, "mpi: what a batch takes each rank of an mpirun, in bytes and seconds")
    benchmark.add_argument(
        "--preset", metavar="P", default="imdb", help="with --distributed: preset or TOML file (imdb)"
    )
    benchmark.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a key of the preset")
    _device(benchmark)
    benchmark.add_argument("--repeat", metavar="N", type=_at_least_one, default=3, help="batches to time (3)")
    _threads(benchmark)

    cache = _command(added, "cache", commands.cache_command, "show or clear the compiled kernels kept on disk")
    cache.add_argument("--clear", action="store_true", help="remove them; the next run compiles again")
    return parser


def _command(added, name: str, do, summary: str) -> Parser:
    command = added.add_parser(name, help=summary, description=summary.capitalize() + ".", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="end with one line of JSON")
    command.set_defaults(do=do)
    return command


def _data_options(command: Parser) -> None:
    """What to read, and how."""
    command.add_argument(
        "source",
        metavar="CONFIG",
        nargs="?",
        help="preset, TOML file, prepared folder or run folder (with --data: text, text-vectors with "
        "--vectors, or pairs for two columns; else mini-sentiment)",
    )
    what = "training data: a table, a folder of texts, a hub or embedded name; again for more of it"
    command.add_argument("--data", metavar="F", action=Sources, help=what)
    _more_data(command)
    what = "further texts, without labels, for --vectors corpus to learn from"
    command.add_argument("--unlabelled", metavar="F", action=Sources, help=what)
    command.add_argument("--vectors", metavar="F", help="word vectors: file, installed package, or 'corpus'")
    command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change any key of the config")
    command.add_argument("--seed", metavar="N", type=int, help="seed of every random draw")


def _texts_to_ask(command: Parser) -> None:
    """Which labelled texts a trained network is asked, and where it runs."""
    command.add_argument(
        "--data", metavar="F", action=Sources, help="labelled data (default: a split of the run's own)"
    )
    command.add_argument(
        "--split", metavar="S", help="split: train, validation or test (default: test if there is one)"
    )
    _device(command)
    _threads(command)


def _more_data(command: Parser) -> None:
    """What is read beside the training data."""
    for option, what in (
        ("--val-data", "validation data (default: a random share of the training data)"),
        ("--test-data", "test data, looked at once at the end"),
    ):
        command.add_argument(option, metavar="F", action=Sources, help=what)


def _distributed(command: Parser, what: str) -> None:
    command.add_argument("--distributed", metavar="ENGINE", help=what)
    command.add_argument(
        "--reduction", metavar="R", help="fast (default), or fixed: the same bits on any number of ranks"
    )


def _device(command: Parser) -> None:
    command.add_argument(
        "--device", metavar="D", default="cpu", help="cpu (default), cuda, or auto: a GPU if one is ready"
    )


def _threads(command: Parser) -> None:
    command.add_argument("--threads", metavar="N", type=_at_least_one, help="threads (default: one per core)")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or greater")
    return int(text)


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")


def _minutes(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a mistake of the user's, 128 and more after a signal.

    Raises SystemExit where the arguments ask for help, or are wrong. Standard output and error are left as they were.
    """
    with Output() as output:
        try:
            code = _run(arguments)
        except SystemExit as end:  # how argparse says that it is done
            if not end.code and _told(output):
                raise SystemExit(MISTAKEN) from None
            raise
        return MISTAKEN if not code and _told(output) else code


def _told(output: Output) -> bool:
    """Whether something could not be printed; says so."""
    if failure := output.failure():
        print(
            f"eqnp: standard output: {failure}; the output is cut off, what was to be saved is saved; "
            "make room, or send it elsewhere",
            file=sys.stderr,
        )
    return bool(failure)


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        result = options.do(options)
    except EqnpError as error:
        print(f"eqnp: {error}", file=sys.stderr)
        return MISTAKEN
    except MemoryError as error:
        print(f"eqnp: not enough memory ({error}); lower network or batch sizes", file=sys.stderr)
        return MISTAKEN
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(
            f"eqnp: {what}; check the path, its permissions, and the room for it (free space, quota, ulimit -f)",
            file=sys.stderr,
        )
        return MISTAKEN
    except Interrupted as stop:
        print(f"eqnp: {stop}", file=sys.stderr)
        return SIGNALLED + stop.signal
    except KeyboardInterrupt:
        print("eqnp: interrupted", file=sys.stderr)
        return SIGNALLED + signal.SIGINT
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
