"""The embedded corpora match their generator, leak nothing between splits and resist counting words."""

import importlib.util
import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
SIZES = {
    "mini-sentiment": {"train": 4000, "validation": 600, "test": 1000},
    "mini-nli": {"train": 6000, "validation": 750, "test": 1200},
}
TEXTS = {"mini-sentiment": ("text",), "mini-nli": ("premise", "hypothesis")}
CORPORA = list(SIZES)


@pytest.fixture(scope="module")
def generator():
    """The generator as a module; its directory is on the path only while it imports its lexicon."""
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # data/ is shipped: no caches in it
    spec = importlib.util.spec_from_file_location("make_corpora", DATA / "make_corpora.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(DATA))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DATA))
        sys.modules.pop("lexicon", None)
        sys.dont_write_bytecode = writes
    return module


@pytest.fixture(scope="module")
def built(generator):
    """Corpus -> (rows, instances), each by split, straight from the generator."""
    return {"mini-sentiment": generator.build_sentiment(), "mini-nli": generator.build_nli()}


@pytest.fixture(scope="module")
def stored():
    """Corpus -> split -> rows, as a user reads them from the files."""
    return {
        corpus: {
            split: [json.loads(line) for line in (DATA / corpus / f"{split}.jsonl").read_text("utf-8").splitlines()]
            for split in sizes
        }
        for corpus, sizes in SIZES.items()
    }


def columns(corpus: str, rows: list[dict]) -> list[list[str]]:
    return [[row[field] for row in rows] for field in TEXTS[corpus]]


@pytest.mark.parametrize("corpus", CORPORA)
def test_files_are_what_the_generator_makes(corpus, generator, built):
    """If this fails, the corpus a user trains on is not the documented one, and figures cannot be reproduced."""
    for split, rows in built[corpus][0].items():
        expected = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        assert (DATA / corpus / f"{split}.jsonl").read_bytes() == expected.encode(), split


@pytest.mark.parametrize("corpus", CORPORA)
def test_sizes_fields_and_balance(corpus, stored):
    """If this fails, a loader trips over a missing field, or always answering one class scores above chance."""
    for split, rows in stored[corpus].items():
        assert len(rows) == SIZES[corpus][split]
        assert {tuple(row) for row in rows} == {(*TEXTS[corpus], "label")}
        counts = Counter(row["label"] for row in rows)
        assert len(counts) == (2 if corpus == "mini-sentiment" else 3)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("corpus", CORPORA)
def test_no_text_occurs_twice(corpus, stored):
    """If this fails, a user's test score counts rows that were trained on, or weighs some rows twice."""
    texts = [text for rows in stored[corpus].values() for text in zip(*columns(corpus, rows), strict=True)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("corpus", CORPORA)
def test_splits_share_no_instance(corpus, built):
    """If this fails, a pattern with its deciding words is in two splits: the test score rewards recall."""
    rows, instances = built[corpus]
    assert all(len(rows[split]) == len(instances[split]) for split in rows)
    for one, other in combinations(instances, 2):
        assert not set(instances[one]) & set(instances[other]), (one, other)


@pytest.mark.parametrize("corpus", CORPORA)
def test_train_knows_every_word(corpus, generator, stored):
    """If this fails, a user's vocabulary, built from train, lacks words on which held-out labels may hang."""
    words = {
        split: {word for column in columns(corpus, rows) for word in generator.words_of(*column)}
        for split, rows in stored[corpus].items()
    }
    assert words["validation"] | words["test"] <= words["train"]


@pytest.mark.parametrize(
    ("corpus", "fields", "limit"),
    [
        ("mini-sentiment", ("text",), 0.75),
        ("mini-nli", ("premise", "hypothesis"), 0.62),
        ("mini-nli", ("hypothesis",), 0.45),
    ],
)
def test_counting_words_is_not_enough(corpus, fields, limit, stored):
    """If this fails, a good score no longer tells a user that a model uses order or interaction of words."""
    pytest.importorskip("sklearn")
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    splits = stored[corpus]
    features = {split: [] for split in splits}
    for field in fields:
        counter = CountVectorizer(token_pattern=r"[\w']+").fit(row[field] for row in splits["train"])
        for split, rows in splits.items():
            features[split].append(counter.transform(row[field] for row in rows))
    x = {split: hstack(blocks).tocsr() for split, blocks in features.items()}
    y = {split: [row["label"] for row in rows] for split, rows in splits.items()}
    models = [LogisticRegression(C=c, max_iter=300).fit(x["train"], y["train"]) for c in (0.1, 1.0)]
    best = max(models, key=lambda model: model.score(x["validation"], y["validation"]))
    assert best.score(x["test"], y["test"]) < limit
