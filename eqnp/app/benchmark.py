"""How long a training batch takes, where its floating-point work goes, and how near that comes to large products.

A batch is timed as training runs it: gather, settle free and nudged, contrast, Adam. Inputs are random vectors of the
size of word vectors with the lengths of real text, so that the figures need no data. "Useful" work is counted by
formula: the two products of every dense synapse and of every attention layer per sweep, the static drives, and the
contrasts. Nothing else is counted, so the rate is a lower bound.

Where the time of an SNLI batch goes (two threads, 0.61 s): feedback and retrieval 0.28, of which retrieval has a fifth;
forward 0.18; contrasts 0.08; gathering and the static drives 0.02; Adam 0.02; copies of states 0.01. Of a large square
product's rate, feedback reaches 95 % and forward 85 %: BLAS packs the weight anew for each product, which 200 samples
must pay for (with 100 it is 10 points less). Retrieval, bound by memory, and the padding that the contrast of the
projections multiplies are most of the rest. A batch of the recommended network (one thread) spends a fifth of its time
on retrieval, and an eighth each on Adam's rows, on the contrast of the memories and on adding it up by word: all of it
waits for memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np

from eqnp.architecture import build_network
from eqnp.config import Config, load_config
from eqnp.errors import ConfigError
from eqnp.learning import Estimate, estimate
from eqnp.machine import Machine
from eqnp.machine.ceilings import ceilings
from eqnp.machine.device import name_of
from eqnp.machine.gradients import entries
from eqnp.machine.threads import available_cores, peak_resident_gib
from eqnp.network import Network
from eqnp.optim import Optimizer, make_optimizer
from eqnp.runs.contents import check_texts
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model
from eqnp.states import Segment
from eqnp.text.store import STORE, bucketed, read_split

PRESETS = {"imdb": "imdb-paper", "snli": "snli-paper", "recommended": "imdb"}
RESIDUAL = 1e-5  # to which the paper's networks are settled here, instead of running all of T and K
WORDS, DIMENSION, SPREAD = 20_000, 300, 0.15  # vocabulary and word vectors of a benchmark


@dataclasses.dataclass
class Problem:
    """A network with its optimiser and one batch of random text."""

    config: Config
    network: Network
    optimizer: Optimizer
    batch: dict[str, Segment]
    labels: np.ndarray

    def __post_init__(self):
        # A run's first step meets the means of Adam for the first time, and waits for the system; all others do not.
        for held in self.optimizer.held.values():
            for array in held.values():
                self.network.kernels.fill(array, 0)

    def step(self) -> Estimate:
        """One training batch."""
        target = one_hot(self.labels, self.network)
        result = estimate(self.network, self.batch, target, self.config.learning, self.config.settling)
        self.optimizer.step(self.network, result.gradients)
        return result


def make_problem(
    task: str,
    batch: int | None = None,
    seed: int = 0,
    settings: Sequence[str] = (),
    machine: Machine | None = None,
) -> Problem:
    """The network of a task at full size, and a batch whose texts use a quarter to all of their positions."""
    config = _to_tolerance(load_config(PRESETS[task], settings), task)
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((WORDS, DIMENSION), np.float32) * np.float32(SPREAD)
    table[0] = 0
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    classes = 3 if task == "snli" else 2
    machine = (machine or Machine()).of_shards(config.training.shard)
    network = build_network(config.network, table, classes, positions, rng, machine=machine)
    size, segments = batch or config.training.batch, {}
    for name, n in positions.items():
        lengths = rng.integers(max(1, n // 4), n + 1, size)
        ids = rng.integers(1, WORDS, (size, n)).astype(np.int32)
        segments[name] = Segment(np.where(np.arange(n) < lengths[:, None], ids, 0), lengths)
    optimizer = make_optimizer(network, config.optimizer)
    return Problem(config, network, optimizer, segments, rng.integers(0, classes, size))


def load_problem(
    task: str, run: Path, batch: int | None = None, batch_number: int = 0, machine: Machine | None = None
) -> Problem:
    """The trained network of a run and its training batch number ``batch_number``; ConfigError for another task's."""
    check_texts(run, "give a run that has them")
    model = Model.load(run, machine)
    config, network = _to_tolerance(model.config, task), model.network
    wanted = load_config(PRESETS[task])
    if (config.network, config.data.max_tokens) != (wanted.network, wanted.data.max_tokens):
        raise ConfigError(f"{run}: its network is not that of the preset {PRESETS[task]!r}; train that one")
    split = read_split(run / STORE, "train")
    batches = bucketed(split, batch or config.training.batch, np.random.default_rng(0))
    rows = next(itertools.islice(batches, batch_number, None))
    return Problem(config, network, make_optimizer(network, config.optimizer), *split.batch(rows))


