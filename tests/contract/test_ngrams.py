"""N-grams as memory slots: found, counted, appended, kept and explained."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqnp.app.cli import main
from eqnp.app.explain import explain
from eqnp.config import load_config
from eqnp.errors import ConfigError
from eqnp.runs.model import Model
from eqnp.text import ngrams
from eqnp.text.ngrams import NGrams, Places, learn_ngrams, memory_slots, without_repeats
from eqnp.text.store import Split, read_split
from eqnp.text.tokens import ragged
from tests.runs import SETTINGS, TRAIN

TEXTS = st.lists(st.lists(st.integers(2, 6), max_size=9), min_size=1, max_size=8)
PARTS = st.sampled_from([4, ngrams.TOKENS])  # of which a large corpus has many


def runs(text: list[int], longest: int) -> list[tuple[int, ...]]:
    """Every run of 2 … longest words of a text, shorter ones first."""
    return [tuple(text[i : i + n]) for n in range(2, longest + 1) for i in range(len(text) - n + 1)]


@given(TEXTS, st.integers(2, 3), st.integers(1, 3), st.integers(1, 12), PARTS, st.booleans())
def test_ngrams_are_those_of_the_definition(texts, longest, min_texts, most, tokens, compiled):
    """If this fails, an n-gram is counted twice in a text, missed, or crosses from one text into the next."""
    column = ragged([np.array(text, np.int32) for text in texts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "TOKENS", tokens)  # of which a large corpus has many parts
        learned = learn_ngrams([column], 7, longest=longest, min_texts=min_texts, most=most)
        patch.setattr(ngrams, "MANY", 0 if compiled else ngrams.MANY)
        slots, all_slots = (
            memory_slots(Split({"text": column}, np.zeros(len(texts))), learned, distinct).segments["text"]
            for distinct in (True, False)
        )
    counts = Counter(run for text in texts for run in set(runs(text, longest)))
    often = {run: n for run, n in counts.items() if n >= min_texts}
    found = [tuple(i for i in row if i) for row in learned.parts.tolist()]
    assert len(found) == min(most, len(often)) == len(set(found))
    if found:
        assert min(often[run] for run in found) >= sorted(often.values(), reverse=True)[len(found) - 1]
    ids = {run: 7 + g for g, run in enumerate(found)}
    longer = learned.appended(column)
    for i, text in enumerate(texts):
        expected = [ids[run] for run in runs(text, longest) if run in ids]
        assert longer[i].tolist() == text + expected
        assert all_slots[i].tolist() == text + expected
        assert slots[i].tolist() == list(dict.fromkeys(text + expected))
    assert learned.names([str(i) for i in range(7)]) == [" ".join(map(str, run)) for run in found]


@given(TEXTS)
def test_distinct_slots_are_the_first_of_each(texts):
    """If this fails, a repeated word counts twice, or a word of one text is missed because another has it."""
    distinct = without_repeats(ragged([np.array(text, np.int32) for text in texts]))
    assert [distinct[i].tolist() for i in range(len(texts))] == [list(dict.fromkeys(text)) for text in texts]


@given(st.integers(0, 2**16), st.integers(0, 300), st.sampled_from((40, 2**40)), st.sampled_from((1, 2**22)))
def test_places_are_those_of_a_search(seed, size, most, step):
    """If this fails, an n-gram is taken for another whose code falls into the same slot."""
    rng = np.random.default_rng(seed)
    codes, sought = step * np.unique(rng.integers(0, most, size)), step * rng.integers(0, most, 100)
    sought[:20] = rng.choice(codes, 20) if size else 0
    stands = {code: place for place, code in enumerate(codes.tolist())}
    assert Places(codes).of(sought).tolist() == [stands.get(code, -1) for code in sought.tolist()]


def test_vectors_start_at_the_mean_of_the_words():
    """If this fails, an n-gram starts somewhere else than its words."""
    table = np.random.default_rng(0).standard_normal((5, 3))
    table[0] = 0
    ngrams = NGrams(np.array([[2, 3, 0], [2, 3, 4]], np.int32), 5)
    np.testing.assert_allclose(ngrams.vectors(table), [table[2:4].mean(axis=0), table[2:5].mean(axis=0)])


def test_a_network_with_ngrams_hears_the_order_of_words(tmp_path, monkeypatch, capsys):
    """If this fails, "not a, but b" is still the same as "not b, but a", or a saved model forgets its n-grams."""
    monkeypatch.chdir(tmp_path)
    rng, lines = np.random.default_rng(0), ["text,label"]
    for i in range(400):
        good, bad = rng.permutation(["warm", "quick", "clear", "kind"])[:2]
        lines.append(f"{'not' if i % 2 else 'so'} {good} but {'so' if i % 2 else 'not'} {bad},{i % 2}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    settings = [f"--set={s}" for s in SETTINGS if not s.startswith("training.checkpoint")]
    orders = ["data.ngrams=2", "data.distinct=true", "data.ngram_min_texts=5", "training.epochs=15"]
    assert main(["train", *settings, *(f"--set={order}" for order in orders), "--out", "run"]) == 0
    model = Model.load("run")
    assert len(model.ngrams) == len(model.vocabulary()) - model.ngrams.first_id > 10
    assert [p.label for p in model.predict({"text": ["so warm but not kind", "not warm but so kind"]})] == ["0", "1"]
    ids = read_split(tmp_path / "run" / "data.h5", "validation").segments["text"]
    assert ids.ids.max() >= model.ngrams.first_id
    assert main(["evaluate", "run", "--data", "own.csv"]) == 0
    assert "accuracy 100.0% (" in capsys.readouterr().out
    (result,) = explain(model, {"text": ["so warm but not not warm but"]})
    assert np.mean([p.free for p in result.pieces["text"] if p.free is not None]) == pytest.approx(1, abs=2e-3)
    assert main(["report", "run"]) == 0


def test_a_window_beside_ngrams_reads_words_alone(small):
    """If this fails, a window beside n-grams is another one after training, or after a model was saved and loaded."""
    orders = ["network.attention=[{queries=2, memory='text', window=1}]", "data.ngrams=2", "data.ngram_min_texts=5"]
    assert main([*TRAIN, *(f"--set={order}" for order in orders), "--set=training.epochs=1", "--out", "run"]) == 0
    model = Model.load("run")
    (window,) = model.network.memories
    assert window.words == model.ngrams.first_id < len(model.vocabulary())
    texts = {"text": ["there was ice and snow and frost 3", "snow", ""]}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).scores(texts)[0], model.scores(texts)[0])
    window.words = len(model.vocabulary())
    with pytest.raises(ConfigError, match="of its own"):
        model.save(Path("run"))


def test_ngrams_need_learned_queries():
    """If this fails, n-grams ask questions as if they were words of the text."""
    with pytest.raises(ConfigError, match="learned queries"):
        load_config("snli", ["data.ngrams=2"])
    with pytest.raises(ConfigError, match="2 or 3"):
        load_config("imdb", ["data.ngrams=4"])
