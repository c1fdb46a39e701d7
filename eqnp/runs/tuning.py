"""An honest search for settings: drawn at random, halved by what little training shows, and judged on texts kept apart.

Every trial draws one value of each key in `SPACE` that the network has. All are trained for a quarter of their epochs,
the better half of them for half, and the better half of those for all (successive halving, Jamieson and Talwalkar
2016), each time from the start. They are compared by ``training.metric`` on one half of the validation texts. Whether
the best of them is better than the settings that the search began with is asked of the other half, which chose nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from eqnp.config import Config, from_tree, load_config, to_toml, to_tree
from eqnp.errors import ConfigError
from eqnp.files import write_text
from eqnp.machine import Machine
from eqnp.runs.checkpoint import generators, untrained
from eqnp.runs.console import CHANCE, difference_line, share_of
from eqnp.runs.folder import check_writable, in_use, pinned, read_json
from eqnp.runs.loop import BestInMemory, Hooks, fit
from eqnp.runs.metrics import compared
from eqnp.runs.model import Model
from eqnp.runs.progress import Score
from eqnp.runs.signals import StopRequest
from eqnp.runs.training import claim_and_fill, prepare_anew
from eqnp.text.prepare import Prepared, load_prepared
from eqnp.text.store import Split
from eqnp.votes import VOTES

FAMILY = "embedding"  # as `eqnp.network` has it
STATE, BEST, PREPARED = "tune.json", "best.toml", "prepared"
RUNGS = (0.25, 0.5, 1.0)  # of the epochs, at which all, the better half, and the better half of those are trained
TRIALS, BRACKET = 16, 8  # drawn where nothing else is said; drawn at a time where there is a time limit
VALIDATION = 2  # times the usual share is held out: half of it is to choose by, half of it to judge by
MOST_HELD_OUT = 0.5


@dataclass(frozen=True)
class Range:
    """What is drawn for a key: a number between two, evenly in its logarithm if ``log``, or one of the ``choices``.

    With ``times``, what is drawn is multiplied by that number of the configuration: its own value, mostly.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple = ()
    times: Callable[[Config], float] | None = None
    where: Callable[[Config], bool] = lambda config: True

    def draw(self, config: Config, rng: np.random.Generator) -> float | int:
        """A value for a configuration: a whole number from ``choices``, else one of three digits."""
        factor = self.times(config) if self.times else 1
        if self.choices:
            return max(1, round(factor * self.choices[rng.integers(len(self.choices))]))
        low, high = (np.log(self.low), np.log(self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(low, high)
        return float(f"{factor * (np.exp(value) if self.log else value):.3g}")


def _rate(config: Config, family: str) -> float:
    return config.optimizer.learning_rates.get(family, config.optimizer.learning_rate)


THIRD = {"low": 1 / 3, "high": 3.0, "log": True}  # of its own value, to three times that
RATE, RATES = "optimizer.learning_rate", "optimizer.learning_rates."
SPACE = (  # docs/texts.md has the same table
    Range(RATE, **THIRD, times=lambda c: c.optimizer.learning_rate),
    Range(f"{RATES}{FAMILY}", **THIRD, times=lambda c: _rate(c, FAMILY), where=lambda c: c.learning.train_embeddings),
    Range(f"{RATES}{VOTES}", **THIRD, times=lambda c: _rate(c, VOTES), where=lambda c: c.network.votes > 0),
    Range("network.votes", **THIRD, times=lambda c: c.network.votes, where=lambda c: c.network.votes > 0),
    Range("network.attention.0.queries", choices=(2, 4, 8, 16), where=lambda c: not c.network.attention[0].by_tokens),
    Range("training.word_dropout", 0.1, 0.6),
    Range("training.epochs", choices=(0.5, 1.0, 1.5, 2.0), times=lambda c: c.training.epochs),
)


def drawn(config: Config, seed: int, number: int) -> dict[str, float | int]:
    """The values by key of a trial: those of number 0 are none, and of any other they hang on seed and number alone."""
    rng = np.random.default_rng([seed, number])
    return {each.key: each.draw(config, rng) for each in SPACE if each.where(config)} if number else {}


def with_values(config: Config, values: Mapping[str, object]) -> Config:
    """A configuration with other values by key."""
    return from_tree(to_tree(config), given=values)


@dataclass
class Search:
    """A search in its folder: what it began with, its texts, and what has been found, by trial and rung.

    ``done`` has an entry for every training: its ``score`` (`eqnp.runs.progress.Score`), ``seconds``, and on the last
    rung which texts are ``right`` of those to judge by, and of the test texts, as strings of 0 and 1.
    """

    folder: Path
    config: Config
    prepared: Prepared
    seed: int
    done: dict[str, dict]
    machine: Machine
    stop: StopRequest
    say: Callable[[str], None]

    def __post_init__(self):
        if self.prepared.splits["train"].several:
            raise ConfigError("a search is for texts of one label each; train with settings of your own (--set)")
        choose, judge = halves(self.prepared.splits["validation"], np.random.default_rng([self.seed, 0]))
        splits = self.prepared.splits
        self.texts = {"train": self.prepared.weighed_texts()[0], "choose": choose, "judge": judge}
        if "test" in splits:
            self.texts["test"] = splits["test"]

    def bracket(self, numbers: list[int]) -> None:
        """Train the trials of these numbers on the first rung, and the better halves of them on those above."""
        for rung in range(len(RUNGS)):
            for number in numbers:
                self.trained(number, rung)
            ranked = sorted(numbers, key=lambda n: (self.better(n, rung), -n), reverse=True)
            numbers = sorted(ranked[: -(-len(ranked) // 2)])

    def better(self, number: int, rung: int) -> tuple[float, float]:
        """What is greater for the better of two trials on a rung."""
        return Score(**self.done[name(number, rung)]["score"]).better(self.config.training.metric)

    def trained(self, number: int, rung: int) -> None:
        """Train a trial on a rung, unless that is done, and write down what came of it; raises Interrupted."""
        if name(number, rung) in self.done:
            return
        started, values = time.perf_counter(), drawn(self.config, self.seed, number)
        config = with_values(self.config, values)
        epochs = max(1, round(RUNGS[rung] * config.training.epochs))
        updates = round(RUNGS[rung] * config.training.min_updates)
        config = replace(config, training=replace(config.training, epochs=epochs, min_updates=updates))
        model, optimizer = untrained(with_gain(self.prepared, config), self.machine)
        advice = f"go on with the same command and --out {self.folder}"
        hooks = Hooks(after_batch=lambda progress: self.stop.check(advice))
        if self.config.training.refit:  # which keeps the last epoch, and not the best
            hooks.best = _Last()
        texts = self.texts["train"], self.texts["choose"]
        progress = fit(model.network, optimizer, config, *texts, generators(config.training.seed)[2], hooks=hooks)
        epoch = progress.epochs[-1] if self.config.training.refit else progress.best_epoch
        found: dict = {"values": values, "epochs": len(progress.epochs), "score": asdict(epoch.validation)}
        if RUNGS[rung] == 1:
            found["right"] = {each: right(model, self.texts[each]) for each in ("judge", "test") if each in self.texts}
        self.done[name(number, rung)] = found | {"seconds": round(time.perf_counter() - started, 4)}
        self.save()
        self.say(f"{called(number)}, {epochs} epochs: {share_of(epoch.validation.accuracy, len(self.texts['choose']))}")

    def save(self) -> None:
        """Write down what has been found."""
        about = {"config": to_tree(self.config), "seed": self.seed, "done": self.done}
        write_text(self.folder / STATE, json.dumps(about, indent=1) + "\n")

    @property
    def seconds(self) -> float:
        """What all trainings took together."""
        return sum(each["seconds"] for each in self.done.values())

    def table(self) -> list[dict]:
        """Every trial with its values, the accuracy on each rung that it came to, best first; without any times."""
        numbers = sorted({int(each.split("/")[0]) for each in self.done})
        reached = {n: max(r for r in range(len(RUNGS)) if name(n, r) in self.done) for n in numbers}
        order = sorted(numbers, key=lambda n: (reached[n], self.better(n, reached[n]), -n), reverse=True)
        scores = lambda n: [self.done.get(name(n, r), {}).get("score", {}) for r in range(len(RUNGS))]  # noqa: E731
        return [
            {"trial": n, **drawn(self.config, self.seed, n), "accuracy": [each.get("accuracy") for each in scores(n)]}
            for n in order
        ]


class _Last(BestInMemory):
    """Keeps no epoch: the last weights stay."""

    def keep(self, network) -> None:
        """Nothing."""


def name(number: int, rung: int) -> str:
    """What a training is called in the file."""
    return f"{number}/{rung}"


def called(number: int) -> str:
    """What a trial is called."""
    return f"trial {number}" if number else "as it is"


def right(model: Model, split: Split) -> str:
    """On which texts a model is right, as a string of 0 and 1."""
    return "".join("01"[int(each)] for each in model.outputs(split).argmax(axis=1) == split.labels)


def halves(split: Split, rng: np.random.Generator) -> tuple[Split, Split]:
    """Two halves of a split, each with half of every class; of an odd one the first or the second has one more."""
    order = rng.permutation(len(split))
    order = order[np.argsort(split.labels[order], kind="stable")]
    return split.take(np.sort(order[::2])), split.take(np.sort(order[1::2]))


def with_gain(prepared: Prepared, config: Config) -> Prepared:
    """Prepared texts for another ``network.votes``: first votes are log-count ratios times that."""
    gain = config.network.votes / (prepared.config.network.votes or 1)
    votes = {each: (gain * table).astype(table.dtype) for each, table in prepared.votes.items()}
    return replace(prepared, config=config, votes=votes, embedding=prepared.embedding.copy())


def run_tuning(
    config: Config,
    folder: Path,
    *,
    trials: int = TRIALS,
    minutes: float = 0.0,
    threads: int | None = None,
    say: Callable[[str], None] = print,
) -> dict:
    """Search, or go on with a search in ``folder``, and say what came of it; returns the table and the comparison.

    The folder keeps the encoded texts, which later calls read. With ``minutes`` there are as many brackets of
    `BRACKET` trials as end in that time of training, as far as can be told; else one of so many ``trials``. Raises
    EqnpError, and Interrupted once a signal came.
    """
    check_writable(folder)
    began, config = config, pinned(config)
    if not config.data.validation:
        share = min(MOST_HELD_OUT, VALIDATION * config.data.validation_share)
        config = replace(config, data=replace(config.data, validation_share=share))
    made = folder / PREPARED / "config.toml"
    if (folder / STATE).exists() or made.exists():
        if _unfitted(load_config(str(made)), config) != config:
            raise ConfigError(f"{folder} has a search of other settings; choose another folder with --out")
        prepared = load_prepared(folder / PREPARED, load_config(str(made)))
    else:
        prepared = prepare_anew(config)
        claim_and_fill(folder / PREPARED, False, prepared)
    config, seed = prepared.config, prepared.config.training.seed
    done = read_json(folder / STATE, ("done",))["done"] if (folder / STATE).exists() else {}
    with in_use(folder), Machine("cpu", config.training.shard).at_work(threads) as machine, StopRequest() as stop:
        search = Search(folder, config, prepared, seed, done, machine, stop, say)
        sizes = ", ".join(f"{len(split):,} to {each}" for each, split in search.texts.items())
        say(f"texts: {sizes}")
        search.trained(0, len(RUNGS) - 1)
        first, before = 1, 0.0
        while not minutes or first == 1 or 2 * search.seconds - before <= 60 * minutes:
            before = search.seconds
            count = BRACKET if minutes else trials
            search.bracket(list(range(first, first + count)))
            first += count
            if not minutes:
                break
    return _concluded(search, began, say)


def _unfitted(own: Config, asked: Config) -> Config:
    """A configuration with −1 again where the other one leaves a choice to the data."""
    open_keys = {}
    for key in ("training.epochs", "data.ngram_min_texts", "data.subwords"):
        section, field = key.split(".")
        if getattr(getattr(asked, section), field) == -1:
            open_keys[key] = -1
    return with_values(own, open_keys)


def _concluded(search: Search, began: Config, say: Callable[[str], None]) -> dict:
    """The table, the winning configuration, and how it compares with what the search began with."""
    rows = search.table()
    keys = [each.key for each in SPACE if each.where(search.config)]
    short = [key.replace(RATES, "rate of ").rpartition(".")[2] for key in keys]
    say(f"{'trial':>8}  {'accuracy at ¼, ½ and all of its epochs':38}  {', '.join(short)}")
    for row in rows:
        shares = "  ".join("     —" if each is None else f"{each:6.1%}" for each in row["accuracy"])
        values = ", ".join(f"{row[key]:g}" for key in keys) if row["trial"] else "the settings it began with"
        say(f"{called(row['trial']):>8}  {shares:38}  {values}")
    winner = rows[0]["trial"]
    values = drawn(search.config, search.seed, winner)
    best = with_values(pinned(began), values)
    write_text(search.folder / BEST, to_toml(best))
    last, result = len(RUNGS) - 1, {"trial": winner, "values": values, "table": rows, "compared": {}}
    for kind, title in (("judge", "validation texts that chose nothing"), ("test", "test")):
        if winner and kind in search.texts:
            bits = [search.done[name(n, last)]["right"][kind] for n in (0, winner)]
            base, other = (np.array([*each]) == "1" for each in bits)
            result["compared"][kind] = compared(base, other) | {"accuracies": [float(base.mean()), float(other.mean())]}
            shares = f"{share_of(base.mean(), len(base))} as it is, {share_of(other.mean(), len(base))} with the best"
            say(f"{title}: {shares}\n{difference_line(result['compared'][kind])}")
    verdict = result["compared"].get("judge")
    if not winner:
        say("no trial did better than the settings it began with")
    elif verdict["difference"] <= 0 or verdict["p"] >= CHANCE:
        say("the best are not shown to be better than the settings it began with: keep these, or search on more texts")
    say(f"the best settings are in {search.folder / BEST}; try: eqnp train {search.folder / BEST}")
    return result | {"best": str(search.folder / BEST)}
