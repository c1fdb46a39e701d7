"""Classes one by one, for `eqnp evaluate` and the report: their figures, and which are confused, with texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eqnp.app import page
from eqnp.runs.console import class_rows, percent
from eqnp.runs.model import Model
from eqnp.text.corpora import Corpus
from eqnp.text.store import Split

PAIRS = 10  # of confused classes in a report
LEGEND = (
    "precision: of the texts given a class, the share that is of it; recall: of the texts of a class, the share found",
    "F1: their harmonic mean; support: texts of the class; macro: every class alike; weighted: by support",
    "balanced accuracy: the mean recall; log loss: the mean of −ln of what the right class is given",
    "calibration error: the mean distance of score and accuracy, over ten bins of equal mass by score",
    "at least: of the texts whose best score is no less, the share of all texts, and the share of them that is right",
    "in brackets: intervals that hold the true share in 95 of 100 cases (Wilson)",
)


def examples(
    model: Model, split: Split, predicted: np.ndarray, corpus: Corpus | None = None
) -> dict[tuple[str, str], str]:
    """A text of each pair of classes that was confused, by (true class, predicted class).

    ``predicted`` (n,) are class numbers. Without the ``corpus`` of a split, texts are put together from their ids.
    """
    rows = {(int(split.labels[row]), int(predicted[row])): row for row in (predicted != split.labels).nonzero()[0]}
    chosen = np.array(list(rows.values()), np.int64)
    columns = {name: column.take(chosen) for name, column in corpus.texts.items()} if corpus else {}
    texts = zip(*(columns or model.decoded(split, chosen)).values(), strict=True)
    pairs = [(model.classes[true], model.classes[given]) for true, given in rows]
    return {pair: " | ".join(parts) for pair, parts in zip(pairs, texts, strict=True)}


def section(found: Mapping, texts: Mapping[tuple[str, str], str]) -> str:
    """`eqnp.runs.metrics.figures`, with texts of confused classes, as a part of a report."""
    rows = [(name, *cells) for name, *cells in class_rows(found)]
    body = page.table(("class", "precision", "recall", "F1", "support"), rows)
    body += page.note(
        f"Balanced accuracy {found['balanced_accuracy']:.1%}, log loss {found['log_loss']:.4f}. {'; '.join(LEGEND)}."
    )
    pairs = []
    for each in found["confusions"][:PAIRS]:
        true, given = each["true"], each["predicted"]
        share = percent(each["texts"] / found["classes"][true]["support"])
        pairs.append((true, given, f"{each['texts']:,}", share, texts[true, given]))
    head = ("true", "taken for", "texts", "of the class", "one of them")
    return body + (page.table(head, pairs) if pairs else "")