def _to_tolerance(config: Config, task: str) -> Config:
    """The paper's networks are settled to `RESIDUAL`, in even–odd sweeps, instead of running all of T and K."""
    if task == "recommended":
        return config
    tolerance = RESIDUAL / min(1.0, config.learning.beta)
    settling = dataclasses.replace(config.settling, order="even-odd", tolerance=tolerance, accelerate=True)
    return dataclasses.replace(config, settling=settling)


def useful_flops(problem: Problem, result: Estimate) -> float:
    """Floating-point operations of one training batch, by formula; a multiply and an add count as two."""
    network, total = problem.network, 0.0
    phases, size = result.sweeps.shape[0] - 1, len(problem.labels)
    # The first feedback of a free phase comes from silence, and the first half-sweeps of a nudged one have no news.
    halves = 2 * result.sweeps - np.array([1] + [2] * phases)[:, None]
    retrievals = (np.ceil(result.sweeps) - np.array([0] + [1] * phases)[:, None]).sum(axis=0)
    for units in _weights_between_layers(network):
        total += 2 * units * halves.sum()  # forward or feedback
        total += 2 * units * phases * size  # contrast
    for layer in network.attention:
        rows, width = layer.shape
        slots = problem.batch[problem.network.segment_of[layer.potential.memory]].lengths
        total += 4 * rows * width * (slots * retrievals).sum()  # logits and retrieval
        if layer.segment:
            tokens = problem.batch[layer.segment].lengths.sum()
            total += 2 * width * width * tokens * 2  # static drive, contrast of the projection
        if problem.config.learning.train_embeddings:
            total += 4 * rows * width * slots.sum() * phases
    return float(total)


def _weights_between_layers(network: Network) -> list[int]:
    """The numbers of weights of each synapse between layers, without biases."""
    return [prod(p.shape) for s in network.synapses if s.pres for p in s.parameters.values() if p.decays]


def useful_bytes(problem: Problem, result: Estimate) -> float:
    """Bytes that one training batch cannot but move, by formula: every weight once a product, every memory once a
    retrieval, and what Adam reads and writes."""
    network, item = problem.network, problem.network.dtype.itemsize
    phases, halves = result.sweeps.shape[0] - 1, 2 * result.sweeps.max(axis=1).sum()
    total = 0.0
    for units in _weights_between_layers(network):
        total += units * (halves + 1)  # each half-sweep; the contrast
    for layer in network.attention:
        slots = problem.batch[problem.network.segment_of[layer.potential.memory]].lengths
        total += layer.shape[1] * slots.sum() * (result.sweeps.max(axis=1).sum() + 2 * phases)
    learned = sum(entries(gradient).size for gradient in result.gradients.values())
    return float((total + 7 * learned) * item)


@dataclasses.dataclass
class Peer:
    """Another program for the same job, run as ``PYTHON SCRIPT --task T --batch B --repeat 1 --threads N``; with
    ``--device cuda`` for a GPU.

    Its last line is JSON with its ``seconds`` per batch; measured at another ``batch``, they are scaled in proportion.
    """

    script: str
    python: str = sys.executable
    batch: int | None = None

    def seconds(self, task: str, size: int, threads: int, device: str = "cpu") -> float:
        """Its time for one batch of ``size`` samples."""
        batch = self.batch or size
        options = {"task": task, "batch": batch, "repeat": 1, "threads": threads}
        if device != "cpu":
            options["device"] = device
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        result = subprocess.run([self.python, self.script, *words], capture_output=True, text=True, check=True)
        return json.loads(result.stdout.splitlines()[-1])["seconds"] * size / batch


