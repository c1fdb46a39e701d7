"""A network that learns nothing says so, and validation has every class that can be spared."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp.app.cli import main
from eqnp.errors import DataError
from eqnp.text.corpora import Corpus, Texts
from eqnp.text.holding import hold_out

CLIPPED = {  # outputs that may die
    "network.attention": "[{queries=8, memory='text'}]",
    "network.hidden": "[64]",
    "network.output_activation": "clipped",
    "network.initial_bias": "1.0",
    "learning.beta": "0.5",
    "optimizer.learning_rate": "5e-3",
    "training.word_dropout": "0.0",
}
QUICK = ["--set=vectors.dimension=8", "--threads=1", "--set=training.batch=10"]
QUICK += [f"--set={key}={value}" for key, value in CLIPPED.items()]


def corpus(counts) -> Corpus:
    """So many texts of each class, in random order."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    texts = Texts(f"text {i}" for i in range(len(labels)))
    return Corpus({"text": texts}, labels, tuple(f"c{i}" for i in range(len(counts))))


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8), st.floats(0.05, 0.6), st.integers(0, 99))
def test_every_class_is_in_both_parts(counts, share, seed):
    """If this fails, a rare class is never validated on, or all of it is held out and never learned."""
    whole, rng = corpus(counts), np.random.default_rng(seed)
    if max(counts) < 2:
        with pytest.raises(DataError, match="--val-data"):
            hold_out(whole, share, rng)
        return
    train, validation = hold_out(whole, share, rng)
    sizes = [np.bincount(part.labels, minlength=len(counts)) for part in (train, validation)]
    assert (sizes[0] + sizes[1]).tolist() == counts
    for learned, held, count in zip(*sizes, counts, strict=True):
        assert (learned > 0) == (count > 0)
        assert (held > 0) == (count > 1)
        assert abs(held - share * count) <= 1 or held in (1, count - 1)
    assert sorted([*train.texts["text"], *validation.texts["text"]]) == sorted(whole.texts["text"])
    singles = [f"c{label}" for label, count in enumerate(counts) if count == 1]
    assert all(name in "".join(train.notes) for name in singles)


def table(path, rows) -> str:
    """A file of texts and labels."""
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def said(capsys, *arguments) -> str:
    """What a training prints."""
    assert main(["train", "mini-sentiment", *QUICK, *arguments]) == 0
    return capsys.readouterr().out


def test_a_network_that_learns_nothing_says_so(tmp_path, capsys, monkeypatch):
    """If this fails, a user waits for a network that died in its first epoch, and then trusts it."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    words = [f"w{i}" for i in range(60)]
    many = [(f"the {words[i % 20]} of {words[20 + i % 20]}", f"class{i % 20}") for i in range(400)]
    output = said(capsys, "--data", table(tmp_path / "many.csv", many), "--out", "many", "--set=training.epochs=4")
    assert "every validation text is given one and the same class; likely cure: an output for several" in output
    cure = ["--set=network.output_activation=softmax", "--set=learning.beta=0.1"]
    mended = said(capsys, "--data", "many.csv", "--out", "mended", "--set=training.epochs=30", *cure)
    assert "warning" not in mended
    noise = [(" ".join(rng.choices(words, k=8)), rng.choice("ab")) for _ in range(200)]
    output = said(capsys, "--data", table(tmp_path / "noise.csv", noise), "--out", "noise", "--set=training.epochs=6")
    assert "does not beat the majority's" in output
    rare = [
        (f"the {rng.choice(words)} {'lava' if i % 20 == 0 else ''}", "rare" if i % 20 == 0 else "usual")
        for i in range(400)
    ]
    output = said(capsys, "--data", table(tmp_path / "rare.csv", rare), "--out", "rare", "--set=training.epochs=3")
    assert "more texts of the rare classes" in output
    dead = said(
        capsys, "--data", "noise.csv", "--out", "dead", "--set=training.epochs=2", "--set=network.initial_bias=-100"
    )
    assert "no nudge moved the output" in dead


def test_few_texts(tmp_path, capsys, monkeypatch):
    """If this fails, one class of two is held out, and the other is all that is learned."""
    monkeypatch.chdir(tmp_path)
    two = table(tmp_path / "two.csv", [("the sun", "hot"), ("the ice", "cold")])
    assert main(["train", "--data", two, "--out", "run"]) == 2
    assert "no class has two: nothing can be held out" in capsys.readouterr().err
    four = table(tmp_path / "four.csv", [("the sun", "hot"), ("the ice", "cold")] * 2 + [("the rain", "wet")])
    output = said(capsys, "--data", four, "--out", "run", "--set=training.epochs=1")
    assert "validation: has no text of 'wet', of which there is one, to learn from" in output
    assert "data: 3 train, 2 validation" in output
