"""Going on from a trained model: with more texts, new words and new classes, or for more epochs; and from Python."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from eqnp import SequenceClassifier, files
from eqnp.app.cli import main
from eqnp.errors import ConfigError
from eqnp.runs.model import Model
from eqnp.text import tokens
from eqnp.text.prepare import load_prepared
from tests.conftest import ROOT
from tests.runs import killed_after, outcome, weights

SMALL = ROOT.parent / "shared" / "data" / "small"
KINDS = {"cold": "ice snow frost", "hot": "fire sun lava", "wet": "rain sea mud"}
QUICK = ["--set=vectors.dimension=8", "--set=training.epochs=6", "--set=data.min_count=2", "--threads=1"]


def texts(kinds: list[str], count: int, seed: int, extra: str = "") -> list[tuple[str, str]]:
    """Texts of some classes, each with words of its class, and perhaps another word beside the second one."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        one, two, three = rng.choice(KINDS[kinds[i % len(kinds)]].split(), 3)
        rows.append((f"there was {one} and {two} {extra} then {three}", kinds[i % len(kinds)]))
    return rows


def written(path, rows) -> str:
    """A table of texts and labels."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def train(capsys, *arguments) -> dict:
    """The metrics of a training."""
    assert main(["train", *map(str, arguments), "--threads=1", "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on two classes, and its folder's parent with further texts, of three."""
    root = tmp_path_factory.mktemp("going-on")
    old = written(root / "old.csv", texts(["cold", "hot"], 200, 0))
    written(root / "more.csv", texts(["wet", "cold", "hot"], 60, 1, "hail"))
    test = written(root / "test.csv", texts(["cold", "hot"], 40, 2))
    assert main(["train", "--data", old, "--test-data", test, "--out", str(root / "run"), *QUICK]) == 0
    return root


