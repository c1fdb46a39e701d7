"""Self-training: a network that has learned labels unlabelled texts, and learns from those too."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.errors import ConfigError
from eqnp.runs.loop import free_outputs
from eqnp.runs.model import Model
from eqnp.runs.own_labels import NONE, own_labels
from eqnp.text.tokens import ragged
from eqnp.text.topics import topic_vectors
from tests.runs import TRAIN, killed_after, outcome, weights

LABELLED = (["ice", "snow", "frost", "cold"], ["fire", "sun", "lava", "hot"])
ALONE = (["sled", "scarf", "igloo"], ["fan", "desert", "beach"])  # as clear, but of one labelled text each
UNLABELLED = "--set=vectors.unlabelled=more.csv"
ITSELF = [UNLABELLED, "--set=training.self_training=0.8"]


@pytest.fixture
def texts(small):
    """Labelled texts of some words, unlabelled texts of these and others, and a test of the others alone."""
    rng = np.random.default_rng(1)

    def write(name: str, rows: list) -> None:
        with open(name, "w", newline="") as file:
            csv.writer(file).writerows([["text", "label"][: len(rows[0])], *rows])

    rows = [[f"there was {' and '.join(rng.choice(LABELLED[i % 2], 3))}", i % 2] for i in range(60)]
    rows += [[f"was {word} and there {word}", 1 - side] for side in (0, 1) for word in ALONE[side]]  # and wrong
    write("own.csv", rows)
    more = [[f"{' '.join(rng.choice(LABELLED[i % 2], 3))} {' '.join(rng.choice(ALONE[i % 2], 2))}"] for i in range(400)]
    write("more.csv", more)
    write(
        "test.csv", [[f"there was {rng.choice(ALONE[i % 2])} and {rng.choice(ALONE[i % 2])}", i % 2] for i in range(80)]
    )


def test_words_of_unlabelled_texts_are_learned(texts):
    """If this fails, the network's own labels teach it nothing, or other texts than it is sure of."""
    options = ["--set=training.epochs=20", "--test-data", "test.csv"]
    assert main([*TRAIN, *options, UNLABELLED, "--out", "without"]) == 0
    assert main([*TRAIN, *options, *ITSELF, "--out", "with"]) == 0
    found = {name: json.loads(Path(name, "metrics.json").read_text()) for name in ("without", "with")}
    assert found["with"]["accuracy"]["test"] >= 0.95 > 0.9 > found["without"]["accuracy"]["test"]
    assert (found["with"]["own_labels"], found["without"]["own_labels"]) == (320, 0)
    assert found["with"]["epochs"] == found["without"]["epochs"] * 3 // 2
    assert "unlabelled" not in found["with"]["samples"]


def test_a_run_that_labels_texts_resumes_to_the_same_bits(texts):
    """If this fails, a kill before or after the texts were labelled changes what is learned."""
    assert main([*TRAIN, *ITSELF, "--out", "whole"]) == 0
    for batches in (10, 30, 50):  # of 24 before labels are given
        folder = f"killed-{batches}"
        killed_after(Path(folder), batches, source=[*TRAIN[1:-1], *ITSELF])
        assert main(["train", "--resume", folder, "--threads=1"]) == 0
        assert outcome(folder) == outcome("whole")
    Path("more.csv").unlink()
    assert main(["train", "whole", "--threads=1", "--out", "again"]) == 0
    assert outcome("again") == outcome("whole")


def test_without_unlabelled_texts_nothing_changes(small):
    """If this fails, a preset with self-training fails on data without unlabelled texts, or trains otherwise."""
    assert main([*TRAIN, "--out", "plain"]) == 0
    assert main([*TRAIN, ITSELF[1], "--out", "asked"]) == 0
    assert outcome("plain") == outcome("asked")
    assert not Path("asked/unlabelled.h5").exists()


