"""Train and inspect: a classifier of the embedded reviews, and what it makes of one of them.

    python scripts/train.py  # ten seconds; draws train.svg, and writes train.html

Six epochs on the reviews that come with the package. Left: loss by epoch; look for the point from which validation no
longer follows training. Right: which words of a review the queries attend to, free and settled; a square is a share of
attention. The page train.html shows how it got there: open it in a browser, press play, and click a synapse.
"""

import numpy as np

from eqnp import SequenceClassifier
from eqnp.app import charts
from eqnp.app.watch import record
from eqnp.text.corpora import load_corpus

REVIEW = "this is not a dull film at all"


def read(split):
    """Texts and labels of a split."""
    corpus = load_corpus("mini-sentiment", {"text": "text"}, "label", split=split)
    texts = [corpus.texts["text"][i] for i in range(len(corpus))]
    return texts, [corpus.classes[label] for label in corpus.labels]


def main():
    classifier = SequenceClassifier("mini-sentiment", epochs=6, random_state=0).fit(*read("train"))
    print(f"test accuracy {classifier.score(*read('test')):.1%}")
    for label, score in zip(classifier.classes_, classifier.predict_proba([REVIEW])[0], strict=True):
        print(f"{REVIEW!r}: {label} {score:.3f}")
    (explanation,) = classifier.explain([REVIEW])
    words = ", ".join(f"{word} {share:+.2f}" for word, share in explanation.contributions()[:3])
    print(f"what speaks most for {explanation.towards}: {words}")

    epochs = [epoch.epoch for epoch in classifier.progress_.epochs]
    losses = {
        part: (epochs, [getattr(epoch, part).loss for epoch in classifier.progress_.epochs])
        for part in ("train", "validation")
    }
    recording = record(classifier.model_, {"text": REVIEW})
    attention = recording.free.attention["attention0"][-1, 1:]  # of the last sweep, without the mean
    strongest = np.argsort(-attention.max(axis=1))[:8]
    queries = [recording.queries["attention0"][1 + row] for row in strongest]
    right = charts.squares(attention[strongest], queries, recording.slots["attention0"], "Attention of eight queries")
    charts.save("train.svg", charts.lines(losses, "Loss", "epoch"), right)
    classifier.watch(REVIEW, "train.html")


if __name__ == "__main__":
    main()
