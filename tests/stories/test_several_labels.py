"""Texts with several labels, or none: from lists, from names with a separator, and from Python."""

import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.errors import EqnpError
from eqnp.runs.calibration import calibration_of_sets, fitted_shift, shifted
from eqnp.runs.model import Model
from eqnp.text.corpora import load_corpus
from eqnp.text.holding import hold_out, rarest_of
from eqnp.text.store import STORE, read_split

WORDS = {"cold": ["ice", "snow", "frost"], "hot": ["fire", "sun", "lava"], "wet": ["rain", "sea", "mud"]}
QUICK = {"epochs": 30, "settings": {"vectors.dimension": 12}, "random_state": 0}
SETS = [set(each) for size in range(4) for each in combinations(WORDS, size)]


def of_sets(number: int, rng: random.Random) -> list[tuple[str, list[str]]]:
    """Texts of none to three classes, with a word for each among others."""
    rows = []
    for i in range(number):
        labels = sorted(SETS[i % len(SETS)])
        words = [rng.choice(WORDS[label]) for label in labels] + rng.choices(["here", "there", "now", "then"], k=2)
        rng.shuffle(words)
        rows.append((" ".join(words), labels))
    return rows


def written(path: str, rows) -> str:
    """As JSON lines, or CSV with bars between labels."""
    if path.endswith(".jsonl"):
        lines = [json.dumps({"text": text, "label": labels}) for text, labels in rows]
    elif path.endswith(".csv"):
        lines = ["text,label", *(f"{text},{' | '.join(labels)}" for text, labels in rows)]
    else:
        import pyarrow
        import pyarrow.parquet

        columns = {"text": [text for text, _ in rows], "label": [labels for _, labels in rows]}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path
    Path(path).write_text("\n".join(lines) + "\n")
    return path


def last(capsys, *arguments) -> tuple[dict, str]:
    """What a command ends with by --json, and what it said."""
    assert main([*map(str, arguments), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1])


