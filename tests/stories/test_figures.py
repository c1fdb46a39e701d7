"""Before one relies on a classifier: figures of every class, which are confused, and whether one run beats another."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as theirs

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.runs.progress import Score
from tests.runs import CLIMATES, read_table, said, weather


def same_figures(found: dict, labels: list[str], predicted: list[str], names: list[str]) -> None:
    """All figures of the classes are those that scikit-learn has of the same predictions."""
    each = theirs.precision_recall_fscore_support(labels, predicted, labels=names, zero_division=0.0)
    for key, values in zip(("precision", "recall", "f1", "support"), each, strict=True):
        assert [found["classes"][name][key] for name in names] == pytest.approx(list(values))
    assert found["accuracy"] == theirs.accuracy_score(labels, predicted)
    assert found["macro"]["f1"] == pytest.approx(theirs.f1_score(labels, predicted, average="macro"))
    assert found["weighted"]["f1"] == pytest.approx(theirs.f1_score(labels, predicted, average="weighted"))
    assert found["balanced_accuracy"] == pytest.approx(theirs.balanced_accuracy_score(labels, predicted))
    interval = binomtest(round(found["accuracy"] * len(labels)), len(labels)).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([interval.low, interval.high])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs on the same texts."""
    folder = tmp_path_factory.mktemp("figures")
    weather(folder / "train.csv", 320, 0)
    weather(folder / "test.csv", 160, 1)
    for name, epochs in (("one", 4), ("two", 1)):
        given = ["--data", str(folder / "train.csv"), "--test-data", str(folder / "test.csv"), "--threads=1"]
        assert main(["train", *given, f"--set=training.epochs={epochs}", "--out", str(folder / name)]) == 0
    return folder


def test_the_figures_of_every_class_are_those_of_scikit_learn(folder, capsys):
    """If this fails, one relies on a class that fails."""
    run, (texts, labels) = folder / "one", read_table(folder / "test.csv")
    found, printed = said(capsys, "evaluate", run)
    predictions = said(capsys, "predict", run, *texts)[0]["predictions"]
    predicted, names = [each["label"] for each in predictions], sorted(CLIMATES)
    same_figures(found, labels, predicted, names)
    scores = [[each["scores"][name] for name in names] for each in predictions]
    assert found["log_loss"] == pytest.approx(theirs.log_loss(labels, scores, labels=names), abs=1e-3)
    given, also = said(capsys, "evaluate", run, "--data", folder / "test.csv")
    assert given["classes"] == found["classes"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["figures"]["test"]["classes"] == found["classes"]
    assert metrics["accuracy"]["test"] == found["accuracy"]
    low, high = found["interval"]
    assert f"accuracy {found['accuracy']:.1%} ({100 * low:.1f} to {100 * high:.1f})" in printed
    for name in names:
        each = found["classes"][name]
        shares = [f"{each[key]:.1%}" for key in ("precision", "recall", "f1")]
        assert " ".join([name, *shares, str(each["support"])]) in " ".join(printed.split())
    counts = theirs.confusion_matrix(labels, predicted, labels=names)
    for name, row in zip(names, counts, strict=True):
        assert " ".join([name, *map(str, row)]) in " ".join(printed.split())  # of the table of confusions
    worst = found["confusions"][0]
    assert worst["texts"] == (counts - np.diag(np.diag(counts))).max()
    assert f"{worst['true']} taken for {worst['predicted']}: {worst['texts']} (" in printed
    assert [each["text"] in texts for each in given["examples"]] == [True] * len(found["confusions"])
    pair = worst["true"], worst["predicted"]
    text = next(each["text"] for each in given["examples"] if (each["true"], each["predicted"]) == pair)
    assert labels[texts.index(text)] == worst["true"]
    assert text[:60] in also


def test_training_states_them_and_so_does_python(folder, capsys):
    """If this fails, a class that fails is seen by nobody who does not ask."""
    given = ["--data", folder / "train.csv", "--test-data", folder / "test.csv", "--set=training.epochs=4"]
    found, printed = said(capsys, "train", *given, "--threads=1", "--out", folder / "again")
    assert "test, by class:" in printed
    for each in ("macro mean", "weighted mean", "balanced accuracy", "log loss"):
        assert each in printed
    low, high = binomtest(round(found["accuracy"]["test"] * 160), 160).proportion_ci(method="wilson")
    assert f"test {found['accuracy']['test']:.1%} ({100 * low:.1f} to {100 * high:.1f})" in printed
    assert len([line for line in printed.splitlines() if line.startswith("baseline") and " to " in line]) == 5
    texts, labels = read_table(folder / "test.csv")
    classifier = SequenceClassifier.load(folder / "again")
    own = classifier.evaluate(texts, labels)
    same_figures(own, labels, list(classifier.predict(texts)), sorted(CLIMATES))
    assert own["classes"] == found["figures"]["test"]["classes"]
    assert own["accuracy"] == classifier.score(texts, labels)
    with pytest.raises(Exception, match="'warm'"):
        classifier.evaluate(texts[:2], ["hot", "warm"])


def test_of_many_classes_the_worst_are_told(tmp_path, capsys):
    """If this fails, 77 lines hide the one that matters."""
    weather(tmp_path / "many.csv", 600, 0, kinds=14)
    given = ["--data", tmp_path / "many.csv", "--set=training.epochs=2", "--threads=1", "--out", tmp_path / "run"]
    said(capsys, "train", *given)
    found, printed = said(capsys, "evaluate", tmp_path / "run", "--data", tmp_path / "many.csv")
    assert len(found["classes"]) == 14
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("worst 5 of 14"))
    worst = sorted(found["classes"], key=lambda name: found["classes"][name]["f1"])[:5]
    assert [line.split()[0] for line in lines[start + 1 : start + 6]] == worst
    assert lines[start + 6].startswith("macro mean")
    assert "predicted" not in printed
    assert "taken for" in printed


