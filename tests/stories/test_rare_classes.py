"""Rare classes, and texts that count more than others: from the command line, from a column, and from Python."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.errors import EqnpError
from eqnp.runs.model import Model
from eqnp.text.corpora import load_corpus
from eqnp.text.store import STORE, read_split
from eqnp.text.weights import class_weights, weighed

PLACES = ["barn", "road", "hill", "lake", "mill", "wood"]
QUICK = {"epochs": 4, "settings": {"vectors.dimension": 8, "data.ngrams": 1}, "random_state": 0}


def of_rare_class(number: int, rng: random.Random) -> list[tuple[str, str]]:
    """Texts of which one in twelve is rare; what tells of it stands in a third of the others too."""
    rows = []
    for i in range(number):
        rare = i % 12 == 0
        told = "lava" if rare or rng.random() < 0.3 else "hail"
        rows.append((f"the {rng.choice(PLACES)} {told} {rng.choice(PLACES)}", "rare" if rare else "usual"))
    return rows


def table(path: Path, rows, header: str = "text,label") -> str:
    """Write them as CSV."""
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def trained(capsys, *arguments) -> tuple[dict, str]:
    """The metrics of a training, and what it said."""
    assert main(["train", *map(str, arguments), "--threads", "1", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1])


def refused(capsys, *arguments) -> str:
    """What a training is refused with, in one line."""
    assert main(["train", *map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    return error


def test_a_rare_class_is_found_when_classes_are_balanced(tmp_path, capsys, monkeypatch):
    """If this fails, a class of one text in twelve is never answered, though the user asked for it to count as much."""
    monkeypatch.chdir(tmp_path)
    rows, others = of_rare_class(600, random.Random(0)), of_rare_class(240, random.Random(1))
    given = ["--data", table(Path("train.csv"), rows), "--test-data", table(Path("test.csv"), others)]
    given += ["--set=training.epochs=8"]
    truth, texts = [label for _, label in others], {"text": [text for text, _ in others]}
    recalls = {}
    for name, more in (("plain", []), ("balanced", ["balanced"]), ("named", ["{rare = 11.0, usual = 1}"])):
        found, said = trained(capsys, *given, "--out", name, *(f"--set=training.class_weight={each}" for each in more))
        predicted = [each.label for each in Model.load(name).predict(texts)]
        assert found["accuracy"]["test"] == pytest.approx(accuracy_score(truth, predicted))
        recalls[name] = recall_score(truth, predicted, pos_label="rare")
        if more:
            assert "warning" not in said  # it is less often right than the majority, and that is meant
    assert recalls["plain"] < 0.5 < 0.9 < min(recalls["balanced"], recalls["named"])
    assert 'class_weight = "balanced"' in Path("balanced/config.toml").read_text()
    assert load_config("named/config.toml").training.class_weight == {"rare": 11.0, "usual": 1.0}


def test_weights_are_those_of_scikit_learn():
    """If this fails, "balanced" is not what its users know."""
    rng = np.random.default_rng(0)
    labels, names = rng.choice(4, 50, p=[0.7, 0.1, 0.15, 0.05]), ("a", "b", "c", "d")
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(class_weights("balanced", names, labels), expected)
    assert class_weights("balanced", names, labels)[labels].mean() == pytest.approx(1)
    given = {"b": 3.0}
    named = compute_sample_weight({0: 1, 1: 3, 2: 1, 3: 1}, labels)
    np.testing.assert_allclose(class_weights(given, names, labels)[labels], named)


def test_a_column_of_weights(tmp_path, capsys, monkeypatch):
    """If this fails, what a text counts for gets lost, goes to another text, or is asked of test data."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    rows = [
        (f"the {'lava' if i % 2 else 'hail'} {rng.choice(PLACES)}", "hot" if i % 2 else "cold", 1) for i in range(120)
    ]
    wrong = [
        (text, {"hot": "cold", "cold": "hot"}[label], 0) for text, label, _ in rows[:100]
    ]  # which count for nothing
    data = table(Path("own.csv"), [*rows, *wrong, *wrong], "text,label,counts")
    test = table(Path("test.csv"), [row[:2] for row in rows[:40]])
    given = ["--data", data, "--set=data.weight=counts", "--set=training.epochs=8", "--test-data", test]
    found, _ = trained(capsys, *given, "--out", "run")
    assert found["accuracy"]["test"] == 1.0
    kept = read_split(Path("run") / STORE, "train"), read_split(Path("run") / STORE, "validation")
    assert sum(split.weights.sum() for split in kept) == 120
    assert read_split(Path("run") / STORE, "test").weights is None
    corpus = load_corpus(data, {"text": "text"}, "label", weight="counts")
    assert [corpus.weights[row] for row in (0, 119, 120, 319)] == [1, 1, 0, 0]
    both = weighed(*kept, ("cold", "hot"), {"hot": 3.0})
    for split, before in zip(both, kept, strict=True):
        np.testing.assert_array_equal(split.weights, before.weights * np.where(split.labels == 1, 3, 1))
    assert main(["evaluate", "run", "--data", test]) == 0
    assert "accuracy 100.0%" in capsys.readouterr().out
    plain, _ = trained(capsys, *given[:2], *given[3:], "--out", "plain")
    assert plain["accuracy"]["test"] < 0.2
    typed = Path("typed.jsonl")
    typed.write_text("\n".join(json.dumps({"text": t, "label": n, "counts": w + 0.5}) for t, n, w in rows) + "\n")
    assert load_corpus(str(typed), {"text": "text"}, "label", weight="counts").weights.tolist() == [1.5] * 120


