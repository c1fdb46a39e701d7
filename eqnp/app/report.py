"""``eqnp report RUN``: one self-contained HTML page about a run, and its pictures as PNG files.

Needs matplotlib. What is shown comes from the run folder alone: its log, its metrics, its model, and its own texts.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eqnp.app import explain
from eqnp.dynamics import settle
from eqnp.errors import CheckpointError, ConfigError
from eqnp.files import write_text
from eqnp.learning import estimate
from eqnp.machine import Machine
from eqnp.network import EMBEDDING
from eqnp.runs.contents import CONFIG, METRICS, check_texts, instead
from eqnp.runs.folder import read_json, read_log
from eqnp.runs.loop import free_outputs, one_hot
from eqnp.runs.model import Model
from eqnp.runs.training import RIVALS
from eqnp.text.store import STORE, Split, bucketed, read_store

PAGE, PICTURES = "report.html", "report"
FIGURES = ("parameters", "seconds", "peak_resident_gib", "samples", "unknown_tokens", "words", "words_with_vector")
NEEDED = (*FIGURES, "preset", "algorithm", "accuracy", "baselines", "best_epoch", "epochs", "environment")
SAMPLES, TEXTS, WORDS, SEEN = 64, 6, 24, 20  # of a settled batch; texts shown; words listed, seen in so many texts


def write_report(
    run: Path, out: Path, texts: Mapping[str, list[str]] | None = None, threads: int | None = None
) -> Path:
    """Write ``report.html`` and ``report/*.png`` into ``out``; returns the page's path.

    ``texts`` (a list per segment) are shown with their attention; without any, some of the run's own are. Raises
    CheckpointError for a run that is not finished, OSError.
    """
    metrics, config, events = _record(run)
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
        ("How good is it?", report.accuracy()),
        ("Learning", report.learning()),
        ("Settling", report.settling()),
        ("What it attends to", report.words()),
        ("Attention, word by word", report.attention(shown) if all(shown.values()) else ""),
        ("Equilibrium propagation at one synapse", report.synapse()),
        ("Is the gradient right?", _check(check, run / "check.png") if check.exists() else ""),
        ("Weights and states", report.distributions()),
        ("Configuration and environment", _tables(config, report.metrics)),
    ]
    page = out / PAGE
    write_text(page, _page(run.resolve().name, report.metrics, [(title, body) for title, body in sections if body]))
    return page


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
        config = model.config
        self.outputs = free_outputs(model.network, split, config.settling)
        self.predicted = self.outputs.argmax(axis=1)
        rows = next(bucketed(split, min(SAMPLES, len(split)), np.random.default_rng(0)))
        self.segments, self.labels = split.batch(rows)

    def accuracy(self) -> str:
        from eqnp.app import figures

        metrics, classes = self.metrics, self.model.classes
        names = {"this network": metrics["accuracy"][self.where]}
        names |= {RIVALS[name]: accuracy[self.where] for name, accuracy in metrics["baselines"].items()}
        figures.baselines(names, 1 / len(classes), self.folder / "baselines.png")
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, (self.split.labels, self.predicted), 1)
        figures.confusion(counts, classes, self.folder / "confusion.png")
        note = (
            f"On the {self.where} split, {len(self.split):,} samples. The rivals are logistic regressions on the same "
            f"tokens and splits. The epoch (number {metrics['best_epoch']}) was chosen on validation data."
        )
        if metrics.get("refit") and self.where == "validation":
            note += (
                " After that the network was trained once more, with these texts among the others: the matrix, and "
                "what follows, are of texts that it has seen. Test data (--test-data) would give figures of others."
            )
        pictures = self.picture("baselines", "Accuracy") + self.picture("confusion", "Confusion matrix")
        return f"{_note(note)}<div class=pair>{pictures}</div>"

    def learning(self) -> str:
        from eqnp.app import figures

        if not self.epochs or not self.batches:
            return ""
        figures.learning(self.epochs, self.batches, self.metrics["best_epoch"], self.folder / "learning.png")
        note = (
            "Training figures are taken on the way, with word dropout and moving weights; validation after each epoch."
        )
        return self.picture("learning", "Loss and accuracy by epoch") + _note(note)

    def settling(self) -> str:
        from eqnp.app import figures

        traces = self.traces()
        figures.settling(traces, self.folder / "settling.png")
        training = ""
        if self.batches:
            figures.sweeps(self.batches, self.folder / "sweeps.png")
            training = self.picture("sweeps", "Sweeps")
        rise = max(float(np.diff(trace["energy"], prepend=trace["energy"][0]).max(initial=0)) for trace in traces)
        order = self.model.config.settling.order
        note = f"A batch of {len(self.labels)} texts settles ({order} sweeps). "
        fell = f"rose by {rise:.1e} at most" if rise > 0 else "never rose"
        note += f"From sweep to sweep the mean energy {fell} (in float64). Below: over training."
        return _note(note) + self.picture("settling", "Residual and energy by sweep") + training

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
        return self.picture("words", "Most attended words") + _note(note)

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
        words, known = self.model.vocabulary(), range(self.model.tokenizer.specials, self.model.ngrams.first_id)
        return {
            name: [" ".join(words[i] for i in ids[row] if i in known) for row in chosen]
            for name, ids in self.split.segments.items()
        }

    def attention(self, texts: Mapping[str, list[str]]) -> str:
        explanations = explain.explain(self.model, texts)
        beta = self.model.config.learning.beta
        note = f"Free, and nudged by β = {beta:g} towards the class that was predicted. {explain.LEGEND}"
        if self.model.config.data.distinct:
            note += " Texts of the run itself are shown as they were read: each word once."
        return _note(note) + "".join(explain.section(each) for each in explanations)

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
        return _note(note) + self.picture("synapse", "States at both ends, and the update")

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
        return self.picture("distributions", "Weights, and free states of a batch")

    def picture(self, name: str, title: str) -> str:
        return _image(self.folder / f"{name}.png", title)


def _image(path: Path, title: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def _note(text: str) -> str:
    return f"<p class=note>{html.escape(text)}</p>"


def _check(path: Path, picture: Path) -> str:
    try:
        report = json.loads(path.read_text("utf-8"))
        rows = [
            (row["name"], "" if row["beta"] is None else f"{row['beta']:g}", f"{max(row['errors'].values()):.1e}")
            for row in report["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); run eqnp check again, or remove it") from error
    table = _table(("estimator", "β", "relative error of the worst parameter"), rows)
    return table + (_image(picture, "Gradient check") if picture.exists() else "")


def _tables(config: str, metrics: dict) -> str:
    rows = [(name, str(value)) for name, value in metrics["environment"].items()]
    for name in FIGURES:
        rows.append((name.replace("_", " "), json.dumps(metrics[name])))
    return _table(("environment and figures", ""), rows) + f"<pre>{html.escape(config)}</pre>"


def _table(head: tuple, rows: list[tuple]) -> str:
    def line(cells, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 Georgia, "Times New Roman", serif; color: #1c1c1c; background: #fbfaf7; margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
h1 { font-size: 2rem; margin: .2em 0 0; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .4rem; padding-top: .9rem; border-top: 1px solid #d9d5cc; }
h2 small, .kicker, .note, td, th, dt, dd { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; }
.kicker { color: #6b6559; font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; margin: 0; }
.note { color: #55504a; font-size: .86rem; max-width: 46rem; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1.1rem 0; }
dt { font-size: .75rem; color: #6b6559; } dd { margin: 0; font-size: 1.45rem; font-weight: 600; }
img { width: 100%; height: auto; background: #fff; border: 1px solid #e6e2d9; border-radius: 6px; margin: .4rem 0; }
.pair { display: flex; gap: 1rem; align-items: flex-start; } .pair img:first-child { flex: 2.1; min-width: 0; }
.pair img:last-child { flex: 1; min-width: 0; }
table { border-collapse: collapse; font-size: .85rem; margin: .8rem 0; }
td, th { text-align: left; padding: .18rem 1.2rem .18rem 0; border-bottom: 1px solid #ece8df; vertical-align: top; }
pre { background: #f3f0e8; padding: .9rem; overflow-x: auto; font-size: .78rem; line-height: 1.4; border-radius: 6px; }
.entry { margin: 1.2rem 0; padding-left: .9rem; border-left: 3px solid #14325a; }
.entry h3 { margin: 0; font-size: 1rem; } .entry small { color: #6b6559; }
nav { font-family: system-ui, sans-serif; font-size: .82rem; margin: .8rem 0; }
nav a { color: #14325a; margin-right: 1rem; }
@media print { body { background: #fff; } h2 { break-after: avoid; } img { break-inside: avoid; } }
"""


def _page(name: str, metrics: dict, sections: list[tuple[str, str]]) -> str:
    where = "test" if "test" in metrics["accuracy"] else "validation"
    figures = {
        f"{where} accuracy": f"{metrics['accuracy'][where]:.1%}",
        "bag of words": f"{metrics['baselines']['bag_of_words'][where]:.1%}",
        "parameters": f"{metrics['parameters'] / 1e6:.2f} M",
        "epochs": f"{metrics['epochs']}",
        "time": _duration(metrics["seconds"]),
    }
    head = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in figures.items())
    links = "".join(f'<a href="#s{i}">{html.escape(title)}</a>' for i, (title, _) in enumerate(sections))
    body = "".join(f'<h2 id="s{i}">{html.escape(t)}</h2>{content}' for i, (t, content) in enumerate(sections))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(name)} · eqnp</title>'
        f"<style>{CSS}{explain.STYLE}</style></head><body><main>"
        f"<p class=kicker>eqnp · {html.escape(metrics['preset'] or 'own configuration')} · "
        f"{html.escape(metrics['algorithm'])}</p><h1>{html.escape(name)}</h1><dl>{head}</dl><nav>{links}</nav>{body}"
        "</main></body></html>\n"
    )


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def needs_matplotlib() -> None:
    """Raise ConfigError, with the line that installs it, where matplotlib is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("the pictures need matplotlib, which is not installed; pip install 'eqnp[plots]'")
