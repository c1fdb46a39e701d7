"""Text to ids to batches: what a word is, what is left out, and that nothing is lost on the way to the disk."""

import json
import time
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import Whitespace

from eqnp import files
from eqnp.config import load_config
from eqnp.errors import CheckpointError, ConfigError, DataError
from eqnp.machine.ranks import Ranks
from eqnp.machine.threads import workers
from eqnp.runs import baselines
from eqnp.runs.baselines import bag_of_words
from eqnp.runs.model import Model
from eqnp.sections import DataConfig
from eqnp.text.cooccurrence import product
from eqnp.text.corpora import load_corpus
from eqnp.text.prepare import load_splits, prepare
from eqnp.text.store import Split, bucketed, noisy_batch, read_split, split_names, write_store
from eqnp.text.tokens import Coverage, Ragged, WordTokenizer, encode, ids_of, learn_tokenizer, plain, ragged, words
from tests.conftest import ROOT

TEXTS = ["I don't LIKE it.<br /><br />It's bad!", "it is what it is, isn’t it?", "<b>Café</b> 10/10"]


def tokenised(text: str) -> list[str]:
    """The words of one text, by a tokenizer that knows them all."""
    tokenizer = learn_tokenizer([text], min_count=1, max_words=100)
    ids, _ = encode(tokenizer, [text], 100)
    return [words(tokenizer)[i] for i in ids[0]]


def labelled(tmp_path, labels, **options):
    """The corpus of a file with these labels."""
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{i}", "label": y}) + "\n" for i, y in enumerate(labels)))
    return load_corpus(str(path), {"text": "text"}, "label", **options)


def test_rows_without_an_agreed_label_are_left_out_and_counted(tmp_path):
    """If this fails, SNLI's pairs without a gold label become a fourth class, or stop the run."""
    corpus = labelled(tmp_path, ["neutral", "-", "entailment", "-"])
    assert (corpus.classes, corpus.unlabelled, list(corpus.texts["text"])) == (
        ("entailment", "neutral"),
        2,
        ["t0", "t2"],
    )
    corpus = labelled(tmp_path, [1, -1, 0, 2], classes=("e", "n", "c"))
    assert (corpus.labels.tolist(), corpus.unlabelled, list(corpus.texts["text"])) == ([1, 0, 2], 1, ["t0", "t2", "t3"])


def test_classes_that_look_like_no_label_are_kept(tmp_path):
    """If this fails, a user's own classes vanish."""
    assert labelled(tmp_path, ["+", "-", "+"]).classes == ("+", "-")
    assert labelled(tmp_path, ["-", "plus"], classes=("-", "plus")).unlabelled == 0
    for known in ((), ("negative", "neutral", "positive"), ("0", "1")):
        with pytest.raises(DataError, match="-1, 0, 1"):
            labelled(tmp_path, [-1, 0, 1], classes=known)


def test_words_are_those_of_common_vectors():
    """If this fails, negations and contractions miss their vectors, or markup counts as words."""
    assert tokenised(TEXTS[0]) == ["i", "do", "n't", "like", "it", ".", "it", "'s", "bad", "!"]
    assert tokenised(TEXTS[1]) == ["it", "is", "what", "it", "is", ",", "is", "n't", "it", "?"]
    assert tokenised(TEXTS[2]) == ["café", "10", "/", "10"]
    assert tokenised("can't won't a<b and c>d") == ["ca", "n't", "wo", "n't", "a", "<", "b", "and", "c", ">", "d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("beau\u00adti\u00adful zero\u200bwidth", ["beautiful", "zerowidth"]),
        ("\ufeffhot \u202asun\u202c \u2764\ufe0f", ["hot", "sun", "\u2764"]),
        ("Q&amp;A &quot;hot&quot; it&#39;s caf&eacute;", ["q", "&", "a", '"', "hot", '"', "it", "'s", "café"]),
        ("&lt;b&gt;sun&lt;/b&gt;<br/>ice", ["<", "b", ">", "sun", "<", "/", "b", ">", "ice"]),
        ("&amp;lt; AT&T &foo; R&D &#x41;&#65;", ["&", "lt", ";", "at", "&", "t", "&", "foo", ";", "r", "&", "d", "aa"]),
        ("don&rsquo;t", ["do", "n't"]),
    ],
)
def test_markup_and_characters_that_nobody_sees(text, expected):
    """If this fails, soft hyphens split words, or what a browser would show is not what is read."""
    assert tokenised(text) == expected


