"""Texts and word ids that wait on the disk: they are what they were, and what was read of them is no memory."""

import itertools
import sys

import numpy as np
import pytest

from eqnp.machine import threads
from eqnp.text.corpora import load_corpus
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