def test_going_on_from_such_a_run(texts, capsys):
    """If this fails, a run that labelled texts itself cannot be gone on from, or a folder is left behind."""
    assert main([*TRAIN, *ITSELF, "--out", "run"]) == 0
    assert main(["train", "--from", "run", "--data", "test.csv", "--threads=1", "--out", "on"]) == 0
    assert not Path("on/unlabelled.h5").exists()
    assert main(["train", "--from", "run", "--data", "test.csv", ITSELF[1], "--out", "both"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert not Path("both").exists()


def test_a_classifier_labels_texts_too(texts):
    """If this fails, `SequenceClassifier` leaves the unlabelled texts of its settings out."""
    with open("own.csv") as file:
        rows = list(csv.DictReader(file))
    settings = {"vectors.unlabelled": "more.csv", "training.refit": False, "training.epochs": 6}
    fitted = [
        SequenceClassifier(settings={**settings, "training.self_training": share}, random_state=0).fit(
            [row["text"] for row in rows], [row["label"] for row in rows]
        )
        for share in (0.0, 0.5)
    ]
    assert [len(each.progress_.epochs) for each in fitted] == [6, 9]
    assert sum(label != NONE for label in fitted[1].progress_.own_labels) == pytest.approx(200, abs=1)


def test_the_surest_share_of_each_class_gets_labels(texts):
    """If this fails, one class crowds the others out, or the least sure are taken."""
    assert main([*TRAIN, "--set=training.epochs=20", "--out", "run"]) == 0
    model = Model.load(Path("run"))
    split = model.encode({"text": ["ice snow frost", "ice snow", "ice", "fire", "sun sun fire", "lava hot fire"]})
    drives = free_outputs(model.network, split, model.config.settling, drives=True)
    labels, margin = own_labels(model.network, split, 1 / 3, model.config.settling), np.ptp(drives, axis=1)
    assert sorted(labels[labels != NONE]) == [0, 1]
    for label in (0, 1):
        assert margin[labels == label] == margin[drives.argmax(axis=1) == label].max()
    every = own_labels(model.network, split, 1.0, model.config.settling)
    np.testing.assert_array_equal(every, drives.argmax(axis=1))


def test_what_cannot_be_labelled_is_said(texts, capsys):
    """If this fails, settings that exclude each other fail late, or with a traceback."""
    with pytest.raises(ConfigError, match=r"must be in \[0, 1\]"):
        load_config("imdb", given={"training.self_training": 2})
    with pytest.raises(ConfigError, match="both train a second time"):
        load_config("text", given={"training.self_training": 0.5})
    assert main(["prepare", *TRAIN[1:-1], UNLABELLED, "--out", "prepared"]) == 0
    assert main(["train", "prepared", ITSELF[1], "--out", "run"]) == 2
    assert "prepare again" in capsys.readouterr().err
    with open("sets.jsonl", "w") as file:
        file.writelines(json.dumps({"text": f"ice w{i % 3}", "label": ["a", "b"][: i % 3]}) + "\n" for i in range(30))
    assert main(["train", "--data", "sets.jsonl", "--set=training.refit=false", *ITSELF, "--out", "run"]) == 2
    assert "one label to a text" in capsys.readouterr().err


def test_topics_are_those_of_a_dense_decomposition():
    """If this fails, topics of slots are not those of the texts that they stand in."""
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 20, rng.integers(1, 9)).tolist() for _ in range(40)]
    stands = np.zeros((40, 20))
    for row, ids in enumerate(lists):
        stands[row, [i for i in ids if i > 1]] = 1
    smoothed = stands.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        telling = stands * np.maximum(0, -np.log(stands.sum(axis=1, keepdims=True) * smoothed / smoothed.sum()))
    telling = np.nan_to_num(telling, posinf=0, neginf=0)
    telling /= np.maximum(np.linalg.norm(telling, axis=1, keepdims=True), 1e-12)
    _, values, right = np.linalg.svd(telling)
    expected = (right[1:6].T * values[1:6]) @ right[1:6]
    halves = [ragged(lists[:25]), ragged(lists[25:])]  # labelled and unlabelled
    found = topic_vectors(halves, 20, 5, np.random.default_rng(0))
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-4)
    again = topic_vectors(halves, 20, 30, np.random.default_rng(0))
    np.testing.assert_allclose(again[:, :5] @ again[:, :5].T, expected, atol=1e-4)
    assert not again[:, 20:].any()
    assert not again[:2].any()
    assert not topic_vectors([ragged([[1], [0, 1]])], 4, 2, rng).any()


@pytest.mark.parametrize("most", ["TEXTS", "SLOTS"])
def test_topics_of_a_large_corpus_are_those_of_an_even_part(monkeypatch, most):
    """If this fails, topics of millions of texts fill the memory, or are those of the first texts alone."""
    rng = np.random.default_rng(0)
    lists = [(1 + rng.choice(9, 3, replace=False)).tolist() for _ in range(1000)]
    some = [row for start in range(0, 1000, 40) for row in lists[start : start + 10]]
    expected = topic_vectors([ragged(some)], 10, 4, np.random.default_rng(0))
    monkeypatch.setattr("eqnp.text.topics.RUN", 10)
    monkeypatch.setattr(f"eqnp.text.topics.{most}", 250 if most == "TEXTS" else 750)
    found = topic_vectors([ragged(lists)], 10, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(found, expected)


def test_topics_change_the_vectors_that_training_starts_from(texts):
    """If this fails, vectors.topics is without effect, or learns nothing from unlabelled texts."""
    topics = "--set=vectors.topics=6"
    assert main([*TRAIN, topics, "--out", "own"]) == 0
    assert main([*TRAIN, topics, UNLABELLED, "--out", "more"]) == 0
    assert main([*TRAIN, "--out", "without"]) == 0
    assert len({str(weights(name)) for name in ("own", "more", "without")}) == 3
