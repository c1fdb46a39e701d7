"""What speaks for a class: contributions of words in explained predictions, in `eqnp words`, and what they are."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from eqnp import SequenceClassifier
from eqnp.app.cli import main
from eqnp.app.contributions import class_drives, slot_contributions, speakers
from eqnp.runs.model import Model
from eqnp.text.store import read_split
from eqnp.votes import Votes
from tests.runs import TRAIN

SOFTMAX = [
    *TRAIN,
    *("--set=network.hidden=[]", "--set=network.output_activation=softmax", "--set=learning.beta=0.1"),
    *("--set=network.initial_bias=0.0", "--set=data.min_count=1"),
]
PAIRS = [
    *("train", "pairs", "--data", "pairs.csv", "--set=data.columns.first=a", "--set=data.columns.second=b"),
    *("--set=vectors.dimension=6", "--set=network.compare=5", "--set=network.hidden=[4]", "--set=training.epochs=2"),
    "--set=training.refit=false",
]


def asked(capsys, *command: str) -> dict:
    """What a command ends with under --json."""
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def relative_log_scores(capsys, texts: list[str]) -> np.ndarray:
    """log p less its mean over the classes: of a softmax that is the drive less its mean, over its temperature."""
    predictions = asked(capsys, "predict", "run", *texts)["predictions"]
    logs = np.log([list(each["scores"].values()) for each in predictions])
    return Model.load("run").temperature * (logs - logs.mean(axis=1, keepdims=True))


NGRAMS = ["--set=data.ngrams=2", "--set=data.ngram_min_texts=2"]
VOTES = [*NGRAMS, "--set=network.votes=0.3", "--set=data.subwords=3"]


@pytest.mark.parametrize("more", [[], NGRAMS, VOTES], ids=["words", "ngrams", "votes"])
def test_a_word_contributes_what_its_class_loses_without_it(small, capsys, more):
    """If this fails, --explain gives figures that deleting the word does not bear out."""
    assert main([*SOFTMAX, *more, "--out", "run"]) == 0
    text = "hot lava and Hot ice zzz"
    (found,) = asked(capsys, "predict", "run", "--explain", text)["predictions"]
    pieces = found["pieces"]["text"]
    given = {piece["text"]: piece["contribution"] for piece in pieces if piece["contribution"] is not None}
    assert [each for each in given if each != "zzz"] == ["hot", "lava", "and", "Hot", "ice"]
    assert given["hot"] == given["Hot"]  # that of both places
    lacking = {"hot": "lava and ice zzz", "lava": "hot and Hot ice zzz", "ice": "hot lava and Hot zzz"}
    drives = relative_log_scores(capsys, [text, *lacking.values()])
    towards = list(found["scores"]).index(found["towards"])
    for word, after in zip(lacking, drives[1:], strict=True):
        assert given[word] == pytest.approx(drives[0, towards] - after[towards], abs=2e-3)
    assert max(abs(given[word]) for word in lacking) > 0.05
    assert main(["predict", "run", "--explain", text]) == 0
    again = SequenceClassifier.load("run").explain([text])[0].contributions()
    assert dict(again) == pytest.approx({word.lower(): each for word, each in given.items()}, abs=2e-3)
    (line,) = capsys.readouterr().out.splitlines()
    best = max(given, key=given.get)
    assert f"  (for {found['towards']}: {best.lower()} +{given[best]:.2f}" in line


@pytest.mark.parametrize("command", [SOFTMAX, PAIRS], ids=["pooling", "compare"])
def test_slots_contribute_the_slope_of_the_drive_in_their_number(small, command):
    """If this fails, the contrast of nudged phases is not the derivative by a slot's presence, rows included.

    A text whose words all stand k times is the text itself to the network, and one copy more or less of a word is a
    presence of 1 ± 1/k; but a mean over more rows feeds less back to each, so that is made small.
    """
    Path("pairs.csv").write_text(
        "a,b,label\n" + "".join(f"x{i % 5} y{i % 3} so,z{i % 4} x{i % 5} no,{'uvw'[i % 3]}\n" for i in range(60))
    )
    assert main([*command, "--out", "run"]) == 0
    model, copies = Model.load("run"), 40
    settling = dataclasses.replace(model.config.settling, tolerance=1e-10, free_sweeps=300, nudged_sweeps=300)
    learning = dataclasses.replace(model.config.learning, beta=1e-3)
    data = dataclasses.replace(model.config.data, max_tokens=400)
    model.config = dataclasses.replace(model.config, settling=settling, learning=learning, data=data)
    model.network = model.network.astype(np.float64)
    if command is PAIRS:
        model.network.parameters["hidden0.weight"] *= 1e-3
    model.network.positions = dict.fromkeys(model.network.positions, 400)
    texts = {"text": "hot lava and ice"} if command is SOFTMAX else {"first": "x1 y2 so", "second": "z3 x1 no"}
    split = model.encode({name: [text] for name, text in texts.items()})
    classes = range(len(model.classes))
    ((_, found),) = slot_contributions(model, split, classes)
    for name, text in texts.items():
        for place, word in enumerate(text.split()):
            repeated = {at: f"{other} " * copies for at, other in texts.items()}
            often = {**repeated, name: repeated[name] + word}
            rarely = {**repeated, name: repeated[name].replace(f"{word} ", "", 1)}
            more, less = (
                class_drives(model, model.encode({n: [t] for n, t in each.items()})) for each in (often, rarely)
            )
            slope = (more - less)[0] * copies / 2
            np.testing.assert_allclose(found[name][:, 0, place], slope, rtol=5e-3, atol=1e-3 * np.abs(slope).max())
            assert np.abs(slope).max() > 1e-6


def test_votes_contribute_their_slope(small, monkeypatch):
    """If this fails, `eqnp words` leaves out, or misjudges, what the features of a text say by themselves."""
    assert main([*SOFTMAX, *VOTES, "--out", "run"]) == 0
    model = Model.load("run")
    model.network = model.network.astype(np.float64)
    model.network.parameters["output.weight"][:] = 0  # nothing but votes
    split = model.encode({"text": ["there was hot and hot lava and snow 3"]})
    ((_, found),) = slot_contributions(model, split, range(2))
    ids, prepare, slopes = split.segments["text"][0], Votes.prepare, {}
    for word in np.unique(ids):
        drives = []
        for presence in (1 + 1e-4, 1 - 1e-4):

            def weighed(self, x, presence=presence, word=word):
                prepare(self, x)
                own, lengths = x.segments[self.features]
                p = np.where(own == word, presence, 1.0) * (np.arange(own.shape[1]) < lengths[:, None])
                x.prepared[self.name, "shares"] = p / np.sqrt(p.sum(axis=1, keepdims=True))

            monkeypatch.setattr(Votes, "prepare", weighed)
            drives.append(class_drives(model, split)[0])
        slopes[word] = (drives[0] - drives[1]) / 2e-4
    for word, slope in slopes.items():
        np.testing.assert_allclose(found["text"][:, 0, ids == word].sum(axis=1), slope, atol=1e-6)
    assert np.abs(list(slopes.values())).max() > 1e-3


def test_the_words_of_a_class_are_those_that_decide(small, capsys):
    """If this fails, `eqnp words` names words of another class, or miscounts the texts that they stand in."""
    options = ("vectors.dimension=16", "training.epochs=6", "training.refit=false")
    own = ["train", "--data", "own.csv", "--threads=1", *(f"--set={option}" for option in options)]
    assert main([*own, "--out", "run"]) == 0
    found = asked(capsys, "words", "run", "--top", "3", "--least", "20")
    hot, cold = ({"fire", "sun", "lava", "hot"}, {"ice", "snow", "frost", "cold"})
    assert list(found["by_class"]) == ["0", "1"]
    for name, own in (("0", cold), ("1", hot)):
        words = found["by_class"][name]
        assert {word for each in words for word in each["words"].split()} <= own | {"and"}
        assert {each["words"] for each in words} & own
        means = [each["contribution"] for each in words]
        assert means == sorted(means, reverse=True)
        assert means[-1] > 0
    every = [row["text"].split() for row in csv.DictReader(Path("own.csv").read_text().splitlines())]
    held = 13  # a tenth for validation
    for each in found["by_class"]["1"]:
        first, *second = each["words"].split()
        stands = sum(any(text[i : i + 1 + len(second)] == [first, *second] for i in range(len(text))) for text in every)
        assert stands - held <= each["texts"] <= stands
        assert each["texts"] >= found["least"] == 20
    assert found["texts"] == len(every) - held
    assert asked(capsys, "words", "run")["least"] == 2  # of few texts
    one = asked(capsys, "words", "run", "1", "--top", "4", "--least", "30")
    assert list(one["by_class"]) == ["1"]
    assert all(each["texts"] >= 30 for each in one["by_class"]["1"])
    assert main(["words", "run", "2"]) == 2
    assert "unknown class '2'; allowed: 0, 1" in capsys.readouterr().err
    assert main(["report", "run", "hot lava"]) == 0
    page = Path("run/report.html").read_text("utf-8")
    table = page[page.index("What speaks for a class</h2>") :]
    assert found["by_class"]["1"][0]["words"] in table[: table.index("</table>")]
    Path("run/data.h5").unlink()
    assert main(["words", "run"]) == 2
    assert "training texts" in capsys.readouterr().err


def test_means_are_those_of_the_slots(small):
    """If this fails, a mean is over something else than the texts that a word stands in."""
    assert main([*SOFTMAX, "--out", "run"]) == 0
    model, split = Model.load("run"), read_split(Path("run/data.h5"), "train")
    sums: dict[int, list[float]] = {}
    for rows, found in slot_contributions(model, split, [1]):
        for place, row in enumerate(rows):
            of_text: dict[int, float] = {}
            for slot, word in enumerate(split.segments["text"][row]):
                of_text[word] = of_text.get(word, 0) + found["text"][0, place, slot]
            for word, each in of_text.items():
                sums.setdefault(word, []).append(each)
    names = model.vocabulary()
    expected = {names[word]: (np.mean(each), len(each)) for word, each in sums.items()}
    listed = speakers(model, split, ["1"], top=50).by_class["1"]
    assert len(listed) == sum(mean > 0 and count >= 2 for mean, count in expected.values())
    for each in listed:
        assert (pytest.approx(each.contribution, abs=1e-5), each.texts) == expected[each.words]


def test_windows_are_seen_through(small, capsys):
    """If this fails, the table of a network with windows credits a word with what its neighbours say."""
    attention = "--set=network.attention=[{queries=4, memory='text', window=2}]"
    assert main([*SOFTMAX, attention, "--set=training.epochs=8", "--out", "run"]) == 0
    found = asked(capsys, "words", "run", "--top", "2")["by_class"]
    assert {each["words"] for each in found["1"]} <= {"fire", "sun", "lava", "hot"}
    assert {each["words"] for each in found["0"]} <= {"ice", "snow", "frost", "cold"}