def indicators(sets) -> np.ndarray:
    """0 or 1 for each text and class, as scikit-learn makes it."""
    return MultiLabelBinarizer(classes=sorted(WORDS)).fit_transform(sets)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_from_file_to_prediction(ending, tmp_path, capsys, monkeypatch):
    """If this fails, a text of several labels gets one, figures are others than scikit-learn's, or a run stops."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    rows, others = of_sets(400, rng), of_sets(80, rng)
    wrong = [(text, labels if i % 4 else ["hot"]) for i, (text, labels) in enumerate(others)]  # so that figures differ
    parted = ["--set=data.label_separator=|"] if ending == ".csv" else []
    files = ["--data", written(f"train{ending}", rows), "--test-data", written(f"test{ending}", wrong)]
    found, said = last(capsys, "train", *files, *parted, "--out", "run", "--threads", "1", "--set=training.epochs=12")
    trained = said
    assert "several labels to a text, 1.5 on average" in said
    assert "epoch 12/12: train loss" in said
    assert "micro F1 validation 100.0%" in said
    config = load_config("run/config.toml")
    assert (config.network.output_activation, config.network.cost) == ("logistic", "cross-entropy")
    truth, predictions = (
        indicators(labels for _, labels in wrong),
        Model.load("run").predict({"text": [t for t, _ in wrong]}),
    )
    predicted = indicators(each.labels for each in predictions)
    figures = found["figures"]["test"]
    for kind in ("micro", "macro", "weighted"):
        expected = precision_recall_fscore_support(truth, predicted, average=kind, zero_division=0)[:3]
        assert [figures[kind][name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    each = precision_recall_fscore_support(truth, predicted, zero_division=0)
    assert list(figures["classes"]) == sorted(WORDS)
    for i, of_class in enumerate(figures["classes"].values()):
        assert [of_class[name] for name in ("precision", "recall", "f1", "support")] == pytest.approx(
            [a[i] for a in each]
        )
    assert found["accuracy"]["test"] == figures["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert 0.8 < figures["micro"]["f1"] < 0.95
    assert set(found["baselines"]) == {"bag_of_words", "mean_vector"}
    evaluated, said = last(capsys, "evaluate", "run", "--data", f"test{ending}")
    assert {key: evaluated[key] for key in figures} == figures
    scores = np.array([list(each.scores.values()) for each in predictions])
    assert figures["log_loss"] == pytest.approx(sum(log_loss(truth[:, c], scores[:, c]) for c in range(3)), rel=1e-4)
    before, after = (found["calibration"][when]["log_loss"] for when in ("before", "after"))
    assert after <= before
    assert "and the offset" in trained
    assert f"micro F1 {figures['micro']['f1']:.1%}; macro F1 {figures['macro']['f1']:.1%}, loss" in said
    assert "all labels right, and no other given" in said
    answers, said = last(capsys, "predict", "run", "lava and rain now", "here now", "zebra")
    assert [each["labels"] for each in answers["predictions"]][:2] == [["hot", "wet"], []]
    assert answers["predictions"][2]["scores"] == pytest.approx(dict.fromkeys(WORDS, 0.5), abs=0.05)  # the prior
    assert said.splitlines()[0].startswith("hot  ")
    assert said.splitlines()[1].startswith("(none; ")
    explained, _ = last(capsys, "predict", "run", "--explain", "lava and rain now")
    assert explained["predictions"][0]["labels"] == ["hot", "wet"]
    last(capsys, "predict", "run", "--data", f"test{ending}", "--out", "told.jsonl")
    told = [json.loads(line) for line in Path("told.jsonl").read_text().splitlines()]
    assert [each["predicted"] for each in told] == ["|".join(each.labels) for each in predictions]
    assert told[0]["score.hot"] == pytest.approx(predictions[0].scores["hot"])
    words, _ = last(capsys, "words", "run", "cold")
    assert any(word in json.dumps(words) for word in WORDS["cold"])
    looked, said = last(capsys, "data", f"train{ending}", *parted)
    assert looked["classes"] == {name: sum(name in labels for _, labels in rows) for name in WORDS}
    assert main(["info", "run"]) == 0
    for command, complaint in (
        (["report", "run"], "a report is for texts with one label each"),
        (["versus", "run", "run"], "eqnp versus is for runs with one to a text"),
        (["predict", "run", "--at-least", "0.9", "sun"], "--at-least is for runs with one to a text"),
    ):
        assert main(command) == 2
        assert complaint in capsys.readouterr().err


def test_the_gradient_is_right(tmp_path, capsys, monkeypatch):
    """If this fails, `eqnp check` does not know such networks, or what they learn is no gradient."""
    monkeypatch.chdir(tmp_path)
    files = ["--data", written("own.jsonl", of_sets(120, random.Random(0))), "--out", "run", "--threads", "1"]
    last(capsys, "train", *files, "--set=training.epochs=2", "--set=vectors.dimension=6", "--set=data.ngrams=1")
    report, _ = last(capsys, "check", "run", "--samples", "8")
    assert max(report["finite_differences"].values()) < 1e-6
    assert report["orders"]["symmetric"] == pytest.approx(2, abs=0.3)
    worst = {(row["name"], row["beta"]): max(row["errors"].values()) for row in report["rows"]}
    assert worst["symmetric", 0.01] < 1e-3
    assert worst["holomorphic", 0.05] < 1e-6
    assert max(report["gdu"]["error"].values()) < 1e-5


def test_labels_are_what_stands_in_the_file(tmp_path, capsys, monkeypatch):
    """If this fails, labels are lost, blanks make classes, or a text without a label is refused."""
    monkeypatch.chdir(tmp_path)
    rows = [("a text", ["b", "a"]), ("one more", []), ("a third", ["c", "c"]), ("a fourth", ["a"])]
    truth = [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    for ending, separator in ((".jsonl", ""), (".csv", "|"), (".parquet", "")):
        corpus = load_corpus(written(f"own{ending}", rows), {"text": "text"}, "label", separator=separator)
        assert corpus.several
        assert corpus.classes == ("a", "b", "c")
        np.testing.assert_array_equal(corpus.labels, truth)
    numbers = written("numbers.jsonl", [("x y", [0, 2]), ("y z", [1])])
    np.testing.assert_array_equal(load_corpus(numbers, {"text": "text"}, "label").labels, [[1, 0, 1], [0, 1, 0]])
    known = load_corpus("own.jsonl", {"text": "text"}, "label", classes=("c", "b", "a"))
    np.testing.assert_array_equal(known.labels, np.array(truth)[:, ::-1])
    mixed = written("mixed.jsonl", [("x y", "a"), ("y z", ["a", "b"]), ("z", ["b"])])
    np.testing.assert_array_equal(load_corpus(mixed, {"text": "text"}, "label").labels, [[1, 0], [1, 1], [0, 1]])
    for content, given, complaint in (
        ([("x", ["a"]), ("y", None)], {}, "row 2 has no label"),
        ([("x", ["a"]), ("y", ["a", None])], {}, "row 2 has no label"),
        ([("x", ["a"]), ("y", ["a", 1.5])], {}, "labels are fractions (1.5 in row 2)"),
        ([("x", ["a"]), ("y", ["d"])], {"classes": ("a", "b")}, "unknown label 'd' (1 row(s)"),
        ([("x", []), ("y", [])], {}, "no row has a label"),
        ([("x", ["a"]), ("y", ["a", "b"])], {"several": False}, "row 1 has a list of labels"),
    ):
        with pytest.raises(EqnpError) as caught:
            load_corpus(written("wrong.jsonl", content), {"text": "text"}, "label", **given)
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)
    written("train.csv", [("x y", ["a"]), ("y z", ["b"])] * 20)
    assert main(["train", "--data", "train.csv", "--test-data", "own.jsonl", "--out", "run"]) == 2
    assert "train on texts with lists of them" in capsys.readouterr().err
    several = ["train", "--data", written("sets.jsonl", rows * 10), "--out", "run"]
    assert main([*several, "--set=training.class_weight=balanced"]) == 2
    assert "training.class_weight is for texts of one label" in capsys.readouterr().err
    assert main([*several, "--set=network.output_activation=clipped", "--set=network.cost=cross-entropy"]) == 2
    assert "needs a logistic or softmax output, not 'clipped'; use the squared error" in capsys.readouterr().err
    assert main([*several, "--set=network.cost=cross"]) == 2
    assert "did you mean 'cross-entropy'?" in capsys.readouterr().err


def test_scores_of_several_labels_are_calibrated():
    """If this fails, a network that has its texts by heart goes on saying yes too seldom."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (2000, 5))
    labels = (rng.random(logits.shape) < expit(logits)).astype(np.uint8)
    told = expit(1.6 * (logits - 1.5))  # too sure, and too seldom yes
    temperature, offset = fitted_shift(told, labels)
    assert (temperature, offset) == pytest.approx((1.6, 1.5), abs=0.15)
    found = calibration_of_sets(told, labels)
    assert found["before"]["calibration_error"] > 0.05 > 0.01 > found["after"]["calibration_error"]
    again = shifted(told, temperature, offset)
    assert found["after"]["log_loss"] == pytest.approx(sum(log_loss(labels[:, c], again[:, c]) for c in range(5)))
    assert f1_score(labels, again >= 0.5, average="micro") > f1_score(labels, told >= 0.5, average="micro") + 0.1
    assert fitted_shift(told[:0], labels[:0]) == (1.0, 0.0)
    np.testing.assert_array_equal(shifted(told, 1.0, 0.0), told)


