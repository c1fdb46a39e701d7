"""Word vectors of a corpus's own words, from which of them stand together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from eqnp.errors import VectorsError
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.text.tokens import Ragged, joined

_CHUNK = 1 << 22  # pairs counted at once
_CELLS = 20_000_000  # pairs of words whose counts are held; they take half a gigabyte until they are factored
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
    of which has all texts and a generator in the same state, share the products, to the same bits. Raises
    `VectorsError` for arguments or ids out of range.
    """
    if min(vocabulary_size, dimension, window) < 1 or not 0 < shift < np.inf:
        given = f"vocabulary size {vocabulary_size}, dimension {dimension}, window {window}, shift {shift}"
        raise VectorsError(f"corpus vectors: found {given}; all must be positive")
    pmi = _positive_pmi(_cooccurrences(texts[0] if len(texts) == 1 else joined(texts), vocabulary_size, window), shift)
    telling = np.flatnonzero(np.diff(pmi.indptr))
    vectors = np.zeros((vocabulary_size, dimension), dtype=dtype)
    if telling.size:
        pmi = pmi[telling]
        left, values = _left_singular(pmi, dimension, rng, ranks)
        vectors[telling, : values.size] = left * np.sqrt(values)
    return vectors


def _cooccurrences(texts: Ragged, size: int, window: int) -> sp.csr_matrix:
    """Symmetric counts, float32 (size, size): one distance and at most a few million pairs at a time."""
    ids = texts.ids
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        found = f"found ids from {ids.min()} to {ids.max()}; allowed are 0 to {size - 1}"
        raise VectorsError(f"corpus vectors: {found}: take texts and vocabulary from one store")
    counts = sp.csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        for start in range(0, ids.size - distance, _CHUNK):
            stop = min(start + _CHUNK, ids.size - distance)
            here, there = slice(start, stop), slice(start + distance, stop + distance)
            first, second = ids[here], ids[there]
            keep = _within(texts.offsets, start, stop, distance) & (np.minimum(first, second) >= _FIRST_ID)
            pairs = (first[keep], second[keep])
            weights = np.full(pairs[0].size, 1 / distance, dtype=np.float32)
            counts = counts + sp.coo_matrix((weights, pairs), shape=(size, size)).tocsr()
            _drop_smallest(counts, counts.nnz - _CELLS)
    return (counts + counts.T).tocsr()


def _drop_smallest(counts: sp.csr_matrix, number: int) -> None:
    """Drop at least so many of the smallest counts, and all that are like them: of a large corpus, chance pairs."""
    if number > 0:
        counts.data[counts.data <= np.partition(counts.data, number - 1)[number - 1]] = 0
        counts.eliminate_zeros()


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
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    smoothed = totals**0.75
    with np.errstate(divide="ignore", invalid="ignore"):  # unseen words have no entries to be changed
        rows, columns = np.log(totals * shift), np.log(smoothed / smoothed.sum())
    counts.data = np.log(counts.data)
    counts.data -= np.repeat(rows.astype(np.float32), np.diff(counts.indptr))
    counts.data -= columns.astype(np.float32)[counts.indices]
    counts.data[counts.data < 1e-6] = 0  # what is below is chance, or rounding of it
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
    turned = matrix.T.tocsr()
    width = block.shape[1]
    iterates = np.empty((rows, 6 * width), dtype=np.float32, order="F")  # so that LAPACK needs no copy
    for start in range(0, 6 * width, width):
        own = block[:, ranks.part(width)]  # each column of a product stands alone
        block = np.linalg.qr(_columns_of_all(matrix @ (turned @ own), ranks))[0]
        iterates[:, start : start + width] = block
    basis = scipy.linalg.qr(iterates, overwrite_a=True, mode="economic", check_finite=False)[0]
    # Mᵀ basis has the values wanted; its triangular factor has them too, and can be had a slice at a time.
    starts = range(0, columns, 8192)
    slices = (turned[start : start + 8192] @ basis for start in starts[ranks.part(len(starts))])
    factors = [np.linalg.qr(each, mode="r") for each in slices]
    triangle = np.linalg.qr(ranks.concatenate(factors, basis.shape[1], np.float32), mode="r")
    _, values, rotation = np.linalg.svd(triangle.astype(np.float64))
    rank = min(rank, np.count_nonzero(values > 1e-5 * values[0]))  # the rest is rounding of float32
    left = basis @ rotation[:rank].T.astype(np.float32)
    left *= np.sign(left[np.abs(left).argmax(axis=0), np.arange(rank)])
    return left, values[:rank]


def _columns_of_all(own: np.ndarray, ranks: Ranks) -> np.ndarray:
    """The columns (n, own) of all ranks, side by side in the order of the ranks."""
    if ranks.size == 1:
        return own
    return np.ascontiguousarray(ranks.concatenate([np.ascontiguousarray(own.T)], len(own), own.dtype).T)