def neighbours(rows: list[str], word: str, known: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of the vectors of known words up to five places from a word, weighted by 1/distance; by the book."""
    total, weight = 0.0, 0.0
    for row in rows:
        there = row.split()
        for i, each in enumerate(there):
            for j in range(max(0, i - 5), min(len(there), i + 6)):
                if each == word and j != i and there[j] in known:
                    total, weight = total + known[there[j]] / abs(i - j), weight + 1 / abs(i - j)
    return total / weight


def test_more_texts_bring_words_and_a_class(first, tmp_path, capsys):
    """If this fails, a model cannot be taught more: it forgets, or never learns what it lacked."""
    before = Model.load(first / "run")
    assert main(["predict", str(first / "run"), "there was rain and mud"]) == 0
    assert not capsys.readouterr().out.startswith("wet")
    found = train(capsys, "--from", first / "run", "--data", first / "more.csv", "--out", tmp_path / "on")
    assert found["classes"] == ["cold", "hot", "wet"]
    assert found["epochs"] == 6  # a quarter would be 12 batches
    assert found["samples"] == {"train": 200 + 54, "validation": 6, "test": 40}
    assert found["accuracy"]["test"] == 1  # of the texts of before
    new = written(tmp_path / "new.csv", texts(["wet", "hot"], 40, 3))
    assert main(["evaluate", str(tmp_path / "on"), "--data", new, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy"] == 1

    started = load_prepared(tmp_path / "on", Model.load(tmp_path / "on").config)
    warm, own = started.warm.parameters, before.network.parameters
    old_words, words = tokens.words(before.tokenizer), tokens.words(started.tokenizer)
    assert words[: len(old_words)] == old_words
    assert set(words[len(old_words) :]) == {"hail", "rain", "sea", "mud"}
    table, rows = warm["embedding.weight"], np.r_[: len(old_words), len(words) : len(started.words)]
    np.testing.assert_array_equal(table[rows], own["embedding.weight"])
    assert len(before.ngrams)
    assert started.words[len(words) :] == before.vocabulary()[len(old_words) :]
    known = {word: table[i].astype(float) for i, word in enumerate(old_words)}
    kept = [
        " ".join(started.words[i] for i in ids if i < len(words))
        for ids in (started.splits["train"].segments["text"][row] for row in range(200, 254))
    ]
    for word in ("hail", "rain"):
        np.testing.assert_allclose(table[words.index(word)], neighbours(kept, word, known), atol=1e-6)

    labels = Counter(started.splits["train"].labels.tolist())
    prior = np.array([labels[i] / 254 for i in range(3)])
    bias = own["output.bias"]
    np.testing.assert_array_equal(warm["output.bias"][:2], bias)
    expected = np.mean(bias - np.log(before.prior)) + np.log(prior[2])
    np.testing.assert_allclose(warm["output.bias"][2], expected, rtol=1e-5)
    votes = warm["votes0.weight"]
    np.testing.assert_array_equal(votes[: len(old_words), :2], own["votes0.weight"][: len(old_words)])
    np.testing.assert_array_equal(votes[len(words) :, :2], own["votes0.weight"][len(old_words) :])
    there = [set(row.split()) for row in kept]
    wet = started.splits["train"].labels[200:] == 2
    rain = np.array(["rain" in row for row in there])
    assert rain[wet].any()
    assert not rain[~wet].any()
    assert votes[words.index("rain"), 2] > 0 > votes[words.index("rain"), :2].max()


def test_more_epochs_on_its_own_texts(first, tmp_path, capsys):
    """If this fails, a run that ended too early has to be trained anew."""
    metrics = json.loads((first / "run" / "metrics.json").read_text())
    found = train(capsys, "--from", first / "run", "--set=training.epochs=2", "--out", tmp_path / "on")
    assert found["samples"] == metrics["samples"]
    lines = [json.loads(line) for line in (tmp_path / "on" / "log.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert len(epochs) == 2
    start = json.loads((first / "run" / "log.jsonl").read_text().splitlines()[0])
    assert epochs[0]["train"]["loss"] < start["train"]["loss"] / 2
    # it has learned from its validation texts (training.refit), so that they cannot say how sure it may be
    assert Model.load(tmp_path / "on").temperature == Model.load(first / "run").temperature
    assert not found["calibration"]


def test_it_can_be_killed_repeated_and_gone_on_from(first, tmp_path, capsys):
    """If this fails, a run that went on from another is less of a run than others."""
    source = ["--from", str(first / "run"), "--data", str(first / "more.csv")]
    train(capsys, *source, "--out", tmp_path / "whole")
    killed_after(tmp_path / "killed", 7, source)
    assert main(["train", "--resume", str(tmp_path / "killed"), "--threads=1"]) == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    train(capsys, tmp_path / "whole", "--out", tmp_path / "again")
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")
    third = train(capsys, "--from", tmp_path / "whole", "--data", first / "more.csv", "--out", tmp_path / "third")
    assert third["samples"]["train"] == 254 + 6 + 54
    assert third["accuracy"]["test"] == 1


def test_validation_of_its_own_is_kept(first, tmp_path, capsys):
    """If this fails, texts that were given to choose by are trained on, or the choice is made by others."""
    old, val = first / "old.csv", first / "test.csv"
    run, on = tmp_path / "run", tmp_path / "on"
    voting = "--set=data.ngram_slots=false"  # n-grams vote, and are no slots: ids move up all the same
    train(capsys, "--data", old, "--val-data", val, voting, "--out", run, *QUICK)
    found = train(capsys, "--from", run, "--data", first / "more.csv", "--out", on)
    assert found["samples"] == {"train": 260, "validation": 40}
    assert found["refit"] == 0
    assert found["ngrams"] > 0
    assert found["accuracy"]["validation"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mini-sentiment"], "leave CONFIG out"),
        (["--vectors", "corpus"], "leave --vectors out"),
        (["--set=network.hidden=[5]"], "network.hidden is [5], and []"),
        (["--set=data.max_tokens=7"], "data.max_tokens is 7, and 1500"),
        (["--set=data.columns={a='x'}"], "unknown segment 'text'"),
        (["--resume", "run"], "leave --from out"),
    ],
)
def test_what_cannot_change_is_told_in_a_line(first, capsys, arguments, words):
    """If this fails, weights are put where they do not fit, or a mistake ends in a traceback."""
    assert main(["train", "--from", str(first / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_only_a_finished_run_can_be_gone_on_from(first, tmp_path, capsys):
    """If this fails, half a run is taken for a whole one, or a model without texts fails without a word of help."""
    assert main(["prepare", "--data", str(first / "old.csv"), "--out", str(tmp_path / "p"), *QUICK[:-1]]) == 0
    capsys.readouterr()
    assert main(["train", "--from", str(tmp_path / "p")]) == 2
    assert "not trained yet" in capsys.readouterr().err
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.h5").write_bytes((first / "run" / "model.h5").read_bytes())
    assert main(["train", "--from", str(tmp_path / "m")]) == 2
    assert "without texts; give some to go on with (--data F)" in capsys.readouterr().err
    found = train(capsys, "--from", tmp_path / "m", "--data", first / "more.csv", "--out", tmp_path / "on")
    assert found["samples"] == {"train": 54, "validation": 6}


def test_warm_start_as_in_scikit_learn(first, tmp_path):
    """If this fails, fit begins anew where it was told to go on, or cannot take a label that it did not know."""
    X, y = map(list, zip(*texts(["cold", "wet"], 120, 0), strict=True))
    given = {"settings": {"vectors.dimension": 8, "training.refit": False, "network.votes": 0.0}, "random_state": 0}
    cold = SequenceClassifier(epochs=3, **given).fit(X, y)
    warm = SequenceClassifier(epochs=3, warm_start=True, **given).fit(X, y)
    np.testing.assert_array_equal(warm.predict_proba(X), cold.predict_proba(X))  # the first call is like any other
    losses = [warm.fit(X, y).progress_.epochs[0].train.loss for _ in range(2)]
    assert losses[1] < losses[0] < cold.progress_.epochs[0].train.loss
    assert cold.fit(X, y).progress_.epochs[0].train.loss > losses[0]
    more, labels = map(list, zip(*texts(["hot", "cold", "wet"], 240, 1), strict=True))
    warm.set_params(epochs=12).fit(more, labels)
    assert warm.classes_.tolist() == ["cold", "hot", "wet"]
    assert warm.model_.classes == ("cold", "hot", "wet")
    assert warm.score(more, labels) > 0.95
    with pytest.raises(ConfigError, match="fit anew"):
        warm.set_params(hidden=(5,)).fit(X, y)
    loaded = SequenceClassifier.load(first / "run").set_params(warm_start=True, random_state=0, epochs=2)
    loaded.fit(more, labels)
    assert loaded.score(more, labels) > 0.95


@pytest.mark.skipif(not SMALL.is_dir(), reason="../shared/data/small is not there")
def test_questions_of_a_kind_that_came_later(tmp_path, capsys):
    """If this fails, a class of real texts that the first part lacked is not learned."""
    with (SMALL / "trec.train.csv").open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:1601]
    old = written(tmp_path / "old.csv", [row for row in rows[:1200] if row[1] != "human"])
    more = written(tmp_path / "more.csv", [row for row in rows[:1200] if row[1] == "human"] + rows[1200:])
    train(capsys, "--data", old, "--out", tmp_path / "run", "--set=training.epochs=6")
    test = ["--test-data", SMALL / "trec.test.csv"]
    found = train(capsys, "--from", tmp_path / "run", "--data", more, *test, "--out", tmp_path / "on")
    assert found["epochs"] == 4  # of 6: as many as make 100 batches
    assert found["figures"]["test"]["classes"]["human"]["recall"] > 0.7
    assert found["accuracy"]["test"] > 0.75


def test_runs_of_before_are_what_they_were(first):
    """If this fails, a run that goes on from nothing has something in its files that runs of before had not."""
    arrays, about = files.load(first / "run" / "start.h5", "start")
    assert not [name for name in arrays if name.startswith("warm")]
    assert "warm" not in about
