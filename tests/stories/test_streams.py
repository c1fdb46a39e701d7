"""Readers that go, disks that fill up, terminals that lack a character, blank lines and signals: nothing is lost."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eqnp.app import output
from eqnp.app.cli import main
from eqnp.runs.model import Model
from tests.conftest import ROOT
from tests.runs import TRAIN as SHORT
from tests.runs import own_data, weights

TRAIN = [*SHORT[:-1], "--set=training.epochs=16", SHORT[-1]]  # enough to tell lava from ice
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT)}
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
TOLD = (
    "eqnp: standard output: No space left on device; the output is cut off, what was to be saved is saved; "
    "make room, or send it elsewhere\n"
)
PREPARE = ["prepare", *TRAIN[1:-1]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder beside its data, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("streams")
    own_data(folder / "own.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*TRAIN, "--out", "run"]) == 0
    return folder / "run"


@pytest.fixture
def beside(run, monkeypatch):
    """Work where the data and the run are."""
    monkeypatch.chdir(run.parent)
    return Path("run")


def closed_pipe() -> int:
    """The end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_device() -> int:
    """A device that is full."""
    return os.open("/dev/full", os.O_WRONLY)


def process(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment) -> tuple[int, bytes, bytes]:
    """Run a command as a process of its own, to the very end of its interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "eqnp", *arguments],
        stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, env=ENVIRONMENT | environment,
    )  # fmt: skip
    for descriptor in (stdout, stderr):
        if descriptor >= 0:
            os.close(descriptor)
    return done.returncode, done.stdout, done.stderr


def forked(arguments, descriptor: int, encoding: str = "utf-8") -> tuple[int, str]:
    """The same in a fork of this process, which is sooner done; returns the exit code and what was said on stderr."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            os.dup2(writer, 2)
            os.dup2(descriptor, 1)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8")
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding)
            try:
                code = main(arguments)
            except SystemExit as stop:
                code = stop.code or 0
            sys.stdout.flush()  # as the interpreter does when it ends
        except BaseException:
            code = 98
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    os.close(descriptor)
    with open(reader, encoding="utf-8") as file:
        said = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


COMMANDS = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["list"],
    ["info", "run", "--json"],
    ["predict", "run", "there was lava"],
    ["predict", "run", "--explain", "there was lava", "--html", "why.html"],
    ["evaluate", "run", "--split", "validation"],
    ["cache"],
    ["info", "nowhere"],
]
SLOWER = [["check", "run", "--samples", "2"], ["report", "run", "--out", "reported"]]


