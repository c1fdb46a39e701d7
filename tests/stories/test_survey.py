"""`eqnp data`: what is in a file, what is doubtful about it, and the two worst of that as lines of training."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.text.prepare import encode_corpora, load_splits
from tests.runs import own_data

QUICK = ["--threads=1", "--set=vectors.dimension=4", "--set=training.epochs=1", "--set=training.refit=false"]


def rows_of(path: str) -> list[tuple[str, str]]:
    """Text and label of every row."""
    return [(row["text"], row["label"]) for row in csv.DictReader(Path(path).read_text("utf-8").splitlines())]


def write(path: str, rows) -> None:
    """A table of texts and labels."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def looked_at(capsys, *arguments: str) -> dict:
    """What `eqnp data` ends with."""
    assert main(["data", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def same(text: str) -> str:
    """What makes two texts one."""
    return " ".join(text.lower().split())


@pytest.fixture
def doubtful(tmp_path, monkeypatch):
    """Data in which everything is that a look should find: train.csv and test.csv."""
    monkeypatch.chdir(tmp_path)
    own_data(Path("own.csv"))
    rows = sorted(set(rows_of("own.csv")))
    rows += [(rows[0][0], "1" if rows[0][1] == "0" else "0")] * 2  # twice with the other label
    rows += [(f"  {rows[5][0].upper()} ", rows[5][1])] * 3  # the same in other letters
    rows += [("qqq", "0"), ("there was a storm", "2"), ("there was a storm and wind", "2")]
    write("train.csv", rows)
    write("test.csv", [rows[3], (rows[7][0].title(), rows[7][1]), ("zz yy xx ww", "0"), ("there was hot tea", "1")])
    return rows


def test_a_look_counts_what_is_there(doubtful, capsys):
    """If this fails, repeated, contradictory or leaked texts are overlooked, or miscounted."""
    found = looked_at(capsys, "train.csv", "--test-data", "test.csv")
    labels, size = defaultdict(lambda: defaultdict(int)), len(doubtful)
    for text, label in doubtful:
        labels[same(text)][label] += 1
    assert found["rows"]["train"] + found["rows"]["validation"] == size
    assert found["classes"] == {name: sum(label == name for _, label in doubtful) for name in "012"}
    assert found["repeated"] == size - len(labels)
    disputed = [each for each in labels.values() if len(each) > 1]
    assert found["contradictory"] == sum(sum(each.values()) for each in disputed) == 3
    assert found["ceiling"] == pytest.approx(sum(max(each.values()) for each in labels.values()) / size)
    assert found["overlap"] == {"test": 2}
    kinds = {each["kind"]: each for each in found["findings"]}
    assert {"overlap", "contradictory", "repeated", "few", "unread", "strange"} <= set(kinds)
    gravities = [each["gravity"] for each in found["findings"]]
    assert gravities == sorted(gravities, reverse=True)
    assert kinds["contradictory"]["examples"] == [
        {"text": doubtful[0][0], "labels": dict(labels[same(doubtful[0][0])])}
    ]
    assert "2 of 4 test texts (50.0%)" in kinds["overlap"]["line"]
    assert "'2'" not in kinds["few"]["line"]
    assert "(2 2)" in kinds["few"]["line"]
    assert sorted(len(each["text"]) for each in kinds["overlap"]["examples"]) == sorted(
        len(doubtful[place][0]) for place in (3, 7)
    )


def test_training_tells_the_two_worst(doubtful, capsys):
    """If this fails, somebody trusts a test figure of texts that were learned by heart."""
    worst = looked_at(capsys, "train.csv", "--test-data", "test.csv")["findings"][:2]
    assert main(["train", "--data", "train.csv", "--test-data", "test.csv", *QUICK, "--out", "run"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "(eqnp data says more)" in line]
    assert warnings == [f"look at the data: {each['line']} (eqnp data says more)" for each in worst]
    write("clean.csv", list(dict.fromkeys(rows_of("own.csv"))))
    assert main(["train", "--data", "clean.csv", *QUICK, "--out", "clean"]) == 0
    assert "eqnp data" not in capsys.readouterr().out


def test_what_would_be_chosen_is_what_is_chosen(doubtful, capsys):
    """If this fails, the look promises another number of epochs than training takes."""
    chosen = looked_at(capsys, "train.csv")["chosen"]
    assert main(["train", "--data", "train.csv", *QUICK[:2], "--set=training.refit=false", "--out", "run"]) == 0
    config = load_config("run/config.toml")
    assert chosen == {
        "preset": config.name,
        "training.epochs": config.training.epochs,
        "data.ngram_min_texts": config.data.ngram_min_texts,
        "data.subwords": config.data.subwords,
    }


def test_words_that_vectors_lack(doubtful, capsys):
    """If this fails, somebody trains on vectors of another language without a word about it."""
    words = ["there", "was", "and", "hot", "sun"]
    np.savez("few.npz", words=np.array(words), vectors=np.eye(5, dtype=np.float32))
    found = looked_at(capsys, "train.csv", "--vectors", "few.npz")
    corpora = load_splits(load_config("text-vectors", given={"data.train": "train.csv"}).data, np.random.default_rng(0))
    counts: dict[str, int] = defaultdict(int)
    for text in corpora["train"].texts["text"]:
        for word in text.lower().split():
            counts[word] += 1
    lacking = sorted((count for word, count in counts.items() if count > 1 and word not in words), reverse=True)
    assert [count for _, count in found["words_without_vector"]] == lacking[:20]
    assert all(counts[word] == count for word, count in found["words_without_vector"])
    share = sum(lacking) / sum(count for count in counts.values() if count > 1)
    (finding,) = (each for each in found["findings"] if each["kind"] == "vectors")
    assert f"{share:.1%} of the known tokens" in finding["line"]


def test_pairs_are_the_same_where_both_texts_are(tmp_path, monkeypatch, capsys):
    """If this fails, pairs that share one text count as repeated, or those that share both do not."""
    monkeypatch.chdir(tmp_path)
    pairs = [(f"x{i % 4}", f"y{i % 3}", "uv"[i % 2]) for i in range(40)]
    Path("pairs.csv").write_text("a,b,label\n" + "".join(f"{a},{b},{label}\n" for a, b, label in pairs))
    config = load_config("pairs", given={"data.train": "pairs.csv", "data.columns": {"a": "a", "b": "b"}})
    loaded = load_splits(config.data, np.random.default_rng(0))
    assert encode_corpora(config, loaded, lambda line: None).survey.repeated == 40 - len({pair[:2] for pair in pairs})
    names = ["--set=data.columns.first=a", "--set=data.columns.second=b"]
    assert looked_at(capsys, "pairs.csv", *names)["chosen"]["preset"] == "pairs"


def test_the_known_leaks_of_imdb_are_found(shared, capsys):
    """If this fails, the 123 test reviews that also stand in the training data are not all found."""
    imdb = [str(shared / "data" / f"imdb_{part}.parquet") for part in ("train", "test")]
    found = looked_at(capsys, imdb[0], "--test-data", imdb[1])
    assert found["overlap"] == {"test": 123}
    assert found["classes"] == {"0": 12500, "1": 12500}
