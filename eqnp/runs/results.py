"""What a run came to: accuracy and figures of the network and its rivals, printed and for ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eqnp import files
from eqnp.config import Config
from eqnp.network import EMBEDDING
from eqnp.runs.console import (
    accuracies,
    calibration_line,
    class_lines,
    label_figures,
    majority_warning,
    percent,
)
from eqnp.runs.model import Model
from eqnp.runs.progress import Progress
from eqnp.text.prepare import START, Prepared

RIVALS = {
    "majority": "majority",
    "bag_of_words": "bag of words",
    "nb_svm": "NB-SVM",
    "mean_vector": "mean word vector",
    "perceptron": "perceptron",
}
NAMES = {
    "ep": "equilibrium propagation",
    "bptt": "backpropagation through time",
    "implicit": "implicit differentiation",
}


def measured(folder: Path, config: Config, prepared: Prepared, model: Model, progress: Progress) -> dict:
    """Accuracy of the best epoch, and of the rivals, on every split but the training one; nothing on other ranks.

    The model is what is in the file of the run. Raises CheckpointError.
    """
    from eqnp.runs.baselines import baselines, thinned

    best, splits = progress.best_epoch, prepared.splits
    figures = {"validation": progress.figures} if progress.figures else {}
    if "test" in splits:
        figures["test"], _ = model.evaluate(splits["test"])
    accuracy = {
        "validation": best.validation.accuracy,
        **{name: each["accuracy"] for name, each in figures.items()},
    }
    if not model.network.machine.ranks.first:
        return {}
    found = {
        "run": str(folder),
        "preset": config.name,
        "accuracy": accuracy,
        "figures": figures,
        "calibration": progress.calibration,
        "algorithm": config.learning.algorithm,
        "baselines": {},
        "baseline_samples": {name: len(split) for name, split in thinned(splits).items()},
        "best_epoch": best.epoch,
        "epochs": len(progress.epochs),
        "own_labels": sum(label >= 0 for label in progress.own_labels),
        "refit": (len(splits["train"]) + len(splits["validation"])) * (progress.refitted > 0),
        "classes": list(prepared.classes),
        "samples": {name: len(split) for name, split in splits.items()},
        "tokens": {name: split.coverage.tokens for name, split in splits.items()},
        "unknown_tokens": {name: split.coverage.unknown for name, split in splits.items()},
        "cut_tokens": {name: split.coverage.cut for name, split in splits.items()},
        "words": prepared.ngrams.first_id - prepared.tokenizer.specials,
        "ngrams": len(prepared.ngrams),
        "words_with_vector": prepared.found,
    }
    print(headline(found))  # the rivals take their time
    start = files.load(folder / START, "start", mapped=True)[0][EMBEDDING]
    start = start[:, : start.shape[1] - bool(config.vectors.ratio) * len(prepared.classes)]
    rivals = baselines(splits, start, len(prepared.classes), model.network.machine.map)
    found["baselines"] = {name: rival.accuracy for name, rival in rivals.items()}
    for line in further_lines(found):
        print(line)
    name, tries = ("test", 1) if "test" in splits else ("validation", len(progress.epochs))
    weighed = bool(config.training.class_weight or config.data.weight)  # that may cost accuracy, and is meant to
    if "majority" in rivals and not weighed:
        majority = rivals["majority"].accuracy[name]
        if warning := majority_warning(name, accuracy[name], majority, len(splits[name]), tries):
            print(warning)
    return found


def headline(found: Mapping) -> str:
    """Figures of the network in a line; ``found`` as in ``metrics.json``."""
    several = _several(found)
    own = label_figures(found["figures"]) if several else accuracies(found["accuracy"], found["samples"])
    more = f"; then trained once more, on all {found['refit']:,} texts" * bool(found["refit"])
    return f"{NAMES[found['algorithm']]}: {own} (epoch {found['best_epoch']}, chosen on validation{more})"


def further_lines(found: Mapping) -> list[str]:
    """The lines after it: rivals, calibration and classes; ``found`` as in ``metrics.json``."""
    several, lines, figures = _several(found), [], found["figures"]
    for name, rival in found["baselines"].items():
        plain = ", ".join(f"{split} {percent(each)}" for split, each in rival.items())
        shown = plain if several else accuracies(rival, found["baseline_samples"])
        lines.append(f"baseline, {RIVALS[name]}: {'micro F1 ' * several}{shown}")
    if found["calibration"]:
        lines.append(calibration_line(found["calibration"]))
    if shown := figures.get("test", figures.get("validation")):
        lines += [f"{'test' if 'test' in figures else 'validation'}, by class:", *class_lines(shown)]
    return lines


def _several(found: Mapping) -> bool:
    """Whether texts may have several labels."""
    return any("micro" in each for each in found["figures"].values())
