"""How often a prediction changes when ten words of a text are deleted: those that contribute most, that are attended to
most, and random ones.

    python scripts/deletion.py RUN --data imdb_test.parquet [--texts 200] [--out docs/results/deletion-imdb.json]

Words are deleted from the text itself, at all of their places, and the rest is read anew. Attention to a word is that
to all its places together. The random ten are drawn five times.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from eqnp.app.explain import Explanation, explain
from eqnp.files import write_text
from eqnp.machine import Machine
from eqnp.runs.model import Model
from eqnp.text.corpora import load_corpus

TEN, DRAWS = 10, 5


def scores(explanation: Explanation, by: str) -> dict[str, float]:
    """Of every word of the only segment its contribution, or the attention to all its places."""
    found: dict[str, float] = {}
    for piece in next(iter(explanation.pieces.values())):
        if piece.free is not None:
            word = piece.text.lower()
            found[word] = piece.contribution if by == "contribution" else found.get(word, 0) + piece.free
    return found


def without(explanation: Explanation, words: set[str]) -> str:
    """The text without these words."""
    pieces = next(iter(explanation.pieces.values()))
    return "".join(" " if piece.free is not None and piece.text.lower() in words else piece.text for piece in pieces)


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    rng, model = np.random.default_rng(0), Model.load(options.run, Machine())
    data = model.config.data
    (segment,) = data.columns
    corpus = load_corpus(options.data, data.columns, data.label, split="test", classes=model.classes)
    rows = rng.permutation(len(corpus))[: 2 * options.texts]
    explained = explain(model, {segment: [corpus.texts[segment][row] for row in rows]})
    explained = [each for each in explained if len(scores(each, "attention")) > TEN][: options.texts]

    def changed(choose) -> float:
        """The share of texts whose prediction is another without the words that ``choose`` gives."""
        shorter = model.predict({segment: [without(each, set(choose(each))) for each in explained]})
        pairs = zip(shorter, explained, strict=True)
        return sum(after.label != each.prediction.label for after, each in pairs) / len(explained)

    def most(by: str):
        return lambda each: sorted(words := scores(each, by), key=words.__getitem__)[-TEN:]

    def random(each: Explanation) -> list[str]:
        return list(rng.permutation(sorted(scores(each, "attention")))[:TEN])

    figures = {
        "data": Path(options.data).name,
        "texts": len(explained),
        "words_deleted": TEN,
        "words_of_a_text": float(np.median([len(scores(each, "attention")) for each in explained])),
        "changed": {
            "contribution": changed(most("contribution")),
            "attention": changed(most("attention")),
            "random": round(float(np.mean([changed(random) for _ in range(DRAWS)])), 4),
        },
    }
    print(json.dumps(figures, indent=2))
    if options.out:
        write_text(options.out, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
