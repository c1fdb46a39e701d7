"""All of it in turn: trainings, and what is measured before and after them, each kept as soon as it is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eqnp.files import write_text
from eqnp.machine import Machine
from eqnp.paper import document, measures, pictures
from eqnp.paper.plan import Trial, trials
from eqnp.paper.trials import result
from eqnp.runs.checkpoint import untrained
from eqnp.runs.folder import read_json
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model
from eqnp.text.prepare import load_prepared
from eqnp.text.store import bucketed

TITLES = {"snli": "SNLI", "imdb": "IMDB"}
TEXTS = {"snli": 20, "imdb": 4}  # of a batch that is looked at: what BPTT keeps of it must fit
STATES = ("untrained", "trained")
ALTS = {  # pictures, the table that each follows, and what it shows
    "curves": ("accuracy", "Accuracy on validation data by epoch"),
    "settling": ("settling", "Residual and energy by sweep"),
    "steps": ("steps", "Norm of the updates of BPTT and EP by step"),
    "memory": ("memory", "Memory at the peak by number of steps"),
    "ablation": ("ablation", "Accuracy against the error of the gradient"),
}
PARTS = ("accuracy", "fixed", "short", "midway", "once")


@dataclass
class Experiment:
    """Where the paper's experiment stands: ``runs`` has folders of trainings, ``results`` a JSON file for each figure.

    ``data`` is a folder of `eqnp.paper.plan.FILES`, ``vectors`` word vectors; with ``quick``, embedded texts instead.
    ``device`` is where EP trains: "auto" takes a GPU where there is one, and leaves the other algorithms to the CPU.
    """

    runs: Path
    results: Path
    data: Path | None = None
    vectors: str | None = None
    quick: bool = False
    device: str = "cpu"

    def run(self, task: str) -> None:
        """Train and measure what is missing of a task; raises EqnpError, and Interrupted where a signal came."""
        first, *others = self.trials(task)
        self.train(first)
        for what, measured in self._measures(first).items():
            self._measure(f"{task}-{what}", first, measured)
        for trial in others:
            self.train(trial)

    def train(self, trial: Trial) -> None:
        """What one training comes to, with the bias of its gradient where that is asked for; raises as `run`."""
        self.results.mkdir(parents=True, exist_ok=True)
        source = {"data": self.data, "vectors": self.vectors, "quick": self.quick}
        record = result(trial, self.runs, self.results, self.device, **source)
        if trial.part == "ablation" and "bias" not in record and self._is_here(trial):
            self._keep(trial.name, {**record, "bias": self._bias(trial)})

    def trials(self, task: str) -> list[Trial]:
        """The trainings of a task: for a quick look one seed, and every second of the ablation."""
        every = [trial for trial in trials(task) if not (self.quick and trial.seed)]
        ablated = [trial for trial in every if trial.part == "ablation"]
        left_out = ablated[::2] if self.quick else ()
        return [trial for trial in every if trial not in left_out]

    def records(self, *parts: str) -> list[dict]:
        """What is known of the trainings of some parts."""
        paths = (
            self.results / f"{trial.name}.json" for task in TITLES for trial in trials(task) if trial.part in parts
        )
        return [read_json(path) for path in paths if path.is_file()]

    def known(self, what: str) -> dict:
        """A measure by task, of those that are known."""
        paths = {title: self.results / f"{task}-{what}.json" for task, title in TITLES.items()}
        return {title: read_json(path) for title, path in paths.items() if path.is_file()}

    def write(self, page: str, pictures_in: Path) -> str:
        """The page with its tables, and its pictures, as far as their figures are known."""
        pictures_in.mkdir(parents=True, exist_ok=True)
        accuracy, ablation = self.records(*PARTS), self.records("ablation")
        memory = self.known("memory")
        settling, steps = (
            {f"{task}, {state}": each for task, states in self.known(what).items() for state, each in states.items()}
            for what in ("settling", "steps")
        )
        groups = {
            title: [r for r in self.records(part) if r["name"].startswith(task)]
            for title, task, part in (
                ("SNLI", "snli", "accuracy"),
                ("SNLI, all of T and K", "snli", "fixed"),
                ("IMDB", "imdb", "accuracy"),
                ("IMDB, 150 positions", "imdb", "short"),
                ("IMDB, 150 positions, biases of ½", "imdb", "midway"),
            )
        }
        drawings = {
            "curves": (
                pictures.curves,
                {t: each for t, each in groups.items() if any(len(r["curve"]) > 1 for r in each)},
            ),
            "settling": (pictures.settling, settling),
            "steps": (pictures.steps, steps),
            "memory": (pictures.memory, memory),
            "ablation": (pictures.ablation, ablation),
        }
        for name, (draw, figures) in drawings.items():
            if figures:
                draw(figures, pictures_in / f"{name}.png")
        blocks = {
            "accuracy": document.accuracies(accuracy),
            "settling": document.settling(settling),
            "steps": document.steps(steps),
            "memory": document.memory(memory),
            "layers": document.layers(memory),
            "ablation": document.ablation(ablation),
        }
        for name, (block, alt) in ALTS.items():
            if drawings[name][1]:
                blocks[block] += f"\n\n![{alt}]({pictures_in.name}/{name}.png)"
        return document.filled(page, blocks)

    def _keep(self, name: str, record: dict) -> None:
        write_text(self.results / f"{name}.json", json.dumps(record, indent=1) + "\n")

    def _is_here(self, trial: Trial) -> bool:
        """Whether the trained network can be looked at; says so if not."""
        run = self.runs / trial.name
        if not run.is_dir():
            print(f"{trial.name} was trained elsewhere: bring its folder to {run} for what is measured of the network")
        return run.is_dir()

    def _measure(self, name: str, trial: Trial, measured: Callable[[], dict]) -> None:
        if not (self.results / f"{name}.json").is_file() and self._is_here(trial):
            print(f"--- {name}", flush=True)
            self._keep(name, measured())

    def _measures(self, trial: Trial) -> dict[str, Callable[[], dict]]:
        """What is measured of the network of a training, before and after it."""

        def of_both(measure: Callable) -> dict:
            return {state: measure(*self._problem(trial, state)) for state in STATES}

        preset = replace(trial, settings={}).config(None, None, self.quick)  # which has the paper's T and K
        cap, learning = preset.settling, preset.learning

        def memory() -> dict:
            network, batch, target = self._problem(trial, "untrained", np.float32)
            return measures.memory(network, batch, target, learning)

        return {
            "memory": memory,
            "settling": lambda: of_both(lambda n, b, t: measures.settling(n, b, t, learning.on_the_line(), cap)),
            "steps": lambda: of_both(lambda n, b, t: measures.steps(n, b, t, learning, cap.nudged_sweeps)),
        }

    def _bias(self, trial: Trial) -> dict:
        network, batch, target = self._problem(trial, "trained")
        config = Model.load(self.runs / trial.name).config
        return measures.bias(network, batch, target, config.learning, config.settling)

    def _problem(self, trial: Trial, state: str, dtype=np.float64):
        """The network of a run before or after training, and a batch of its texts."""
        run = self.runs / trial.name
        model = Model.load(run)
        prepared = load_prepared(run, model.config)
        network = untrained(prepared, Machine())[0].network if state == "untrained" else model.network
        split = prepared.splits["train"]
        size = max(TEXTS.values()) if self.quick else TEXTS[trial.task]
        rows = next(bucketed(split, size, np.random.default_rng(0)))
        batch, labels = split.batch(rows)
        return network.astype(dtype), batch, one_hot(labels, network)
