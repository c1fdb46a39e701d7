"""What is known of a run folder, finished or not."""

from __future__ import annotations

import json
from pathlib import Path

from eqnp import checkpoint
from eqnp.config import load_config
from eqnp.errors import CheckpointError
from eqnp.model import MODEL, PARAMETERS, Model
from eqnp.run import CONFIG, LOG, METRICS


def describe(run: Path) -> dict:
    """State, configuration in short, figures, parameters and their digest; raises CheckpointError."""
    if not (run / CONFIG).is_file() and not (run / MODEL).is_file():
        raise CheckpointError(f"{run} holds no run; eqnp train makes one")
    about: dict = {"run": str(run)}
    if (run / CONFIG).is_file():
        config = load_config(str(run / CONFIG))
        epochs = _epochs(run / LOG)
        finished = (run / METRICS).is_file()
        about["state"] = "finished" if finished else f"stopped; go on with eqnp train --resume {run}"
        about |= {"preset": config.preset or "own configuration", "data": config.data.train}
        about |= {"vectors": config.vectors.source, "algorithm": config.learning.algorithm}
        about |= {"seed": config.training.seed, "epochs": f"{len(epochs)} of {config.training.epochs}"}
        if finished:
            metrics = _json(run / METRICS)
            about |= {name: metrics[name] for name in ("best_epoch", "accuracy", "baselines", "samples", "seconds")}
    if (run / MODEL).is_file():
        arrays, _ = checkpoint.load(run / MODEL, "model")
        model = Model.load(run)
        shapes = {name.removeprefix(PARAMETERS): "×".join(map(str, array.shape)) for name, array in arrays.items()}
        about |= {"classes": list(model.classes), "weights": shapes}
        about |= {
            "parameters": sum(array.size for array in arrays.values()),
            "words": len(model.tokenizer.get_vocab()) - 2,
        }
        about["digest"] = checkpoint.digest(arrays[PARAMETERS + "output.weight"])[:16]
    return about


def _epochs(log: Path) -> list[dict]:
    try:
        events = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
        return [event for event in events if event["event"] == "epoch"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{log}: damaged ({error}); eqnp train --resume writes it anew") from error


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error}); remove it and resume the run") from error