def test_markup_that_never_ends_takes_no_time():
    """If this fails, one odd text stops a training, or a service."""
    for text in (
        "if x <b then " + "= " * 150 + " " * 30_000,
        "<a " + "=" * 200_000,
        "<a" + " " * 200_000,
        "&" * 200_000,
    ):
        started = time.perf_counter()
        assert plain(text) == text
        assert time.perf_counter() - started < 1


def test_words_are_found_where_they_stand_in_the_text():
    """If this fails, explanations shade other words than those that were attended to."""
    text = "<p>Q&amp;A</p>: caf&eacute;s, beau\u00adti\u00adful &foo; <br>don&rsquo;t"
    tokenizer = learn_tokenizer([text], min_count=1, max_words=100)
    found = [(words(tokenizer)[token], text[start:stop]) for token, start, stop in tokenizer.places(text)]
    assert found == [
        ("q", "Q"), ("&", "&amp;"), ("a", "A"), (":", ":"), ("cafés", "caf&eacute;s"), (",", ","),
        ("beautiful", "beau\u00adti\u00adful"), ("&", "&"), ("foo", "foo"), (";", ";"), ("do", "do"),
        ("n't", "n&rsquo;t"),
    ]  # fmt: skip
    ids, _ = encode(tokenizer, [text], 100)
    assert ids[0].tolist() == [token for token, _, _ in tokenizer.places(text)]


def test_a_model_reads_texts_as_it_always_did():
    """If this fails, a model of an earlier release gets other words than it was trained on."""
    old = Model.load(ROOT / "tests" / "fixtures" / "v2").tokenizer
    assert not old.markup
    assert "Replace" in old.rules.to_str()  # which removes tags, as before
    new = learn_tokenizer(["hot & cold"], min_count=1, max_words=10)
    assert WordTokenizer.from_about(new.about()).markup
    without = WordTokenizer.from_about({"tokenizer": new.rules.to_str()})
    text = ["hot &amp; cold"]
    assert [len(encode(each, text, 10)[0].ids) for each in (new, without)] == [3, 3]
    assert [encode(each, text, 10)[1].unknown for each in (new, without)] == [0, 2]


def test_rare_words_are_left_out_and_counted():
    """If this fails, words outside the vocabulary vanish without a trace."""
    tokenizer = learn_tokenizer(["a a b", "a b c"], min_count=2, max_words=100)
    assert words(tokenizer) == ["<pad>", "<unk>", "a", "b"]
    ids, coverage = encode(tokenizer, ["c a c b", "c", "a b a b"], 3)
    assert [ids[i].tolist() for i in range(3)] == [[2, 3], [], [2, 3, 2]]
    assert coverage == Coverage(tokens=9, unknown=3, cut=1)
    assert words(learn_tokenizer(["b a b"], min_count=1, max_words=1)) == ["<pad>", "<unk>", "b"]


LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=30)


def split_of(lengths, seed=0) -> Split:
    """Samples of the given lengths."""
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(2, 9, n).astype(np.int32) for n in lengths]
    return Split({"text": ragged(sequences)}, np.arange(len(lengths)), Coverage(10, 1))


@given(LENGTHS, st.integers(1, 8), st.booleans())
def test_every_sample_is_in_one_batch(lengths, size, shuffle):
    """If this fails, some samples are trained on twice and others never."""
    split = split_of(lengths)
    batches = list(bucketed(split, size, np.random.default_rng(1) if shuffle else None))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


@given(LENGTHS, st.integers(0, 99))
def test_padded_batches_hold_the_right_tokens(lengths, seed):
    """If this fails, texts get other texts' words."""
    split = split_of(lengths)
    rows = np.random.default_rng(seed).permutation(len(lengths))
    segments, labels = split.batch(rows)
    for i, row in enumerate(rows):
        assert labels[i] == row
        n = segments["text"].lengths[i]
        assert segments["text"].ids[i, :n].tolist() == split.segments["text"][row].tolist()
        assert (segments["text"].ids[i, n:] == 0).all()


