"""How a job of several ranks scales, before it is paid for: bytes, seconds of work and of waiting a batch, by rank.

What is timed is training itself, on batches of a prepared folder or of random text: every rank settles as many texts
as a batch of the preset has, so that R of these make an update. What passes into a rank is held against what its batch
must fetch and is told, and a ring's share of dense weights: [2 n (4 D + 8) + 2 N] (R − 1) / R bytes, with n distinct
rows of D numbers and N bytes of dense weights.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from eqnp.architecture import build_network
from eqnp.config import Config, load_config
from eqnp.machine import Machine
from eqnp.machine.ranks import Ranks
from eqnp.machine.threads import peak_resident_gib
from eqnp.network import Network
from eqnp.optim import Optimizer, make_optimizer
from eqnp.runs.checkpoint import untrained
from eqnp.runs.contents import CONFIG, check_texts
from eqnp.runs.loop import Hooks, fit
from eqnp.runs.progress import Progress
from eqnp.text.ngrams import without_repeats
from eqnp.text.prepare import load_prepared
from eqnp.text.store import Split
from eqnp.text.tokens import Ragged

ROWS, DIMENSION, SPREAD = 100_000, 300, 0.15  # of the table of a benchmark, and how large its numbers are
FIGURES = ("seconds", "waited", "received", "sent", "least", "ahead")  # of a batch


def random_split(config: Config, texts: int, features: Sequence[str], rng: np.random.Generator) -> Split:
    """Texts of random ids that are as unequally common as words are (Zipf's law), with random labels of two classes."""
    most, made = config.data.max_tokens, {}
    for name in (*config.data.columns, *features):
        lengths = rng.integers(max(1, most // 8), most // 2 + 2, texts)
        ids = (2 + np.exp(rng.random(lengths.sum()) * np.log(ROWS - 3))).astype(np.int32)
        every = Ragged(ids, np.concatenate([[0], np.cumsum(lengths)]))
        made[name] = without_repeats(every) if config.data.distinct or name in features else every
    split = {name: made.pop(name) for name in config.data.columns}
    return Split(split, rng.integers(0, 2, texts), features=made)


def made_up(config: Config, machine: Machine, texts: int) -> tuple[Network, Optimizer, Split]:
    """The network of a configuration over a table of random vectors, and random texts."""
    rng = np.random.default_rng(0)
    table = rng.standard_normal((ROWS, DIMENSION), np.float32) * np.float32(SPREAD)
    table[0] = 0
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    given = {"machine": machine.of_shards(config.training.shard), "features": ROWS}
    network = build_network(config.network, table, 2, positions, rng, **given)
    return network, make_optimizer(network, config.optimizer), random_split(config, texts, [*network.features], rng)


def prepared(
    folder: Path, config: Config, machine: Machine, texts: int, rng: np.random.Generator
) -> tuple[Network, Optimizer, Split]:
    """The untrained network of a prepared folder or run, and some of its training texts."""
    made = load_prepared(folder, config, mapped=machine.ranks.size > 1)
    model, optimizer = untrained(made, machine)
    train = made.splits["train"]
    return model.network, optimizer, train.take(rng.integers(0, len(train), texts))


def measure_ranks(
    ranks: Ranks,
    *,
    preset: str = "imdb",
    folder: Path | None = None,
    repeat: int = 20,
    threads: int | None = None,
    settings: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict:
    """Train ``repeat`` batches on all ranks, of ``training.batch`` texts on each of them, and say what they took.

    Texts are those of a prepared ``folder``, or random. Returns for each rank the median seconds and the mean bytes of
    a batch, and their means over the ranks; the mean seconds too, which alone can be held against those of local steps,
    where several batches are timed together. Raises ConfigError and CheckpointError.
    """
    if folder:
        check_texts(folder, "give one that has them")
    config = load_config(str(folder / CONFIG) if folder else preset, settings)
    each, rng = config.training.batch, np.random.default_rng(1)
    every, texts = each * ranks.size, each * ranks.size * (repeat + 1)
    with Machine("cpu", config.training.shard, ranks).at_work(threads) as machine:
        if folder:
            network, optimizer, train = prepared(folder, config, machine, texts, rng)
        else:
            network, optimizer, train = made_up(config, machine, texts)
        training = dataclasses.replace(config.training, batch=every, epochs=1, min_updates=0, patience=0)
        config = dataclasses.replace(config, training=training)
        dense = sum(value.nbytes for name, value in network.parameters.items() if name not in network.tables)
        found, traffic = [], ranks.traffic
        before = [0, time.perf_counter(), *dataclasses.astuple(traffic)]

        def after_batch(progress: Progress) -> None:
            nonlocal before
            now = [progress.batch, time.perf_counter(), *dataclasses.astuple(traffic)]
            batches, *each = (b - a for a, b in zip(before, now, strict=True))  # several, of local steps
            seconds, received, sent, waited, needed, ahead = (one / batches for one in each)
            least = 2 * (needed + dense) * (ranks.size - 1) / ranks.size
            found.append((seconds, waited, received, sent, least, ahead))
            before = now

        fit(network, optimizer, config, train, train.take(np.arange(2)), rng, hooks=Hooks(after_batch=after_batch))
    columns = list(zip(*found, strict=True))  # rows are fetched before the batch: of bytes only the sum adds up
    mine = {name: statistics.median(column[1:]) for name, column in zip(FIGURES[:2], columns, strict=False)}
    mine |= {name: statistics.mean(column) for name, column in zip(FIGURES[2:], columns[2:], strict=True)}
    mine |= {"work": mine["seconds"] - mine["waited"], "peak_resident_gib": peak_resident_gib()}
    mine["mean_seconds"], waited = (statistics.mean(column[1:]) for column in columns[:2])
    mine["mean_work"] = mine["mean_seconds"] - waited
    by_rank = ranks.communicator.allgather(mine) if ranks.communicator else [mine]
    figures = {name: statistics.mean(one[name] for one in by_rank) for name in mine}
    figures |= {"ranks": ranks.size, "batch": each, "dense_bytes": dense, "reduction": ranks.reduction}
    for line in table(by_rank, figures):
        say(line)
    return figures | {"by_rank": by_rank}


def table(by_rank: list[dict], figures: dict) -> list[str]:
    """The figures of each rank as a Markdown table, and what they come to."""
    lines = [
        "| rank | received, MB | sent, MB | ms a batch | of work | of waiting | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for rank, one in enumerate(by_rank):
        bytes_ = f"{one['received'] / 1e6:.2f} | {one['sent'] / 1e6:.2f}"
        seconds = " | ".join(f"{1e3 * one[name]:.1f}" for name in ("seconds", "work", "waited"))
        lines.append(f"| {rank} | {bytes_} | {seconds} | {one['peak_resident_gib']} GiB |")
    texts = figures["ranks"] * figures["batch"] / figures["seconds"]
    lines.append(f"{figures['ranks']} ranks, {figures['batch']} texts each: {texts:,.0f} texts a second, "
                 f"{figures['work'] / figures['seconds']:.0%} of the time at work")  # fmt: skip
    if figures["least"]:
        ratio, ahead = figures["received"] / figures["least"], figures["ahead"] / max(1, figures["received"])
        lines.append(
            f"into a rank {ratio:.2f} of [2 n (4 D + 8) + 2 N] (R - 1) / R bytes; {ahead:.0%} while it settled"
        )
    return lines
