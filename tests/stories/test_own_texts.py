"""Texts that nobody tuned on: the default learns them, fits itself to them, and says what it chose."""

import json
import random
import runpy
import tomllib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import helmert
from scipy.special import log_softmax, softmax

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.app.explain import explain
from eqnp.config import load_config
from eqnp.machine import Machine
from eqnp.network import EMBEDDING
from eqnp.runs import perceptron as perceptrons
from eqnp.runs.baselines import _Features, _fit, hidden_layer, nb_svm
from eqnp.runs.checkpoint import generators, untrained
from eqnp.runs.loop import Hooks, fit
from eqnp.runs.model import Model
from eqnp.text.fitting import fitted
from eqnp.text.prepare import load_prepared
from eqnp.text.start import informed
from eqnp.text.store import Split
from eqnp.text.tokens import ragged
from tests.conftest import ROOT
from tests.runs import own_data


def trained(capsys, *arguments) -> tuple[dict, str]:
    """The metrics of a training, and what it printed."""
    assert main(["train", *map(str, arguments), "--threads", "1", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), "\n".join(lines[:-1])


def written(path: Path, header: str, rows) -> Path:
    """A table."""
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def of_classes(number: int, rows: int, rng: random.Random) -> list[tuple[str, str]]:
    """Texts of so many classes, each with words of its own among others."""
    return [
        (f"the {rng.choice('abcd')} of word{i % number}x{rng.randrange(3)} is here", f"class{i % number}")
        for i in range(rows)
    ]


def test_many_classes_and_rare_ones(tmp_path, capsys, monkeypatch):
    """If this fails, the first thing a user does with twenty classes, or a rare one, learns nothing."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    data = written(tmp_path / "many.csv", "text,label", of_classes(20, 400, rng))
    found, printed = trained(capsys, "--data", data, "--out", "many")
    assert found["accuracy"]["validation"] == 1.0
    assert "chosen for 360 training texts of 20 classes, the largest 5%: training.epochs = 60" in printed
    config = tomllib.loads(Path("many/config.toml").read_text("utf-8"))
    assert (config["name"], config["training"]["epochs"], config["data"]["ngram_min_texts"]) == ("text", 60, 2)
    rare = [
        (f"the {rng.choice('abcd')} {'lava' if i % 25 == 0 else 'ice'} {i % 7}", str(int(i % 25 == 0)))
        for i in range(500)
    ]
    found, _ = trained(capsys, "--data", written(tmp_path / "rare.csv", "text,label", rare), "--out", "rare")
    assert found["accuracy"]["validation"] == 1.0
    found, printed = trained(
        capsys,
        "--data",
        data,
        "--out",
        "own",
        "--set=training.epochs=2",
        "--set=data.ngram_min_texts=5",
        "--set=data.subwords=4",
    )
    assert found["epochs"] == 2
    assert "chosen for" not in printed


def test_pairs_whatever_their_columns_are_called(tmp_path, capsys, monkeypatch):
    """If this fails, pairs of texts are trained at chance, or must be called premise and hypothesis."""
    monkeypatch.chdir(tmp_path)
    rng, words = random.Random(0), ["lava", "ice", "sun", "rain", "mud", "hail"]
    rows = []
    for _ in range(2400):
        first = rng.choice(words)
        second = first if rng.random() < 0.5 else rng.choice([w for w in words if w != first])
        rows.append((f"is it {first}", f"it is {second}", "same" if first == second else "other"))
    data = written(tmp_path / "pairs.csv", "ask,answer,verdict", rows)
    names = ["--set=data.columns.one=ask", "--set=data.columns.two=answer", "--set=data.label=verdict"]
    found, _ = trained(capsys, "--data", data, *names, "--out", "pairs")
    assert found["preset"] == "pairs"
    assert found["accuracy"]["validation"] > 0.95 > 0.3 + found["baselines"]["bag_of_words"]["validation"]
    Path("own.toml").write_text(
        'preset = "pairs"\n[data]\ntrain = "pairs.csv"\nlabel = "verdict"\ncolumns = { one = "ask", two = "answer" }\n'
    )
    assert load_config("own.toml").network == load_config("pairs", [names[0][6:], names[1][6:]]).network
    given = {"data.columns": {"one": "ask", "two": "answer"}}
    assert load_config("pairs", given=given).network.attention[0].queries == "two"
    assert load_config("snli").network.attention[0].queries == "hypothesis"


def test_vectors_of_a_file_have_settings_of_their_own(tmp_path, capsys, monkeypatch):
    """If this fails, word vectors from a file are read as bags of words, and their order is lost."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    words = ["sun", "ice", "before", "after", "the", "rain"]
    rows = [(" ".join(["the", first, "before", {"sun": "ice", "ice": "sun"}[first], rng.choice(words)]), first)
            for first in rng.choices(["sun", "ice"], k=400)]  # fmt: skip
    data = written(tmp_path / "order.csv", "text,label", rows)
    noise = np.random.default_rng(0).standard_normal((len(words), 20))
    np.savez(tmp_path / "vectors.npz", words=np.array(words), vectors=noise)
    found, _ = trained(capsys, "--data", data, "--vectors", "vectors.npz", "--out", "run")
    assert found["preset"] == "text-vectors"
    assert found["accuracy"]["validation"] == 1.0
    assert found["baselines"]["nb_svm"]["validation"] < 0.75  # in whose eyes the texts are the same but for one word


def test_the_words_of_a_text_are_counted_and_shown_without_its_beginning(tmp_path, monkeypatch):
    """If this fails, a text without a known word has one, or a word is given the attention of another."""
    monkeypatch.chdir(tmp_path)
    own_data(Path("own.csv"))
    assert main(["train", "--data", "own.csv", "--set=training.epochs=2", "--out", "run", "--threads=1"]) == 0
    model = Model.load("run")
    assert (model.vocabulary()[2], model.config.data.start_token) == ("<s>", True)
    nothing, some = model.predict({"text": ["xyz", "there was fire"]})
    assert (nothing.known_words, some.known_words) == (0, 3)
    assert nothing.scores == pytest.approx(dict(zip(model.classes, model.prior, strict=True)))
    pieces = explain(model, {"text": ["xyz there was fire"]})[0].pieces["text"]
    assert [piece.text for piece in pieces if piece.free is not None] == ["there", "was", "fire"]
    assert np.mean([piece.free for piece in pieces if piece.free is not None]) == pytest.approx(1, abs=2e-3)


def test_a_network_is_trained_once_more_on_all_texts(tmp_path, capsys, monkeypatch):
    """If this fails, a tenth of the texts is never learned from, or figures on it are taken for those of new texts."""
    monkeypatch.chdir(tmp_path)
    own_data(Path("own.csv"))
    settings = ["training.epochs=3", "training.refit=true"]
    given = [f"--set={setting}" for setting in settings]
    assert main(["train", "--data", "own.csv", *given, "--out", "run", "--threads=1"]) == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (metrics["refit"], metrics["samples"]["train"]) == (130, 117)
    assert "trained once more, on all 130 texts" in capsys.readouterr().out
    prepared = load_prepared(Path("run"), load_config("run/config.toml"))
    config, every = prepared.config, prepared.splits["train"].with_those_of(prepared.splits["validation"])
    with Machine("cpu", config.training.shard).at_work(1) as machine:
        model, optimizer = untrained(prepared, machine)
        hooks = Hooks(best=Mock())  # which neither keeps nor restores
        fit(model.network, optimizer, config, every, prepared.splits["validation"], generators(0)[2], hooks=hooks)
    for name, value in Model.load("run").network.parameters.items():
        np.testing.assert_array_equal(value, model.network.parameters[name])
    half = [*given, "--set=training.precision=half", "--set=training.epochs=1", "--test-data", "own.csv"]
    tested, outputs = [], Model.outputs
    monkeypatch.setattr(Model, "outputs", lambda self, split: (tested.append(self), outputs(self, split))[1])
    assert main(["train", "--data", "own.csv", *half, "--out", "half", "--threads=1"]) == 0
    network, kept = tested[-1].network, Model.load("half").network  # what was tested is what is in the file
    np.testing.assert_array_equal(network.parameters[EMBEDDING], kept.parameters[EMBEDDING])
    assert main(["evaluate", "run"]) == 0
    assert "trained once more with the validation texts" in capsys.readouterr().out
    assert main(["train", "--data", "own.csv", "--val-data", "own.csv", *given, "--out", "own", "--threads=1"]) == 0
    assert json.loads(Path("own/metrics.json").read_text())["refit"] == 0  # these texts were not taken from training


def test_python_has_the_same_default():
    """If this fails, a classifier from Python has other settings than the command."""
    texts, labels = (
        [f"the sun {i}" for i in range(40)] + [f"the ice {i}" for i in range(40)],
        ["hot"] * 40 + ["cold"] * 40,
    )
    classifier = SequenceClassifier(random_state=0).fit(texts, labels)
    assert classifier.score(texts, labels) == 1.0
    assert classifier.model_.config.name == "text"
    assert classifier.model_.config.training.epochs == 20
    classifier.partial_fit(texts, labels)
    assert classifier.score(texts, labels) == 1.0


@pytest.mark.parametrize(("rows", "epochs", "texts"), [(50, 20, 2), (5000, 5, 2), (12_000, 3, 4), (200_000, 3, 8)])
def test_the_rules(rows, epochs, texts):
    """If this fails, small data are trained on for too short a time, or large ones for days."""
    config, said = fitted(load_config("text"), np.arange(rows) % 3)
    assert (config.training.epochs, config.data.ngram_min_texts) == (epochs, texts)
    assert f"{rows:,} training texts of 3 classes, the largest" in said
    assert fitted(config, np.arange(rows) % 3) == (config, "")
    assert [fitted(load_config("text"), np.arange(rows) % 3, n)[0].data.subwords for n in (500, 501)] == [5, 0]
    many, _ = fitted(load_config("text"), np.arange(rows) % 50)  # 750 batches, and not 500
    assert many.training.epochs == min(60, max(3, -(-750 // (rows // 50))))


def small_split() -> Split:
    """Twelve samples of two classes over six slots."""
    rng = np.random.default_rng(0)
    return Split({"text": ragged([rng.integers(2, 8, 5) for _ in range(12)])}, np.arange(12) % 2)


def test_slots_start_with_what_they_tell():
    """If this fails, the vectors start from another ratio than the one that is documented."""
    split, table = small_split(), np.random.default_rng(1).standard_normal((8, 3))
    table[:2] = 0
    result = informed(table, split, 2, 0.5, 2.0)
    sets = [{*split.segments["text"][i].tolist()} for i in range(12)]
    texts = np.array([sum(g in s for s in sets) for g in range(8)])
    factors = np.sqrt(np.log(13 / (1 + texts)))
    np.testing.assert_allclose(result[:, :3], table * (factors * texts.sum() / (factors * texts).sum())[:, None])
    for c in range(2):
        own = np.array([1 + sum(g in s for s, y in zip(sets, split.labels, strict=True) if y == c) for g in range(8)])
        other = np.array([1 + sum(g in s for s, y in zip(sets, split.labels, strict=True) if y != c) for g in range(8)])
        ratio = 2 * (np.log(own / own.sum()) - np.log(other / other.sum()))
        np.testing.assert_allclose(result[2:, 3 + c], ratio[2:])
    assert not result[:2].any()
    twice = Split({"one": split.segments["text"], "two": split.segments["text"]}, split.labels)  # pairs count once
    np.testing.assert_array_equal(informed(table, twice, 2, 0.5, 2.0), result)
    assert informed(table, split, 2, 0.0, 0.0) is table


def test_nb_svm_is_what_scikit_learn_gets():
    """If this fails, the rival of every run is a straw man."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    prior = np.array([[4, 1, 1, 2, 2, 2, 1, 1], [1, 4, 1, 2, 2, 2, 1, 1], [1, 1, 4, 2, 2, 2, 1, 1]]) / 14

    def split(size: int) -> Split:
        labels = rng.integers(0, 3, size)
        return Split({"text": ragged([2 + rng.choice(8, 4, p=prior[y]) for y in labels])}, labels)

    train, test = split(300), split(200)
    ours = nb_svm({"train": train, "validation": test}, 10, 3)
    X, T = (
        np.array([np.isin(np.arange(10), s.segments["text"][i]) for i in range(len(s))], float) for s in (train, test)
    )
    scores = []
    for c in range(3):
        own, other = 1 + X[train.labels == c].sum(0), 1 + X[train.labels != c].sum(0)
        ratio = np.log(own / own.sum()) - np.log(other / other.sum())
        model = linear.LogisticRegression(max_iter=1000).fit(X * ratio, train.labels == c)
        scores.append(model.decision_function(T * ratio))
    theirs = float((np.argmax(scores, 0) == test.labels).mean())
    assert ours.accuracy["validation"] == pytest.approx(theirs, abs=0.01)
    assert theirs > 0.5


def two_of_four(size: int, rng: np.random.Generator) -> Split:
    """Two words a text, and the class is whether they are of one kind: no single word tells."""
    pairs = rng.integers(0, 2, (size, 2))
    words = np.stack([2 + pairs[:, 0], 4 + pairs[:, 1]], axis=1)
    return Split({"text": ragged(list(rng.permuted(words, axis=1)))}, (pairs[:, 0] == pairs[:, 1]).astype(int))


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_at_its_minimum_for_all_classes(classes):
    """If this fails, the rivals that have a column less than classes are straw men."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((60, 5)), rng.integers(0, classes, 60)
    features, basis = _Features(5, lambda w: X @ w, lambda e: X.T @ e), helmert(classes)
    found = _fit(features, labels, np.zeros((6, classes - 1)), basis, 3.0) @ basis
    error = softmax(X @ found[:-1] + found[-1], axis=1) - np.eye(classes)[labels]
    np.testing.assert_allclose(3 * X.T @ error + found[:-1], 0, atol=0.01)
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=0.01)
    assert abs(found).max() > 0.1


def test_the_perceptron_learns_what_no_single_word_tells():
    """If this fails, the rival that sees words but not their order is a straw man, or another one each time."""
    splits = {
        name: two_of_four(size, np.random.default_rng(size)) for name, size in (("train", 400), ("validation", 99))
    }
    splits["test"] = two_of_four(120, np.random.default_rng(5))
    found = hidden_layer(splits, 6, 2)
    assert found.accuracy == {"validation": 1.0, "test": 1.0}
    assert found == hidden_layer(splits, 6, 2)


def test_the_perceptron_does_not_grow_with_the_corpus(monkeypatch):
    """If this fails, the rivals of a large run take longer than the run."""
    steps, step = [], perceptrons.Perceptron.step
    monkeypatch.setattr(perceptrons, "WORK", 4000)
    monkeypatch.setattr(perceptrons.Perceptron, "step", lambda *given: steps.append(given[1].nnz) or step(*given))
    for size in (50, 500, 5000):
        steps.clear()
        hidden_layer({"train": two_of_four(size, np.random.default_rng(0)), "validation": small_split()}, 8, 2)
        assert sum(steps) <= 4000 + 200, size


def test_the_slope_of_the_perceptron():
    """If this fails, its first step goes another way than down the cross-entropy."""
    rng = np.random.default_rng(0)
    x, y = sparse.csr_array(rng.standard_normal((7, 4)).astype(np.float32)), rng.integers(0, 3, 7)
    model = perceptrons.Perceptron(4, 3, 0.0)

    def loss(first: np.ndarray) -> float:
        hidden = np.maximum(x @ first + model.biases[0], 0)
        return -log_softmax(hidden @ model.last + model.biases[1], axis=1)[np.arange(7), y].mean()

    before = model.first.astype(float)
    directions = [rng.standard_normal(before.shape) for _ in range(3)]
    slopes = [(loss(before + 1e-5 * d) - loss(before - 1e-5 * d)) / 2e-5 for d in directions]
    last = model.last.astype(float)
    model.step(x, y)
    moved = (before - model.first) * np.sqrt(model.squares) / perceptrons.RATE
    np.testing.assert_allclose([(moved * d).sum() for d in directions], slopes, rtol=1e-2)
    assert not np.array_equal(model.last, last)


def test_the_table_of_own_texts(tmp_path, capsys, monkeypatch):
    """If this fails, the script that says how the default does on a folder of sets does not run, or miscounts."""
    rows = of_classes(3, 90, random.Random(0))
    written(tmp_path / "small.train.csv", "text,label", rows[:60])
    written(tmp_path / "small.test.csv", "text,label", rows[60:])
    given = ["--seeds", "2", "--set", "training.epochs=30", "--keep", str(tmp_path / "kept")]
    monkeypatch.setattr("sys.argv", ["own_texts.py", str(tmp_path), *given])
    runpy.run_path(str(ROOT / "scripts" / "own_texts.py"), run_name="__main__")
    header, _, line = capsys.readouterr().out.splitlines()
    kept = [json.loads((tmp_path / "kept" / f"small-{seed}.json").read_text()) for seed in (0, 1)]
    assert [run["accuracy"]["test"] for run in kept] == [1.0, 1.0]
    cells = dict(zip(header.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=True))
    assert (cells["set"], cells["texts"], cells["classes"], cells["EP, %"]) == ("small", "54", "3", "**100.0 ± 0.0**")
    assert float(cells["gain"]) == 100 - max(
        float(cells[name]) for name in ("majority", "TF-IDF", "NB-SVM", "mean vector", "perceptron")
    )


@pytest.mark.parametrize("name", ["cls20", "cls100", "imb20", "imb50"])
def test_the_cases_of_public_reports(shared, name, tmp_path, capsys, monkeypatch):
    """If this fails, many classes, or a rare one, are learned at chance again."""
    monkeypatch.chdir(tmp_path)
    cases = shared / "cases"
    given = ["--data", cases / f"{name}_train.csv", "--val-data", cases / f"{name}_val.csv", "--out", "run"]
    found, _ = trained(capsys, *given)
    expected = 1.0 if name.startswith("cls") else found["baselines"]["bag_of_words"]["validation"]
    assert found["accuracy"]["validation"] >= expected


@pytest.mark.slow
def test_the_pairs_of_public_reports(shared, tmp_path, capsys, monkeypatch):
    """If this fails, the recipe for pairs that the README had is trained at chance again."""
    monkeypatch.chdir(shared / "cases")
    found, _ = trained(capsys, "pairs.toml", "--out", tmp_path / "run")
    assert found["accuracy"]["validation"] > 0.95
