"""One training run from configuration to run folder: prepare, train, test once, and write it all down."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import ChainMap
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from eqnp import files
from eqnp.config import Config, load_config, to_toml
from eqnp.errors import CheckpointError, ConfigError, SettlingError
from eqnp.files import write_text
from eqnp.machine import Machine
from eqnp.machine.device import choose, name_of
from eqnp.machine.ranks import ALONE, Ranks
from eqnp.machine.threads import peak_resident_gib, return_freed_memory
from eqnp.machine.wholes import gathering
from eqnp.network import EMBEDDING, Network
from eqnp.optim import Optimizer
from eqnp.runs.checkpoint import BestOnDisk, generators, load_last, untrained
from eqnp.runs.console import epoch_line, epoch_warnings, progress_bar, refit_line
from eqnp.runs.contents import CONFIG, LAST, LOG, METRICS, check_parts, instead
from eqnp.runs.folder import (
    abandon,
    check_free,
    check_writable,
    claim,
    environment,
    in_use,
    pinned,
    read_json,
)
from eqnp.runs.local import check_local
from eqnp.runs.loop import Hooks, check_weights, fit, refit, silent
from eqnp.runs.model import PARAMETERS, Model
from eqnp.runs.own_labels import epochs_in_all, learn_own_labels
from eqnp.runs.progress import Progress
from eqnp.runs.results import measured
from eqnp.runs.signals import StopRequest
from eqnp.runs.warmstart import Beginning
from eqnp.runs.warmup import warm_up
from eqnp.text.prepare import START, Prepared, load_prepared, prepare, read_unlabelled, save_prepared
from eqnp.text.store import STORE, Split, read_store


def prepare_anew(config: Config, ranks: Ranks = ALONE) -> Prepared | None:
    """Read and encode what a configuration names, telling as it goes; all ranks take part, and the first one has it."""
    seed = config.training.seed if config.data.seed < 0 else config.data.seed
    return prepare(config, generators(seed)[0], print, ranks)


def fresh_network(config: Config) -> tuple[Network, Split]:
    """An untrained network of a configuration, over its data, and the training split."""
    prepared = prepare_anew(config)
    return untrained(prepared, Machine())[0].network, prepared.splits["train"]


def run_preparation(config: Config, folder: Path, *, numbered: bool = False, ranks: Ranks = ALONE) -> dict:
    """Read and encode all texts, look up their word vectors, and write it all to a folder that training starts from.

    ``numbered`` is as in `run_training`. Several ``ranks`` share the work; the first one writes, and has the result.
    Raises EqnpError.
    """
    if ranks.first:
        if not numbered:
            check_free(folder)
        check_writable(folder.parent if numbered else folder)
    config, started = pinned(config), time.perf_counter()
    prepared = prepare_anew(config, ranks)
    most = ranks.any(peak_resident_gib() or 0)
    if prepared is None:
        ranks.wait()
        return {}
    folder = claim_and_fill(folder, numbered, prepared)
    ranks.wait()
    print(f"prepared in {folder}; try: eqnp train {folder}")
    samples = {name: len(split) for name, split in prepared.splits.items()}
    return {
        "folder": str(folder),
        "samples": samples,
        "classes": list(prepared.classes),
        "words": prepared.ngrams.first_id - prepared.tokenizer.specials,
        "ngrams": len(prepared.ngrams),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_resident_gib": max(most, peak_resident_gib() or 0),
    }


def run_training(
    config: Config,
    folder: Path,
    *,
    prepared: Path | None = None,
    beginning: Beginning | None = None,
    numbered: bool = False,
    threads: int | None = None,
    ranks: Ranks = ALONE,
    device: str = "cpu",
) -> dict:
    """Run it all, printing as it goes; returns what is written to ``metrics.json``.

    With a ``prepared`` folder, that is taken instead of the sources that the configuration names; with a ``beginning``,
    training goes on from a trained model, with the configuration that `Beginning.config` made of its own. With
    ``numbered``, a folder that exists already is left alone and folder-2, folder-3, … is made instead. Nothing is
    written before the configuration and all data have been read and found good. Of several ``ranks`` the first one
    writes. Raises EqnpError, and Interrupted once a signal came and the state was saved.
    """
    if ranks.size > 1 and config.learning.algorithm != "ep":
        raise ConfigError(
            f"--distributed is for equilibrium propagation; {config.learning.algorithm!r} runs on one rank"
        )
    check_local(config.training, ranks)
    device = _chosen(device, config, ranks)
    if prepared:
        check_parts(prepared)
    if ranks.first:
        if not numbered:
            check_free(folder)
        check_writable(folder.parent if numbered else folder)
    started, config = time.perf_counter(), pinned(config)
    with Machine(device, config.training.shard, ranks).at_work(threads) as machine:
        if not (prepared or beginning):
            made = prepare_anew(config, ranks)
        if ranks.first:
            if beginning:
                made = beginning.prepared(config, print)
            elif prepared:
                made = load_prepared(prepared, config, mapped=ranks.size > 1)
            config = made.config
            made.weighed_texts()  # which may refuse a name
            model, optimizer = untrained(made, machine)
            folder = claim_and_fill(folder, numbered, made, is_run=True)
            made.splits.clear()  # those in memory go before the same are mapped
            made.unlabelled = None
            made.embedding = made.embedding if ranks.size == 1 else None
            return_freed_memory()
            if ranks.size == 1:
                made.splits |= read_store(folder / STORE)
                made.unlabelled = read_unlabelled(folder, config)
        folder, config = ranks.share((folder, config))
        if ranks.size > 1:
            made = load_prepared(folder, config, mapped=True)
        if not ranks.first:
            model, optimizer = untrained(made, machine)
        with in_use(folder) if ranks.first else nullcontext():
            run = TrainingRun(folder, config, made, model, optimizer, Progress(), threads, fresh=True)
            return run.finish(started)


def resume_training(folder: Path, threads: int | None = None, ranks: Ranks = ALONE, device: str = "cpu") -> dict:
    """Go on with a run from its last checkpoint, to the very bits it would have had; returns its metrics.

    A run that is finished is left as it is. The number of ``ranks`` need not be the one that it had. Raises
    CheckpointError if the folder holds no run, or a damaged one.
    """
    if not (folder / CONFIG).is_file() or not (folder / LOG).is_file():
        raise CheckpointError(instead(folder))
    started = time.perf_counter()
    with in_use(folder) if ranks.first else nullcontext():
        if (folder / METRICS).is_file():
            (folder / LAST).unlink(missing_ok=True)  # a kill may have come between the two
            print(f"{folder} is finished already")
            return read_json(folder / METRICS)
        check_parts(folder)
        config = load_config(str(folder / CONFIG))
        check_local(config.training, ranks)
        device = _chosen(device, config, ranks)
        if ranks.first:
            files.remove_leftovers(folder)
        prepared, progress = load_prepared(folder, config, mapped=ranks.size > 1), Progress()
        with Machine(device, config.training.shard, ranks).at_work(threads) as machine:
            if (folder / LAST).exists():
                model, optimizer, progress = load_last(folder / LAST, machine)
                if model.config != config:
                    raise ConfigError(
                        f"{folder / CONFIG} was changed since the run began; undo that, or start a new run from it"
                    )
            else:
                model, optimizer = untrained(prepared, machine)
            print(f"resuming {folder} after {len(progress.epochs)} epochs and {progress.batch} batches")
            run = TrainingRun(folder, config, prepared, model, optimizer, progress, threads, fresh=False)
            return run.finish(started)


@dataclass
class TrainingRun:
    """A run whose folder is claimed and filled: it trains to the end, and leaves a checkpoint wherever it stops."""

    folder: Path
    config: Config
    prepared: Prepared
    model: Model
    optimizer: Optimizer
    progress: Progress
    threads: int | None
    fresh: bool

    @property
    def ranks(self) -> Ranks:
        """The processes that train together."""
        return self.model.network.machine.ranks

    def finish(self, started: float) -> dict:
        """Train what is left, test, and write the metrics; ``started`` is when this process began with the run."""
        before = sum(event.get("seconds", 0) for event in self.progress.events) + self.progress.this_epoch.seconds
        size = {name: prod(each.shape) for name, each in self.model.network.declared.items()}
        print(f"network: {sum(size.values()):,} parameters, {size['embedding.weight']:,} of them word embeddings")
        device = self.model.network.machine.device
        print(f"device: {name_of(device)}")
        batch, ranks = self.config.training.batch, self.ranks.size
        shards = -(-batch // self.config.training.shard)
        if ranks > shards:
            enough = max(1, batch // ranks)
            print(f"{ranks} ranks, {shards} shards a batch: with training.shard={enough} or less, all have work")
        compiled = warm_up(self.config, len(self.prepared.classes), print, device)
        self.train()
        given = self.folder, self.config, self.prepared, self.model, self.progress
        metrics = measured(*given) | {
            "parameters": sum(size.values()),
            "compile_seconds": round(compiled, 1),
            "seconds": round(before + time.perf_counter() - started, 1),
            "peak_resident_gib": self.ranks.any(peak_resident_gib() or 0) or None,  # the most of any rank
            "environment": {**environment(self.threads), "device": name_of(device)},
        }
        self.ranks.wait()
        if self.ranks.first:
            write_text(self.folder / METRICS, json.dumps(metrics, indent=2) + "\n")
            (self.folder / LAST).unlink(missing_ok=True)
        print(f'saved in {self.folder} after {metrics["seconds"]:.0f} s; try: eqnp predict {self.folder} "…"')
        return metrics

    def train(self) -> None:
        """Train to the last epoch, and perhaps once more; raises Interrupted, or SettlingError, with the state before
        that saved."""
        lines = "".join(json.dumps(event) + "\n" for event in self.progress.events)
        if self.ranks.first:
            write_text(self.folder / LOG, lines)  # what came after the checkpoint comes again
        saved, splits = time.monotonic(), self.prepared.splits

        def after_batch(progress: Progress) -> None:
            nonlocal saved
            stop.received = self.ranks.any(stop.received)
            due = self.ranks.any(time.monotonic() - saved >= self.config.training.checkpoint_seconds)
            if stop.received or due:  # by all ranks, each of which has a part of what is saved
                self.save()
                saved = time.monotonic()
            stop.check(f"go on with eqnp train --resume {self.folder}")

        def checkpoint() -> None:
            self.save()
            stop.received = self.ranks.any(stop.received)
            stop.check(f"go on with eqnp train --resume {self.folder}")

        def after_epoch(progress: Progress) -> None:
            epoch = progress.epochs[-1]
            epochs = epochs_in_all(self.config, progress, len(splits["train"]))
            print(epoch_line(epoch, epochs, progress.best == epoch.epoch))
            for warning in epoch_warnings(progress, splits["train"].labels, splits["validation"].labels, self.config):
                print(warning)
            checkpoint()

        def after_refit(progress: Progress) -> None:
            print(refit_line(progress.events[-1], len(progress.epochs)))
            checkpoint()

        best = BestOnDisk(self.folder, self.model, self.optimizer)
        bar = progress_bar if self.ranks.first else silent
        hooks = Hooks(bar, self.log, after_batch, after_epoch, after_refit, best=best)
        again = self.config.training.refit and self.prepared.held_out
        if again:  # training once more ends with an epoch like the last
            hooks.after_last = self.calibrate
        with StopRequest() as stop:
            try:
                texts = self.prepared.weighed_texts()
                kept = {"progress": self.progress, "hooks": hooks}
                seed = self.config.training.seed
                if self.progress.refitted < 0:
                    given = self.model.network, self.optimizer, self.config
                    if not self.progress.own_labels:
                        fit(*given, *texts, generators(seed)[2], **kept)
                    if self.prepared.unlabelled is not None:
                        rng, begin_again = generators(seed)[2], partial(self.begin_again, best)
                        learn_own_labels(*given, self.prepared, rng, **kept, begin_again=begin_again, say=print)
                    if not again:
                        self.calibrate()
                        best.keep(self.model.network)
                    self.progress.figures, _ = self.model.evaluate(texts[1])
                if again:
                    if self.progress.refitted < 0:  # or it has gone on from there a second time
                        self.begin_again(best)
                    refit(self.model.network, self.optimizer, self.config, *texts, generators(seed)[2], **kept)
            except SettlingError as error:
                if self.fresh and not (self.folder / LAST).exists():
                    abandon(self.folder)
                    raise SettlingError(f"{error}; nothing is kept of this run") from error
                raise SettlingError(f"{error}; {self.folder} has the state of the last checkpoint") from error

    def calibrate(self) -> None:
        """Fit the temperature to the validation texts, unless the model began with what it learned from them."""
        if self.prepared.warm and self.prepared.warm.learned:
            return
        self.progress.calibration = self.model.calibrate(self.prepared.splits["validation"])

    def begin_again(self, best: BestOnDisk) -> Optimizer:
        """Be where training began; the optimiser for it."""
        start = files.load(self.folder / START, "start", mapped=self.ranks.size > 1)[0]
        embedding = start[EMBEDDING]  # that of before has learned
        prepared = dataclasses.replace(self.prepared, embedding=embedding)
        first, self.optimizer = untrained(prepared, self.model.network.machine)
        self.model.network.assign(first.network.host_parameters())
        best.optimizer = self.optimizer
        return self.optimizer

    def save(self) -> None:
        """Write the checkpoint; raises SettlingError rather than put a number on the disk that is not finite."""
        check_weights(self.model.network)
        arrays, about = self.optimizer.state()
        rows = map(self.model.network.rows_of_all, [PARAMETERS, *(f"{slot}/" for slot in self.optimizer.slots)])
        about = {**self.model.about(), "progress": dataclasses.asdict(self.progress), **about}
        with gathering(self.ranks, self.model.arrays() | arrays, dict(ChainMap(*rows))) as arrays:
            if self.ranks.first:
                files.save(self.folder / LAST, "checkpoint", arrays, about)

    def log(self, event: dict) -> None:
        """Append a line to the log, or nothing of it; raises OSError."""
        if not self.ranks.first:
            return
        with (self.folder / LOG).open("ab", buffering=0) as file:
            end, rest = file.tell(), json.dumps(event).encode() + b"\n"
            try:
                while rest:  # a disk that is full takes what fits, and then says why
                    rest = rest[file.write(rest) :]
            except OSError as error:
                file.truncate(end)
                raise OSError(error.errno, error.strerror, str(self.folder / LOG)) from error


def _chosen(device: str, config: Config, ranks: Ranks) -> str:
    """The device to train on: what was asked for, or what "auto" comes to; raises ConfigError."""
    reason = ""
    if config.learning.algorithm != "ep":
        reason = f"{config.learning.algorithm!r} is not equilibrium propagation"
    elif config.learning.estimator == "holomorphic":
        reason = "the holomorphic estimate is complex"
    elif ranks.communicator:
        reason = "--distributed is for processes on CPUs"
    if reason and device == "auto":
        return "cpu"
    chosen = choose(device)
    if reason and chosen != "cpu":
        raise ConfigError(f"--device {chosen}: {reason}, and needs --device cpu")
    return chosen


def claim_and_fill(folder: Path, numbered: bool, prepared: Prepared, is_run: bool = False) -> Path:
    """Make the folder with all that training starts from in it, or none. What makes it a run is written last."""
    folder = claim(folder, numbered)
    try:
        save_prepared(folder, prepared)
        if is_run:
            write_text(folder / LOG, "")
        write_text(folder / CONFIG, to_toml(prepared.config))
    except BaseException:
        abandon(folder)
        raise
    return folder
