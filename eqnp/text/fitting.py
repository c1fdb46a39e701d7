"""Settings that fit themselves to the data: what a configuration leaves at −1, by a few rules.

    training.epochs        as many as make 500 batches, with many classes 15 for each, to 1,500; 3 to 20, of more than
                           ten classes to 60
    data.ngram_min_texts   a 3,000th of the training texts; 2 to 8
    data.subwords          5 characters, where texts have 500 of them on average at most; else none
    network.cost           of texts with several labels, which a softmax cannot hold: the cross-entropy of each class,
                           and logistic outputs for it (network.output_activation)

Values that are given win, but for the last. What was chosen is said in a line, and stands in the configuration that a
run is kept with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eqnp.config import Config
from eqnp.text.labels import class_counts

UPDATES, OF_CLASS = (500, 1500), 15  # batches, at least and at most, and for each class
FEWEST, MOST, MOST_OF_MANY, MANY = 3, 20, 60, 10  # epochs: at least, at most, and with more than so many classes
CHARACTERS, OF_SUBWORD = 500, 5  # of a text, for which subwords pay, and of the longest of these
TEXTS_OF_NGRAM = 3000  # texts for each that an n-gram must stand in


def fitted(config: Config, labels: np.ndarray, characters: float = 0.0) -> tuple[Config, str]:
    """The configuration without anything left open, and what was chosen and why, in a line (nothing if nothing was).

    ``labels`` are those of the training texts, (n,), or (n, C) where a text may have several; the texts have so many
    ``characters`` on average.
    """
    config, several, sizes = of_labels(config, labels.ndim == 2), labels.ndim == 2, class_counts(labels)
    chosen, rows, data, training = [], len(labels), config.data, config.training
    if training.epochs < 0:
        per_epoch = -(-rows // training.batch)
        classes = np.count_nonzero(sizes)
        updates, most = int(np.clip(OF_CLASS * classes, *UPDATES)), MOST_OF_MANY if classes > MANY else MOST
        training = replace(training, epochs=int(np.clip(-(-updates // per_epoch), FEWEST, most)))
        chosen.append(f"training.epochs = {training.epochs}")
    if data.ngram_min_texts < 0:
        data = replace(data, ngram_min_texts=int(np.clip(rows // TEXTS_OF_NGRAM, 2, 8)))
        if data.ngrams > 1:
            chosen.append(f"data.ngram_min_texts = {data.ngram_min_texts}")
    if data.subwords < 0:
        data = replace(data, subwords=OF_SUBWORD if characters <= CHARACTERS else 0)
        if config.network.votes:
            chosen.append(f"data.subwords = {data.subwords}")
    if not chosen:
        return replace(config, data=data), ""
    kind = f", {sizes.sum() / rows:.1f} to a text" if several else ""
    why = f"{rows:,} training texts of {np.count_nonzero(sizes)} classes{kind}, the largest {sizes.max() / rows:.0%}"
    return replace(config, data=data, training=training), f"chosen for {why}: {', '.join(chosen)}"


def of_labels(config: Config, several: bool) -> Config:
    """The configuration with an output for ``several`` labels to a text, in place of a softmax, which is for one."""
    network = config.network
    if not several or (network.output_activation or network.activation) != "softmax":
        return config
    return replace(config, network=replace(network, output_activation="logistic", cost="cross-entropy"))


def filled(config: Config, own: Config) -> Config:
    """The configuration with what it leaves open taken from that of a model."""
    data, training = config.data, config.training
    if data.ngram_min_texts < 0:
        data = replace(data, ngram_min_texts=own.data.ngram_min_texts)
    if data.subwords < 0:
        data = replace(data, subwords=own.data.subwords)
    if training.epochs < 0:
        training = replace(training, epochs=own.training.epochs)
    return replace(config, data=data, training=training)