@pytest.mark.parametrize("arguments", [*COMMANDS, *SLOWER], ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(arguments, beside):
    """If this fails, `eqnp … | head` ends with a traceback, or a script that uses it stops."""
    missing = "eqnp: nowhere: no such run, and no run folder of that name; `eqnp train` makes one and prints its name\n"
    mistaken = (2, missing)
    assert forked(arguments, closed_pipe()) == (mistaken if "nowhere" in arguments else (0, ""))
    assert "reported" not in arguments or (Path("reported") / "report.html").exists()


@FULL
@pytest.mark.parametrize("arguments", COMMANDS[:-1], ids=" ".join)
def test_output_that_cannot_be_written_is_told_in_one_line(arguments, beside):
    """If this fails, a full disk is a traceback, or cuts the output off without a word."""
    assert forked(arguments, full_device()) == (2, TOLD)


SNOWMAN = ["predict", "run", "lava, déjà ☃"]
ENCODED = [*((command, "ascii", "") for command in COMMANDS[:-1]),
           (SNOWMAN, "ascii", "lava, d\\xe9j\\xe0 \\u2603\n"), (SNOWMAN, "latin-1", "lava, déjà \\u2603\n"),
           (SNOWMAN, "utf-8", "lava, déjà ☃\n")]  # fmt: skip


@pytest.mark.parametrize(("arguments", "encoding", "end"), ENCODED, ids=lambda each: "".join(each)[-20:])
def test_a_terminal_that_lacks_characters(arguments, encoding, end, beside, tmp_path):
    """If this fails, a command that went well ends with a traceback for the sake of one character."""
    with open(tmp_path / "out", "wb") as file:
        assert forked(arguments, os.dup(file.fileno()), encoding) == (0, "")
    assert (tmp_path / "out").read_text(encoding).endswith(end)


@pytest.mark.parametrize("command", [TRAIN, PREPARE], ids=["train", "prepare"])
@pytest.mark.parametrize("where", ["pipe", pytest.param("full", marks=FULL), "ascii"])
def test_nothing_is_lost_with_the_output(command, where, beside, tmp_path):
    """If this fails, a night of training ends when the terminal it was printed to does."""
    target = {
        "pipe": closed_pipe,
        "full": full_device,
        "ascii": lambda: os.open(tmp_path / "a", os.O_CREAT | os.O_RDWR),
    }
    expected = (2, TOLD) if where == "full" else (0, "")
    folder = f"{command[0]}-{where}"
    assert forked([*command, "--out", folder], target[where](), "ascii" if where == "ascii" else "utf-8") == expected
    if where == "ascii":
        assert (
            (tmp_path / "a")
            .read_text("ascii")
            .endswith(f'try: eqnp predict {folder} "\\u2026"\n' if command is TRAIN else f"try: eqnp train {folder}\n")
        )
    if command is TRAIN:
        assert weights(folder) == weights("run")
        assert json.loads((Path(folder) / "metrics.json").read_text())["epochs"] == 16
    else:
        assert sorted(path.name for path in Path(folder).iterdir()) == ["config.toml", "data.h5", "start.h5"]


@FULL
@pytest.mark.parametrize(("arguments", "code"), [(["list"], 0), (["--help"], 0), (["info", "x"], 2)])
def test_the_interpreter_has_nothing_left_to_say(arguments, code):
    """If this fails, a process ends in a traceback of the interpreter and code 120, after all went well."""
    assert process(arguments, stdout=closed_pipe())[::2] == (code, b"" if code == 0 else process(arguments)[2])
    assert process(arguments, stdout=full_device())[::2] == (2, TOLD.encode() if code == 0 else process(arguments)[2])
    assert process(arguments, stderr=full_device())[0] == code
    assert process(arguments, stderr=closed_pipe())[0] == code


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LC_ALL": "C"}, "é ☃".encode()),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"\\xe9 \\u2603"),
        ({"PYTHONIOENCODING": "latin-1"}, "é \\u2603".encode("latin-1")),
        ({"PYTHONIOENCODING": "utf-8"}, "é ☃".encode()),
    ],
)
def test_the_environment_sets_the_encoding(environment, shown, beside):
    """If this fails, text is garbled or fatal in a container without a locale."""
    Path("shown.py").write_text("from eqnp.app.output import Output\nwith Output(): print('é ☃')\n", "utf-8")
    done = subprocess.run([sys.executable, "shown.py"], stdout=-1, env=ENVIRONMENT | environment, check=True)
    assert done.stdout == shown + b"\n"


