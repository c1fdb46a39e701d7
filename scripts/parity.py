"""Replay a float64 trace of the paper's procedure and print the largest deviations.

    python scripts/parity.py trace.npz [--json]

The file holds embedded input, weights and every state of the free, +β and −β phases after each synchronous step of
the paper's network, with the gradient estimates they give. The same network is built here, run from the zero state,
and compared at every step.
"""

import argparse
import json

import numpy as np

from eqnp import AttentionConfig, LearningConfig, NetworkConfig, Segment, SettlingConfig, build_network, estimate

WIRING = {1: ((0, 0),), 2: ((0, 1), (1, 0), (0, 0), (1, 1))}  # segments: (queries, memory) of each attention layer


def build(trace, device: str):
    """The network, batch and synapses of a trace; every token of the input gets an embedding row of its own."""
    x, lengths = trace["x"], trace["lengths"]
    texts = lengths.shape[1]
    names, positions = [f"text{i}" for i in range(texts)], x.shape[1] // texts
    ids = np.arange(1, x.shape[0] * x.shape[1] + 1, dtype=np.int32).reshape(x.shape[:2])
    table = np.concatenate([np.zeros((1, x.shape[2])), x.reshape(-1, x.shape[2])])
    batch = {}
    for i, name in enumerate(names):
        part = ids[:, i * positions : (i + 1) * positions]
        batch[name] = Segment(np.where(np.arange(positions) < lengths[:, i : i + 1], part, 0), lengths[:, i])
    attention = tuple(AttentionConfig(names[memory], names[queries]) for queries, memory in WIRING[texts])
    sizes = [trace[f"W{i}"].shape[0] for i in range(len(attention), sum(key.startswith("W") for key in trace))]
    config = NetworkConfig(attention, hidden=tuple(sizes[:-1]), scale=float(trace["scale"]), padding="zeros")
    network = build_network(config, table, sizes[-1], dict.fromkeys(names, positions), np.random.default_rng(0))
    synapses = [synapse.name for synapse in network.synapses]
    for i, name in enumerate(synapses):
        network.parameters[f"{name}.weight"][...] = trace[f"W{i}"]
        if f"b{i}" in trace:
            network.parameters[f"{name}.bias"][...] = trace[f"b{i}"]
    return network.to(device), batch, synapses


def replay(path: str, device: str = "cpu") -> dict[str, float]:
    """The largest absolute deviation of any state at any step, and of both gradient estimates."""
    with np.load(path, allow_pickle=False) as file:
        trace = {key: file[key] for key in file.files}
    network, batch, synapses = build(trace, device)
    target = np.eye(network.output.shape[0])[trace["y"]]
    settling = SettlingConfig("synchronous", 0.0, int(trace["T"]), int(trace["K"]))
    deviation = {"states": 0.0}
    for estimator, short in (("symmetric", "sym"), ("one-sided", "one")):
        learning = LearningConfig(estimator, float(trace["beta"]), train_embeddings=False)
        result = estimate(network, batch, target, learning, settling, trace=True)
        gaps = [
            np.abs(network.kernels.host(result.gradients[f"{name}.{kind}"]) - trace[f"grad_{short}_{letter}{i}"]).max()
            for i, name in enumerate(synapses)
            for kind, letter in (("weight", "W"), ("bias", "b"))
            if f"grad_{short}_{letter}{i}" in trace
        ]
        deviation[f"grad_{short}"] = float(np.max(gaps))  # NaN stays NaN
        for phase, steps in zip(("free", "plus", "minus"), result.traces, strict=False):
            for i, layer in enumerate(network.layers):
                states = np.stack([s[layer.name] for s in steps.states]) if steps.states else np.empty(0)
                if len(states):
                    gap = np.abs(states - trace[f"{phase}_s{i}"][1:]).max()
                    deviation["states"] = float(np.maximum(deviation["states"], gap))
    return deviation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="a trace (.npz)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or naive")
    parser.add_argument("--json", action="store_true", help="print the deviations as one line of JSON")
    options = parser.parse_args()
    deviation = replay(options.file, options.device)
    print(json.dumps(deviation) if options.json else "\n".join(f"{k:10} {v:.3g}" for k, v in deviation.items()))


if __name__ == "__main__":
    main()