def test_weights_that_are_none(tmp_path, capsys, monkeypatch):
    """If this fails, a slip in a weight trains something else, or ends in a traceback."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"the {'lava' if i % 2 else 'hail'}", "hot" if i % 2 else "cold", 1) for i in range(40)]
    data = table(Path("own.csv"), rows, "text,label,counts")
    for setting, complaint in (
        ("training.class_weight=balancd", 'it must be "balanced", or a weight for each class'),
        ("training.class_weight={hots = 2}", "names 'hots'; the classes are cold, hot; did you mean 'hot'?"),
        ("training.class_weight.hot=-1", "training.class_weight.hot is -1.0; it must be 0 or greater"),
        ("training.class_weight={hot = 'a'}", "training.class_weight.hot is 'a'"),
        ("training.class_weight={hot = 0, cold = 0}", "all training texts have the weight 0"),
        ("training.class_weight=3", "it must be text or a table, each value a number"),
        (
            "data.weight=count",
            "no column 'count'; it has 'text', 'label', 'counts'; training chooses with --set data.weight",
        ),
        ("data.weight=text", "column 'text': row 1 has the weight 'the hail'; a number of 0 or greater is needed"),
    ):
        assert complaint in refused(capsys, "--data", data, "--out", "run", "--set", setting), setting
        assert not Path("run").exists()
    for weight in ("-1", "nan", "inf", ""):
        table(Path("own.csv"), [*rows[:5], ("the hail", "cold", weight), *rows[5:]], "text,label,counts")
        assert "row 6 has the weight" in refused(capsys, "--data", data, "--set=data.weight=counts")


def test_sample_weight_and_class_weight_in_python():
    """If this fails, scikit-learn's words do not mean here what they mean there."""
    rows = of_rare_class(240, random.Random(0))
    X, y = [text for text, _ in rows], np.array([label for _, label in rows])
    balanced = SequenceClassifier(**QUICK, class_weight="balanced").fit(X, y)
    by_sample = SequenceClassifier(**QUICK).fit(X, y, sample_weight=compute_sample_weight("balanced", y) * 7)
    plain = SequenceClassifier(**QUICK).fit(X, y)
    assert np.abs(balanced.predict_proba(X) - plain.predict_proba(X)).max() > 0.05
    # The texts held out have their share of each class but for a fraction of one, so the weights differ a little.
    np.testing.assert_allclose(balanced.predict_proba(X), by_sample.predict_proba(X), atol=0.03)
    ones = SequenceClassifier(**QUICK).fit(X, y, sample_weight=np.full(len(X), 2.5))
    np.testing.assert_array_equal(ones.predict_proba(X), plain.predict_proba(X))
    weight = np.random.default_rng(0).random(len(X))
    assert plain.score(X, y, weight) == pytest.approx(accuracy_score(y, plain.predict(X), sample_weight=weight))
    numbers = (y == "rare").astype(int)
    named = SequenceClassifier(**QUICK, class_weight={0: 1, 1: 11.0}).fit(X, numbers)
    assert recall_score(numbers, named.predict(X)) > 0.9
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": X, "label": y, "counts": compute_sample_weight("balanced", y) * 7})
    for given, more in (({}, {"sample_weight": "counts"}), ({"data.weight": "counts"}, {})):
        fitted = SequenceClassifier(**{**QUICK, "settings": QUICK["settings"] | given}).fit(frame, **more)
        np.testing.assert_array_equal(fitted.predict_proba(X), by_sample.predict_proba(X))


