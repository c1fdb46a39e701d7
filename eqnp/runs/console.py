"""What a run tells its user as it goes: progress bars, a line per epoch, and warnings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import NormalDist
from textwrap import shorten

import numpy as np

from eqnp.config import Config
from eqnp.errors import one_line
from eqnp.runs.metrics import wilson
from eqnp.runs.progress import Epoch, Progress, Score, Tally
from eqnp.text.labels import class_counts

ENOUGH = 20  # batches after which a network that learns shows it
MOST_CLASSES, FEW = 12, 5  # with a line for each of them; shown of more
LONGEST, LINE = 16, 100  # characters of a class name above a column, and of a text that is an example
CORNER = "true \\ predicted"  # of their table
CHANCE = 0.05  # a p below it is called more than chance
UNSETTLED = 0.1  # the share of samples that a phase may leave unsettled before the user is told


@contextmanager
def progress_bar(total: int, name: str, done: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on stderr, silent when that is not a terminal; with figures of the epoch so far, and the time left."""
    from tqdm import tqdm

    silent = sys.stderr is None or not sys.stderr.isatty()
    with tqdm(total=total, initial=done, desc=name, leave=False, disable=silent) as bar:

        def advance(tally: Tally) -> None:
            if not bar.disable:
                bar.set_postfix_str(tally_line(tally), refresh=False)
            bar.update()

        yield advance


def tally_line(tally: Tally) -> str:
    """The means of an epoch so far."""
    means = tally.means()
    return (
        f"loss {means['train'].loss:.4f}, {figure(means['train'], 'accuracy ')}, sweeps {sweeps(means['sweeps'])}, "
        f"settled {min(means['settled']):.0%}, {means['tokens_per_second']:,} tokens/s"
    )


def epoch_line(epoch: Epoch, epochs: int, best: bool) -> str:
    """What one epoch came to."""
    return (
        f"epoch {epoch.epoch}/{epochs}: train loss {epoch.train.loss:.4f}, {figure(epoch.train)}; "
        f"validation loss {epoch.validation.loss:.4f}, {figure(epoch.validation)}{' (best)' if best else ''}; "
        f"sweeps {sweeps(epoch.sweeps)}, settled {min(epoch.settled):.1%}; {epoch.seconds:.0f} s"
    )


def refit_line(event: Mapping, epochs: int) -> str:
    """What an epoch on all texts came to."""
    score, place = Score(**event["train"]), f"{event['epoch']}/{epochs}"
    return f"on all texts {place}: train loss {score.loss:.4f}, {figure(score)}; {event['seconds']:.0f} s"


def own_labels_line(labels: np.ndarray, classes: Sequence[str]) -> str:
    """How many unlabelled texts the network has labelled itself, (n,); −1 where it is not sure."""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    each = ", ".join(f"{count:,} {name}" for count, name in zip(counts, classes, strict=True))
    return f"self-training: {counts.sum():,} of {len(labels):,} unlabelled texts get a label ({each}); beginning again"


def figure(score: Score, accuracy: str = "") -> str:
    """As in "88.0%" (after a word for ``accuracy``), or "micro F1 88.0%" where a text may have several labels."""
    return f"{accuracy if score.micro_f1 is None else 'micro F1 '}{score.figure:.1%}"


def settling_warning(epoch: Epoch) -> str:
    """A warning, with advice, if a phase left more than a tenth of its samples unsettled; else nothing."""
    worst = min(range(len(epoch.settled)), key=epoch.settled.__getitem__)
    if epoch.settled[worst] >= 1 - UNSETTLED:
        return ""
    phase, key = ("the free phase", "free_sweeps") if worst == 0 else (f"nudged phase {worst}", "nudged_sweeps")
    return (
        f"warning: {1 - epoch.settled[worst]:.0%} of the samples had not settled at the end of {phase}, and updates "
        f"from them are biased; raise settling.{key}, or lower network.scale or the learning rate"
    )


