"""Word vectors of a corpus's own words, from which of them stand together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from eqnp.errors import VectorsError
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import let_go, on_threads
from eqnp.text.tokens import Ragged, joined

_CHUNK = 1 << 22  # pairs counted at once
_CELLS = 20_000_000  # pairs of words whose counts are held; they take half a gigabyte until they are factored
_ROWS, _COLUMNS = 8192, 16  # of a matrix, and of what it is multiplied by, that are worked on at a time
_FIRST_ID = 2  # ids 0 and 1 are padding and the unknown word


def corpus_vectors(
    texts: Sequence[Ragged],
    vocabulary_size: int,
    dimension: int,
    *,
    window: int = 5,
    rng: np.random.Generator,
    shift: float = 1.0,
    dtype: np.dtype | type = np.float32,
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """Vectors of the corpus's own words: positive pointwise mutual information, factored.

    A word j within `window` places of a word i of the same text adds 1 / distance to n_ij. With contexts
    smoothed by the power 3/4 (Levy, Goldberg and Dagan 2015),

        M_ij = max(0, ln(n_ij Σ_k n_k^¾ / (n_i n_j^¾)) − ln shift)  ≈  U S Vᵀ,

    and the vectors are U √S: columns by falling singular value, the largest entry of each column positive.

    `texts` hold ids in [0, vocabulary_size). Ids 0 and 1 (padding, unknown) take up a
    place but are not counted. Returns (vocabulary_size, dimension) of `dtype`; one state of `rng` gives one
    result. Zero are the rows of ids 0 and 1 and of words without a telling neighbour (such as unseen ones),
    and the columns beyond the rank of M. Of more than `_CELLS` pairs of words the rarest are left out. ``ranks``, each
    of which has all texts and a generator in the same state, share the pairs and the products, to the same bits. Raises
    `VectorsError` for arguments or ids out of range.
    """
    if min(vocabulary_size, dimension, window) < 1 or not 0 < shift < np.inf:
        given = f"vocabulary size {vocabulary_size}, dimension {dimension}, window {window}, shift {shift}"
        raise VectorsError(f"corpus vectors: found {given}; all must be positive")
    every = texts[0] if len(texts) == 1 else joined(texts)
    pmi = _positive_pmi(_symmetric(_cooccurrences(every, vocabulary_size, window, ranks)), shift)
    telling = np.flatnonzero(np.diff(pmi.indptr))
    if telling.size:
        ends = pmi.indptr[np.concatenate([[0], telling + 1])]  # (to index the matrix would copy it)
        pmi = sp.csr_matrix((pmi.data, pmi.indices, ends), shape=(telling.size, vocabulary_size))
        left, values = _left_singular(pmi, dimension, rng, ranks)
    del pmi
    vectors = np.zeros((vocabulary_size, dimension), dtype=dtype)
    for column in range(values.size if telling.size else 0):
        vectors[telling, column] = left[:, column] * np.sqrt(values)[column : column + 1]
    return vectors


def _cooccurrences(texts: Ragged, size: int, window: int, ranks: Ranks = ALONE) -> sp.csr_matrix:
    """What each word before another counts, float32 (size, size): one distance and a few million pairs at a time.

    Each rank counts the pairs that begin with a word of its own range; all of them have the whole.
    """
    ids = texts.ids
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        found = f"found ids from {ids.min()} to {ids.max()}; allowed are 0 to {size - 1}"
        raise VectorsError(f"corpus vectors: {found}: take texts and vocabulary from one store")
    low, high = _own_words(ids, size, ranks)
    counts = sp.csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        for start in range(0, ids.size - distance, _CHUNK):
            stop = min(start + _CHUNK, ids.size - distance)
            first, second = ids[start:stop], ids[start + distance : stop + distance]
            keep = _within(texts.offsets, start, stop, distance) & (first >= low) & (first < high)
            keep &= second >= _FIRST_ID
            pairs = (first[keep], second[keep])
            weights = np.full(pairs[0].size, 1 / distance, dtype=np.float32)
            let_go(ids)
            counts = counts + sp.coo_matrix((weights, pairs), shape=(size, size)).tocsr()
            _drop_smallest(counts, ranks)
    return _rows_of_all(counts, low, high, ranks)


def _own_words(ids: np.ndarray, size: int, ranks: Ranks) -> tuple[int, int]:
    """The words, from one to before another, that begin this rank's pairs: about as many pairs as other ranks have."""
    if ranks.size == 1:
        return _FIRST_ID, size
    places = np.zeros(size, np.int64)
    for start in range(0, ids.size, _CHUNK):
        places += np.bincount(ids[start : start + _CHUNK], minlength=size)
        let_go(ids)
    cuts = np.searchsorted(np.cumsum(places), ids.size * np.arange(1, ranks.size) // ranks.size)
    cuts = [_FIRST_ID, *np.clip(cuts, _FIRST_ID, size).tolist(), size]
    return cuts[ranks.rank], cuts[ranks.rank + 1]


def _rows_of_all(counts: sp.csr_matrix, low: int, high: int, ranks: Ranks) -> sp.csr_matrix:
    """The rows of all ranks, each of which has those from ``low`` to before ``high``."""
    if ranks.size == 1:
        return counts
    lengths = np.diff(counts.indptr)[low:high, None]
    lengths = ranks.concatenate([np.zeros((_FIRST_ID if ranks.first else 0, 1)), lengths], 1, np.int64)[:, 0]
    data = ranks.concatenate([counts.data[:, None]], 1, np.float32)[:, 0]
    indices = ranks.concatenate([counts.indices[:, None]], 1, np.int32)[:, 0]
    return sp.csr_matrix((data, indices, np.concatenate([[0], np.cumsum(lengths)])), shape=counts.shape)


def _symmetric(counts: sp.csr_matrix) -> sp.csr_matrix:
    """The counts, and their transpose added to them, some rows at a time: all at once would hold four such matrices."""
    size = counts.shape[0]
    cells = np.cumsum(np.diff(counts.indptr) + np.bincount(counts.indices, minlength=size))
    data, indices = np.empty(2 * counts.nnz, np.float32), np.empty(2 * counts.nnz, np.int32)
    ends, done = np.zeros(size + 1, np.int64), 0
    cuts = np.unique([0, *np.searchsorted(cells, np.arange(_CHUNK, cells[-1], _CHUNK)), size]).tolist()
    for start, stop in pairwise(cuts):
        block = counts[start:stop] + counts[:, start:stop].T.tocsr()
        data[done : done + block.nnz], indices[done : done + block.nnz] = block.data, block.indices
        ends[start + 1 : stop + 1] = done + block.indptr[1:]
        done += block.nnz
    return sp.csr_matrix((data[:done], indices[:done], ends), shape=counts.shape)


def _drop_smallest(counts: sp.csr_matrix, ranks: Ranks) -> None:
    """Drop the smallest of all ranks' counts above `_CELLS`, and all that are like them: in a large corpus, chance."""
    number = int(_added_up(np.array([counts.nnz]), ranks)[0]) - _CELLS
    if number <= 0:
        return
    bits, least = counts.data.view(np.uint32), 0  # positive numbers are in the order of their bits
    for shift in (16, 0):  # so the one sought is told by its upper bits, then by the others
        often = np.zeros(1 << 16, np.int64)
        for start in range(0, bits.size, _CHUNK):
            part = bits[start : start + _CHUNK]
            part = part if shift else part[part >> 16 == least]
            often += np.bincount(part >> shift & 0xFFFF, minlength=1 << 16)
        below = np.cumsum(_added_up(often, ranks))
        place = int(np.searchsorted(below, number))
        number -= int(below[place - 1]) if place else 0
        least = least << 16 | place
    counts.data[bits <= least] = 0
    counts.eliminate_zeros()


def _added_up(numbers: np.ndarray, ranks: Ranks) -> np.ndarray:
    """The sum of whole numbers (n,) over all ranks."""
    return ranks.concatenate([numbers[None]], len(numbers), np.int64).sum(axis=0)


def _within(offsets: np.ndarray, start: int, stop: int, distance: int) -> np.ndarray:
    """Whether the token so far after each of those from ``start`` to ``stop`` is in the same text, (stop - start,)."""
    within = np.ones(stop - start, dtype=bool)
    ends = offsets[np.searchsorted(offsets, start) : np.searchsorted(offsets, stop - 1 + distance, "right")] - start
    for before in range(1, distance + 1):  # a token before the end of a text reaches over it
        crossing = ends - before
        within[crossing[(crossing >= 0) & (crossing < len(within))]] = False
    return within


def _positive_pmi(counts: sp.csr_matrix, shift: float) -> sp.csr_matrix:
    """M of `corpus_vectors`, in the place of the counts."""
    blocks = [slice(start, start + _ROWS) for start in range(0, counts.shape[0], _ROWS)]
    totals = np.concatenate([np.asarray(counts[rows].sum(axis=1, dtype=np.float64)).ravel() for rows in blocks])
    smoothed = totals**0.75
    with np.errstate(divide="ignore", invalid="ignore"):  # unseen words have no entries to be changed
        rows, columns = np.log(totals * shift), np.log(smoothed / smoothed.sum())
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    np.log(counts.data, out=counts.data)
    for block in blocks:
        ends = counts.indptr[block.start : block.stop + 1]
        data = counts.data[ends[0] : ends[-1]]
        data -= np.repeat(rows[block], np.diff(ends))
        data -= columns[counts.indices[ends[0] : ends[-1]]]
        data[data < 1e-6] = 0  # what is below is chance, or rounding of it
    counts.eliminate_zeros()
    return counts


def _left_singular(
    matrix: sp.csr_matrix, rank: int, rng: np.random.Generator, ranks: Ranks
) -> tuple[np.ndarray, np.ndarray]:
    """Leading left singular vectors (n, r <= rank) and values (r,) by a randomised block Krylov method.

    The values of such an M fall slowly, which makes it pay to keep every iterate (Musco and Musco 2015): on film
    reviews 99 % of what the best approximation holds, where the last iterate alone gave 97 % in more time.
    """
    rows, columns = matrix.shape
    block = rng.standard_normal((rows, min(rank // 2 + 8, rows, columns)), dtype=np.float32)
    width = block.shape[1]
    iterates = np.empty((rows, 6 * width), dtype=np.float32, order="F")  # so that LAPACK needs no copy
    for start in range(0, 6 * width, width):
        own = block[:, ranks.part(width)]  # each column of a product stands alone
        block = _columns_of_all(product(matrix, product(matrix.T, own)), ranks)
        block = _qr(block.astype(np.float64, order="F"))[0].astype(np.float32)
        iterates[:, start : start + width] = block
    basis = _qr(iterates)[0]
    _, values, rotation = np.linalg.svd(_triangle(matrix, basis, ranks).astype(np.float64))
    rank = min(rank, np.count_nonzero(values > 1e-5 * values[0]))  # the rest is rounding of float32
    left = basis @ rotation[:rank].T.astype(np.float32)
    for column in left.T:
        column *= np.sign(column[np.abs(column).argmax()])
    return left, values[:rank]


def _qr(block: np.ndarray, mode: str = "economic") -> tuple:
    """What `scipy.linalg.qr` makes of columns (n, k), in their place; to ask for its best workspace would copy them."""
    return scipy.linalg.qr(block, overwrite_a=True, mode=mode, lwork=64 * block.shape[1], check_finite=False)


def _factor(block: np.ndarray) -> np.ndarray:
    """The triangular factor of columns (n, k), worked out in float64."""
    return _qr(block.astype(np.float64, order="F"), "raw")[1].astype(np.float32)


def _triangle(matrix: sp.csr_matrix, basis: np.ndarray, ranks: Ranks) -> np.ndarray:
    """The triangular factor (k, k) of Mᵀ basis, for a basis (n, k): it has the same singular values.

    Ranks share the columns of the product, and take turns with the factors of its slices. (One rank alone has only a
    slice of it at a time: to slice M copies it, but all of the product is more.)
    """
    starts = range(0, matrix.shape[1], _ROWS)
    if ranks.size == 1:
        factors = [_factor(product(matrix[:, start : start + _ROWS].T, basis)) for start in starts]
        return _factor(np.concatenate(factors))
    factors, whole = [], product(matrix.T, basis[:, ranks.part(basis.shape[1])])
    for first in range(0, len(starts), ranks.size):
        mine = None
        for rank, start in enumerate(starts[first : first + ranks.size]):
            rows = _columns_of_all(whole[start : start + _ROWS], ranks)
            mine = rows if rank == ranks.rank else mine
        own = [] if mine is None else [_factor(mine)]
        factors.append(ranks.concatenate(own, basis.shape[1], np.float32))
    return _factor(np.concatenate(factors))


def product(matrix: sp.spmatrix, block: np.ndarray) -> np.ndarray:
    """The product (n, k) of a sparse matrix and a block (m, k), few columns at a time: so many stay in the cache."""
    result = np.empty((matrix.shape[0], block.shape[1]), block.dtype)

    def fill(start: int) -> None:
        columns = slice(start, start + _COLUMNS)
        result[:, columns] = matrix @ np.ascontiguousarray(block[:, columns])

    list(on_threads(fill, range(0, block.shape[1], _COLUMNS)))
    return result


def _columns_of_all(own: np.ndarray, ranks: Ranks) -> np.ndarray:
    """The columns (n, own) of all ranks, side by side in the order of the ranks."""
    if ranks.size == 1:
        return own
    return np.ascontiguousarray(ranks.concatenate([np.ascontiguousarray(own.T)], len(own), own.dtype).T)