def test_every_class_is_held_out_by_its_share():
    """If this fails, validation says nothing of a rare class, or training never sees it."""
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 4)) < [0.5, 0.3, 0.1, 0.03]).astype(np.uint8)
    np.testing.assert_array_equal(rarest_of(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]])), [1, 0, 3, 2])
    from eqnp.text.corpora import Corpus, Texts

    corpus = Corpus({"text": Texts(map(str, range(400)))}, labels, tuple("abcd"))
    train, validation = hold_out(corpus, 0.2, rng)
    assert len(train) + len(validation) == 400
    assert len(validation) == pytest.approx(80, abs=3)
    np.testing.assert_allclose(validation.labels.mean(axis=0), labels.mean(axis=0), atol=0.08)
    assert validation.labels.any(axis=0).all()


def test_weights_and_resuming(tmp_path, capsys, monkeypatch):
    """If this fails, a run with several labels cannot be stopped, repeated, or weighed by a column."""
    monkeypatch.chdir(tmp_path)
    rows = of_sets(120, random.Random(0))
    lines = [json.dumps({"text": t, "label": n, "counts": 1 + len(n)}) for t, n in rows]
    Path("own.jsonl").write_text("\n".join(lines) + "\n")
    given = ["--threads", "1", "--set=training.epochs=3", "--set=data.weight=counts", "--set=vectors.dimension=6"]
    first, _ = last(capsys, "train", "--data", "own.jsonl", "--out", "one", *given)
    split = read_split(Path("one") / STORE, "train")
    np.testing.assert_array_equal(split.weights, 1 + split.labels.sum(axis=1))
    again, _ = last(capsys, "train", "one", "--out", "two", "--threads", "1")
    assert again["figures"] == first["figures"]
    from tests.runs import killed_after, weights

    killed_after(Path("three"), 3, ["--data", "own.jsonl", *given[2:]])
    assert main(["train", "--resume", "three", "--threads", "1"]) == 0
    assert weights("three") == weights("two") == weights("one")