def epoch_warnings(progress: Progress, train: np.ndarray, validation: np.ndarray, config: Config) -> list[str]:
    """What to tell after an epoch: phases that do not settle, and, once, that nothing is learned; labels as given."""
    enough = -(-ENOUGH // -(-len(train) // config.training.batch))  # epochs until that can be told
    unlearned = [learning_warning(each, train, validation, config) for each in progress.epochs[-2:]]
    new = len(progress.epochs) == enough or (len(progress.epochs) > enough and not unlearned[0])
    return [line for line in (settling_warning(progress.epochs[-1]), unlearned[-1] if new else "") if line]


def learning_warning(epoch: Epoch, train: np.ndarray, validation: np.ndarray, config: Config) -> str:
    """A warning, with the likeliest cure, if an epoch taught a network nothing; else nothing.

    ``train`` and ``validation`` are the labels. It is told when no batch moved the output, when all of the validation
    texts are given one class, and when training texts are given the right class no oftener than the largest one stands
    (unless they have weights, which other classes may have more of).
    """
    weighed = bool(config.training.class_weight or config.data.weight)
    counts = class_counts(train)
    classes, largest, several = np.count_nonzero(counts), counts.max() / len(train), train.ndim == 2
    if epoch.moved == 0:
        found = "no nudge moved the output, so nothing is learned"
    elif several:
        return ""
    elif epoch.validation.predicted == 1 and len(np.unique(validation)) > 1:
        found = "every validation text is given one and the same class"
    elif not weighed and epoch.train.accuracy <= largest + _chance(largest, len(train), 1):
        found = f"training texts are no oftener right ({epoch.train.accuracy:.1%}) than the largest class stands"
    else:
        return ""
    if not several and config.network.output_activation != "softmax" and (classes > 2 or epoch.moved == 0):
        cure = "an output for several classes: --set network.output_activation=softmax --set learning.beta=0.1"
    elif largest > 0.8:
        balanced = "" if weighed else "--set training.class_weight=balanced, "
        cure = f"{balanced}more texts of the rare classes, or more epochs (training.epochs)"
    else:
        cure = "more epochs (training.epochs), or a higher optimizer.learning_rate"
    return f"warning: after epoch {epoch.epoch} {found}; likely cure: {cure}"


def majority_warning(name: str, accuracy: float, majority: float, samples: int, tries: int) -> str:
    """A line for a result that is better than the largest class by no more than the best of so many ``tries`` may be by
    chance, and mends less than half of its errors; else nothing."""
    if accuracy > min(majority + _chance(majority, samples, tries), (1 + majority) / 2):
        return ""
    return (
        f"warning: {name} {accuracy:.1%} does not beat the majority's {majority:.1%} by more than chance would on "
        f"{samples:,} texts; look whether texts and labels belong together, or give more of them"
    )


def _chance(share: float, samples: int, tries: int) -> float:
    """How far above its share the best of some tries comes by chance, in 39 of 40 cases."""
    return NormalDist().inv_cdf(1 - 0.025 / tries) * (share * (1 - share) / samples) ** 0.5


def sweeps(means: list[float]) -> str:
    """Mean sweeps of each phase, as in "8+4+5"."""
    return "+".join(f"{mean:.0f}" for mean in means)


def share_of(share: float, samples: int) -> str:
    """A share of samples with its interval, as in "86.7% (83.5 to 89.4)"."""
    low, high = wilson(share, samples)
    return f"{share:.1%} ({100 * low:.1f} to {100 * high:.1f})"


def difference_line(result: Mapping) -> str:
    """What came of `eqnp.runs.metrics.compared`, in a line."""
    points = [f"{100 * share:+.2f}" for share in (result["difference"], *result["interval"])]
    return (
        f"difference {points[0]} points ({points[1]} to {points[2]}), p = {result['p']:.3g} (McNemar's exact test): "
        f"{'more' if result['p'] < CHANCE else 'no more'} than chance would make"
    )


def accuracies(by_split: Mapping[str, float], samples: Mapping[str, int]) -> str:
    """As in "validation 88.0% (84.8 to 90.6), test 86.7% (83.4 to 89.4)"; ``samples`` by split."""
    return ", ".join(f"{name} {share_of(value, samples[name])}" for name, value in by_split.items())


def label_figures(found: Mapping[str, Mapping]) -> str:
    """`eqnp.runs.label_sets.figures` by split, as in "micro F1 validation 88.0%, test 86.7%; macro F1 …"."""
    kinds = []
    for kind in ("micro", "macro"):
        shares = (f"{name} {percent(each[kind]['f1'])}".strip() for name, each in found.items())
        kinds.append(f"{kind} F1 {', '.join(shares)}")
    return "; ".join(kinds)


def calibration_line(found: Mapping) -> str:
    """What came of `eqnp.runs.calibration.calibration`, in a line."""
    before, after = found["before"], found["after"]
    offset = f" and the offset {found['offset']:.3f}" if "offset" in found else ""
    return (
        f"calibrated on {found['texts']:,} validation texts by the temperature {found['temperature']:.3f}{offset}"
        f"{f' and the floor {floor:.2g}' if (floor := found.get('floor')) else ''}: log loss "
        f"{before['log_loss']:.4f} to {after['log_loss']:.4f}, calibration error {before['calibration_error']:.4f} to "
        f"{after['calibration_error']:.4f}"
    )


def threshold_lines(found: Mapping) -> list[str]:
    """How far scores are from probabilities, and what is left, and right, of the texts above a score."""
    lines = [f"expected calibration error {found['calibration_error']:.4f}", "at least  coverage  accuracy"]
    for each in found["thresholds"]:
        texts = round(each["coverage"] * found["samples"])
        right = share_of(each["accuracy"], texts) if texts else "no text"
        lines.append(f"{each['at_least']:8.2f}  {each['coverage']:8.1%}  {right}")
    return lines


def class_rows(found: Mapping) -> list[tuple[str, ...]]:
    """Name, precision, recall, F1 and support of every class (of many, the worst by F1), and their means, as text."""
    classes = found["classes"]
    shown = list(classes) if len(classes) <= MOST_CLASSES else sorted(classes, key=lambda n: classes[n]["f1"])[:FEW]
    rows = [(one_line(name), classes[name], f"{classes[name]['support']:,}") for name in shown]
    rows += [("all labels", found["micro"], "")] if "micro" in found else []
    rows += [("macro mean", found["macro"], ""), ("weighted mean", found["weighted"], "")]
    return [(name, *(percent(each[key]) for key in ("precision", "recall", "f1")), n) for name, each, n in rows]


def percent(share: float) -> str:
    """As in "86.7%"."""
    return f"{share:.1%}"


def class_lines(found: Mapping) -> list[str]:
    """`eqnp.runs.metrics.figures` as lines: a table of the classes (of many, the worst), their means, and the loss."""
    rows, many = class_rows(found), len(found["classes"])
    head = "class" if many <= MOST_CLASSES else f"worst {FEW} of {many}"
    rows.insert(0, (head, "precision", "recall", "F1", "support"))
    width = max(len(name) for name, *_ in rows)
    lines = [f"{n:{width}}  {p:>9}  {r:>6}  {f:>6}  {support:>7}".rstrip() for n, p, r, f, support in rows]
    if "micro" in found:
        return [*lines, f"all labels right, and no other given: {share_of(found['accuracy'], found['samples'])}"]
    return [*lines, f"balanced accuracy {found['balanced_accuracy']:.1%}, log loss {found['log_loss']:.4f}"]


def precision_lines(found: Mapping) -> list[str]:
    """For each of two classes, how many of its texts are found where it may hardly ever be said in error."""
    lines = []
    for name, each in found["classes"].items() if len(found["classes"]) == 2 else ():
        at = each["at_precision"]
        line = f"{one_line(name)}: recall {at['recall']:.1%} at {at['precision']:.0%} precision"
        lines.append(
            f"{line}, from a score of {at['score']:.4f} (chosen on these texts)" if at["score"] is not None else line
        )
    return lines


def pair_lines(found: Mapping, examples: Mapping[tuple[str, str], str]) -> list[str]:
    """The pairs of classes most often confused, each with a text, by (true class, predicted class)."""
    lines = []
    for each in found["confusions"][:FEW]:
        true, predicted, texts = each["true"], each["predicted"], each["texts"]
        share = texts / found["classes"][true]["support"]
        line = f"{one_line(true)} taken for {one_line(predicted)}: {texts:,} ({share:.1%} of {one_line(true)})"
        lines.append(f"{line}, as in: {shorten(examples[true, predicted], LINE)}")
    return lines


def confusion_lines(found: Mapping) -> list[str]:
    """For a few classes, how many texts of each (a row) were given each (a column)."""
    names = list(found["classes"])
    if len(names) > MOST_CLASSES:
        return []
    counts = {(each["true"], each["predicted"]): each["texts"] for each in found["confusions"]}
    for name, each in found["classes"].items():
        counts[name, name] = each["support"] - sum(n for (true, _), n in counts.items() if true == name)
    short = {name: one_line(name)[:LONGEST] for name in names}
    width = max(len(CORNER), *map(len, short.values()))
    columns = {name: max(len(short[name]), 6) for name in names}
    lines = [f"{CORNER:{width}}" + "".join(f"  {short[name]:>{columns[name]}}" for name in names)]
    for true in names:
        cells = "".join(f"  {counts.get((true, name), 0):>{columns[name]},}" for name in names)
        lines.append(f"{short[true]:{width}}{cells}")
    return lines
