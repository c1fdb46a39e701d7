"""Scores as probabilities: a temperature from the held-out texts, the same scores everywhere, "unsure" below one."""

import io
import json
import sys
from unittest.mock import Mock

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn import metrics as theirs

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.machine import Machine
from eqnp.runs.checkpoint import generators, untrained
from eqnp.runs.loop import Hooks, fit, free_outputs
from eqnp.runs.model import Model
from eqnp.text.prepare import load_prepared
from tests.runs import CLIMATES, read_table, said, weather

ORDER = [*reversed(CLIMATES)]  # that the configuration gives the classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs on the same texts: one that was trained once more on all of them, and one that was not."""
    folder = tmp_path_factory.mktemp("probabilities")
    weather(folder / "train.csv", 640, 0)
    weather(folder / "test.csv", 160, 1)
    for name, refit in (("again", "true"), ("once", "false")):
        given = ["--data", str(folder / "train.csv"), "--test-data", str(folder / "test.csv"), "--threads=1"]
        given += [f"--set=training.refit={refit}", f"--set=data.classes={json.dumps(ORDER)}"]
        assert main(["train", *given, "--set=training.epochs=8", "--out", str(folder / name)]) == 0
    return folder


def best_temperature(outputs: np.ndarray, labels: np.ndarray) -> float:
    """That of the least log loss, by scikit-learn's, with the prior of `eqnp.runs.calibration`."""
    logs = np.log(np.maximum(outputs.astype(np.float64), 0) + 1e-9)

    def loss(t: float) -> float:
        scores = softmax(logs / np.exp(t), axis=1)
        return theirs.log_loss(labels, scores, labels=range(scores.shape[1])) + t * t / (2 * 0.25 * len(labels))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def last_or_best(run, last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Outputs for the held-out texts of a run, at its last or its best epoch, and their labels."""
    prepared = load_prepared(run, load_config(str(run / "config.toml")))
    splits, config = prepared.splits, prepared.config
    with Machine("cpu", config.training.shard).at_work(1) as machine:
        model, optimizer = untrained(prepared, machine)
        hooks = Hooks(best=Mock()) if last else Hooks()  # a mock neither keeps nor restores
        fit(model.network, optimizer, config, splits["train"], splits["validation"], generators(0)[2], hooks=hooks)
        return free_outputs(model.network, splits["validation"], config.settling), np.array(splits["validation"].labels)


@pytest.mark.parametrize(("name", "last"), [("again", True), ("once", False)])
def test_the_temperature_is_of_texts_that_taught_the_network_nothing(name, last, folder):
    """If this fails, it is fitted to texts that the network knows by heart, and makes scores too sure."""
    run = folder / name
    found = json.loads((run / "metrics.json").read_text())["calibration"]
    outputs, labels = last_or_best(run, last)
    assert found["temperature"] == pytest.approx(best_temperature(outputs, labels), rel=1e-3)
    assert abs(found["temperature"] - 1) > 0.01
    assert found["texts"] == len(labels)
    scores = np.maximum(outputs.astype(np.float64), 0) + 1e-9
    scores /= scores.sum(axis=1, keepdims=True)
    assert found["before"]["log_loss"] == pytest.approx(theirs.log_loss(labels, scores, labels=range(4)), rel=1e-4)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    assert Model.load(run).temperature == found["temperature"]


def test_labels_do_not_change_by_it_and_scores_do(folder):
    """If this fails, calibration changes what is predicted, or nothing."""
    texts, _ = read_table(folder / "test.csv")
    model = Model.load(folder / "again")
    after = model.scores({"text": texts})[0]
    temperature, model.temperature = model.temperature, 1.0
    before = model.scores({"text": texts})[0]
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    np.testing.assert_allclose(after, softmax(np.log(before) / temperature, axis=1), atol=1e-9)


@pytest.mark.parametrize("count", [3, 64, 65, 160])
def test_scores_are_the_same_from_python_and_the_command_line(count, folder, capsys, monkeypatch):
    """If this fails, the last digit, or the order of the classes, depends on how one asks."""
    run, texts = folder / "again", read_table(folder / "test.csv")[0][:count]
    classifier = SequenceClassifier.load(run)
    scores = classifier.predict_proba(texts)
    assert list(classifier.classes_) == list(Model.load(run).classes) == ORDER
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts) + "\n"))
    for arguments in ([], texts, ["--threads", "1", *texts], ["--explain", *texts]):
        found, printed = said(capsys, "predict", run, *arguments)
        predictions = found["predictions"]
        assert [list(each["scores"]) for each in predictions] == [ORDER] * count
        np.testing.assert_array_equal([list(each["scores"].values()) for each in predictions], scores)
        assert [each["label"] for each in predictions] == list(classifier.predict(texts))
        for line, row in zip(printed.splitlines(), scores, strict=True):
            assert line.split("  ")[:2] == [ORDER[row.argmax()], f"{row.max():.3f}"]


def test_below_a_score_it_says_unsure(folder, capsys):
    """If this fails, a person is not asked where the network does not know."""
    run, (texts, labels) = folder / "again", read_table(folder / "test.csv")
    found, printed = said(capsys, "predict", run, "--at-least", "0.8", *texts)
    scores = SequenceClassifier.load(run).predict_proba(texts)
    best = [ORDER[row.argmax()] if row.max() >= 0.8 else "unsure" for row in scores]
    assert {"unsure"} < set(best)
    assert [each["label"] for each in found["predictions"]] == best
    assert [line.split("  ")[0] for line in printed.splitlines()] == best
    explained, _ = said(capsys, "predict", run, "--explain", "--at-least", "0.8", *texts)
    assert [each["label"] for each in explained["predictions"]] == best
    sure = np.array(best) != "unsure"
    measured, printed = said(capsys, "evaluate", run, "--data", folder / "test.csv")
    (row,) = (each for each in measured["thresholds"] if each["at_least"] == 0.8)
    assert row["coverage"] == pytest.approx(sure.mean())
    assert row["accuracy"] == pytest.approx(np.mean(np.array(best)[sure] == np.array(labels)[sure]))
    assert f"0.80  {row['coverage']:8.1%}  {row['accuracy']:.1%} (" in printed
    assert f"calibration error {measured['calibration_error']:.4f}" in printed
    for wrong in ("1.5", "nan", "often"):
        with pytest.raises(SystemExit, match="2"):
            main(["predict", str(run), "--at-least", wrong, "a text"])
        assert "is not a number from 0 to 1" in capsys.readouterr().err


def test_a_class_that_is_called_unsure_is_not_taken_for_it(folder, tmp_path, capsys):
    """If this fails, nobody can tell a class from the lack of one."""
    own = (folder / "train.csv").read_text().replace(",wet", ",unsure")
    (tmp_path / "own.csv").write_text(own)
    given = ["--data", tmp_path / "own.csv", "--set=training.epochs=1", "--threads=1", "--out", tmp_path / "run"]
    said(capsys, "train", *given)
    assert main(["predict", str(tmp_path / "run"), "--at-least", "0.9", "a text"]) == 2
    assert "'unsure'" in capsys.readouterr().err


def test_python_calibrates_too(folder, tmp_path):
    """If this fails, scores from Python are surer than those of the same network from the command line."""
    texts, labels = read_table(folder / "train.csv")
    for refit in (True, False):
        settings = {"vectors.dimension": 16, "training.refit": refit}
        classifier = SequenceClassifier(epochs=8, settings=settings, random_state=0).fit(texts, labels)
        assert abs(classifier.model_.temperature - 1) > 0.01
        before = classifier.predict_proba(texts[:9])
        classifier.save(tmp_path)
        np.testing.assert_array_equal(SequenceClassifier.load(tmp_path).predict_proba(texts[:9]), before)


def test_the_report_shows_whether_scores_come_true(folder, capsys):
    """If this fails, the page says nothing of what a score is worth."""
    run = folder / "again"
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    found, _ = said(capsys, "evaluate", run)
    assert f"Expected calibration error {found['calibration_error']:.4f}" in page
    assert f"by the temperature {Model.load(run).temperature:.3f}" in page
    assert (run / "report" / "reliability.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_scores_come_true_on_real_texts(shared, tmp_path, capsys):
    """If this fails, a score of 90 % is right much more or less often than in 90 of 100 cases."""
    train, test = (shared / "data" / "small" / f"sst2.{part}.csv" for part in ("train", "test"))
    said(capsys, "train", "--data", train, "--test-data", test, "--threads=1", "--out", tmp_path / "run")
    found, _ = said(capsys, "evaluate", tmp_path / "run", "--threads=1")
    assert found["calibration_error"] <= 0.03
    assert found["log_loss"] <= found["loss"] + 0.005  # of a softmax, the loss is the log loss without a temperature
