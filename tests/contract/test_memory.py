"""Texts and word ids that wait on the disk: they are what they were, and what was read of them is no memory."""

import itertools
import sys

import numpy as np
import pytest

from eqnp.machine import threads
from eqnp.runs import baselines
from eqnp.text.corpora import load_corpus
from eqnp.text.store import Split
from eqnp.text.tokens import joined, ragged

ROWS, WIDE = 100_000, 300


def mapped() -> int:
    """MiB of files that count as this process's memory."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssFile")) >> 10


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("way", ["one after the other", "in slices"])
def test_texts_that_were_read_are_no_memory(tmp_path, way):
    """If this fails, a corpus larger than memory fills it as it is read."""
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "".join(f"{i:06}{'x' * WIDE},{i % 2}\n" for i in range(ROWS)))
    column = load_corpus(str(path), {"text": "text"}, "label").texts["text"]
    before, most, seen = mapped(), 0, 0
    slices = (column[start : start + 1000] for start in range(0, ROWS, 1000))
    for i, text in enumerate(column if way == "one after the other" else itertools.chain.from_iterable(slices)):
        assert text[:6] == f"{i:06}"
        seen += len(text)
        if i % 5000 == 0:
            most = max(most, mapped())
    assert seen == ROWS * (6 + WIDE)
    assert most - before <= 12  # of the 29 that were read


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_word_ids_wait_on_the_disk(monkeypatch):
    """If this fails, the ids of a large corpus are in memory when nobody reads them, or are others on the disk."""
    rows = [np.arange(i % 7, dtype=np.int32) for i in range(1000)]
    expected = joined([ragged(rows)])
    monkeypatch.setattr(threads, "LARGE", 1000)
    found = joined([ragged(rows[:300]), ragged(rows[300:])])
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert not found.ids.flags.writeable
    many, before = threads.set_aside(np.ones(1 << 23, np.int32)), mapped()
    assert many.sum() == 1 << 23
    assert mapped() - before >= 30
    threads.let_go(many[5:])
    assert mapped() - before <= 5


def test_a_full_disk_leaves_ids_in_memory(monkeypatch):
    """If this fails, a full temporary folder ends what memory had room for."""

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(threads.tempfile, "TemporaryFile", full)
    ids = np.ones(1 << 24, np.int32)
    assert threads.set_aside(ids) is ids


@pytest.mark.parametrize("of", [baselines._of_means, baselines._of_dense_means])
@pytest.mark.parametrize("block", [1 << 16, 7])
def test_the_rival_on_mean_vectors_has_them_by_its_definition(monkeypatch, block, of):
    """If this fails, network and rival are compared on other word vectors where there are many of them."""
    monkeypatch.setattr(baselines, "BLOCK", block)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 4)).astype(np.float32)
    sides = [[rng.integers(0, 50, size) for size in rng.integers(1, 9, 30)] for _ in range(2)]
    means = np.hstack([[vectors[ids].mean(axis=0) for ids in side] for side in sides])
    shares = [baselines._shares(ragged(side), 50) for side in sides]
    centre, spread = baselines._moments(shares, vectors)
    np.testing.assert_allclose(centre, means.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(spread, means.std(axis=0), rtol=1e-5)
    features, expected = of(shares, vectors, centre, spread), (means - centre) / spread
    weights, error = rng.standard_normal((8, 3)), rng.standard_normal((30, 3))
    np.testing.assert_allclose(features.times(weights), expected @ weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features.back(error), expected.T @ error, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_word_vectors_in_a_file_are_no_memory_of_the_rivals(monkeypatch):
    """If this fails, the first of several ranks holds all word vectors in the end, which the others hold in parts."""
    most, let_go = [], baselines.let_go
    monkeypatch.setattr(baselines, "let_go", lambda array: (most.append(mapped()), let_go(array)))
    vectors, before = threads.set_aside(np.ones((1 << 18, 32), np.float32)), mapped()
    texts = ragged([np.arange(start, 1 << 18, 200, dtype=np.int32) for start in range(200)])
    split = Split({"text": texts}, np.arange(200) % 2, {})
    baselines.mean_vector({"train": split, "validation": split}, vectors, 2)
    assert 8 <= max(most) - before <= 12  # of 32 MiB
    assert mapped() - before <= 4
