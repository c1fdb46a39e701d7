"""What a message advises is right: each mistake is answered with what was meant, and that works when it is typed."""

import contextlib
import io
import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.app.cli import build_parser, main
from eqnp.config import Config, load_config
from eqnp.errors import ConfigError, DataError, nearest, some
from eqnp.runs import contents
from eqnp.settings import keys_of, kind_of
from eqnp.text import prepare

LINES = [f"{'hot sun and fire' if i % 2 else 'cold ice and snow'} {i % 5},{['cold', 'hot'][i % 2]}" for i in range(60)]
QUICK = ["--set=training.epochs=1", "--set=training.min_updates=0", "--set=vectors.dimension=4"]
OWN_OPTIONS = ("seed", "unlabelled", "algorithm", "validation", "test", "train")  # keys with options of their own


def typed(capsys, line: str) -> tuple[int, str, str]:
    """Type a command line; returns the exit code, what was printed, and the one line of complaint."""
    try:
        code = main(shlex.split(line)[1:])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert err.count("\n") == (code == 2), err
    return code, out, err


def advised(error: str, command: str) -> str:
    """The command line that a complaint ends with."""
    return error[error.rindex(f"eqnp {command} ") :].strip()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of each kind: data in it, prepared, trained, saved from Python, and none."""
    root = tmp_path_factory.mktemp("kinds")
    with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()):
        Path("data").mkdir()
        Path("none").mkdir()
        Path("data/own.csv").write_text("text,label\n" + "\n".join(LINES) + "\n")
        assert main(["prepare", "--data", "data/own.csv", "--out", "prepared", *QUICK]) == 0
        assert main(["train", "prepared", "--out", "run"]) == 0
        Path("a model").mkdir()
        shutil.copy("run/model.h5", "a model")
    return root


@pytest.fixture
def at(folders, tmp_path, monkeypatch):
    """A copy of those folders as the current one."""
    shutil.copytree(folders, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--epochs 5", "--set training.epochs=5"),
        ("--epochs=5", "--set training.epochs=5"),
        ("--epoch 5", "--set training.epochs=5"),
        ("--num-epochs 5", "--set training.epochs=5"),
        ("-epochs 5", "--set training.epochs=5"),
        ("--training.epochs 5", "--set training.epochs=5"),
        ("--lr 0.1", "--set optimizer.learning_rate=0.1"),
        ("--learning-rate 1e-3", "--set optimizer.learning_rate=1e-3"),
        ("--learning_rate=1e-3", "--set optimizer.learning_rate=1e-3"),
        ("--batch-size 20", "--set training.batch=20"),
        ("--batch_size 20", "--set training.batch=20"),
        ("--hidden 64", "--set 'network.hidden=[64]'"),
        ("-hidden 64", "--set 'network.hidden=[64]'"),
        ("--hidden 64,32", "--set 'network.hidden=[64,32]'"),
        ("--dropout 0.5", "--set training.word_dropout=0.5"),
        ("--dropout", "--set training.word_dropout=…"),
        ("--beta 0.3", "--set learning.beta=0.3"),
        ("--patience 2", "--set training.patience=2"),
        ("--max-tokens 30", "--set data.max_tokens=30"),
        ("--max-length 30", "--set data.max_tokens=30"),
        ("--weight-decay 0.1", "--set optimizer.weight_decay=0.1"),
        ("--optimizer momentum", "--set optimizer.name=momentum"),
        ("--label x", "--set data.label=x"),
        ("--label-column 'my label'", "--set 'data.label=my label'"),
        ("--text-column x", "--set data.columns.text=x"),
        ("--text x", "--set data.columns.text=x"),
        ("--classes neg,pos", """--set 'data.classes=["neg","pos"]'"""),
        ("--train f.csv", "--data f.csv"),
        ("--dataset f.csv", "--data f.csv"),
        ("--test f.csv", "--test-data f.csv"),
        ("--valid f.csv", "--val-data f.csv"),
        ("--val f.csv", "--val-data f.csv"),
        ("--validation=f.csv", "--val-data f.csv"),
        ("--dev 'my f.csv'", "--val-data 'my f.csv'"),
        ("--val_data f.csv", "--val-data f.csv"),
        ("--glove g.txt", "--vectors g.txt"),
        ("--gpu", "--device cuda"),
        ("--cuda", "--device cuda"),
        ("--output d", "--out d"),
        ("-o d", "--out d"),
        ("--jobs 2", "--threads 2"),
        ("--random-state 3", "--seed 3"),
    ],
)
def test_an_option_of_other_programs_is_answered_with_ours(capsys, tmp_path, monkeypatch, wrong, right):
    """If this fails, who types what every other program has is sent to an option that has nothing to do with it."""
    monkeypatch.chdir(tmp_path)
    for rest in ("", "mini-sentiment "):
        code, _, error = typed(capsys, f"eqnp train {rest}{wrong}")
        assert code == 2
        assert error.endswith(f"; write {right}\n")
    if "…" not in right:  # it is what the parser and the configuration take
        options = build_parser().parse_args(["train", *shlex.split(right)])
        load_config("mini-sentiment", options.set)


@pytest.mark.parametrize("key", [key for key in keys_of(Config) if "." in key and key.count(".") < 3])
def test_every_key_is_found_by_its_last_part(key):
    """If this fails, a key that is added to the configuration is not found by its own name."""
    last = key.rpartition(".")[2]
    assert kind_of(Config, key) is not None
    if key == "data.columns" or last in OWN_OPTIONS:
        return
    error = io.StringIO()
    with contextlib.redirect_stderr(error), pytest.raises(SystemExit):
        main(["train", f"--{last.replace('_', '-')}", "1"])
    advice = "--data 1" if last == "source" else f"--set {key}="  # where other programs have their data
    assert advice in error.getvalue().replace("'", "")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("eqnp train --config own.toml", "as the first argument: eqnp train own.toml"),
        ("eqnp train --preset imdb", "as the first argument: eqnp train imdb"),
        ("eqnp evaluate --model run", "as the first argument: eqnp evaluate run"),
        ("eqnp evaluate run --test f.csv", "write --data f.csv"),
        ("eqnp evaluate run --gpu", "write --device cuda"),
        ("eqnp check mini-sentiment --seed 3", "write --set training.seed=3"),
        (
            "eqnp evaluate run --set a.b=c",
            "evaluate has no --set; eqnp train, data, tune, prepare, check and benchmark have it",
        ),
        (
            "eqnp report run --device cuda",
            "report has no --device; eqnp train, evaluate, versus, predict and benchmark have",
        ),
        ("eqnp info run --resume", "info has no --resume; eqnp train has it"),
        ("eqnp evaluate run --epochs 5", "eqnp train --set training.epochs=5"),
        ("eqnp predict run --file=f.csv", "write --data f.csv"),
        ("eqnp predict run --test-data f.csv", "write --data f.csv"),
        ("eqnp predict --input 'my f.csv' 'my run'", "write --data 'my f.csv'"),
        ("eqnp predict run --text 'a b'", "eqnp predict run 'a b'"),
        ("eqnp predict run --output f.csv", "write --out f.csv"),
        (
            "eqnp train --lr 1 --epochs 2",
            "--set optimizer.learning_rate=1; unknown argument '--epochs'; write --set tr",
        ),
        ("eqnp data --data 'my f.csv'", "as the first argument: eqnp data 'my f.csv'"),
        ("eqnp train --sed 1", "did you mean '--seed'?"),
        ("eqnp train --vector f", "write --vectors f"),
        ("eqnp train --unlabeled f", "write --unlabelled f"),
        ("eqnp predict run -json", "did you mean '--json'?"),
        ("eqnp train --zzzzzzzz", "allowed: "),
        ("eqnp train mini-sentiment more", "unknown argument 'more'; see eqnp train --help"),
        ("eqnp predict", 'RUN is missing; for example: eqnp predict runs/mini-sentiment "a fine film"'),
        ("eqnp predict", "lines of standard input"),
        ("eqnp evaluate", "RUN is missing; for example: eqnp evaluate runs/mini-sentiment"),
    ],
)
def test_every_command_says_what_was_meant(capsys, line, advice):
    """If this fails, a command that lacks an option names nothing that does it."""
    code, _, error = typed(capsys, line)
    assert code == 2
    assert advice in error


def test_the_usage_of_predict_names_both_ways(capsys):
    """If this fails, nobody learns that texts may come from a file."""
    _, out, _ = typed(capsys, "eqnp predict --help")
    assert "eqnp predict RUN [TEXT ...]" in out
    assert "eqnp predict RUN [options] < FILE" in out
    assert "standard input" in out
    assert "Put -- before one that begins with a dash" in " ".join(out.split())


@pytest.mark.parametrize("name", ["gpu", "GPU", "cuda:0", "cuda0", "nvidia", "CUDA", "cudo"])
def test_a_gpu_by_any_name(capsys, name):
    """If this fails, who asks for a GPU is sent to the CPU."""
    assert "did you mean 'cuda'?" in typed(capsys, f"eqnp train --device {name}")[2]


@pytest.mark.parametrize("text", ["-hot", "-bad", "-h", "-hot and sunny", "--awful", "--very hot", "-1", "--json"])
def test_a_text_that_begins_with_a_dash(capsys, at, text):
    """If this fails, such a text cannot be predicted, or nobody learns how."""
    if text not in ("-h", "--json", "-1", "--very hot"):  # options, and what cannot be one
        code, _, error = typed(capsys, f"eqnp predict run {shlex.quote(text)}")
        assert code == 2
        assert "put -- before a text that begins with a dash" in error
        assert advised(error, "predict") == f"eqnp predict run -- '{text}'"
    for line, texts in (
        (f"run -- '{text}'", [text]),
        (f"run cold --threads 1 -- '{text}' ice", ["cold", text, "ice"]),
        (f"--threads 1 -- run '{text}' -- ice", [text, "--", "ice"]),
    ):
        code, out, _ = typed(capsys, f"eqnp predict {line}")
        assert code == 0
        assert [printed.split("  ")[2] for printed in out.splitlines()] == texts


# ---- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("--set training.epochs 5", "write --set training.epochs=5"),
        ("--set=training.epochs 5", "write --set training.epochs=5"),
        ("--set training.epochs = 5", "write --set training.epochs=5"),
        ("--set training.epochs =5", "write --set training.epochs=5"),
        ("--set training.epochs= 5", "write --set training.epochs=5"),
        ("mini-sentiment --set epochs 5", "write --set training.epochs=5"),
        ("--set network.hidden 64", "write --set 'network.hidden=[64]'"),
        ("--set data.label 'a b'", "write --set 'data.label=a b'"),
        ("--set training.epochs", "section.key=value"),
        ("--set training.epochs --seed 1", "section.key=value"),
        ("--set epochs=5", "did you mean 'training.epochs'?"),
        ("--set lr=5", "did you mean 'optimizer.learning_rate'?"),
        ("--set seed=5", "did you mean 'data.seed' or 'training.seed'?"),
        ("--set data.columns={text=1}", "in quotes: --set 'data.columns={text=\"1\"}'"),
        ("--set data.columns={text=body}", "in quotes: --set 'data.columns={text=\"body\"}'"),
        ("--set data.columns=body", "write --set data.columns.NAME=VALUE"),
        ("--set data.classes=[neg,pos]", 'in quotes: --set \'data.classes=["neg","pos"]\''),
        ("--set data.classes=neg,pos", 'in quotes: --set \'data.classes=["neg","pos"]\''),
        ("--set data.classes=[0,1]", 'in quotes: --set \'data.classes=["0","1"]\''),
        ("--set network.hidden=64", "write it: --set 'network.hidden=[64]'"),
    ],
)
def test_settings_that_are_not_written_well(capsys, tmp_path, monkeypatch, arguments, advice):
    """If this fails, a setting is refused without the line that would do it."""
    monkeypatch.chdir(tmp_path)
    code, _, error = typed(capsys, f"eqnp train {arguments}")
    assert code == 2
    assert advice in error
    if "--set '" in advice:
        load_config("mini-sentiment", [shlex.split(advice[advice.index("--set") :])[1]])


def test_text_is_taken_as_typed():
    """If this fails, a column called 3, 1.10, true or 2020-01-01 cannot be named on a command line."""
    for text in ("3", "1.10", "true", "2020-01-01", "[a]", "a b", "nan", "1_000", '"', ""):
        config = load_config("mini-sentiment", [f"data.label={text}", f"data.columns.text={text}"])
        assert (config.data.label, config.data.columns) == (text, {"text": text})
    assert load_config("mini-sentiment", ['data.label="3"']).data.label == "3"
    assert load_config("mini-sentiment", ["network.attention.0.queries=3"]).network.attention[0].queries == 3
    assert load_config("mini-sentiment", ["data.test=", "data.classes=['1', '2']"]).data.classes == ("1", "2")


def test_columns_with_numbers_for_names(capsys, at):
    """If this fails, data whose columns are numbered cannot be trained on."""
    Path("numbered.csv").write_text("1,3\n" + "\n".join(LINES) + "\n")
    settings = f"--set data.columns.text=1 --set data.label=3 {' '.join(QUICK)}"
    assert typed(capsys, f"eqnp train --data numbered.csv {settings} --out numbered")[0] == 0


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("[data]\nlabel = 3", 'in quotes: label = "3"'),
        ("[data]\nclasses = [0, 1]", 'in quotes: classes = ["0", "1"]'),
        ("[data]\ncolumns = { text = 1 }", 'in quotes: text = "1"'),
        ("[data]\nlabel = 2020-01-01", 'in quotes: label = "2020-01-01"'),
        ("[network]\nhidden = 64", "write it: hidden = [64]"),
        ("epochs = 5", "did you mean 'training.epochs'?"),
    ],
)
def test_values_of_a_file_that_are_not_written_well(tmp_path, line, advice):
    """If this fails, a file of settings is refused without the line that belongs there."""
    (tmp_path / "own.toml").write_text(f'preset = "mini-sentiment"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "own.toml"))
    assert str(caught.value).endswith(advice)
    with pytest.raises(ConfigError, match='in quotes: "3"'):
        load_config("mini-sentiment", given={"data.label": 3})


def test_encodings_of_a_file_of_settings(tmp_path, capsys, shared):
    """If this fails, a file that an editor began with a byte order mark loses its first key, or is refused."""
    config = load_config(str(shared / "cases" / "bom.toml"))
    assert (config.training.epochs, config.data.train) == (1, "mini-sentiment")
    own = tmp_path / "own.toml"
    own.write_bytes(b'\xef\xbb\xbfname = "x"\n')
    assert load_config(str(own)).name == "x"
    own.write_bytes('name = "x"\n[data]\nlabel = "Gefühl"\n'.encode("latin-1"))
    code, _, error = typed(capsys, f"eqnp train {own}")
    assert code == 2
    assert error == f"eqnp: {own}: line 3: byte 0xfc is no UTF-8; save the file as UTF-8\n"


# ---- folders and files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "prepare", "check"])
@pytest.mark.parametrize(
    "source", ["data/own.csv", "absent.csv", "x.tsv", "x.parquet", "x.JSONL", "x.ndjson", "x.json", "x.txt", "x.csv.gz"]
)
def test_data_in_place_of_a_preset(capsys, at, command, source):
    """If this fails, who gives a file of data is told of presets."""
    code, _, error = typed(capsys, f"eqnp {command} {source}")
    assert code == 2
    assert f"{'mini-sentiment ' * (command == 'check')}--data {source}\n" in error
    assert advised(error, command).startswith(f"eqnp {command} ")


def test_advice_about_data_works(capsys, at):
    """If this fails, the line that a message says to type does not do it."""
    Path("with a space.csv").write_bytes(Path("data/own.csv").read_bytes())
    for wrong in ("eqnp train data/own.csv", "eqnp train data", "eqnp train 'with a space.csv'", "eqnp predict data x"):
        _, _, error = typed(capsys, wrong)
        assert typed(capsys, f"{advised(error, 'train')} {' '.join(QUICK)}")[0] == 0
    Path("nameless").write_text("x")
    assert "eqnp train --data nameless" in typed(capsys, "eqnp train nameless")[2]


@pytest.mark.parametrize("command", ["predict {} x", "evaluate {}", "evaluate {} --data x.csv", "report {}", "check {}",
                                     "train --resume {}"])  # fmt: skip
def test_every_command_knows_the_kinds_of_folders(capsys, at, command):
    """If this fails, a command on a folder of another kind names a command that refuses it too."""
    error = typed(capsys, f"eqnp {command.format('prepared')}")[2]
    assert advised(error, "train") == "eqnp train prepared"
    assert advised(typed(capsys, f"eqnp {command.format('data')}")[2], "train") == "eqnp train --data data/own.csv"
    assert "none holds no such model" in typed(capsys, f"eqnp {command.format('none')}")[2]
    assert "no such run" in typed(capsys, f"eqnp {command.format('absent')}")[2] or "check" in command
    assert "give its folder" in typed(capsys, f"eqnp {command.format('run/model.h5')}")[2]


def test_a_prepared_folder_is_trained_as_advised(capsys, at):
    """If this fails, the advice about a prepared folder does not work, or `eqnp info` gives none."""
    assert "eqnp train prepared" in typed(capsys, "eqnp info prepared")[1]
    assert typed(capsys, f"{advised(typed(capsys, 'eqnp predict prepared x')[2], 'train')} --out new")[0] == 0


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("evaluate 'a model'", "eqnp evaluate 'a model' --data F"),
        ("report 'a model'", "eqnp evaluate 'a model' --data F"),
        ("check 'a model'", "eqnp check PRESET --data F"),
        ("train --resume 'a model'", "eqnp predict 'a model'"),
        ("train 'a model'", "eqnp predict 'a model'"),
    ],
)
def test_a_folder_saved_from_python(capsys, at, command, advice):
    """If this fails, a command that cannot use such a folder does not say which can."""
    code, _, error = typed(capsys, f"eqnp {command}")
    assert code == 2
    assert "saved from Python" in error
    assert advice in error
    if "evaluate" in advice:
        assert typed(capsys, advice.replace(" F", " data/own.csv"))[0] == 0
    assert typed(capsys, "eqnp info 'a model'")[0] == 0


@pytest.mark.parametrize("lost", ["start.h5", "data.h5"])
@pytest.mark.parametrize("folder", ["run", "stopped", "prepared"])
def test_a_folder_that_has_lost_a_part(capsys, at, folder, lost):
    """If this fails, who has lost a file of a run is not told what is left of it."""
    shutil.copytree("run", "stopped")
    Path("stopped/metrics.json").unlink()
    (Path(folder) / lost).unlink()
    line = "train --resume stopped" if folder == "stopped" else f"train {folder}"
    code, _, error = typed(capsys, f"eqnp {line}")
    assert code == 2
    assert f"{folder} has lost {lost}" in error
    assert ("eqnp predict" in error) == (folder != "prepared")
    again = f"eqnp {'prepare' if folder == 'prepared' else 'train'} {folder}/config.toml --out NEW"
    assert again in error
    assert typed(capsys, again)[0] == 0
    if folder != "prepared":
        assert typed(capsys, f"eqnp predict {folder} hot")[0] == 0
    if lost == "data.h5" and folder == "run":
        assert "has lost data.h5" in typed(capsys, "eqnp evaluate run")[2]
        assert "has lost data.h5" in typed(capsys, "eqnp report run")[2]


def test_a_run_that_has_lost_its_model(capsys, at):
    """If this fails, a finished run without its model is to be resumed, which does nothing."""
    Path("run/model.h5").unlink()
    error = typed(capsys, "eqnp predict run hot")[2]
    assert "run has lost model.h5; eqnp train run trains it anew" in error
    assert typed(capsys, "eqnp train run")[0] == 0
    assert contents.START == prepare.START


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("out", ["file.txt/run", "/proc/x", "/proc/x/y"])
def test_an_output_that_cannot_be_written_is_found_at_once(capsys, at, monkeypatch, command, out):
    """If this fails, all data are prepared before a mistaken --out is told."""
    Path("file.txt").touch()
    monkeypatch.setattr("eqnp.runs.training.prepare_anew", lambda config: pytest.fail("data are read"))
    code, _, error = typed(capsys, f"eqnp {command} --out {out}")
    assert code == 2
    assert error.startswith(f"eqnp: {out}: ")
    assert "choose another place with --out" in error
    Path("runs").touch()  # where folders are made that are not named
    Path("prepared").rename("other")
    Path("prepared").touch()
    assert "is no folder" in typed(capsys, f"eqnp {command}")[2]


def test_other_outputs_that_cannot_be_written(capsys, at, monkeypatch):
    """If this fails, a page or a report is computed before it turns out that it has no place."""
    before = sorted(at.rglob("*"))
    for line, advice in (
        ("predict run --explain --html /nonexistent/x.html hot", "eqnp: /nonexistent: no such folder; make it"),
        ("predict run --explain --html run hot", "run is a folder; name a file with --html"),
        ("predict run --explain --html /proc/x.html hot", "cannot be written to"),
        ("predict run --explain --html run/model.h5/x.html hot", "run/model.h5 is no folder"),
        ("report run --out run/model.h5", "run/model.h5 is no folder"),
        ("check run --out /proc/x", "/proc/x: cannot be made"),
    ):
        monkeypatch.setattr("eqnp.runs.model.Model.load", lambda *_: pytest.fail("a model is read"))
        code, _, error = typed(capsys, f"eqnp {line}")
        assert code == 2
        assert advice in error
    assert sorted(at.rglob("*")) == before
    monkeypatch.undo()
    monkeypatch.chdir(at)
    assert typed(capsys, "eqnp predict run --explain --html page.html hot")[0] == 0
    assert typed(capsys, "eqnp predict run --explain --html /dev/null hot")[0] == 0


# ---- Python, and long lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (b"hot", "sample 1 of X is bytes; decode them (text.decode('utf-8'))"),
        (bytearray(b"hot"), "sample 1 of X is bytes; decode them"),
        (None, "sample 1 of X is None, a missing value; leave such samples out"),
        (float("nan"), "sample 1 of X is nan, a missing value"),
        (3, "sample 1 of X is the number 3; give strings"),
        (np.float64(0.5), "sample 1 of X is the number 0.5"),
        ((b"hot",), "sample 1 of X is bytes"),
        ({"a": 1}, "sample 1 of X is ({'a': 1},); it must be a string"),
    ],
)
def test_what_is_no_text(folders, odd, said):
    """If this fails, bytes are shown as a tuple of integers, and a missing value as anything."""
    classifier = SequenceClassifier.load(folders / "run")
    for call in (classifier.predict, lambda X: SequenceClassifier().fit(X, ["a", "b"])):
        with pytest.raises(DataError) as caught:
            call(["hot", odd])
        assert str(caught.value).startswith(said)
    with pytest.raises(DataError, match="sample 0 of X is bytes"):
        classifier.predict(np.array([b"hot", b"cold"]))
    with pytest.raises(DataError, match="X is bytes; give a list"):
        classifier.predict(b"hot")
    with pytest.raises(DataError, match="sample 0 of X holds bytes"):
        SequenceClassifier("mini-nli").fit([("a", b"b")], ["x"])


def test_long_lists_are_cut(capsys, at, monkeypatch):
    """If this fails, a message about one of 300 classes is a page of names."""
    names = [f"c{i:03}" for i in range(300)]
    assert some(names) == "c000, c001, c002, c003, c004, c005, c006, c007, … (300)"
    assert some(names[:3]) == some(iter(names[:3]), 3) == "c000, c001, c002"
    assert some([1, 2, 3], 2) == "1, 2, … (3)"
    assert nearest("zzz", names) == f"; allowed: {some(names)}"
    assert nearest("c299.", names) == "; did you mean 'c299'?"
    data = "text,label\n" + "".join(f"word{name} and more,{name}\n" * 3 for name in names[:20])
    Path("many.csv").write_text(data)
    assert typed(capsys, f"eqnp train --data many.csv --out many {' '.join(QUICK)}")[0] == 0
    _, out, _ = typed(capsys, "eqnp info many")
    assert "c000, c001, c002, c003, c004, c005, c006, c007, … (20)" in out
    _, out, _ = typed(capsys, "eqnp info many --json")
    assert json.loads(out.splitlines()[-1])["classes"] == names[:20]
    Path("strange.csv").write_text("text,label\nmore,zzz\n")
    assert "… (20)" in typed(capsys, "eqnp evaluate many --data strange.csv")[2]
    classifier = SequenceClassifier.load("many")
    with pytest.raises(DataError, match=r"… \(20\)"):
        classifier.partial_fit(["more"], ["c000"], classes=["c000", "zzz"])
    with pytest.raises(DataError, match=r"… \(20\)"):
        classifier.partial_fit(["more"], ["zzz"])


def test_hints_cost_nothing_when_all_is_well():
    """If this fails, a command that is right waits for what is only for those that are wrong."""
    build_parser().parse_args(["predict", "run", "text"])
    sys.modules.pop("eqnp.app.hints", None)
    build_parser().parse_args(["predict", "run", "text", "--", "-hot"])
    assert "eqnp.app.hints" not in sys.modules
