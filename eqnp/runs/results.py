"""What a run came to: accuracy and figures of the network and its rivals, printed and for ``metrics.json``."""

from __future__ import annotations

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
    algorithm = config.learning.algorithm
    sizes = {name: len(split) for name, split in splits.items()}
    every = (len(splits["train"]) + len(splits["validation"])) * (progress.refitted > 0)
    more = f"; then trained once more, on all {every:,} texts" * bool(every)
    several = splits["train"].several
    found = label_figures(figures) if several else accuracies(accuracy, sizes)
    print(f"{NAMES[algorithm]}: {found} (epoch {best.epoch}, chosen on validation{more})")
    start = files.load(folder / START, "start")[0][EMBEDDING]
    start = start[:, : start.shape[1] - bool(config.vectors.ratio) * len(prepared.classes)]
    rivals = baselines(splits, start, len(prepared.classes))
    of_rivals = {name: len(split) for name, split in thinned(splits).items()}
    for name, rival in rivals.items():
        shown = (
            ", ".join(f"{split} {percent(each)}" for split, each in rival.accuracy.items())
            if several
            else accuracies(rival.accuracy, of_rivals)
        )
        print(f"baseline, {RIVALS[name]}: {'micro F1 ' * several}{shown}")
    if progress.calibration:
        print(calibration_line(progress.calibration))
    if shown := figures.get("test", figures.get("validation")):
        print(f"{'test' if 'test' in figures else 'validation'}, by class:")
        print("\n".join(class_lines(shown)))
    name, tries = ("test", 1) if "test" in splits else ("validation", len(progress.epochs))
    weighed = bool(config.training.class_weight or config.data.weight)  # that may cost accuracy, and is meant to
    if "majority" in rivals and not weighed:
        majority = rivals["majority"].accuracy[name]
        if warning := majority_warning(name, accuracy[name], majority, len(splits[name]), tries):
            print(warning)
    return {
        "run": str(folder),
        "preset": config.name,
        "accuracy": accuracy,
        "figures": figures,
        "calibration": progress.calibration,
        "algorithm": algorithm,
        "baselines": {name: rival.accuracy for name, rival in rivals.items()},
        "baseline_samples": of_rivals,
        "best_epoch": best.epoch,
        "epochs": len(progress.epochs),
        "refit": every,
        "classes": list(prepared.classes),
        "samples": sizes,
        "tokens": {name: split.coverage.tokens for name, split in splits.items()},
        "unknown_tokens": {name: split.coverage.unknown for name, split in splits.items()},
        "cut_tokens": {name: split.coverage.cut for name, split in splits.items()},
        "words": prepared.ngrams.first_id - prepared.tokenizer.specials,
        "ngrams": len(prepared.ngrams),
        "words_with_vector": prepared.found,
    }
