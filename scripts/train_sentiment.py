"""Train a sentiment classifier by Equilibrium Propagation, step by step, on the embedded reviews.

    python scripts/train_sentiment.py [--epochs N] [--seed N]

The steps are those of `eqnp train mini-sentiment`: texts, vectors, network, batches, validation. Its network is another
(windows that see order, a softmax), and it keeps the best epoch, calibrates scores, and can be stopped.
"""

import argparse

import numpy as np

from eqnp import (
    Adam,
    AttentionConfig,
    LearningConfig,
    Machine,
    NetworkConfig,
    OptimizerConfig,
    SettlingConfig,
    build_network,
    estimate,
    evaluate,
    one_hot,
)
from eqnp.text.cooccurrence import corpus_vectors
from eqnp.text.corpora import load_corpus
from eqnp.text.prepare import encode_corpus
from eqnp.text.store import bucketed
from eqnp.text.tokens import learn_tokenizer, words
from eqnp.text.vectors import rescale

BATCH, SHARD, WORDS, DIMENSION = 50, 10, 40, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)

    # Text → token ids. The vocabulary comes from the training texts alone.
    corpora = {
        split: load_corpus("mini-sentiment", {"text": "text"}, "label", split=split)
        for split in ("train", "validation", "test")
    }
    tokenizer = learn_tokenizer(corpora["train"].texts["text"], min_count=2, max_words=10_000)
    splits = {name: encode_corpus(tokenizer, corpus, WORDS) for name, corpus in corpora.items()}

    # Word vectors from the same texts: no download. EP trains them further.
    texts = splits["train"].segments["text"]
    vectors = corpus_vectors([texts], len(words(tokenizer)), DIMENSION, rng=rng)

    # 8 learned queries read the words as the memory of a modern Hopfield network; 64 hidden units; 2 classes.
    attention, machine, positions = (AttentionConfig("text", 8),), Machine(shard=SHARD), {"text": WORDS}
    config = NetworkConfig(attention, hidden=(64,), activation="clipped", scale=0.5, initial_bias=1.0)
    network = build_network(config, rescale(vectors, 3.0), classes=2, positions=positions, rng=rng, machine=machine)
    learning = LearningConfig("symmetric", beta=0.5, train_embeddings=True)
    settling = SettlingConfig("even-odd", tolerance=1e-3, free_sweeps=60, nudged_sweeps=30)
    optimizer = Adam(network, OptimizerConfig(learning_rate=5e-3, schedule="cosine"))
    steps = options.epochs * -(-len(texts) // BATCH)

    # Shards of a batch settle on all threads; memory of one batch serves the next.
    with network.machine.at_work() as working:
        network = network.on(working)
        for epoch in range(1, options.epochs + 1):
            for rows in bucketed(splits["train"], BATCH, rng):
                batch, labels = splits["train"].batch(rows)
                # Settle free, settle nudged towards and away from the label, contrast at every synapse.
                result = estimate(network, batch, one_hot(labels, network), learning, settling)
                optimizer.step(network, result.gradients, optimizer.taken / steps)
            score = evaluate(network, splits["validation"], settling)
            print(f"epoch {epoch}: last batch {result.loss:.4f}, validation {score.loss:.4f}, {score.accuracy:.1%}")
        print(f"test {evaluate(network, splits['test'], settling).accuracy:.1%}")


if __name__ == "__main__":
    main()
