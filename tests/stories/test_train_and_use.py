"""A user's whole path on the embedded reviews: train, look at the run folder, evaluate, predict, repeat, interrupt."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.errors import ConfigError
from eqnp.files import load
from eqnp.runs.checkpoint import generators
from eqnp.runs.folder import claim, pinned
from eqnp.runs.model import Model
from eqnp.text.prepare import load_prepared, prepare
from eqnp.text.store import read_split, read_store, write_store
from tests.conftest import ROOT

EPOCHS = "--set=training.epochs=12"


def eqnp(capsys, *arguments) -> tuple[dict, list[str]]:
    """Run a command with --json; returns that object and the other lines."""
    assert main([*map(str, arguments), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), lines[:-1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("story") / "run"
    assert main(["train", "--out", str(folder), EPOCHS, "--seed", "3"]) == 0
    return folder


def test_training_beats_bags_of_words_and_writes_it_all_down(run):
    """If this fails, the main job does not learn, or its record is not complete."""
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["accuracy"]["test"] >= metrics["baselines"]["bag_of_words"]["test"] + 0.08
    files = ["config.toml", "data.h5", "log.jsonl", "metrics.json", "model.h5", "start.h5"]
    assert sorted(f.name for f in run.iterdir()) == files
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert len(events) == 12 * 11
    assert [e["epoch"] for e in epochs] == list(range(1, 13))
    best = max(epochs, key=lambda e: (e["validation"]["accuracy"], -e["validation"]["loss"]))
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["accuracy"]["validation"] == best["validation"]["accuracy"]
    assert min(epochs[-1]["settled"]) > 0.95


def test_evaluate_finds_the_figures_of_the_run(run, capsys):
    """If this fails, the model on disk is not the one that was measured."""
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("validation", "test"):
        assert eqnp(capsys, "evaluate", run, "--split", split)[0]["accuracy"] == metrics["accuracy"][split]
    result, _ = eqnp(capsys, "evaluate", run, "--data", "mini-sentiment", "--threads", 1)
    assert result["accuracy"] == metrics["accuracy"]["test"]


def test_a_model_in_half_precision_is_half_the_size_and_as_good(run, tmp_path, capsys):
    """If this fails, a small model file is another model than the one that was measured."""
    half = tmp_path / "half"
    settings = [str(run / "config.toml"), "--set=training.precision=half", "--set=training.epochs=3"]
    result, _ = eqnp(capsys, "train", *settings, "--out", half)
    arrays, _ = load(half / "model.h5", "model")
    assert arrays["parameters/embedding.weight"].dtype == np.float16
    assert Model.load(half).network.dtype == np.float32
    for split in ("validation", "test"):
        assert eqnp(capsys, "evaluate", half, "--split", split)[0]["accuracy"] == result["accuracy"][split]
    single, _ = eqnp(capsys, "train", *settings[:1], "--set=training.epochs=3", "--out", tmp_path / "single")
    assert result["accuracy"]["test"] == pytest.approx(single["accuracy"]["test"], abs=0.005)


def test_predict_arguments_and_lines(run, capsys, monkeypatch):
    """If this fails, predictions depend on how the text came in, or do not add up."""
    texts = ["not a bad film, merely a long one", "the acting is superb"]
    given, lines = eqnp(capsys, "predict", run, *texts)
    assert [line.split()[0] for line in lines] == [p["label"] for p in given["predictions"]]
    for prediction in given["predictions"]:
        assert sum(prediction["scores"].values()) == pytest.approx(1)
        assert prediction["label"] == max(prediction["scores"], key=prediction["scores"].get)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts) + "\n"))
    assert eqnp(capsys, "predict", run)[0] == given
    # A hundred texts go another way (compiled, sharded): the same answers.
    many, _ = eqnp(capsys, "predict", run, *(texts * 50))
    for one, other in zip(many["predictions"], given["predictions"] * 50, strict=True):
        assert one["label"] == other["label"]
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-3)


def test_a_text_without_known_words_gets_the_prior(run, capsys):
    """If this fails, gibberish is given a confident class without a word of warning."""
    result, lines = eqnp(capsys, "predict", run, "zzzz qqqq")
    assert result["predictions"][0]["known_words"] == 0
    assert "no known word" in lines[0]
    assert result["predictions"][0]["scores"] == pytest.approx({"negative": 0.5, "positive": 0.5}, abs=0.01)
    assert main(["predict", str(run), " "]) == 2
    assert "empty" in capsys.readouterr().err


def test_the_same_bits_from_one_seed_on_any_number_of_threads(run, tmp_path, capsys):
    """If this fails, a run cannot be repeated, and a result depends on the machine."""
    models = []
    for number, threads in enumerate((1, 1, 2, 4)):
        folder = str(tmp_path / str(number))
        config = [str(run / "config.toml"), "--set=training.epochs=1"]  # 80 batches
        assert main(["train", *config, "--out", folder, "--threads", str(threads)]) == 0
        models.append(load(tmp_path / str(number) / "model.h5", "model")[0])
    for other in models[1:]:
        for name, value in models[0].items():
            np.testing.assert_array_equal(value, other[name])


def test_own_data_with_own_names(tmp_path, capsys):
    """If this fails, a user's table with other columns and three named classes cannot be used."""
    rng = np.random.default_rng(0)
    words = {"cold": ["ice", "snow", "frost"], "hot": ["fire", "sun", "lava"], "wet": ["rain", "sea", "mud"]}
    lines = ["remark,kind"]
    for i in range(300):
        kind = list(words)[i % 3]
        lines.append(f"there was {rng.choice(words[kind])} and {rng.choice(words[kind])} today,{kind}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "run"
    arguments = ["--set=data.columns.text=remark", "--set=data.label=kind", EPOCHS, "--out", folder]
    result, _ = eqnp(capsys, "train", "--data", tmp_path / "own.csv", *arguments)
    assert result["classes"] == ["cold", "hot", "wet"]
    assert result["accuracy"]["validation"] == 1.0
    assert eqnp(capsys, "predict", folder, "there was lava")[0]["predictions"][0]["label"] == "hot"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_an_epoch_saves_and_exits(number, tmp_path, capsys):
    """If this fails, Ctrl-C ends in a traceback, or loses what was learned."""
    command = [sys.executable, "-m", "eqnp", "train", "--out", "run", "--set=training.epochs=500"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # which jobs in the background ignore
    )  # fmt: skip
    log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count('"epoch", ') >= 2) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(0.5)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert error.count("\n") == 1, error
    assert "eqnp train --resume run" in error
    assert Model.load(tmp_path / "run").predict({"text": ["a good film"]})
    assert not list((tmp_path / "run").glob(".*.tmp"))
    assert main(["train", "--resume", str(tmp_path / "run"), "--seed", "1"]) == 2
    assert "leave --seed out" in capsys.readouterr().err


