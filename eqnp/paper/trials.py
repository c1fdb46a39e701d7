"""Trainings of the experiment, each once: what has been measured is read, what was interrupted goes on."""

from __future__ import annotations

import json
from pathlib import Path

from eqnp.config import to_tree
from eqnp.files import write_text
from eqnp.machine.threads import available_cores
from eqnp.paper.plan import Trial
from eqnp.runs.contents import CONFIG, METRICS
from eqnp.runs.folder import read_json, read_log
from eqnp.runs.training import resume_training, run_training

CURVE = ("epoch", "train", "validation", "sweeps", "settled", "seconds")


def result(trial: Trial, runs: Path, results: Path, device: str = "cpu", **source) -> dict:
    """What a training came to: from ``results``, or by training it, or what is left of it, in a folder of ``runs``.

    ``device`` is that of `run_training`, ``source`` that of `Trial.config`. Raises EqnpError, and Interrupted where a
    signal came.
    """
    kept = results / f"{trial.name}.json"
    if kept.is_file():
        return read_json(kept)
    folder = runs / trial.name
    print(f"--- {trial.name}", flush=True)
    config = trial.config(**source)
    if not (folder / METRICS).is_file():
        if (folder / CONFIG).is_file():
            resume_training(folder, device=device)
        else:
            run_training(config, folder, device=device)
    record = {
        "name": trial.name,
        "part": trial.part,
        "metrics": read_json(folder / METRICS),
        "curve": [{key: event[key] for key in CURVE} for event in read_log(folder) if event["event"] == "epoch"],
        "cores": available_cores(),
        "network": to_tree(config)["network"],
        "learning": to_tree(config)["learning"],
        "settling": to_tree(config)["settling"],
    }
    write_text(kept, json.dumps(record, indent=1) + "\n")
    return record