@given(LENGTHS, st.floats(0.0, 0.95), st.integers(0, 99))
def test_word_dropout_removes_and_keeps_the_order(lengths, share, seed):
    """If this fails, dropout shuffles or invents words, or leaves padding inside a text."""
    split = split_of(lengths)
    segments, _, tokens = noisy_batch(split, np.arange(len(lengths)), share, np.random.default_rng(seed))
    dropped = segments["text"]
    assert tokens == dropped.lengths.sum()
    for i in range(len(lengths)):
        n, rest = dropped.lengths[i], iter(split.segments["text"][i].tolist())
        assert all(word in rest for word in dropped.ids[i, :n].tolist())  # a subsequence: `in` consumes
        assert (dropped.ids[i, n:] == 0).all()
    assert dropped.ids.shape[1] == max(1, dropped.lengths.max())


def test_word_dropout_drops_the_share_it_says():
    """If this fails, training sees other noise than configured."""
    split, rows = split_of([400] * 50), np.arange(50)
    segments, _, _ = noisy_batch(split, rows, 0.3, np.random.default_rng(0))
    assert segments["text"].lengths.mean() == pytest.approx(280, abs=5)
    segments, _, _ = noisy_batch(split, rows, 0.0, np.random.default_rng(0))
    assert (segments["text"].lengths == 400).all()


@given(LENGTHS, st.sampled_from([0.0, 0.4]), st.integers(1, 4), st.integers(1, 9))
def test_ranks_share_out_one_batch(lengths, share, size, width):
    """If this fails, several ranks drop other words than one, leave samples out, or settle them twice."""
    split, rows = split_of(lengths), np.random.default_rng(1).permutation(len(lengths))
    whole, labels, tokens = noisy_batch(split, rows, share, np.random.default_rng(2))
    shared = []
    for rank in range(size):
        ranks = Ranks()
        ranks.rank, ranks.size = rank, size
        own, shards = ranks.own(len(rows), width)
        segments, *rest = noisy_batch(split, rows, share, np.random.default_rng(2), own)
        assert (rest[0].tolist(), rest[1]) == (labels.tolist(), tokens)
        assert all(shard.stop - shard.start in (width, len(rows) % width) for shard in shards)
        assert [i for shard in shards for i in range(*shard.indices(99))] == list(range(len(segments["text"].ids)))
        shared.append(segments["text"])
    for part in range(2):
        np.testing.assert_array_equal(np.concatenate([segment[part] for segment in shared]), whole["text"][part])


def test_a_store_stays_on_the_disk(tmp_path):
    """If this fails, every rank holds the whole corpus in memory."""
    rng, texts, length = np.random.default_rng(0), 20_000, 200
    ids = Ragged(rng.integers(2, 9, texts * length, dtype=np.int32), np.arange(texts + 1) * length)
    split = Split({"text": ids}, rng.integers(0, 2, texts))
    write_store(tmp_path / "data.h5", {"train": split}, [])
    tracemalloc.start()
    mapped = read_split(tmp_path / "data.h5", "train")
    batches = list(bucketed(mapped, 100, np.random.default_rng(1)))[:20]
    drawn = [noisy_batch(mapped, rows, 0.3, np.random.default_rng(2), slice(0, 50)) for rows in batches]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < ids.ids.nbytes / 4
    assert isinstance(mapped.segments["text"].ids, np.memmap)
    for rows, (segments, labels, _) in zip(batches, drawn, strict=True):
        expected, _, _ = noisy_batch(split, rows, 0.3, np.random.default_rng(2))
        np.testing.assert_array_equal(segments["text"].ids, expected["text"].ids[:50])
        np.testing.assert_array_equal(labels, split.labels[rows])


