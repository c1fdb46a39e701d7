"""Equilibrium Propagation (EP) for sequences: the whole idea in one file of bare NumPy.

    python scripts/ep.py  # ten seconds: validation accuracy by epoch, and at the end about "test 84%"

A network is an energy. Learned queries Q retrieve from the words X of a text, the memory of a modern Hopfield network;
hidden units read what was retrieved; one unit per class reads those. With states s and potentials Λ (conjugate Λ*),

    Φ = ⟨s₀, Q⟩ + ⟨s₁, W₁s₀ + b₁⟩ + ⟨s₂, W₂s₁ + b₂⟩,     E = Σ Λ*(s) − Φ,     F = E + β/2 ‖s₂ − y‖²,

it settles to a minimum of F, s = ∇Λ(u) at the drives u = ∂Φ/∂s: free (β = 0), nudged towards the label y (β), away from
it (−β). Every parameter learns from the difference of the last two at its own two ends: there is no backward pass.
"""

import json
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data" / "mini-sentiment"
NAMES = ("embedding.weight", "queries0.weight", "hidden0.weight", "hidden0.bias", "output.weight", "output.bias")
QUERIES, WIDTH, HIDDEN, KAPPA, BETA, TOLERANCE = 8, 32, 64, 0.5, 0.5, 5e-3
EPOCHS, BATCH, RATE = 15, 10, 5e-3


def read(split, index):
    """Ids (B, N) of words that training has, 0 beyond the end of a text, and labels (B, 2), 1 for the right class."""
    rows = [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text("utf-8").splitlines()]
    texts = [re.findall(r"\w+|[^\w\s]", row["text"].lower()) for row in rows]
    ids = [[index.setdefault(w, len(index) + 1) for w in text if split == "train" or w in index] for text in texts]
    y = [[row["label"] == label for label in ("negative", "positive")] for row in rows]
    return np.array(list(zip_longest(*ids, fillvalue=0))).T, np.array(y, "f")


def draw(words, rng):
    """The parameters θ: words of length about 1, and biases in the middle of the slope of clip(u/2, 0, 1)."""
    X, Q = rng.standard_normal((1 + words, WIDTH)) / WIDTH**0.5, rng.standard_normal((QUERIES, WIDTH))
    X[0] = 0
    W1, W2 = (rng.uniform(-1, 1, (post, pre)) / pre**0.5 for post, pre in ((HIDDEN, Q.size), (2, HIDDEN)))
    return dict(zip(NAMES, (value.astype("f") for value in (X, Q, W1, np.ones(HIDDEN), W2, np.ones(2))), strict=True))


def settle(theta, ids, s1=None, beta=0.0, y=0.0, tolerance=TOLERANCE, sweeps=200):
    """Sweep to a minimum of F, from hidden states s₁ or zero; attention's drive u and weights A, and the states."""
    words, Q, W1, b1, W2, b2 = (theta[name] for name in NAMES)
    X, live = words[ids], ids[:, None] > 0
    s1 = np.zeros((len(ids), len(b1)), b1.dtype) if s1 is None else s1
    # Attention with output, then the hidden layer: each takes the exact minimum of F given the other. F never rises.
    for _ in range(sweeps):
        u = Q + (s1 @ W1).reshape(-1, *Q.shape)
        logits = np.where(live, KAPPA * u @ X.mT, -np.inf)
        A = np.exp(logits - logits.max(axis=2, keepdims=True))
        A /= A.sum(axis=2, keepdims=True)
        s0 = (A @ X).reshape(len(ids), -1)
        s2 = np.clip((s1 @ W2.T + b2 + beta * y) / (2 + beta), 0, 1)  # s = Λ'(u − β(s − y)), Λ' = clip(u/2, 0, 1)
        s1, before = np.clip((s0 @ W1.T + b1 + s2 @ W2) / 2, 0, 1), s1
        if np.abs(s1 - before).max() <= tolerance:
            break  # where the hidden units rest, all do
    return u, A, s0, s1, s2


def ends(theta, ids, u, A, s0, s1, s2):
    """−∂E/∂θ at given states, summed over a batch: the product of what each parameter sees at its two ends."""
    words = np.zeros_like(theta["embedding.weight"])
    np.add.at(words, ids, A.mT @ u)  # a word sees the attention that it gets, and the drive that asked for it
    return words, s0.sum(axis=0).reshape(u.shape[1:]), s1.T @ s0, s1.sum(axis=0), s2.T @ s1, s2.sum(axis=0)


def estimate(theta, ids, y, beta=BETA, tolerance=TOLERANCE):
    """The gradient, up to O(β²), of the mean of ½‖s₂ − y‖² at the free states of a batch."""
    s1 = settle(theta, ids, tolerance=tolerance)[3]
    towards, away = (ends(theta, ids, *settle(theta, ids, s1, b, y, tolerance)) for b in (beta, -beta))
    return {name: (n - p) / (2 * beta * len(ids)) for name, p, n in zip(NAMES, towards, away, strict=True)}


def accuracy(theta, ids, y):
    s2 = np.concatenate([settle(theta, ids[i : i + BATCH])[-1] for i in range(0, len(ids), BATCH)])
    return (s2.argmax(axis=1) == y.argmax(axis=1)).mean()


def main(seed=0):
    rng, vocabulary = np.random.default_rng(seed), {}
    (ids, y), validation, test = (read(split, vocabulary) for split in ("train", "validation", "test"))
    theta = draw(len(vocabulary), rng)
    mean, square = ({name: 0 * value for name, value in theta.items()} for _ in range(2))
    batches = [rows for _ in range(EPOCHS) for rows in rng.permutation(len(ids)).reshape(-1, BATCH)]
    for step, rows in enumerate(batches, start=1):
        rate = RATE * (1 - step / len(batches)) * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
        for name, gradient in estimate(theta, ids[rows], y[rows]).items():  # Adam
            mean[name] += 0.1 * (gradient - mean[name])
            square[name] += 0.001 * (gradient**2 - square[name])
            theta[name] -= rate * mean[name] / (np.sqrt(square[name]) + 1e-8)
        if step * BATCH % len(ids) == 0:
            print(f"epoch {step * BATCH // len(ids)}: validation {accuracy(theta, *validation):.1%}", flush=True)
    print(f"test {accuracy(theta, *test):.1%}")


if __name__ == "__main__":
    main()