def test_a_second_signal_stops_at_once(tmp_path):
    """If this fails, a batch that takes minutes cannot be left."""
    code = (
        "import os, signal, time\n"
        "from eqnp.runs.signals import StopRequest\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1); print(stop.received, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(30)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=20)
    assert (result.stdout, result.returncode) == (f"{signal.SIGINT:d}\n", -signal.SIGINT)


def test_a_prediction_from_a_cold_start_takes_two_seconds(run):
    """If this fails, asking for one prediction means waiting for a compiler."""
    command = [sys.executable, "-m", "eqnp", "predict", str(run), "a film that never quite finds its feet"]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        times.append(time.perf_counter() - started)
    assert min(times) <= 2.0


def test_prediction_of_few_texts_compiles_nothing(run):
    """If this fails, the test above passes only thanks to a warm cache."""
    code = (
        "import sys; from eqnp.app.cli import main; main(sys.argv[1:]); "
        "assert not {'numba', 'datasets', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "predict", str(run), "a film"], check=True, cwd=ROOT)


def test_files_of_another_run_are_refused(run, tmp_path, capsys):
    """If this fails, a mixed-up run folder reads outside its embedding table, or is scored as if nothing were wrong."""
    other = tmp_path / "other"
    assert main(["train", "--out", str(other), "--set=training.epochs=1", "--set=data.min_count=20"]) == 0
    (other / "data.h5").write_bytes((run / "data.h5").read_bytes())
    capsys.readouterr()
    assert main(["evaluate", str(other)]) == 2
    assert "not of this model" in capsys.readouterr().err


def test_a_changed_weight_is_noticed(run, tmp_path, capsys):
    """If this fails, a damaged model predicts as if nothing had happened."""
    (tmp_path / "model.h5").write_bytes((run / "model.h5").read_bytes())
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        file["arrays/parameters/output.bias"][0] += 1
    assert main(["predict", str(tmp_path), "a film"]) == 2
    assert "changed or damaged" in capsys.readouterr().err


def test_two_runs_at_once_do_not_share_a_folder(tmp_path):
    """If this fails, a run that starts beside another writes into its files."""
    claimed = [claim(tmp_path / "runs" / "x", numbered=True) for _ in range(3)]
    assert [folder.name for folder in claimed] == ["x", "x-2", "x-3"]
    assert claim(tmp_path / "empty", numbered=False) == claim(tmp_path / "empty", numbered=False)
    (tmp_path / "empty" / "config.toml").touch()
    with pytest.raises(ConfigError, match="--out"):
        claim(tmp_path / "empty", numbered=False)


def test_prepared_texts_are_those_of_the_run(tmp_path, capsys):
    """If this fails, a run from a prepared folder trains on other texts, words or vectors than a run of its own."""
    prepared, run = tmp_path / "prepared", tmp_path / "run"
    figures, _ = eqnp(capsys, "prepare", "mini-nli", "--out", prepared)
    assert figures["samples"] == {"train": 6000, "validation": 750, "test": 1200}
    result, _ = eqnp(capsys, "train", prepared, "--set=training.epochs=1", "--out", run)
    assert result["preset"] == "mini-nli"
    assert result["classes"] == figures["classes"]
    config = pinned(load_config("mini-nli"))
    assert Model.load(run).config.network == config.network
    ours, theirs = load_prepared(prepared, config), prepare(config, generators(config.training.seed)[0])
    np.testing.assert_array_equal(ours.embedding, theirs.embedding)
    assert (ours.words, ours.classes, ours.found) == (theirs.words, theirs.classes, theirs.found)
    for name, split in theirs.splits.items():
        kept = read_split(run / "data.h5", name)
        for segment, ids in split.segments.items():
            np.testing.assert_array_equal(kept.segments[segment].ids, ids.ids)
        np.testing.assert_array_equal(kept.labels, split.labels)
    assert main(["train", str(prepared), "--vectors", "corpus"]) == 2
    assert "prepare again" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "ids", "split", "store", "config"])
