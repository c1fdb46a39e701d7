"""Train natural language inference by Equilibrium Propagation, step by step, on the embedded pairs.

    python scripts/train_nli.py [--epochs N] [--seed N]

The network and the steps are those of `eqnp train mini-nli`, which also keeps the best epoch, calibrates scores, and
can be stopped. `train_sentiment.py` is the simpler one.
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

BATCH, SHARD, TOKENS, DIMENSION = 50, 25, 24, 64
SEGMENTS = {"premise": "premise", "hypothesis": "hypothesis"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)

    # Two texts a sample → token ids, from one vocabulary.
    corpora = {
        split: load_corpus("mini-nli", SEGMENTS, "label", split=split) for split in ("train", "validation", "test")
    }
    texts = corpora["train"].texts
    tokenizer = learn_tokenizer([*texts["premise"], *texts["hypothesis"]], min_count=2, max_words=10_000)
    splits = {name: encode_corpus(tokenizer, corpus, TOKENS) for name, corpus in corpora.items()}
    vectors = corpus_vectors(list(splits["train"].segments.values()), len(words(tokenizer)), DIMENSION, rng=rng)

    # Every token of one text retrieves what is like it in the other; a compare layer sees both and their product, token
    # by token, and its mean over the tokens goes to a dense layer and a softmax over the classes.
    attention = (AttentionConfig("premise", "hypothesis"), AttentionConfig("hypothesis", "premise"))
    units = {"compare": 128, "products": 0.1, "hidden": (128,), "output_activation": "softmax"}
    config = NetworkConfig(attention, **units, scale=0.075, initial_projection=8.0)
    machine, positions = Machine(shard=SHARD), dict.fromkeys(SEGMENTS, TOKENS)
    network = build_network(config, rescale(vectors, 4.0), classes=3, positions=positions, rng=rng, machine=machine)
    learning = LearningConfig("symmetric", beta=0.1, train_embeddings=True)
    settling = SettlingConfig("even-odd", tolerance=1e-3, free_sweeps=60, nudged_sweeps=30)
    optimizer = Adam(network, OptimizerConfig(learning_rate=4e-3, schedule="cosine"))
    steps = options.epochs * -(-len(splits["train"]) // BATCH)

    with network.machine.at_work() as working:
        network = network.on(working)
        for epoch in range(1, options.epochs + 1):
            for rows in bucketed(splits["train"], BATCH, rng):
                batch, labels = splits["train"].batch(rows)
                result = estimate(network, batch, one_hot(labels, network), learning, settling)
                optimizer.step(network, result.gradients, optimizer.taken / steps)
            score = evaluate(network, splits["validation"], settling)
            print(f"epoch {epoch}: last batch {result.loss:.4f}, validation {score.loss:.4f}, {score.accuracy:.1%}")
        print(f"test {evaluate(network, splits['test'], settling).accuracy:.1%}")


if __name__ == "__main__":
    main()
