"""Vectors of memory slots by the texts that they stand in: latent semantic analysis of words and n-grams alike.

Neighbours within a few places say what a word means; whole texts say what it is a sign of. "Awful" and "waste of" are
no synonyms, and stand in the same reviews. Texts without a label say so as well as others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from eqnp.machine.threads import let_go
from eqnp.text.cooccurrence import product
from eqnp.text.tokens import UNKNOWN, Ragged, joined

TEXTS, SLOTS = 100_000, 40_000_000  # that topics are learned from: they are held at once, with a row for every text
RUN = 100  # texts in a row that are taken or left, of more
PASSES, MORE = 3, 20  # of subspace iteration, with so many vectors more than are wanted


def topic_vectors(texts: Sequence[Ragged], slots: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors of slots by the texts in which they stand, (slots, dimension) float32.

    With n_t slots in text t, n_g texts with slot g, and contexts smoothed by the power 3/4 as in `corpus_vectors`,

        M_tg = max(0, ln(Σ_k n_k^¾ / (n_t n_g^¾))),  rows of length 1,  ≈  U S Vᵀ  (Deerwester et al. 1990),

    and the vectors are V √S without the first component, which all texts have in common: what is left says how texts
    differ. Of more than `TEXTS` texts, or `SLOTS` slots in them, an even part is taken. Zero are the rows of ids 0
    and 1 and of slots that stand nowhere, and the columns beyond the rank of M. One state of ``rng`` gives one result.
    """
    telling = _telling(_even_part(texts), slots)
    transposed = telling.T.tocsr()  # a product by rows, whose other side stays in the cache
    block = rng.standard_normal((slots, min(dimension + MORE, *telling.shape)), dtype=np.float32)
    for _ in range(PASSES):
        of_texts, _ = _orthonormal(product(telling, block))
        block, factor = _orthonormal(product(transposed, of_texts))
    rotation, values, _ = np.linalg.svd(factor.astype(np.float64))
    rank = min(1 + dimension, np.count_nonzero(values > 1e-5 * values[0]))
    vectors = np.zeros((slots, dimension), np.float32)
    if rank > 1:
        own = block @ (rotation[:, 1:rank] * np.sqrt(values[1:rank])).astype(np.float32)
        vectors[:, : rank - 1] = own * np.sign(own[np.abs(own).argmax(axis=0), np.arange(rank - 1)])
    vectors[np.diff(transposed.indptr) == 0] = 0  # and not rounding
    return vectors


def _even_part(texts: Sequence[Ragged]) -> Sequence[Ragged]:
    """All texts, or of too many every so many runs of them."""
    every = max(-(-sum(map(len, texts)) // TEXTS), -(-sum(len(each.ids) for each in texts) // SLOTS))
    if every <= 1:
        return texts
    some = [joined(each.part(start, start + RUN) for start in range(0, len(each), RUN * every)) for each in texts]
    for each in texts:
        let_go(each.ids)
    return some


def _telling(texts: Sequence[Ragged], slots: int) -> sp.csr_matrix:
    """M of `topic_vectors`, (texts, slots) float32."""
    parts = []
    for each in texts:
        ones = np.ones(len(each.ids), np.float32)
        stands = sp.csr_matrix((ones, np.array(each.ids), np.array(each.offsets)), shape=(len(each), slots))
        stands.sum_duplicates()
        parts.append(stands)
    matrix = sp.vstack(parts, format="csr") if len(parts) > 1 else parts[0]
    matrix.data[:] = matrix.indices > UNKNOWN
    matrix.eliminate_zeros()
    of_slots = np.bincount(matrix.indices, minlength=slots) ** 0.75
    of_slots /= max(of_slots.sum(), 1)
    lengths = np.diff(matrix.indptr)
    with np.errstate(divide="ignore"):  # of slots and texts without entries
        slot, text = np.log(of_slots).astype(np.float32), np.log(lengths).astype(np.float32)
    matrix.data = np.maximum(0, -slot[matrix.indices] - np.repeat(text, lengths))
    matrix.eliminate_zeros()
    lengths = np.diff(matrix.indptr)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    norms = np.sqrt(np.bincount(owner, matrix.data.astype(np.float64) ** 2, minlength=len(lengths)))
    matrix.data /= np.maximum(norms, 1e-12).astype(np.float32)[owner]
    return matrix


def _orthonormal(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q and R of columns (n, k), float32."""
    block = np.asfortranarray(block)  # here, so that the array that was given is freed, where nobody else holds it
    return scipy.linalg.qr(block, mode="economic", overwrite_a=True, check_finite=False)