@given(LENGTHS)
def test_store_round_trip(tmp_path_factory, lengths):
    """If this fails, a run's data on disk is not what it was trained on."""
    path, split = tmp_path_factory.mktemp("store") / "data.h5", split_of(lengths)
    write_store(path, {"train": split}, ["<pad>", "<unk>", "é"])
    assert split_names(path) == ["train"]
    again = read_split(path, "train")
    assert again.coverage == split.coverage
    np.testing.assert_array_equal(again.labels, split.labels)
    np.testing.assert_array_equal(again.segments["text"].ids, split.segments["text"].ids)
    np.testing.assert_array_equal(again.segments["text"].offsets, split.segments["text"].offsets)
    assert files.load(path, "token store")[1]["vocabulary"] == ["<pad>", "<unk>", "é"]
    with pytest.raises(CheckpointError, match="'train'"):
        read_split(path, "trian")
    path.write_bytes(b"no store")
    with pytest.raises(CheckpointError, match="not a file of this package"):
        read_split(path, "train")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_files_of_every_format_say_the_same(tmp_path, suffix):
    """If this fails, a user's table is read differently from another format."""
    import datasets

    table = datasets.Dataset.from_dict({"t": ["good, very", 'a "bad" one', "12"], "y": ["pos", "neg", "pos"]})
    path = str(tmp_path / f"data{suffix}")
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".jsonl":
        table.to_json(path)
    else:
        table.to_csv(path, sep="\t" if suffix == ".tsv" else ",")
    corpus = load_corpus(path, {"text": "t"}, "y")
    assert {name: list(column) for name, column in corpus.texts.items()} == {
        "text": ["good, very", 'a "bad" one', "12"]
    }
    assert corpus.classes == ("neg", "pos")
    assert corpus.labels.tolist() == [1, 0, 1]


def test_class_names_keep_their_order(tmp_path):
    """If this fails, test labels are compared with the wrong classes."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": "x", "label": y}) + "\n" for y in (1, 0, 1)))
    assert load_corpus(str(path), {"text": "text"}, "label", classes=("no", "yes")).classes == ("no", "yes")
    path.write_text(json.dumps({"text": "x", "label": "b"}) + "\n")
    assert load_corpus(str(path), {"text": "text"}, "label", classes=("b", "a")).labels.tolist() == [0]
    with pytest.raises(DataError, match="unknown label"):
        load_corpus(str(path), {"text": "text"}, "label", classes=("c", "d"))


def test_named_numbers_match_by_name(tmp_path):
    """If this fails, a data set that lists its classes in another order is scored upside down."""
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
    path = str(tmp_path / "data.parquet")
    datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [0, 1]}, features=features).to_parquet(path)
    assert load_corpus(path, {"text": "text"}, "label").classes == ("pos", "neg")
    assert load_corpus(path, {"text": "text"}, "label", classes=("neg", "pos")).labels.tolist() == [1, 0]
    assert load_corpus(path, {"text": "text"}, "label", classes=("no", "yes")).labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="which number is which"):
        load_corpus(path, {"text": "text"}, "label", classes=("no", "yes"), numbered=False)


def test_words_like_none_and_numbers_like_one_point_zero(tmp_path):
    """If this fails, a CSV reader's idea of missing values drops texts and labels."""
    path = tmp_path / "data[1].csv"
    path.write_text("text,label\nNone,1.0\nNA,0.0\nnull,1.0\n")
    corpus = load_corpus(str(path), {"text": "text"}, "label")
    assert list(corpus.texts["text"]) == ["None", "NA", "null"]
    assert corpus.labels.tolist() == [1, 0, 1]


def test_special_tokens_in_a_text_are_no_words():
    """If this fails, a text that spells out "<pad>" puts the padding row into the memory."""
    tokenizer = learn_tokenizer(["a b <pad> <unk>"], min_count=1, max_words=10)
    ids, coverage = encode(tokenizer, ["a <pad> b <unk>", "a\x00b"], 10)
    assert [words(tokenizer)[i] for i in ids[0]] == ["a", "b"]
    assert [words(tokenizer)[i] for i in ids[1]] == ["a", "b"]
    assert coverage.unknown == 2


def test_a_token_that_all_texts_begin_with():
    """If this fails, what stands first cannot be told, or the token counts as a word, or a text can spell it."""
    tokenizer = learn_tokenizer(["a b <s> a", "b a"], min_count=1, max_words=10, start=True)
    assert words(tokenizer) == ["<pad>", "<unk>", "<s>", "a", "b"]
    ids, coverage = encode(tokenizer, ["b <s> a zzz a", ""], 3)
    assert [[words(tokenizer)[i] for i in text] for text in ids] == [["<s>", "b", "a"], ["<s>"]]
    assert (coverage.tokens, coverage.unknown, coverage.cut) == (4, 1, 1)
    again = WordTokenizer.from_about(tokenizer.about())
    assert (again.start.tolist(), again.specials) == ([2], 3)
    assert learn_tokenizer(["a"], min_count=1, max_words=10).start.tolist() == []


