"""The token store: ids, lengths and labels of every split with the vocabulary, in one file; and its batches.

The file is as in `eqnp.files`, with the arrays

    <split>/labels               (n,) int64, or (n, C) uint8 of 0 and 1 where a text may have several
    <split>/weights              (n,) float64, where texts have weights of their own
    <split>/<segment>/ids        flat int32 token ids
    <split>/<segment>/offsets    (n + 1,) int64

Embeddings are never stored: a batch holds ids, and the network gathers their vectors on the fly. Nor is a store read
into memory: its arrays are maps of the file, of which a batch touches the pages of its own samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np

from eqnp import files
from eqnp.errors import CheckpointError, nearest
from eqnp.states import Segment
from eqnp.text.tokens import PADDING, Coverage, Ragged, joined

KIND = "token store"
STORE = "data.h5"  # its name in a folder
POOL = 50  # batches whose samples are sorted by length together: enough to waste little padding, and still shuffled


@dataclass
class Split:
    """Encoded samples: token ids per segment, labels (n,), and how much of the text was outside the vocabulary.

    Where a text may have ``several`` labels, they are 0 or 1 for each text and class, (n, C).
    ``weights`` (n,) say what each of them counts for where it is learned from; without them, all count alike.
    """

    segments: dict[str, Ragged]
    labels: np.ndarray
    coverage: Coverage = field(default_factory=Coverage)
    features: dict[str, Ragged] = field(default_factory=dict)
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.labels.ndim == 2

    def is_of(self, classes: int, several: bool) -> bool:
        """Whether its labels are of so many classes, one or ``several`` to a text."""
        if several or self.several:
            return several and self.labels.shape[1:] == (classes,) and bool((self.labels <= 1).all())
        return bool(((self.labels >= 0) & (self.labels < classes)).all())

    def batch(self, rows: np.ndarray) -> tuple[dict[str, Segment], np.ndarray]:
        """Padded segments and labels of some samples."""
        return {n: Segment(*r.padded(rows)) for n, r in self.read.items()}, self.labels[rows]

    @property
    def read(self) -> dict[str, Ragged]:
        """All that a network may read: segments, then features."""
        return {**self.segments, **self.features}

    def with_those_of(self, other: Split) -> Split:
        """These samples, then those of another split of the same segments."""
        segments = {name: joined([texts, other.segments[name]]) for name, texts in self.segments.items()}
        features = {name: joined([texts, other.features[name]]) for name, texts in self.features.items()}
        both, weights = (self, other), None
        if any(split.weights is not None for split in both):
            weights = np.concatenate([np.ones(len(s)) if s.weights is None else s.weights for s in both])
        labels = np.concatenate([s.labels for s in both])
        return Split(segments, labels, self.coverage + other.coverage, features, weights)

    def take(self, rows: np.ndarray) -> Split:
        """The samples at ``rows``, in that order; the coverage stays that of all."""
        segments, features = ({n: r.take(rows) for n, r in each.items()} for each in (self.segments, self.features))
        weights = None if self.weights is None else self.weights[rows]
        return Split(segments, self.labels[rows], self.coverage, features, weights)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample over all its segments, (n,)."""
        return sum(r.lengths for r in self.segments.values())

    def lengths_at(self, rows: np.ndarray) -> np.ndarray:
        """The same for some samples, (len(rows),)."""
        return sum(r.lengths_at(rows) for r in self.segments.values())


def bucketed(split: Split, size: int, rng: np.random.Generator | None = None) -> Iterator[np.ndarray]:
    """Rows of each batch: samples of like length together, in random order with an ``rng``, else shortest first."""
    if rng is None:
        order = np.argsort(split.lengths, kind="stable")
        yield from (order[start : start + size] for start in range(0, len(order), size))
        return
    shuffled = rng.permutation(len(split))
    batches = []
    for start in range(0, len(shuffled), size * POOL):
        pool = shuffled[start : start + size * POOL]
        pool = pool[np.argsort(split.lengths_at(pool), kind="stable")]
        batches.extend(pool[i : i + size] for i in range(0, len(pool), size))
    for i in rng.permutation(len(batches)):
        yield batches[i]