def measure(
    task: str,
    *,
    batch: int | None = None,
    repeat: int = 3,
    threads: int | None = None,
    peer: Peer | None = None,
    weights: Path | None = None,
    settings: Sequence[str] = (),
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> dict:
    """Time training batches of a task, in turn with a peer's if there is one.

    ``weights`` names a run folder whose trained network is timed, on batches of its own text, instead of fresh weights
    on random text. Returns medians: seconds, sweeps per phase, GFLOP/s, the share of the rate of large products timed
    right after each batch (of their median rate, and of their best), the ratio to the peer; and the peak memory in GiB.
    On a ``device`` seconds are its own (by its events), and the rate of its memory is told beside, as is what each kind
    of work takes.
    """
    threads, rows, on_gpu = threads or available_cores(), [], device == "cuda"
    if on_gpu:
        say(f"{name_of(device)}; ceilings are measured with the same products")
    with Machine(device).at_work(threads) as machine:
        kernels = machine.kernels
        for number in range(repeat + 1):
            # The same batch at the same weights would get easier by training on it: start afresh each time.
            problem = result = None
            if weights:
                problem = load_problem(task, weights, batch, number, machine)
            else:
                problem = make_problem(task, batch, settings=settings, machine=machine)
            results: list[Estimate] = []
            seconds = kernels.timed(lambda: results.append(problem.step()))  # noqa: B023
            result = results[0]
            if number == 0:
                say(f"first batch {seconds:.2f} s, kernels compiled or loaded: not counted")
                continue
            size, theirs = len(problem.labels), None
            if peer:
                theirs = peer.seconds(task, size, threads, device)
            work, moved = useful_flops(problem, result) / 1e9, useful_bytes(problem, result) / 1e9
            sgemm, best, bandwidth = ceilings(machine, threads)
            sweeps = result.sweeps.mean(axis=1)
            rows.append((seconds, work, work / seconds, sgemm, best, moved, bandwidth, *sweeps, theirs))
            say(f"ours {seconds:.3f} s, {work / seconds / sgemm:.0%} of {sgemm:.0f} GFLOP/s"
                + (f", peer {theirs:.3f} s" if peer else ""))  # fmt: skip
    ours, work, rates, sgemms, bests, moved, bandwidths, *sweeps, theirs = zip(*rows, strict=True)
    figures = {
        "task": task,
        "batch": size,
        "threads": threads,
        "trained": weights is not None,
        "seconds": round(statistics.median(ours), 4),
        "sweeps": [round(float(statistics.median(s)), 2) for s in sweeps],
        "residual": float(result.residual.max()),
        "gflop": round(statistics.median(work), 1),
        "gflop_per_second": round(statistics.median(rates), 1),
        "sgemm": round(statistics.median(sgemms), 1),
        "share_of_sgemm": round(statistics.median(r / s for r, s in zip(rates, sgemms, strict=True)), 3),
        "share_of_best_sgemm": round(statistics.median(r / s for r, s in zip(rates, bests, strict=True)), 3),
        "peak_resident_gib": peak_resident_gib(),
    }
    if on_gpu:
        figures["device"] = name_of(device)
        figures["gigabytes"] = round(statistics.median(moved), 2)
        figures["gigabytes_per_second"] = round(statistics.median(m / o for m, o in zip(moved, ours, strict=True)), 1)
        figures["copy_peak"] = round(statistics.median(bandwidths), 1)
        batches = [kernels.breakdown(problem.step) for _ in range(3)]
        parts = min(batches, key=lambda parts: sum(parts.values()))  # the host may be held up
        figures["milliseconds"] = {name: round(1000 * part, 2) for name, part in parts.items()}
    if peer:
        figures["peer_seconds"] = round(statistics.median(theirs), 3)
        figures["ratio"] = round(statistics.median(t / o for t, o in zip(theirs, ours, strict=True)), 2)
    return figures


GROWTH = {  # what may grow, and the setting that makes it so
    "batch": lambda size, config: f"training.batch={size}",
    "positions": lambda size, config: f"data.max_tokens={size}",
    "hidden": lambda size, config: f"network.hidden={[size, *config.network.hidden[1:]]}",
}


def growth(task: str, axis: str, sizes: Sequence[int], repeat: int = 3, threads: int | None = None) -> list[dict]:
    """`measure` of a task at each of several batch sizes, numbers of positions or of units in the first dense layer."""
    rows = []
    for size in sizes:
        setting = GROWTH[axis](size, load_config(PRESETS[task]))
        figures = measure(task, repeat=repeat, threads=threads, settings=[setting])
        rows.append({"axis": axis, "size": size} | figures)
    return rows


def table(figures: list[dict]) -> str:
    """The figures of several tasks as a Markdown table."""
    lines = [
        "| task | batch | seconds | sweeps | GFLOP/s (share of sgemm) | memory | peer's seconds | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        sweeps = "+".join(f"{s:.0f}" for s in f["sweeps"])
        rate = f"{f['gflop_per_second']:.0f} ({f['share_of_sgemm']:.0%} of {f['sgemm']:.0f})"
        peer = f"{f['peer_seconds']:.2f} | {f['ratio']:.1f}" if "ratio" in f else "– | –"
        lines.append(
            f"| {f['task']}{', trained' * f['trained']} | {f['batch']} | {f['seconds']:.2f} | {sweeps} | {rate} | "
            f"{f['peak_resident_gib']} GiB | {peer} |"
        )
    for f in figures:
        if parts := f.get("milliseconds"):
            longest = ", ".join(f"{name} {part:.1f} ms" for name, part in list(parts.items())[:8])
            rate = f"{f['gigabytes_per_second']:.0f} of {f['copy_peak']:.0f} GB/s"
            lines += ["", f"{f['task']} on {f['device']}: {longest}; {rate}"]
    return "\n".join(lines)