def test_in_python():
    """If this fails, what scikit-learn's users hand over and expect back is something else here."""
    rows = of_sets(240, random.Random(0))
    X, sets = [text for text, _ in rows], [labels for _, labels in rows]
    truth = indicators(sets)
    named = SequenceClassifier(**QUICK).fit(X, sets)
    assert named.classes_.tolist() == sorted(WORDS)
    predicted, scores = named.predict(X), named.predict_proba(X)
    assert (predicted.shape, predicted.dtype, scores.shape) == ((240, 3), np.dtype(np.int64), (240, 3))
    np.testing.assert_array_equal(predicted, scores >= 0.5)
    assert f1_score(truth, predicted, average="micro") > 0.95
    assert named.score(X, sets) == pytest.approx(accuracy_score(truth, predicted))
    weight = np.random.default_rng(0).random(240)
    assert named.score(X, truth, weight) == pytest.approx(accuracy_score(truth, predicted, sample_weight=weight))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": X, "label": sets})
    for y, classes in (
        (truth, [0, 1, 2]),
        (truth.astype(bool), [0, 1, 2]),
        (sparse.csr_matrix(truth), [0, 1, 2]),
        (pandas.DataFrame(truth, columns=sorted(WORDS)), sorted(WORDS)),
        ([set(each) for each in sets], sorted(WORDS)),
        (pandas.Series(sets), sorted(WORDS)),
    ):
        other = SequenceClassifier(**QUICK).fit(X, y)
        assert other.classes_.tolist() == classes
        np.testing.assert_array_equal(other.predict_proba(X), scores)
    np.testing.assert_array_equal(SequenceClassifier(**QUICK).fit(frame).predict_proba(X), scores)
    assert named.score(frame) == named.score(X, sets)
    assert named.evaluate(X, sets)["micro"]["f1"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    tags = pytest.importorskip("sklearn.utils").get_tags(named)
    assert tags.classifier_tags.multi_label
    answers = [each.labels for each in named.model_.predict({"text": X})]
    assert answers == [tuple(named.classes_[row == 1]) for row in predicted]


def test_files_and_further_texts_in_python(tmp_path):
    """If this fails, a saved classifier of several labels comes back as one of a single label, or cannot learn on."""
    rows = of_sets(160, random.Random(0))
    X, sets = [text for text, _ in rows], [labels for _, labels in rows]
    first = SequenceClassifier(**QUICK).fit(X, sets)
    first.save(tmp_path)
    loaded = SequenceClassifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), first.predict(X))
    assert loaded.score(X, sets) == first.score(X, sets)
    loaded.partial_fit(X, sets)
    online = SequenceClassifier(**QUICK)
    for _ in range(30):
        online.partial_fit(X, sets, classes=sorted(WORDS))
    assert f1_score(indicators(sets), online.predict(X), average="micro") > 0.9
    labels = ["cold"] * 80 + ["hot"] * 80
    for call, y, complaint in (
        (first.fit, sets[:-1], "159 lists of labels for 160 texts"),
        (first.fit, [*sets[:-1], "cold"], "y holds 'cold' among lists of labels"),
        (first.fit, [*sets[:-1], ["cold", None]], "missing, broken or mixed labels"),
        (first.fit, [["cold"]] * 160, "two classes or more"),
        (first.fit, [["a", 1]] * 160, "missing, broken or mixed labels"),
        (first.score, labels, "must hold a list of labels per text"),
        (first.score, [["mild"]] * 160, "y holds 'mild', which is not among the classes"),
        (first.score, np.zeros((160, 4), int), "4 columns for 3 classes"),
        (online.partial_fit, labels, "one label here and several there"),
    ):
        with pytest.raises(EqnpError, match=complaint):
            call(X, y)


@pytest.mark.parametrize("seed", [0])
def test_pairs_of_intents(seed, shared, tmp_path, capsys, monkeypatch):
    """If this fails, whoever sorts mail of several concerns is better served by a regression for each of them."""
    pandas = pytest.importorskip("pandas")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    monkeypatch.chdir(tmp_path)
    rng, parts = np.random.default_rng(seed), {}
    for part, number in (("train", 2000), ("test", 400)):
        frame = pandas.read_csv(shared / "data" / "small" / f"banking77.{part}.csv")
        rows = []
        while len(rows) < number:
            a, b = rng.integers(0, len(frame), 2)
            if frame.label[a] != frame.label[b]:
                rows.append((f"{frame.text[a]} {frame.text[b]}", [frame.label[a], frame.label[b]]))
        parts[part] = rows
    train, test = (written(f"{part}.jsonl", rows) for part, rows in parts.items())
    found, _ = last(capsys, "train", "--data", train, "--test-data", test, "--out", "run", "--threads", "1")
    tf_idf, names = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), MultiLabelBinarizer()
    X, y = (
        tf_idf.fit_transform([text for text, _ in parts["train"]]),
        names.fit_transform([n for _, n in parts["train"]]),
    )
    rival = OneVsRestClassifier(LogisticRegression(C=100, max_iter=1000, solver="liblinear")).fit(X, y)
    predicted = rival.predict(tf_idf.transform([text for text, _ in parts["test"]]))
    least = f1_score(names.transform([n for _, n in parts["test"]]), predicted, average="micro")
    assert found["figures"]["test"]["micro"]["f1"] >= least
