"""How long a training batch takes, where its floating-point work goes, and how near that comes to the machine's peak.

A batch is timed as training runs it: gather, settle free and nudged, contrast, Adam. Inputs are random vectors of the
size of word vectors with the lengths of real text, so that the figures need no data. "Useful" work is counted by
formula: the two products of every dense synapse and of every attention layer per sweep, the static drives, and the
contrasts. Nothing else is counted, so the rate is a lower bound.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from eqnp.config import Config, load_config
from eqnp.learning import Estimate, estimate
from eqnp.network import Network
from eqnp.optim import Adam
from eqnp.parallel import available_cores, peak_resident_gib, workers
from eqnp.synapses import Segment
from eqnp.training import one_hot

PRESETS = {"imdb": "imdb-paper", "snli": "snli-paper", "recommended": "imdb"}
RESIDUAL = 1e-5  # to which the paper's networks are settled here, instead of running all of T and K
WORDS, DIMENSION, SPREAD = 20_000, 300, 0.15  # vocabulary and word vectors of a benchmark


@dataclasses.dataclass
class Problem:
    """A network with its optimiser and one batch of random text."""

    config: Config
    network: Network
    optimizer: Adam
    segments: dict[str, Segment]
    labels: np.ndarray

    def step(self, executor) -> Estimate:
        """One training batch."""
        target = one_hot(self.labels, self.network)
        run = self.config.training
        result = estimate(
            self.network, self.segments, target, self.config.learning, self.config.settling,
            executor=executor, shard=run.shard,
        )  # fmt: skip
        self.optimizer.step(result.gradients, 0.0, executor)
        return result


def make_problem(task: str, batch: int | None = None, seed: int = 0, settings: tuple[str, ...] = ()) -> Problem:
    """The network of a task at full size, and a batch whose texts use a quarter to all of their positions."""
    config = load_config(PRESETS[task], settings)
    beta = config.learning.beta
    if task != "recommended":
        settling = dataclasses.replace(config.settling, order="even-odd", tolerance=RESIDUAL / min(1.0, beta))
        config = dataclasses.replace(config, settling=settling)
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((WORDS, DIMENSION), np.float32) * np.float32(SPREAD)
    table[0] = 0
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    classes = 3 if task == "snli" else 2
    network = Network(config.network, table, classes, positions, rng)
    size, segments = batch or config.training.batch, {}
    for name, n in positions.items():
        lengths = rng.integers(max(1, n // 4), n + 1, size)
        ids = rng.integers(1, WORDS, (size, n)).astype(np.int32)
        segments[name] = Segment(np.where(np.arange(n) < lengths[:, None], ids, 0), lengths)
    return Problem(config, network, Adam(network, config.optimizer), segments, rng.integers(0, classes, size))


def useful_flops(problem: Problem, result: Estimate) -> float:
    """Floating-point operations of one training batch, by formula; a multiply and an add count as two."""
    network, total = problem.network, 0.0
    phases, size = result.sweeps.shape[0] - 1, len(problem.labels)
    # The first feedback of a free phase comes from silence, and the first half-sweeps of a nudged one have no news.
    halves = 2 * result.sweeps - np.array([1] + [2] * phases)[:, None]
    retrievals = (np.ceil(result.sweeps) - np.array([0] + [1] * phases)[:, None]).sum(axis=0)
    for synapse in network.synapses:
        units = int(np.prod(synapse.shapes[f"{synapse.name}.weight"]))
        total += 2 * units * halves.sum()  # forward or feedback
        total += 2 * units * phases * size  # contrast
    for layer, attention in zip(network.attention, network.config.attention, strict=True):
        rows, width = layer.shape
        slots = problem.segments[attention.memory].lengths
        total += 4 * rows * width * (slots * retrievals).sum()  # logits and retrieval
        if isinstance(attention.queries, str):
            tokens = problem.segments[attention.queries].lengths.sum()
            total += 2 * width * width * tokens * (1 + phases)  # static drive, contrast of the projection
        if problem.config.learning.train_embeddings:
            total += 4 * rows * width * slots.sum() * phases
    return float(total)


def sgemm_peak(executor, threads: int, size: int = 2048, repeat: int = 5) -> float:
    """Measured float32 GEMM rate of all threads together, GFLOP/s: the best of a few, one product per thread."""
    rng = np.random.default_rng(0)
    pairs = [rng.random((2, size, size), np.float32) for _ in range(threads)]
    out = np.empty((threads, size, size), np.float32)

    def multiply(i: int) -> None:
        np.matmul(pairs[i][0], pairs[i][1], out=out[i])

    return max(2 * threads * size**3 / _timed(lambda: list(executor.map(multiply, range(threads)))) / 1e9
               for _ in range(repeat + 1))  # fmt: skip


def measure(
    task: str,
    *,
    batch: int | None = None,
    repeat: int = 3,
    threads: int | None = None,
    peer: str | None = None,
    peer_batch: int | None = None,
    peer_python: str = sys.executable,
    settings: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Time training batches of a task, in turn with a peer's if its script is given.

    The peer is run as ``PEER_PYTHON PEER --task T --batch B --repeat 1`` and prints its seconds as JSON; at another
    batch size its time is scaled in proportion. Returns seconds (median), sweeps per phase, GFLOP/s, the share of the
    measured GEMM peak, peak memory in GiB, and the ratio.
    """
    threads = threads or available_cores()
    with workers(threads) as executor:
        say("compiling kernels, once")
        started = time.perf_counter()
        problem = make_problem(task, batch, settings=settings)
        problem.step(executor)
        say(f"first batch after {time.perf_counter() - started:.1f} s")
        ours, theirs, flops, result = [], [], [], None
        for _ in range(repeat):
            # The same batch at the same weights would get easier by training on it: start afresh each time.
            problem = None
            problem = make_problem(task, batch, settings=settings)
            started = time.perf_counter()
            result = problem.step(executor)
            ours.append(time.perf_counter() - started)
            flops.append(useful_flops(problem, result))
            if peer:
                theirs.append(
                    _run_peer(peer_python, peer, task, peer_batch or len(problem.labels), len(problem.labels), threads)
                )
            say(f"ours {ours[-1]:.3f} s" + (f", peer {theirs[-1]:.3f} s" if peer else ""))
        peak = sgemm_peak(executor, threads)
    seconds = statistics.median(ours)
    rate = statistics.median(flops) / seconds / 1e9
    figures = {
        "task": task,
        "batch": len(problem.labels),
        "threads": threads,
        "seconds": round(seconds, 4),
        "sweeps": [round(float(s), 2) for s in result.sweeps.mean(axis=1)],
        "residual": float(result.residual.max()),
        "gflop": round(statistics.median(flops) / 1e9, 1),
        "gflop_per_second": round(rate, 1),
        "sgemm_peak": round(peak, 1),
        "share_of_peak": round(rate / peak, 3),
        "peak_resident_gib": peak_resident_gib(),
    }
    if peer:
        figures["peer_seconds"] = round(statistics.median(theirs), 3)
        figures["ratio"] = round(statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 2)
    return figures


def table(figures: list[dict]) -> str:
    """The figures of several tasks as a Markdown table."""
    lines = [
        "| task | batch | seconds | sweeps | GFLOP/s (share of peak) | memory | peer's seconds | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        sweeps = "+".join(f"{s:.0f}" for s in f["sweeps"])
        rate = f"{f['gflop_per_second']:.0f} ({f['share_of_peak']:.0%} of {f['sgemm_peak']:.0f})"
        peer = f"{f['peer_seconds']:.2f} | {f['ratio']:.1f}" if "ratio" in f else "– | –"
        lines.append(
            f"| {f['task']} | {f['batch']} | {f['seconds']:.2f} | {sweeps} | {rate} | "
            f"{f['peak_resident_gib']} GiB | {peer} |"
        )
    return "\n".join(lines)


def _run_peer(python: str, peer: str, task: str, batch: int, scaled_to: int, threads: int) -> float:
    command = [python, peer, "--task", task, "--batch", str(batch), "--repeat", "1", "--threads", str(threads)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])["seconds"] * scaled_to / batch


def _timed(call: Callable) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