def noisy_batch(
    split: Split, rows: np.ndarray, share: float, rng: np.random.Generator, own: slice = slice(None)
) -> tuple[dict[str, Segment], np.ndarray, int]:
    """A training batch with word dropout: the padded segments of its ``own`` part, and the labels and tokens of all.

    Each token leaves its text with probability ``share``, for all phases of the batch, and the rest moves up. That is
    drawn for the whole batch, whose width all parts have, so that it does not depend on how a batch is divided; but
    ids are read for the own part alone.

    Leaving is better than becoming a zero row: a zero row still takes attention, and then training sees states of
    another size than prediction does (IMDB, half the words dropped: validation loss 0.127, not 0.086, after an epoch).
    """
    segments, tokens = {}, 0
    for name, texts in split.read.items():
        lengths = texts.lengths_at(rows)
        kept = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
        if share:
            kept &= rng.random(kept.shape) >= share
        left = kept.sum(axis=1)
        ids, _ = texts.padded(rows[own], kept.shape[1])
        segments[name] = Segment(_moved_up(ids, kept[own])[:, : max(1, left.max(initial=0))], left[own])
        tokens += int(left.sum()) if name in split.segments else 0
    return segments, split.labels[rows], tokens


def _moved_up(ids: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The ids that are kept, in their order, before the padding."""
    front = np.argsort(~kept, axis=1, kind="stable")
    return np.take_along_axis(np.where(kept, ids, PADDING), front, axis=1)


def write_store(path: Path, splits: Mapping[str, Split], vocabulary: list[str]) -> None:
    """Write a token store; an existing file is replaced only once the new one is complete."""
    arrays = {}
    for name, split in splits.items():
        arrays[f"{name}/labels"] = split.labels
        arrays |= {} if split.weights is None else {f"{name}/weights": split.weights}
        for segment, ids in split.read.items():
            arrays |= {f"{name}/{segment}/ids": ids.ids, f"{name}/{segment}/offsets": ids.offsets}
    coverage = {name: astuple(split.coverage) for name, split in splits.items()}
    segments = list(next(iter(splits.values())).segments)  # in their order: word dropout draws for one after the other
    features = list(next(iter(splits.values())).features)
    about = {"coverage": coverage, "segments": segments, "features": features, "vocabulary": vocabulary}
    files.save(path, KIND, arrays, about)


def split_names(path: Path) -> list[str]:
    """The splits in a token store; raises CheckpointError."""
    return list(_coverage(path, files.load(path, KIND, lambda name: False)[1]))


def read_split(path: Path, name: str) -> Split:
    """One split of a token store; raises CheckpointError if the file or the split cannot be used."""
    return read_store(path, name)[name]


def read_store(path: Path, only: str = "") -> dict[str, Split]:
    """All splits of a token store by name, or one; raises CheckpointError if the file or the split cannot be used."""
    arrays, about = files.load(path, KIND, lambda name: name.startswith(f"{only}/" if only else ""), mapped=True)
    coverage = _coverage(path, about)
    if only and only not in coverage:
        raise CheckpointError(f"{path}: no split {only!r}{nearest(only, coverage)}")
    try:
        wanted = [only] if only else list(coverage)
        return {
            name: _split(arrays, name, about["segments"], about.get("features", []), coverage[name]) for name in wanted
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); {files.MEND[KIND]}") from error


def _coverage(path: Path, about: Mapping) -> dict[str, Coverage]:
    try:
        return {name: Coverage(*map(int, counts)) for name, counts in about["coverage"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); {files.MEND[KIND]}") from error


def _split(
    arrays: Mapping[str, np.ndarray], name: str, segments: list[str], features: list[str], coverage: Coverage
) -> Split:
    def read(names: list[str]) -> dict[str, Ragged]:
        return {s: Ragged(arrays[f"{name}/{s}/ids"], arrays[f"{name}/{s}/offsets"]) for s in names}

    weights = arrays.get(f"{name}/weights")
    split = Split(read(segments), arrays[f"{name}/labels"], coverage, read(features), weights)
    if weights is not None and len(weights) != len(split):
        raise ValueError(f"split {name!r} has {len(weights)} weights")
    for ids in split.read.values():
        steps = np.diff(ids.offsets)
        ends = len(ids) == len(split) and ids.offsets[0] == 0 and ids.offsets[-1] == len(ids.ids)
        if not ends or (steps < 0).any() or ids.ids.min(initial=0) < 0:
            raise ValueError(f"split {name!r} does not add up")
    return split
