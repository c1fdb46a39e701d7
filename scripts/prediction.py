"""How many texts a second a run predicts, in turn with scikit-learn's TF-IDF and logistic regression (words, pairs).

python scripts/prediction.py RUN --train imdb_train.parquet --data imdb_test.parquet [--out RECORD.json]

Each round is the whole way from text to label, of both, ours on all cores (scikit-learn takes one); medians are over
rounds. It needs scikit-learn, which eqnp does not.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from eqnp import SequenceClassifier
from eqnp.runs.folder import environment
from eqnp.text.corpora import load_corpus


def seconds(predict, texts: list[str]) -> tuple[float, np.ndarray]:
    """What it takes to predict texts, and their labels."""
    started = time.perf_counter()
    labels = predict(texts)
    return time.perf_counter() - started, np.asarray(labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--train", required=True, help="what scikit-learn learns from")
    parser.add_argument("--data", required=True, help="what both predict")
    parser.add_argument("--texts", type=int, default=5000, help="of a round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    own = SequenceClassifier.load(options.run).set_params(n_jobs=-1)
    data = own.model_.config.data
    train, test = (load_corpus(path, data.columns, data.label) for path in (options.train, options.data))
    segment = next(iter(data.columns))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True)
    rival = make_pipeline(vectorizer, LogisticRegression(C=20, solver="liblinear"))
    rival.fit(train.texts[segment][:], train.labels)
    names, chosen = np.array(own.model_.classes), np.random.default_rng(0).permutation(len(test))[: options.texts]
    texts, labels = [test.texts[segment][i] for i in chosen], names[test.labels[chosen]]
    ways = {"eqnp": own.predict, "scikit-learn": lambda texts: names[rival.predict(texts)]}
    taken = {name: [] for name in ways}
    for number in range(1 + options.rounds):  # the first, in which kernels are loaded, does not count
        for name, predict in ways.items():
            each, found = seconds(predict, texts)
            taken[name] += [each] * (number > 0)
            if not number:
                print(f"{name}: {(found == labels).mean():.1%} right")
    rates = {name: len(texts) / np.median(each) for name, each in taken.items()}
    ratio = float(np.median(np.divide(taken["scikit-learn"], taken["eqnp"])))
    print(", ".join(f"{name} {rate:,.0f} texts a second" for name, rate in rates.items()), f"ratio {ratio:.1f}")
    if options.out:
        found = {"texts": len(texts), "rounds": options.rounds, "rates": rates, "ratio": ratio}
        found["environment"] = {**environment(None), "device": "cpu"}
        options.out.write_text(json.dumps(found, indent=2) + "\n")