def test_a_damaged_prepared_folder_is_one_line(damage, tmp_path, capsys):
    """If this fails, a damaged folder trains on garbage, or ends in a traceback or a crash."""
    folder = tmp_path / "prepared"
    eqnp(capsys, "prepare", "--out", folder)
    start, store = folder / "start.h5", folder / "data.h5"
    if damage == "cut":
        start.write_bytes(start.read_bytes()[:5000])
    elif damage == "store":
        store.unlink()
    elif damage == "config":
        text = (folder / "config.toml").read_text()
        (folder / "config.toml").write_text(text.replace("max_tokens = 40", "max_tokens = 5"))
    else:  # a file that is whole, and does not fit
        splits = read_store(store)
        if damage == "ids":
            ids = splits["train"].segments["text"].ids.copy()
            ids[3] = 10**8
            splits["train"].segments["text"].ids = ids
        else:
            del splits["validation"]
        write_store(store, splits, [])
    assert main(["train", str(folder), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "prepare" in error or "damaged" in error


def test_a_folder_with_the_name_of_a_preset_does_not_hide_it(tmp_path, monkeypatch, capsys):
    """If this fails, a folder of data called "mini-sentiment" makes the preset unusable."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mini-sentiment").mkdir()
    assert eqnp(capsys, "prepare", "mini-sentiment")[0]["samples"]["train"] == 4000


def test_two_texts_with_the_users_own_three_classes(tmp_path, capsys):
    """If this fails, own pairs lose their class names, or the order of their two texts."""
    rng, path = np.random.default_rng(0), tmp_path / "pairs.csv"
    topics, lines = (["ice", "snow", "frost"], ["fire", "sun", "lava"], ["rain", "sea", "mud"]), ["ask,answer,verdict"]
    for _ in range(600):
        asked, said = rng.integers(0, 3, 2)
        said = rng.choice((asked, said))
        one, two, three, four = *rng.choice(topics[asked], 2), *rng.choice(topics[said], 2)
        unsure = rng.random() < 0.2
        verdict = "vague" if unsure else "same" if said == asked else "other"
        lines.append(f"is it {one} or {two},{'maybe' * unsure} it is {three} and {four},{verdict}")
    path.write_text("\n".join(lines) + "\n")
    columns = ["--set=data.columns={first='ask', second='answer'}", "--set=data.label=verdict"]
    attention = "--set=network.attention=[{queries='second', memory='first'}, {queries='first', memory='second'}]"
    result, _ = eqnp(
        capsys,
        "train",
        "mini-nli",
        "--data",
        path,
        *columns,
        attention,
        "--set=training.epochs=40",
        "--out",
        tmp_path / "run",
    )
    assert result["classes"] == ["other", "same", "vague"]
    assert result["accuracy"]["validation"] > 0.95 > 0.15 + result["baselines"]["bag_of_words"]["validation"]
    predicted, _ = eqnp(capsys, "predict", tmp_path / "run", "is it ice or snow", "it is frost and ice")
    assert predicted["predictions"][0]["label"] == "same"
