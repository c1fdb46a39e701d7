"""One training run from configuration to run folder: prepare, baseline, train, test once, and write it all down.

RUN/config.toml    the whole configuration, every key; `eqnp train RUN/config.toml` repeats the run
RUN/data.h5        token ids, lengths, labels and vocabulary (see `eqnp.text.store`)
RUN/log.jsonl      one line per epoch
RUN/model.h5       the best epoch by validation accuracy (see `eqnp.checkpoint`)
RUN/metrics.json   final figures and the environment they were measured in
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from eqnp.checkpoint import write_text
from eqnp.classifier import MODEL, SequenceClassifier
from eqnp.config import Config, to_toml
from eqnp.errors import ConfigError, SettlingError
from eqnp.learning import estimate
from eqnp.network import Network
from eqnp.optim import Adam
from eqnp.parallel import available_cores, peak_resident_gib, workers
from eqnp.synapses import Segment
from eqnp.text.prepare import Prepared, prepare, save_prepared
from eqnp.text.store import STORE, Split, write_store
from eqnp.training import Epoch, Log, evaluate, fit, one_hot

RIVALS = {"majority": "majority", "bag_of_words": "bag of words", "mean_vector": "mean word vector"}
NAMES = {
    "ep": "equilibrium propagation",
    "bptt": "backpropagation through time",
    "implicit": "implicit differentiation",
}


def build_network(config: Config, prepared: Prepared, rng: np.random.Generator) -> Network:
    """The network of a configuration over prepared data, float32."""
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    return Network(config.network, prepared.embedding, len(prepared.classes), positions, rng)


def fresh_network(config: Config) -> tuple[Network, Split]:
    """An untrained network of a configuration, over its data, and the training split."""
    rng = np.random.default_rng(config.training.seed)
    prepared = prepare(config, rng, print)
    return build_network(config, prepared, rng), prepared.splits["train"]


def warm_up(config: Config, classes: int, say: Callable[[str], None]) -> float:
    """Have all kernels of a configuration ready, by one step of a network of its kind in miniature; returns seconds.

    Says so when that takes compiling, which happens once: compiled kernels are kept on disk (`eqnp.kernels.cache`).
    """
    from eqnp.kernels import cache

    told: list[bool] = []

    def compiling() -> None:
        if not told:
            say("compiling kernels, once" if cache.enabled() else "compiling kernels (the cache is off)")
            told.append(True)

    started = time.perf_counter()
    rng = np.random.default_rng(0)
    positions = dict.fromkeys(config.data.columns, 2)
    small = dataclasses.replace(config.network, hidden=tuple(2 for _ in config.network.hidden))
    embedding = rng.standard_normal((3, 2), np.float32)
    with cache.listening(compiling):
        network = Network(small, embedding, classes, positions, rng)
        segments = {name: Segment(np.ones((1, 2), np.int32), np.full(1, 2)) for name in positions}
        settling = dataclasses.replace(config.settling, free_sweeps=3, nudged_sweeps=3)
        result = estimate(network, segments, one_hot(np.zeros(1, int), network), config.learning, settling)
        Adam(network, config.optimizer).step(result.gradients, 0.0)
    seconds = time.perf_counter() - started
    if told:
        say(f"compiled in {seconds:.1f} s")
    return seconds


def run_preparation(config: Config, folder: Path, *, numbered: bool = False) -> dict:
    """Read and encode all texts, look up their word vectors, and write it all to a folder that training starts from.

    ``numbered`` is as in `run_training`. Raises EqnpError.
    """
    if not numbered:
        _check_free(folder)
    prepared = prepare(config, np.random.default_rng(config.training.seed), print)
    folder = _claim(folder, numbered)
    config = _with_absolute_paths(config)
    write_text(folder / "config.toml", to_toml(config))
    save_prepared(folder, prepared, config)
    print(f"prepared in {folder}; try: eqnp train {folder}")
    samples = {name: len(split) for name, split in prepared.splits.items()}
    return {
        "folder": str(folder),
        "samples": samples,
        "classes": list(prepared.classes),
        "words": len(prepared.words) - 2,
    }


def run_training(
    config: Config,
    folder: Path,
    *,
    preset: str = "",
    prepared: Prepared | None = None,
    numbered: bool = False,
    threads: int | None = None,
) -> dict:
    """Run it all, printing as it goes; returns what is written to ``metrics.json``, ``preset`` (or folder) included.

    What was ``prepared`` before is taken instead of being made from the sources of the configuration. With
    ``numbered``, a folder that exists already is left alone and folder-2, folder-3, … is made instead. Nothing is
    written before the configuration and all data have been read and found good. Raises EqnpError.
    """
    if not numbered:
        _check_free(folder)
    with workers(threads) as executor:
        return _run(config, folder, preset, prepared, numbered, threads, executor)


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is not an empty folder; choose another with --out")


def _claim(folder: Path, numbered: bool) -> Path:
    """Make the run folder, so that no other run that starts at the same time can have it too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(2):
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            if not numbered:
                _check_free(folder)
                return folder
            base = folder.name.removesuffix(f"-{number - 1}") if number > 2 else folder.name
            folder = folder.with_name(f"{base}-{number}")