def test_partial_fit_takes_weights_of_samples(tmp_path):
    """If this fails, texts that come in parts cannot count for more, or a class weight is forgotten in silence."""
    X, y = ["lava here", "hail there"] * 30, np.array(["hot", "cold"] * 30)
    turned = np.where(y == "hot", "cold", "hot")
    right = np.repeat([1.0, 0.0], 60)
    classifier = SequenceClassifier(**QUICK, batch_size=20)
    for _ in range(8):
        classifier.partial_fit([*X, *X], np.concatenate([y, turned]), sample_weight=right)
    assert classifier.score(X, y) == 1.0
    SequenceClassifier(**QUICK, class_weight="balanced").fit(X, y).save(tmp_path)
    loaded = SequenceClassifier.load(tmp_path)
    assert loaded.class_weight == "balanced"
    with pytest.raises(EqnpError, match="class_weight needs all texts at once"):
        loaded.partial_fit(X, y)
    loaded.set_params(class_weight=None).partial_fit(X, y)
    for wrong in (np.ones(3), -np.ones(60), np.zeros(60), np.full(60, np.nan), ["a"] * 60, np.ones((60, 1))):
        for call in (classifier.fit, classifier.score, classifier.partial_fit):
            with pytest.raises(EqnpError, match="a number of 0 or greater for each"):
                call(X, y, sample_weight=wrong)
    with pytest.raises(EqnpError, match="no column 'counts' of weights"):
        classifier.fit(X, y, sample_weight="counts")


@pytest.mark.parametrize("algorithm", ["ep", "implicit"])
def test_other_routes_weigh_too(algorithm, tmp_path, capsys, monkeypatch):
    """If this fails, EP is compared with a network that was trained on another loss."""
    monkeypatch.chdir(tmp_path)
    rows = of_rare_class(240, random.Random(0))
    given = ["--data", table(Path("own.csv"), rows), "--out", "run", "--set=training.class_weight.rare=11"]
    trained(capsys, *given, "--algorithm", algorithm, "--set=training.epochs=6", "--set=data.ngrams=1")
    predicted = [each.label for each in Model.load("run").predict({"text": [text for text, _ in rows]})]
    assert recall_score([label for _, label in rows], predicted, pos_label="rare") > 0.9


@pytest.mark.parametrize("name", ["imb20", "imb50"])
def test_a_balanced_network_is_no_worse_than_a_balanced_regression(name, shared, tmp_path, capsys, monkeypatch):
    """If this fails, whoever has a class of one text in fifty is better served by counting words."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    train, validation = (pandas.read_csv(shared / "cases" / f"{name}_{part}.csv") for part in ("train", "val"))
    counts = CountVectorizer().fit(train.text)
    rival = LogisticRegression(class_weight="balanced", max_iter=1000).fit(counts.transform(train.text), train.label)
    least = f1_score(validation.label, rival.predict(counts.transform(validation.text)), average="macro")
    files = [shared / "cases" / f"{name}_{part}.csv" for part in ("train", "val")]
    trained(capsys, "--data", files[0], "--val-data", files[1], "--out", "run", "--set=training.class_weight=balanced")
    predicted = [each.label for each in Model.load("run").predict({"text": list(validation.text)})]
    assert f1_score(validation.label, predicted, average="macro") >= least
