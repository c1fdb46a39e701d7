"""``eqnp report RUN``: one self-contained HTML page about a run, and its pictures as PNG files.

Needs matplotlib. What is shown comes from the run folder alone: its log, its metrics, its model, and its own texts.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from eqnp.app import classes, contributions, explain, page, player
from eqnp.app.watch import record
from eqnp.dynamics import settle
from eqnp.errors import CheckpointError, ConfigError, DataError
from eqnp.files import write_text
from eqnp.learning import estimate
from eqnp.machine import Machine
from eqnp.network import EMBEDDING
from eqnp.runs.console import calibration_line
from eqnp.runs.contents import CONFIG, METRICS, check_texts, instead
from eqnp.runs.folder import read_json, read_log
from eqnp.runs.loop import one_hot
from eqnp.runs.metrics import confusion
from eqnp.runs.model import Model
from eqnp.runs.results import RIVALS
from eqnp.text.store import STORE, Split, bucketed, read_store

PAGE, PICTURES = "report.html", "report"
FIGURES = ("parameters", "seconds", "peak_resident_gib", "samples", "unknown_tokens", "words", "words_with_vector")
NEEDED = (*FIGURES, "preset", "algorithm", "accuracy", "baselines", "best_epoch", "epochs", "environment")
CLASSES, SPEAKERS, FEWER_TEXTS = 8, 15, 2000  # rows of the table of what speaks for a class, words, texts read
SAMPLES, TEXTS, WORDS, SEEN = 64, 6, 24, 20  # of a settled batch; texts shown; words listed, seen in so many texts


def write_report(
    run: Path, out: Path, texts: Mapping[str, list[str]] | None = None, threads: int | None = None
) -> Path:
    """Write ``report.html`` and ``report/*.png`` into ``out``; returns the page's path.

    ``texts`` (a list per segment) are shown with their attention; without any, some of the run's own are. Raises
    CheckpointError for a run that is not finished, OSError.
    """
    metrics, config, events = _record(run)
    if any("micro" in each for each in metrics.get("figures", {}).values()):
        raise ConfigError(f"{run}: a report is for texts with one label each; eqnp evaluate has the figures of several")
    model, splits = Model.load(run), read_store(run / STORE)
    where = "test" if "test" in splits else "validation"
    pictures = out / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    with Machine().at_work(threads) as machine:
        return _write(
            _Report(model.on(machine), splits[where], where, metrics, events, pictures), run, out, config, texts
        )


def _write(report: _Report, run: Path, out: Path, config: str, texts: Mapping[str, list[str]] | None) -> Path:
    shown = texts or report.some_texts()
    check = run / "check.json"
    sections = [
        ("Results", "How good is it?", report.accuracy()),
        ("Results", "Class by class", report.classes()),
        ("Results", "Are its scores probabilities?", report.probabilities()),
        ("Words", "What speaks for a class", report.speakers(run)),
        ("Words", "What it attends to", report.words()),
        ("Words", "Attention, word by word", report.attention(shown) if all(shown.values()) else ""),
        ("Dynamics", "Watch it settle", report.watch(shown)),
        ("Dynamics", "Settling", report.settling()),
        ("Dynamics", "Equilibrium propagation at one synapse", report.synapse()),
        ("Dynamics", "Is the gradient right?", _check(check, run / "check.png") if check.exists() else ""),
        ("Training", "Learning", report.learning()),
        ("Training", "Weights and states", report.distributions()),
        ("Training", "Configuration and environment", _tables(config, report.metrics)),
    ]
    path = out / PAGE
    write_text(path, page.page(run.resolve().name, report.metrics, [each for each in sections if each[2]]))
    return path


def _record(run: Path) -> tuple[dict, str, list[dict]]:
    if not (run / METRICS).exists():
        raise CheckpointError(instead(run))
    check_texts(run, "a report is made of a run's own texts; restore them")
    try:
        return (
            read_json(run / METRICS, NEEDED),
            (run / CONFIG).read_text("utf-8"),
            read_log(run),
        )
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{run / CONFIG}: damaged ({error}); train it again") from error


class _Report:
    """The sections that need the model or the log."""

    def __init__(self, model: Model, split: Split, where: str, metrics: dict, events: list, folder: Path):
        self.model, self.split, self.where, self.metrics, self.folder = model, split, where, metrics, folder
        self.epochs = [event for event in events if event["event"] == "epoch"]
        self.batches = [event for event in events if event["event"] == "batches"]
        self.found, self.scores = model.evaluate(split)
        self.predicted = self.scores.argmax(axis=1)
        rows = next(bucketed(split, min(SAMPLES, len(split)), np.random.default_rng(0)))
        self.segments, self.labels = split.batch(rows)

    def accuracy(self) -> str:
        from eqnp.app import figures

        metrics, classes = self.metrics, self.model.classes
        names = {"this network": metrics["accuracy"][self.where]}
        names |= {RIVALS[name]: accuracy[self.where] for name, accuracy in metrics["baselines"].items()}
        sizes = [len(self.split), *[metrics.get("baseline_samples", metrics["samples"])[self.where]] * (len(names) - 1)]
        figures.baselines(names, sizes, 1 / len(classes), self.folder / "baselines.png")
        note = (
            f"On the {self.where} split, {len(self.split):,} samples. The rivals are linear models on the same tokens "
            f"and splits. The epoch (number {metrics['best_epoch']}) was chosen on validation data."
        )
        if metrics.get("refit") and self.where == "validation":
            note += (
                " After that the network was trained once more, with these texts among the others: the matrix, and "
                "what follows, are of texts that it has seen. Test data (--test-data) would give figures of others."
            )
        look = (
            "Look for the distance to the best rival: where the lines, intervals that hold the true accuracy in 95 of "
            "100 cases (Wilson), lie side by side, chance would do as much."
        )
        return page.note(note) + self.picture("baselines", "Accuracy", look)

    def classes(self) -> str:
        """Precision, recall and F1 of the classes, and which of them are confused."""
        from eqnp.app import figures

        names = self.model.classes
        counts = confusion(self.split.labels, self.predicted, len(names))
        figures.confusion(counts, names, self.folder / "confusion.png")
        look = "Look beside the diagonal: a dark place is a class (row) that is taken for another (column)."
        body = classes.section(self.found, classes.examples(self.model, self.split, self.predicted))
        return body + self.picture("confusion", "Confusion matrix", look)

    def probabilities(self) -> str:
        """What its scores promise against what comes true, and what is left above a score."""
        from eqnp.app import figures

        best, right = self.scores.max(axis=1), self.predicted == self.split.labels
        figures.reliability(self.found["reliability"], best, right, self.folder / "reliability.png")
        look = (
            "Left: texts in ten bins of as many each, by the score of their best class. Look for points near the "
            "dotted line, where as many are right as the score says; below it scores promise too much. Bars are "
            "intervals that hold the true share in 95 of 100 cases (Wilson). Right: of the texts with the highest "
            "scores, the share that is right. Look how far right it stays high: squares are thresholds "
            "(eqnp predict --at-least)."
        )
        note = (
            f"Expected calibration error {self.found['calibration_error']:.4f}, log loss {self.found['log_loss']:.4f}."
        )
        if done := self.metrics.get("calibration"):
            note += f" The network was {calibration_line(done)}."
        return page.note(note) + self.picture("reliability", "Reliability, and accuracy by coverage", look)

    def learning(self) -> str:
        from eqnp.app import figures

        if not self.epochs or not self.batches:
            return ""
        figures.learning(self.epochs, self.batches, self.metrics["best_epoch"], self.folder / "learning.png")
        look = (
            "Look for the epoch from which validation no longer follows training: the upright line is the one that was "
            "kept. Training figures are taken on the way, with word dropout and moving weights; validation after each "
            "epoch."
        )
        return self.picture("learning", "Loss and accuracy by epoch", look)

    def settling(self) -> str:
        from eqnp.app import figures

        traces = self.traces()
        figures.settling(traces, self.folder / "settling.png")
        training = ""
        if self.batches:
            figures.sweeps(self.batches, self.folder / "sweeps.png")
            look = "Over training: look for sweeps that grow, and texts that no longer settle before the cap on sweeps."
            training = self.picture("sweeps", "Sweeps", look)
        rise = max(float(np.diff(trace["energy"], prepend=trace["energy"][0]).max(initial=0)) for trace in traces)
        order = self.model.config.settling.order
        note = f"A batch of {len(self.labels)} texts settles ({order} sweeps). "
        fell = f"rose by {rise:.1e} at most" if rise > 0 else "never rose"
        note += f"From sweep to sweep the mean energy {fell} (in float64)."
        look = (
            "Look for straight falls: every sweep takes a like share of what is left. A residual that lies flat does "
            "not settle. Nudged phases start at the end of the free one."
        )
        return page.note(note) + self.picture("settling", "Residual and energy by sweep", look) + training

    def traces(self) -> list[dict]:
        """Residual and energy by sweep of the free and the nudged phases of one batch, as its estimator nudges."""
        network = self.model.network.astype(np.float64)
        target, settling = one_hot(self.labels, network), self.model.config.settling
        result = estimate(
            network, self.segments, target, self.model.config.learning.on_the_line(), settling, trace=True
        )
        names = ["free", *(f"β = {beta:g}" for beta, _ in result.phases)]
        return [
            {
                "phase": name,
                "residual": [float(r.max()) for r in trace.residual],
                "energy": [float(e.mean(dtype=np.float64)) for e in trace.energy],
            }
            for name, trace in zip(names, result.traces, strict=True)
            if trace.residual
        ]

    def words(self) -> str:
        from eqnp.app import figures

        size = len(self.model.network.parameters[EMBEDDING])
        mass, seen, leading = np.zeros(size), np.zeros(size), np.zeros(size)
        lead = int(np.bincount(self.predicted).argmax() if len(self.model.classes) > 2 else len(self.model.classes) - 1)
        settling = self.model.config.settling
        for rows in bucketed(self.split, 50):
            segments, _ = self.split.batch(rows)
            x = self.model.network.clamp(segments)
            state = self.model.network.zero_state(x)
            settle(self.model.network, x, state, settling)
            for name, shares in explain.attention(self.model.network, x, state).items():
                ids, lengths = segments[name]
                lift = shares * lengths[:, None]
                np.add.at(mass, ids, lift)
                np.add.at(seen, ids, 1)
                np.add.at(leading, ids, (self.predicted[rows] == lead)[:, None] * np.ones_like(ids))
        seen[:2] = 0
        enough = np.flatnonzero(seen >= max(1, min(SEEN, np.sort(seen)[-min(WORDS, size)])))
        best = enough[np.argsort(-mass[enough] / seen[enough])][:WORDS]
        names = self.model.vocabulary()
        rows = [(names[w], mass[w] / seen[w], leading[w] / seen[w]) for w in best]
        figures.words(rows, self.model.classes[lead], self.folder / "words.png")
        note = (
            f"The words with most attention in the free state, of those seen {SEEN} times or more on the {self.where} "
            f"split. Label and lightness of a bar say how many of the texts with the word were classified as "
            f"{self.model.classes[lead]!r}."
        )
        look = "Look whether these are words that decide, or names and marks that happen to stand there."
        return page.note(note) + self.picture("words", "Most attended words", look)

    def speakers(self, run: Path) -> str:
        """The words and n-grams that speak most for the classes with most training texts, as a table."""
        train, classes = read_store(run / STORE, "train")["train"], self.model.classes
        largest = np.argsort(-np.bincount(train.labels, minlength=len(classes)), kind="stable")[:CLASSES]
        names = [classes[k] for k in sorted(largest)]
        found = contributions.speakers(self.model, train, names, SPEAKERS, most_texts=FEWER_TEXTS)
        rows = [
            (name, ", ".join(f"{each.words} {each.contribution:+.2f}" for each in words))
            for name, words in found.by_class.items()
        ]
        note = (
            f"Mean contribution to the drive of a class, against the mean of all classes, over {found.texts:,} "
            f"training texts, of words and n-grams in {found.least} of them or more: what the drive would lose "
            "without them."
        )
        if len(names) < len(classes):
            note += f" The {len(names)} classes with most texts; eqnp words has all."
        return page.table(("class", "what speaks most for it"), rows) + page.note(note)

    def some_texts(self) -> dict[str, list[str]]:
        """Some texts of the run, put together again from their words: short ones, right and wrong, of every class."""
        rng, lengths = np.random.default_rng(0), self.split.lengths
        begun = len(self.model.tokenizer.start)
        full = np.all([ids.lengths > begun for ids in self.split.segments.values()], axis=0)
        limit = np.quantile(lengths[full], 0.3) if full.any() else 0
        readable = np.flatnonzero(full & (lengths >= min(8, limit)) & (lengths <= max(60, limit)))
        wrong = readable[self.predicted[readable] != self.split.labels[readable]]
        right = np.setdiff1d(readable, wrong)
        chosen = [*rng.permutation(right)[: TEXTS - min(2, len(wrong))], *rng.permutation(wrong)[:2]]
        return self.model.decoded(self.split, chosen)

    def attention(self, texts: Mapping[str, list[str]]) -> str:
        explanations = explain.explain(self.model, texts)
        beta = self.model.config.learning.beta
        note = f"Free, and nudged by β = {beta:g} towards the class that was predicted. {explain.LEGEND}"
        if self.model.config.data.distinct:
            note += " Texts of the run itself are shown as they were read: each word once."
        return page.note(note) + "".join(explain.section(each) for each in explanations)

    def synapse(self) -> str:
        from eqnp.app import figures

        network, target = self.model.network, one_hot(self.labels, self.model.network)
        result = estimate(
            network, self.segments, target, self.model.config.learning.on_the_line(), self.model.config.settling
        )
        into = next(synapse for synapse in network.synapses if synapse.pres and synapse.post is network.output)
        name, _, post, pre = next(into.ends(network.clamp(self.segments), result.states))
        sample = int(np.abs(post[0] - post[1]).max(axis=1).argmax())
        ends = post[:2, sample], pre[:2, sample]
        figures.synapse(*ends, result.phases[:2], self.model.classes, name, self.folder / "synapse.png")
        note = (
            "One text: of the batch above, the one that the nudge moves most. A synapse sees the states of its own two "
            "ends in both phases; their products, weighed and added up, are its update, and it knows nothing else."
        )
        look = (
            "Look for the ends that differ between the phases: where neither moves, the products are the same, and "
            "nothing is learned."
        )
        return page.note(note) + self.picture("synapse", "States at both ends, and the update", look)

    def distributions(self) -> str:
        from eqnp.app import figures

        network = self.model.network
        x = network.clamp(self.segments)
        state = network.zero_state(x)
        settle(network, x, state, self.model.config.settling)
        rng, groups = np.random.default_rng(0), {}
        for name, value in network.parameters.items():
            flat = value[2:].ravel() if name == EMBEDDING else value.ravel()
            groups[name] = flat if flat.size < 100_000 else rng.choice(flat, 100_000)
        groups |= {f"state of {layer.name}": state.states[layer.name] for layer in network.layers}
        figures.histograms(groups, self.folder / "distributions.png")
        look = (
            "Look for states that all stand at an end of their range, where nothing moves them, and weights with a "
            "long tail."
        )
        return self.picture("distributions", "Weights, and free states of a batch", look)

    def watch(self, texts: Mapping[str, list[str]]) -> str:
        """The text that it is least sure of, as it settles: there is most to see."""
        found = [(max(each.scores.values()), i) for i, each in enumerate(self.model.predict(texts)) if each.known_words]
        for _, i in sorted(found):
            with suppress(DataError):  # where one text of a pair has no known word
                recording = record(self.model, {name: column[i] for name, column in texts.items()})
                quoted = page.note(" | ".join(f"“{text}”" for text in recording.texts.values()))
                return quoted + player.section(recording)
        return ""

    def picture(self, name: str, title: str, look: str) -> str:
        return page.figure(self.folder / f"{name}.png", title, look)


def _check(path: Path, picture: Path) -> str:
    try:
        report = json.loads(path.read_text("utf-8"))
        rows = [
            (row["name"], "" if row["beta"] is None else f"{row['beta']:g}", f"{max(row['errors'].values()):.1e}")
            for row in report["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); run eqnp check again, or remove it") from error
    table = page.table(("estimator", "β", "relative error of the worst parameter"), rows)
    look = "Look for the slope: halving β halves a one-sided error, and quarters a symmetric one."
    return table + (page.figure(picture, "Gradient check", look) if picture.exists() else "")


def _tables(config: str, metrics: dict) -> str:
    rows = [(name, str(value)) for name, value in metrics["environment"].items()]
    for name in FIGURES:
        rows.append((name.replace("_", " "), json.dumps(metrics[name])))
    return page.table(("environment and figures", ""), rows) + f"<pre>{html.escape(config)}</pre>"


def needs_matplotlib() -> None:
    """Raise ConfigError, with the line that installs it, where matplotlib is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("the pictures need matplotlib, which is not installed; pip install 'eqnp[plots]'")
