"""What each text counts for where it is learned from: by its class, by a column of the data, or both.

A weight multiplies the contrast of its text (docs/theory.md, fact 19). Weights have the mean 1 over the texts of a
training, so that learning rates mean what they meant; figures count every text once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from eqnp.errors import ConfigError, DataError, close, some
from eqnp.text.store import Split


def weighed(
    train: Split, validation: Split, classes: Sequence[str], class_weight: str | Mapping[str, float]
) -> tuple[Split, Split]:
    """Both splits with the weights of their texts times those of their classes, as `class_weights` has them.

    The latter holds for validation texts as well, which may be learned from in the end. Raises ConfigError for a class
    that is not there, and DataError where no text counts.
    """
    if not class_weight and train.weights is None:
        return train, validation
    if class_weight:
        if train.several:
            raise ConfigError("training.class_weight is for texts of one label; give theirs a column of data.weight")
        of_class = class_weights(class_weight, classes, train.labels)
        train, validation = (
            replace(split, weights=of_class[split.labels] * (1.0 if split.weights is None else split.weights))
            for split in (train, validation)
        )
    if not train.weights.any():
        raise DataError("all training texts have the weight 0; give some of them a weight above it")
    return train, validation


def class_weights(class_weight: str | Mapping[str, float], classes: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """The weight of each class, (C,): as given by name, 1 where none is; "balanced" n / (C n_c) of n labels (n,).

    Raises ConfigError for a name that is none of the classes.
    """
    if class_weight == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    given = dict(class_weight or {})
    if strange := [name for name in given if name not in classes]:
        raise ConfigError(
            f"training.class_weight names {strange[0]!r}; the classes are {some(classes)}{close(strange[0], classes)}"
        )
    return np.array([float(given.get(name, 1.0)) for name in classes])
