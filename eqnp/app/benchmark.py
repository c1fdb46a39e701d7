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
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from eqnp.config import Config, load_config
from eqnp.errors import ConfigError
from eqnp.kernels import load
from eqnp.learning import Estimate, estimate
from eqnp.machine.buffers import Workspace
from eqnp.machine.device import describe
from eqnp.machine.gradients import RowGradient
from eqnp.machine.threads import available_cores, peak_resident_gib, workers
from eqnp.network import Network
from eqnp.optim import Adam
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model
from eqnp.synapses import Segment
from eqnp.text.store import STORE, bucketed, read_split

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

    def __post_init__(self):
        # A run's first step meets the means of Adam for the first time, and waits for the system; all others do not.
        for means in (*self.optimizer.mean.values(), *self.optimizer.square.values()):
            self.network.kernels.fill(means, 0)

    def step(self, executor, workspace: Workspace | None = None) -> Estimate:
        """One training batch."""
        target = one_hot(self.labels, self.network)
        run = self.config.training
        result = estimate(
            self.network, self.segments, target, self.config.learning, self.config.settling,
            executor=executor, shard=run.shard, workspace=workspace,
        )  # fmt: skip
        self.optimizer.step(result.gradients, 0.0, executor)
        return result


def make_problem(
    task: str, batch: int | None = None, seed: int = 0, settings: Sequence[str] = (), device: str = "cpu"
) -> Problem:
    """The network of a task at full size, and a batch whose texts use a quarter to all of their positions."""
    config = _to_tolerance(load_config(PRESETS[task], settings), task)
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((WORDS, DIMENSION), np.float32) * np.float32(SPREAD)
    table[0] = 0
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    classes = 3 if task == "snli" else 2
    network = Network(config.network, table, classes, positions, rng, device)
    size, segments = batch or config.training.batch, {}
    for name, n in positions.items():
        lengths = rng.integers(max(1, n // 4), n + 1, size)
        ids = rng.integers(1, WORDS, (size, n)).astype(np.int32)
        segments[name] = Segment(np.where(np.arange(n) < lengths[:, None], ids, 0), lengths)
    return Problem(config, network, Adam(network, config.optimizer), segments, rng.integers(0, classes, size))


def load_problem(task: str, run: Path, batch: int | None = None, batch_number: int = 0, device: str = "cpu") -> Problem:
    """The trained network of a run and its training batch number ``batch_number``; ConfigError for another task's."""
    model = Model.load(run, device)
    config, network = _to_tolerance(model.config, task), model.network
    wanted = load_config(PRESETS[task])
    if (config.network, config.data.max_tokens) != (wanted.network, wanted.data.max_tokens):
        raise ConfigError(f"{run}: its network is not that of the preset {PRESETS[task]!r}; train that one")
    split = read_split(run / STORE, "train")
    batches = bucketed(split, batch or config.training.batch, np.random.default_rng(0))
    rows = next(itertools.islice(batches, batch_number, None))
    return Problem(config, network, Adam(network, config.optimizer), *split.batch(rows))


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
            total += 2 * width * width * tokens * 2  # static drive, contrast of the projection
        if problem.config.learning.train_embeddings:
            total += 4 * rows * width * slots.sum() * phases
    return float(total)


def useful_bytes(problem: Problem, result: Estimate) -> float:
    """Bytes that one training batch cannot but move, by formula: every weight once a product, every memory once a
    retrieval, and what Adam reads and writes."""
    network, item = problem.network, problem.network.dtype.itemsize
    phases, halves = result.sweeps.shape[0] - 1, 2 * result.sweeps.max(axis=1).sum()
    total = 0.0
    for synapse in network.synapses:
        total += int(np.prod(synapse.shapes[f"{synapse.name}.weight"])) * (halves + 1)  # each half-sweep; the contrast
    for layer, attention in zip(network.attention, network.config.attention, strict=True):
        slots = problem.segments[attention.memory].lengths
        total += layer.shape[1] * slots.sum() * (result.sweeps.max(axis=1).sum() + 2 * phases)
    learned = sum(g.values.size if isinstance(g, RowGradient) else g.size for g in result.gradients.values())
    return float((total + 7 * learned) * item)


def device_ceilings(kernels, size: int = 8192, repeat: int = 7) -> tuple[float, float, float]:
    """Measured rates of a device: float32 products of this size, GFLOP/s, median and best; and copies, GB/s (read and
    written), best."""
    a = kernels.device(np.random.default_rng(0).standard_normal((size, size), np.float32))  # zeros would run faster
    out = kernels.empty((size, size), np.float32)
    kernels.product(a, a, out)  # compiles
    kernels.copy(a, out)
    products = [kernels.timed(lambda: kernels.product(a, a, out)) for _ in range(repeat)]
    copy = min(kernels.timed(lambda: kernels.copy(a, out)) for _ in range(repeat))
    work = 2 * size**3 / 1e9
    return work / statistics.median(products), work / min(products), 2 * 4 * size**2 / copy / 1e9


def sgemm_rates(executor, threads: int, size: int = 2048, repeat: int = 7) -> tuple[float, float]:
    """Measured float32 GEMM rate of all threads together, GFLOP/s, one product per thread: median and best of a few."""
    rng = np.random.default_rng(0)
    pairs = [rng.random((2, size, size), np.float32) for _ in range(threads)]
    out = np.empty((threads, size, size), np.float32)

    def multiply(i: int) -> None:
        np.matmul(pairs[i][0], pairs[i][1], out=out[i])

    seconds = [_timed(lambda: list(executor.map(multiply, range(threads)))) for _ in range(1 + repeat)][1:]
    work = 2 * threads * size**3 / 1e9
    return work / statistics.median(seconds), work / min(seconds)


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
    threads, kernels = threads or available_cores(), load(device)
    workspace, rows = Workspace(kernels.empty), []
    if kernels.ASYNCHRONOUS:
        say(f"{describe(device)}; ceilings are measured with the same products")
    with workers(threads) as executor:
        for number in range(repeat + 1):
            # The same batch at the same weights would get easier by training on it: start afresh each time.
            problem = result = None
            if weights:
                problem = load_problem(task, weights, batch, number, device)
            else:
                problem = make_problem(task, batch, settings=settings, device=device)
            results: list[Estimate] = []
            seconds = kernels.timed(lambda: results.append(problem.step(executor, workspace)))  # noqa: B023
            result = results[0]
            if number == 0:
                say(f"first batch {seconds:.2f} s, kernels compiled or loaded: not counted")
                continue
            size, theirs = len(problem.labels), None
            if peer:
                theirs = peer.seconds(task, size, threads, device)
            work, moved = useful_flops(problem, result) / 1e9, useful_bytes(problem, result) / 1e9
            if kernels.ASYNCHRONOUS:
                sgemm, best, bandwidth = device_ceilings(kernels)
            else:
                sgemm, best, bandwidth = *sgemm_rates(executor, threads), 0.0
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
    if kernels.ASYNCHRONOUS:
        figures["device"] = describe(device)
        figures["gigabytes"] = round(statistics.median(moved), 2)
        figures["gigabytes_per_second"] = round(statistics.median(m / o for m, o in zip(moved, ours, strict=True)), 1)
        figures["copy_peak"] = round(statistics.median(bandwidths), 1)
        batches = [kernels.breakdown(lambda: problem.step(None, workspace)) for _ in range(3)]
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


def _timed(call: Callable) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