def test_one_run_versus_another(folder, capsys):
    """If this fails, half a point is called progress, or progress is not seen."""
    one, two = folder / "one", folder / "two"
    texts, labels = read_table(folder / "test.csv")
    found, printed = said(capsys, "versus", one, two)
    right = []
    for run in (one, two):
        predictions = said(capsys, "predict", run, *texts)[0]["predictions"]
        right.append(np.array([each["label"] for each in predictions]) == labels)
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert [found["only_first"], found["only_second"]] == only
    assert found["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0)
    assert found["accuracies"] == [each.mean() for each in right]
    assert found["difference"] == pytest.approx(right[1].mean() - right[0].mean())
    assert ("no more than chance" in printed) == (found["p"] >= 0.05)
    given, _ = said(capsys, "versus", one, two, "--data", folder / "test.csv")
    assert {**given, "data": ""} == {**found, "data": ""}
    assert said(capsys, "versus", one, one)[0]["p"] == 1.0


def test_runs_that_cannot_be_compared_say_why(folder, tmp_path, capsys):
    """If this fails, two runs are compared on other texts, or by classes of other names."""
    one = str(folder / "one")
    weather(tmp_path / "other.csv", 200, 5)
    weather(tmp_path / "many.csv", 200, 5, kinds=6)
    for name in ("other", "many"):
        source = str(tmp_path / f"{name}.csv")
        given = ["--data", source, "--test-data", source, "--set=training.epochs=1", "--threads=1"]
        assert main(["train", *given, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    for arguments, needed in (
        ([str(tmp_path / "other")], "--data F"),
        ([str(tmp_path / "many")], "classes"),
        ([str(tmp_path / "none")], "no such run"),
        ([str(tmp_path / "other"), "--test-data", "x.csv"], "write --data x.csv"),
    ):
        try:
            code = main(["versus", one, *arguments])
        except SystemExit as end:
            code = end.code
        error = capsys.readouterr().err
        assert (code, error.count("\n"), needed in error) == (2, 1, True), error


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "loss"])
def test_the_epoch_is_chosen_by_the_metric(metric, folder, tmp_path, capsys):
    """If this fails, an epoch is chosen by another figure than was asked for."""
    given = ["--data", folder / "train.csv", "--set=training.refit=false", "--set=training.epochs=9", "--threads=1"]
    given += ["--set=optimizer.learning_rate=0.02", f"--set=training.metric={metric}", "--out", tmp_path / "run"]
    found, _ = said(capsys, "train", *given)
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    epochs = [event["validation"] for event in events if event["event"] == "epoch"]
    key = {"accuracy": "accuracy", "macro-f1": "macro_f1", "loss": "loss"}[metric]
    sign = -1 if metric == "loss" else 1
    best = max(range(9), key=lambda e: (sign * epochs[e][key], -epochs[e]["loss"]))
    assert found["best_epoch"] == best + 1
    assert found["figures"]["validation"]["macro"]["f1"] == pytest.approx(epochs[best]["macro_f1"])
    assert main(["train", "--data", str(folder / "train.csv"), "--set=training.metric=f1"]) == 2
    assert "training.metric" in capsys.readouterr().err


def test_metrics_disagree_where_a_class_is_rare():
    """If this fails, two metrics are one and the same."""
    one, two = Score(0.5, 0.9, 2, 0.6), Score(0.4, 0.8, 2, 0.7)
    assert one.better("accuracy") > two.better("accuracy")
    assert one.better("macro-f1") < two.better("macro-f1")
    assert one.better("loss") < two.better("loss")
    assert Score(0.4, 0.9, 2, 0.6).better("accuracy") > one.better("accuracy")


def test_the_report_shows_classes_and_confused_texts(folder, capsys):
    """If this fails, the page has one figure for all classes."""
    assert main(["report", str(folder / "one")]) == 0
    page = (folder / "one" / "report.html").read_text("utf-8")
    found, _ = said(capsys, "evaluate", folder / "one")
    for name in CLIMATES:
        each = found["classes"][name]
        cells = [name, *(f"{each[key]:.1%}" for key in ("precision", "recall", "f1")), str(each["support"])]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    worst = found["confusions"][0]
    assert f"<td>{worst['true']}</td><td>{worst['predicted']}</td><td>{worst['texts']}</td>" in page
    assert found["examples"][0]["text"] in page
    low, high = found["interval"]
    assert f"{found['accuracy']:.1%} ({100 * low:.1f} to {100 * high:.1f})" in page


@pytest.mark.slow
def test_how_much_spam_is_found_at_99_percent_precision(shared, tmp_path, capsys):
    """If this fails, nobody can say what a filter that hardly ever errs would let through."""
    train, test = (shared / "data" / "small" / f"sms.{part}.csv" for part in ("train", "test"))
    said(capsys, "train", "--data", train, "--test-data", test, "--threads=1", "--out", tmp_path / "run")
    found, printed = said(capsys, "evaluate", tmp_path / "run", "--threads=1")
    texts, labels = read_table(test)
    classifier = SequenceClassifier.load(tmp_path / "run")
    spam = classifier.predict_proba(texts)[:, list(classifier.classes_).index("spam")]
    precisions, recalls, _ = theirs.precision_recall_curve(np.array(labels) == "spam", spam)
    recall = recalls[precisions >= 0.99].max()
    assert found["classes"]["spam"]["at_precision"]["recall"] == pytest.approx(recall)
    assert recall > 0.9
    assert f"spam: recall {recall:.1%} at 99% precision" in printed
    same_figures(found, labels, list(classifier.predict(texts)), ["ham", "spam"])