def test_validation_is_held_out_of_training(tmp_path):
    """If this fails, the epoch is chosen on texts that were trained on."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}", "label": i % 2}) + "\n" for i in range(100)))
    loaded = load_splits(DataConfig(train=str(path), validation_share=0.2), np.random.default_rng(0))
    texts = {name: set(corpus.texts["text"]) for name, corpus in loaded.items()}
    assert {name: len(t) for name, t in texts.items()} == {"train": 80, "validation": 20}
    assert not texts["train"] & texts["validation"]
    again = load_splits(DataConfig(train=str(path), validation_share=0.2), np.random.default_rng(0))
    assert list(again["validation"].texts["text"]) == list(loaded["validation"].texts["text"])


def test_the_baseline_leaves_the_tokens_alone():
    """If this fails, computing the rival shuffles the words between the texts that EP then trains on."""
    config = load_config("mini-sentiment")
    prepared = prepare(config, np.random.default_rng(0))
    before = prepared.splits["train"].segments["text"].ids.copy()
    baseline = bag_of_words(prepared.splits, len(prepared.words), 2)
    np.testing.assert_array_equal(prepared.splits["train"].segments["text"].ids, before)
    assert 0.5 < baseline.accuracy["test"] < 0.75


def test_rivals_of_a_large_corpus_learn_from_a_part(monkeypatch):
    """If this fails, the rivals of a corpus of millions take all memory, or learn from one end of it."""
    prepared = prepare(load_config("mini-sentiment"), np.random.default_rng(0))
    train, given = prepared.splits["train"], (prepared.embedding, 2)
    assert baselines.thinned(prepared.splits) is prepared.splits
    monkeypatch.setattr(baselines, "MOST", 10_000)
    monkeypatch.setattr(baselines, "PART", sum(len(s.segments["text"].ids) for s in prepared.splits.values()) // 2)
    parts = baselines.thinned(prepared.splits)
    assert {name: 0.3 < len(parts[name]) / len(split) < 0.6 for name, split in prepared.splits.items()}
    texts = [parts["train"].segments["text"][i].tolist() for i in range(100, 200)]
    assert texts in [[train.segments["text"][i + j].tolist() for j in range(100)] for i in range(0, len(train), 100)]
    assert baselines.baselines(prepared.splits, *given)["mean_vector"].accuracy["test"] > 0.5


def test_the_baseline_is_what_scikit_learn_gets():
    """If this fails, EP is compared with a straw man."""
    feature = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    config = load_config("mini-sentiment")
    corpora = load_splits(config.data, np.random.default_rng(0))
    prepared = prepare(config, np.random.default_rng(0))
    ours = bag_of_words(prepared.splits, len(prepared.words), 2)
    vectorizer = feature.TfidfVectorizer(sublinear_tf=True, token_pattern=r"n't|'s|\w+|[^\w\s]", min_df=2)
    model = linear.LogisticRegression(C=ours.strength, max_iter=1000)
    model.fit(vectorizer.fit_transform(corpora["train"].texts["text"]), corpora["train"].labels)
    theirs = model.score(vectorizer.transform(corpora["test"].texts["text"]), corpora["test"].labels)
    assert ours.accuracy["test"] == pytest.approx(theirs, abs=0.02)


def test_vectors_learn_from_unlabelled_texts_but_not_from_test_texts(tmp_path):
    """If this fails, further texts change nothing, or texts of the test data leak into the vectors."""
    rows = [{"text": f"the film was {w} and {w}", "label": i % 2} for i, w in enumerate(["good", "bad"] * 30)]
    write = lambda name, rows: (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows))  # noqa: E731
    write("train.jsonl", rows)
    write("test.jsonl", [{"text": "the bad film was good", "label": 0}, {"text": "good", "label": 1}])
    write("more.jsonl", [{"text": "good was the film , good and bad"}] * 20 + [{"text": "the bad film was good"}] * 3)
    files = {"data.train": str(tmp_path / "train.jsonl"), "data.test": str(tmp_path / "test.jsonl")}
    given = {**files, "vectors.dimension": 3}
    lines: list[str] = []
    plain = prepare(load_config("mini-sentiment", given=given), np.random.default_rng(0))
    given["vectors.unlabelled"] = str(tmp_path / "more.jsonl")
    more = prepare(load_config("mini-sentiment", given=given), np.random.default_rng(0), lines.append)
    assert more.words == plain.words
    assert np.abs(more.embedding - plain.embedding).max() > 1e-3
    assert any("20 texts; 3 that stand in validation or test data left out" in line for line in lines)
    with pytest.raises(ConfigError, match="corpus"):
        load_config("imdb", given={"vectors.source": "x.npz", "vectors.unlabelled": "y.csv"})
    given["vectors.unlabelled"] = str(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no such file"):
        prepare(load_config("mini-sentiment", given=given), np.random.default_rng(0))


def test_numbers_are_named_where_there_are_as_many(tmp_path):
    """If this fails, a preset for reviews cannot be used for data with classes of its own."""
    for labels, expected in (
        ([0, 1], ("negative", "positive")),
        ([0, 1, 2], ("0", "1", "2")),
        (["bad", "good"], ("bad", "good")),
        (["0", "1"], ("negative", "positive")),
    ):
        path = tmp_path / "own.jsonl"
        rows = [{"text": f"text {i}", "label": labels[i % len(labels)]} for i in range(60)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = load_config("imdb", given={"data.train": str(path), "data.test": str(path)})
        loaded = load_splits(config.data, np.random.default_rng(0))
        found = loaded["train"].classes
        assert found == expected
        assert loaded["test"].classes == found


ASCII = st.text(st.characters(max_codepoint=0x7F), max_size=30)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
ENGLISH = st.sampled_from(
    [*"ab n t`'", "can't", "n't", "it's", "'ll", "'n't", "n'tn't", "VE`Re", "_1", "<unk>", "<s>", "\0"]
)
OTHERS = st.sampled_from(
    ["Ünt", "\u2019n\u2019t", "e\u0301", " \u0301", "\u200b", "\u00b4", "\u2028", "\u00a0", "\x85"]
)


@given(st.lists(st.lists(ENGLISH | ASCII | OTHERS | ANY).map("".join), min_size=1, max_size=9))
def test_many_texts_are_read_as_the_library_reads_them(texts):
    """If this fails, the compiled reader finds other words in texts than the library does."""
    texts = [*texts, "I can't, it's n't", *["é"] * 9]
    known = learn_tokenizer([*texts, "can n't it 's a b _1 <unk> '", "it ' ll"], min_count=1, max_words=500)
    for many in (True, False):
        found = ids_of(known, texts, many)
        assert [found[i].tolist() for i in range(len(texts))] == [
            each.ids for each in known.rules.encode_batch_fast(texts)
        ]
        assert found.ids.dtype == np.int32


@pytest.mark.parametrize("start", [False, True])
def test_threads_read_and_multiply_the_same(start, monkeypatch):
    """If this fails, what is learned from texts depends on the number of threads."""
    monkeypatch.setattr("eqnp.text.tokens.CHUNK", 2)
    texts = [f"{'a ' * (i % 5)}b{i % 7} c" for i in range(99)]
    known = learn_tokenizer(texts[:30], min_count=9, max_words=5, start=start)
    rng = np.random.default_rng(0)
    matrix, block = scipy.sparse.random(50, 60, 0.2, "csr", rng=rng), rng.standard_normal((60, 100))
    (alone, coverage), multiplied = encode(known, texts, 4), product(matrix, block)
    with workers(2):
        (shared, again), also = encode(known, texts, 4), product(matrix, block)
    assert (shared.ids.tolist(), shared.offsets.tolist(), again) == (
        alone.ids.tolist(),
        alone.offsets.tolist(),
        coverage,
    )
    assert coverage.unknown > 0 < coverage.cut
    assert np.array_equal(also, multiplied)
    np.testing.assert_allclose(multiplied, matrix.toarray() @ block, atol=1e-12)


def test_rules_of_earlier_releases_are_kept():
    """If this fails, a model of an earlier release reads texts by the rules of this one."""
    known = learn_tokenizer(["don't stop it"], min_count=1, max_words=9)
    assert known.is_common
    known.rules.pre_tokenizer = Whitespace()
    assert not WordTokenizer(known.rules).is_common
    texts = ["stop it"] * 20
    assert len(ids_of(WordTokenizer(known.rules), ["don't"] * 20)[0]) == 3
    assert ids_of(known, texts).ids.tolist() == [id for each in known.rules.encode_batch_fast(texts) for id in each.ids]
