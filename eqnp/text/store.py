"""The token store: ids, lengths and labels of every split with the vocabulary, in one HDF5 file; and its batches.

    /vocabulary                     words in the order of their ids
    /<split>/labels                 (n,) int64
    /<split>/<segment>/ids          flat int32 token ids
    /<split>/<segment>/offsets      (n + 1,) int64

Embeddings are never stored: a batch holds ids, and the network gathers their vectors on the fly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path

import h5py
import numpy as np

from eqnp.checkpoint import FORMAT_ERRORS, replacing
from eqnp.errors import CheckpointError, nearest
from eqnp.synapses import Segment
from eqnp.text.tokens import PADDING, Coverage, Ragged

FORMAT, VERSION = "eqnp token store", 1
STORE = "data.h5"  # its name in a folder
POOL = 50  # batches whose samples are sorted by length together: enough to waste little padding, and still shuffled


@dataclass
class Split:
    """Encoded samples: token ids per segment, labels (n,), and how much of the text was outside the vocabulary."""

    segments: dict[str, Ragged]
    labels: np.ndarray
    coverage: Coverage = field(default_factory=Coverage)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray) -> tuple[dict[str, Segment], np.ndarray]:
        """Padded segments and labels of some samples."""
        return {n: Segment(*r.padded(rows)) for n, r in self.segments.items()}, self.labels[rows]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sample over all its segments, (n,)."""
        return sum(r.lengths for r in self.segments.values())


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
        pool = pool[np.argsort(split.lengths[pool], kind="stable")]
        batches.extend(pool[i : i + size] for i in range(0, len(pool), size))
    for i in rng.permutation(len(batches)):
        yield batches[i]


def drop_words(segments: Mapping[str, Segment], share: float, rng: np.random.Generator) -> dict[str, Segment]:
    """Word dropout: each token leaves its text with probability ``share``, for all phases of the batch, and the rest
    moves up.

    Leaving is better than becoming a zero row: a zero row still takes attention, and then training sees states of
    another size than prediction does (IMDB, half the words dropped: validation loss 0.127, not 0.086, after an epoch).
    """
    return {name: _drop(segment, share, rng) for name, segment in segments.items()} if share else dict(segments)


def _drop(segment: Segment, share: float, rng: np.random.Generator) -> Segment:
    ids, lengths = segment
    kept = (rng.random(ids.shape) >= share) & (np.arange(ids.shape[1]) < lengths[:, None])
    front = np.argsort(~kept, axis=1, kind="stable")  # kept tokens first, in their order
    left = kept.sum(axis=1)
    ids = np.take_along_axis(np.where(kept, ids, PADDING), front, axis=1)
    return Segment(ids[:, : max(1, left.max(initial=0))], left)


def write_store(path: Path, splits: Mapping[str, Split], vocabulary: list[str]) -> None:
    """Write a token store; an existing file is replaced only once the new one is complete."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.create_dataset("vocabulary", data=vocabulary, dtype=h5py.string_dtype(), compression="gzip")
        for name, split in splits.items():
            group = file.create_group(name)
            group.attrs["coverage"] = json.dumps(astuple(split.coverage))
            group.create_dataset("labels", data=split.labels)
            for segment, ids in split.segments.items():
                group.create_dataset(f"{segment}/ids", data=ids.ids, compression="gzip", compression_opts=1)
                group.create_dataset(f"{segment}/offsets", data=ids.offsets)


def split_names(path: Path) -> list[str]:
    """The splits in a token store; raises CheckpointError."""
    with _open_store(path) as file:
        return [name for name in file if name != "vocabulary"]


def read_split(path: Path, name: str) -> Split:
    """One split of a token store; raises CheckpointError if the file or the split cannot be used."""
    names = split_names(path)
    if name not in names:
        raise CheckpointError(f"{path}: no split {name!r}{nearest(name, names)}")
    with _open_store(path) as file:
        group = file[name]
        segments = {
            segment: Ragged(group[segment]["ids"][:], group[segment]["offsets"][:])
            for segment in group
            if segment != "labels"
        }
        split = Split(segments, group["labels"][:], Coverage(*json.loads(group.attrs["coverage"])))
    for ids in segments.values():
        steps = np.diff(ids.offsets)
        ends = len(ids) == len(split) and ids.offsets[0] == 0 and ids.offsets[-1] == len(ids.ids)
        if not ends or (steps < 0).any() or (ids.ids < 0).any():
            raise CheckpointError(f"{path}: split {name!r} is damaged; train the run again")
    return split


@contextmanager
def _open_store(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
                raise CheckpointError(f"{path}: not a token store of version {VERSION}; train the run again")
            yield file
    except FORMAT_ERRORS as error:
        raise CheckpointError(f"{path}: cannot be read as a token store ({error}); train the run again") from error