@pytest.mark.parametrize("strict", [{}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_texts_come_in_whole_without_a_locale(strict, beside):
    """If this fails, words with accents are other words, or question marks, in a container without a locale."""
    code = "from eqnp.app.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "predict", "run", "--json"]
    for given in ({"args": [*command, "é lava ☃"]}, {"args": command, "input": "é lava ☃\n".encode()}):
        done = subprocess.run(**given, capture_output=True, env=ENVIRONMENT | {"LC_ALL": "C"} | strict, check=True)
        assert done.stdout.splitlines()[0].endswith((b"\\xe9 lava \\u2603", "é lava ☃".encode()))
        assert done.stderr == b""


def test_bytes_that_are_no_text_are_told(beside, capsys, monkeypatch):
    """If this fails, a file of another encoding is classified as if its words were whole."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"lava\ncaf\xe9\n"), "utf-8"))
    assert main(["predict", "run"]) == 0
    assert "1 line(s), the first line 2, hold bytes that are no utf-8" in capsys.readouterr().err


def test_streams_are_left_as_they_were(beside, monkeypatch):
    """If this fails, a program that calls `main` loses its own output afterwards."""
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert main(["info", "run"]) == 0
        with pytest.raises(SystemExit):
            main(["--help"])
        assert main(["info", "nowhere"]) == 2
        assert sys.stdout is stream
        assert sys.stderr is stream
        if stream:
            assert "finished" in stream.getvalue()
            assert "nowhere: no such run" in stream.getvalue()


@FULL
def test_what_could_not_be_written_does_not_come_later(tmp_path):
    """If this fails, a stream that failed once disturbs what a program writes after the command."""
    reader, writer = os.pipe()
    stream, kept = io.TextIOWrapper(io.BufferedWriter(io.FileIO(full_device(), "w"))), os.dup(writer)
    outlet = output.Outlet(stream)
    assert outlet.write("dropped") == 7
    outlet.flush()
    assert outlet.failure.strerror == "No space left on device"
    os.dup2(kept, stream.fileno())
    stream.write("kept")
    stream.close()
    assert os.read(reader, 100) == b"kept"


# ---- standard input --------------------------------------------------------------------------------------


def predicted(capsys, monkeypatch, lines: str, *arguments) -> tuple[list[dict], list[str]]:
    """The predictions for standard input, and the lines that were printed."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), "utf-8"))
    assert main(["predict", *arguments, "--json"]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    return json.loads(last)["predictions"], shown


@pytest.mark.parametrize("many", [1, 40])
def test_a_blank_line_gets_the_prior(many, beside, capsys, monkeypatch):
    """If this fails, one blank line among a million costs all predictions, or moves them to other lines."""
    lines = ["there was lava", "", "zzz", "   ", "there was ice"] * many
    found, shown = predicted(capsys, monkeypatch, "\n".join(lines) + "\n", "run")
    prior = dict(zip(("0", "1"), Model.load("run").prior, strict=True))
    alone = {text: predicted(capsys, monkeypatch, text, "run")[0][0] for text in (lines[0], lines[-1])}
    assert alone[lines[0]]["scores"]["1"] > alone[lines[-1]]["scores"]["1"] + 0.01
    assert len(found) == len(shown) == len(lines)
    for line, each, text in zip(shown, found, lines, strict=True):
        if text in alone:
            assert line.endswith(text)
            assert each == alone[text] | {"scores": pytest.approx(alone[text]["scores"], abs=2e-3)}
        else:
            assert line.endswith("[no known word: the prior]" if text == "zzz" else "[no text: the prior]")
            assert (each["scores"], each["known_words"]) == (pytest.approx(prior), 0)
    assert predicted(capsys, monkeypatch, "\n", "run")[0][0]["scores"] == pytest.approx(prior)


def test_a_blank_line_is_explained(beside, capsys, monkeypatch):
    """If this fails, a blank line stops the explanation of all others."""
    lines = "there was lava\n\nzzz\n"
    found, shown = predicted(capsys, monkeypatch, lines, "run", "--explain", "--html", "why.html")
    assert [each["known_words"] for each in found] == [3, 0, 0]
    assert found[1]["pieces"] == {"text": []}
    assert [line.rpartition("  ")[2] for line in shown[1:3]] == ["[no text: the prior]", "[no known word: the prior]"]
    page = Path("why.html").read_text("utf-8")
    assert page.count("<h3>") == 3
    assert page.index("lava") < page.index("(no text: the prior)") < page.index("(no known word: the prior)")


def test_a_blank_line_is_two_empty_texts(tmp_path, capsys, monkeypatch):
    """If this fails, a blank line among pairs is refused, as if it were one text."""
    monkeypatch.chdir(tmp_path)
    own_data(Path("own.csv"))
    rows = Path("own.csv").read_text().splitlines()[1:]
    Path("own.csv").write_text("\n".join(["one,two,label", *(f"it is so,{row}" for row in rows)]) + "\n")
    columns = ["--set=data.columns={a='one', b='two'}", "--set=network.attention=[{queries=2, memory='b'}]"]
    assert main([*TRAIN, *columns, "--out", "run"]) == 0
    capsys.readouterr()
    lines = "so\tthere was lava and sun\n\n\t\nso\t\n\tthere was ice and snow\n"
    prior = dict(zip(("0", "1"), Model.load("run").prior, strict=True))
    for options in ([], ["--explain"]):
        found, shown = predicted(capsys, monkeypatch, lines, "run", *options)
        assert [each["known_words"] for each in found] == [6, 0, 0, 1, 5]
        assert ["no text: the prior" in line for line in shown] == [False, True, True, False, False]
        assert [each["scores"] for each in found[1:3]] == [pytest.approx(prior)] * 2
        assert found[0]["scores"]["1"] > found[4]["scores"]["1"]
    assert main(["predict", "run", "so", " "]) == 2
    assert "text 2 is empty" in capsys.readouterr().err


def test_an_empty_argument_is_refused(beside, capsys):
    """If this fails, a shell variable that is not set is classified as if it were a text."""
    for arguments in (["predict", "run", "ice", ""], ["report", "run", "ice", " ", "--out", "reported"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err == "eqnp: text 2 is empty; give at least one word\n"


def test_a_byte_order_mark_is_no_part_of_the_text(beside, capsys, monkeypatch):
    """If this fails, the first line of a file from Windows has a word that nobody wrote."""
    found, shown = predicted(capsys, monkeypatch, "\ufefflava\r\nice\r\n", "run")
    assert [line.split("  ")[2] for line in shown] == ["lava", "ice"]
    alone = predicted(capsys, monkeypatch, "lava", "run")[0][0]
    assert found[0] == alone | {"scores": pytest.approx(alone["scores"], abs=1e-5)}


# ---- signals ---------------------------------------------------------------------------------------------


def started(folder: str, ignored: tuple[int, ...] = ()) -> subprocess.Popen:
    """A long training run that is in its epochs."""

    def dispositions() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    run = subprocess.Popen(
        [sys.executable, "-m", "eqnp", *TRAIN, "--set=training.epochs=2000", "--out", folder],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=dispositions,
    )  # fmt: skip
    log, deadline = Path(folder) / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and '"epoch", ' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a terminal that closes sends no signal here")
def test_a_terminal_that_closes_saves_and_stops(beside):
    """If this fails, closing a terminal loses what was learned since the last checkpoint."""
    run = started("hung-up")
    run.send_signal(signal.SIGHUP)
    error = run.communicate(timeout=60)[1]
    assert (run.returncode, error) == (129, "eqnp: interrupted; go on with eqnp train --resume hung-up\n")
    assert (Path("hung-up") / "last.h5").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a terminal that closes sends no signal here")
def test_signals_that_were_ignored_stay_so(beside):
    """If this fails, `nohup eqnp train &` stops when the terminal closes, or at a Ctrl-C meant for another job."""
    run = started("nohup", ignored=(signal.SIGHUP, signal.SIGINT))
    for number in (signal.SIGHUP, signal.SIGINT):
        run.send_signal(number)
    lines = len((Path("nohup") / "log.jsonl").read_text())
    time.sleep(1)
    assert run.poll() is None
    assert len((Path("nohup") / "log.jsonl").read_text()) > lines
    run.send_signal(signal.SIGTERM)
    assert run.wait(timeout=60) == 143
    run.stderr.close()