def _run(config, folder, preset, prepared, numbered, threads, executor: Executor) -> dict:
    from eqnp.baselines import baselines

    started, rng = time.perf_counter(), np.random.default_rng(config.training.seed)
    prepared = prepared or prepare(config, rng, print)
    network = build_network(config, prepared, rng)
    optimizer = Adam(network, config.optimizer)
    splits = prepared.splits
    prior = np.bincount(splits["train"].labels, minlength=len(prepared.classes)) / len(splits["train"])
    model = SequenceClassifier(network, config, prepared.tokenizer, prepared.classes, prior)
    size = {name: value.size for name, value in network.parameters.items()}
    print(f"network: {sum(size.values()):,} parameters, {size['embedding.weight']:,} of them word embeddings")

    folder = _claim(folder, numbered)
    write_text(folder / "config.toml", to_toml(_with_absolute_paths(config)))
    write_store(folder / STORE, splits, prepared.words)
    log = Log(folder / "log.jsonl")
    start = prepared.embedding.copy()

    compiled = warm_up(config, len(prepared.classes), print)

    def after_epoch(epoch: Epoch, best: bool) -> None:
        log.write(dataclasses.asdict(epoch))
        if best:
            model.save(folder)
        print(_line(epoch, config.training.epochs, best))

    try:
        fitted = fit(
            network,
            optimizer,
            config,
            splits["train"],
            splits["validation"],
            rng,
            executor,
            bar=progress_bar,
            after_epoch=after_epoch,
        )
    except (KeyboardInterrupt, SettlingError) as stop:
        if (folder / MODEL).exists():
            raise type(stop)(f"{stop}; the best epoch so far is saved in {folder}") from None
        shutil.rmtree(folder)  # it was empty when this run claimed it
        raise type(stop)(f"{stop}; no epoch was finished, nothing is kept") from None
    accuracy = {"validation": fitted.best.validation.accuracy}
    if "test" in splits:
        score = evaluate(network, splits["test"], config.settling, executor, config.training.shard)
        accuracy["test"] = score.accuracy
    seconds, memory = round(time.perf_counter() - started, 1), peak_resident_gib()
    rivals = baselines(splits, start, len(prepared.classes))
    metrics = {
        "run": str(folder),
        "preset": preset,
        "accuracy": accuracy,
        "algorithm": config.learning.algorithm,
        "baselines": {name: rival.accuracy for name, rival in rivals.items()},
        "best_epoch": fitted.best.epoch,
        "parameters": sum(size.values()),
        "classes": list(prepared.classes),
        "samples": {name: len(split) for name, split in splits.items()},
        "tokens": {name: split.coverage.tokens for name, split in splits.items()},
        "unknown_tokens": {name: split.coverage.unknown for name, split in splits.items()},
        "cut_tokens": {name: split.coverage.cut for name, split in splits.items()},
        "words": len(prepared.words) - 2,
        "words_with_vector": prepared.found,
        "compile_seconds": round(compiled, 1),
        "seconds": seconds,
        "peak_resident_gib": memory,
        "environment": environment(threads),
    }
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    print(
        f"{NAMES[config.learning.algorithm]}: {_accuracies(accuracy)} (epoch {fitted.best.epoch}, chosen on validation)"
    )
    for name, rival in rivals.items():
        print(f"baseline, {RIVALS[name]}: {_accuracies(rival.accuracy)}")
    print(f'saved in {folder} after {metrics["seconds"]:.0f} s; try: eqnp predict {folder} "…"')
    return metrics


def _with_absolute_paths(config: Config) -> Config:
    """The same configuration with files named in full, so that it repeats the run from any folder."""

    def full(source: str) -> str:
        return str(Path(source).resolve()) if source and Path(source).is_file() else source

    data, vectors = config.data, config.vectors
    sources = {"train": full(data.train), "validation": full(data.validation), "test": full(data.test)}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(data, **sources),
        vectors=dataclasses.replace(vectors, source=full(vectors.source)),
    )


def environment(threads: int | None) -> dict:
    """Versions and machine, for the record."""
    packages = ("eqnp", "numpy", "numba", "scipy", "tokenizers", "datasets", "h5py")
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "threads": threads or available_cores(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "unknown"


@contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, silent when that is not a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=name, leave=False, disable=not sys.stderr.isatty()) as bar:

        def advance(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        yield advance


def _accuracies(accuracy: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1%}" for name, value in accuracy.items())


def _line(epoch: Epoch, epochs: int, best: bool) -> str:
    sweeps = "+".join(f"{s:.0f}" for s in epoch.sweeps)
    return (
        f"epoch {epoch.epoch}/{epochs}: train loss {epoch.train.loss:.4f}, {epoch.train.accuracy:.1%}; "
        f"validation loss {epoch.validation.loss:.4f}, {epoch.validation.accuracy:.1%}{' (best)' if best else ''}; "
        f"sweeps {sweeps}, settled {min(epoch.settled):.1%}; {epoch.seconds:.0f} s"
    )
