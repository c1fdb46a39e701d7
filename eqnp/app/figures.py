"""The pictures of a report (needs matplotlib): they can be told apart without colour, by line, mark and lightness."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from eqnp.app.charts import ACCENT, INK, PALE, THIRD
from eqnp.files import replacing
from eqnp.runs.console import share_of
from eqnp.runs.metrics import wilson

LINES = ({"color": INK, "ls": "-"}, {"color": ACCENT, "ls": "--"}, {"color": THIRD, "ls": ":"})
PHASES = ("free", "+β", "−β", "+2β", "−2β")
MOST_NAMED = 20  # classes whose counts are written into the confusion matrix
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#eeeeee",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 130,
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in the place of an older one once it is complete."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def plain(text: str) -> str:
    """A text of the user's, of which nothing is a formula."""
    return text.replace("$", r"\$")


def grid(rows: int, columns: int, size: tuple[float, float]):
    """A figure of some inches, and its panels, by row and column."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, squeeze=False)


def styled(draw: Callable) -> Callable:
    """Draw in the style of reports, and leave the user's own as it was."""

    @functools.wraps(draw)
    def drawn(*arguments, **options) -> None:
        with matplotlib.rc_context(STYLE):
            draw(*arguments, **options)

    return drawn


@styled
def learning(epochs: Sequence[Mapping], batches: Sequence[Mapping], best: int, path: Path) -> None:
    """Loss and accuracy over epochs: training on the way (ten points an epoch) and validation."""
    figure, panels = grid(1, 2, (10, 3.4))
    per_epoch = {n: max(b["batch"] for b in batches if b["epoch"] == n) for n in {b["epoch"] for b in batches}}
    for panel, what in zip(panels[0], ("loss", "accuracy"), strict=True):
        at = [b["epoch"] - 1 + b["batch"] / per_epoch[b["epoch"]] for b in batches]
        panel.plot(at, [b["train"][what] for b in batches], color=PALE, label="training, lately")
        ends = [e["epoch"] for e in epochs]
        panel.plot(ends, [e["train"][what] for e in epochs], **LINES[0], marker="o", ms=4, label="training, epoch")
        panel.plot(ends, [e["validation"][what] for e in epochs], **LINES[1], marker="s", ms=4, label="validation")
        panel.axvline(best, color="#bbbbbb", lw=1, zorder=0)
        panel.set(xlabel="epoch", title=what.capitalize())
    panels[0][1].annotate("best", (best, 0.02), xycoords=("data", "axes fraction"), color=THIRD, ha="right")
    panels[0][0].legend()
    save(figure, path)


@styled
def settling(traces: Sequence[Mapping], path: Path) -> None:
    """Residual, and energy above its end, sweep by sweep in every phase of one batch."""
    figure, (panels,) = grid(1, 2, (10, 3.4))
    for trace, style in zip(traces, LINES, strict=False):
        residual, energy = np.array(trace["residual"]), np.array(trace["energy"])
        sweeps = np.arange(1, len(residual) + 1)
        panels[0].semilogy(sweeps, np.maximum(residual, 1e-9), **style, marker="o", ms=3, label=trace["phase"])
        above = energy - energy.min()
        panels[1].semilogy(sweeps[above > 0], above[above > 0], **style, marker="o", ms=3, label=trace["phase"])
    for panel in panels:
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set(xlabel="sweep", title="Residual: the largest change of a unit, in any text")
    panels[1].set(xlabel="sweep", title="Energy F above its end (mean of the batch)")
    panels[0].legend()
    save(figure, path)


@styled
def sweeps(batches: Sequence[Mapping], path: Path) -> None:
    """Sweeps per phase, and the share of samples that settled, over training."""
    figure, (panels,) = grid(1, 2, (10, 3))
    at = np.arange(len(batches)) / max(1, len(batches)) * max(b["epoch"] for b in batches)
    for phase, (name, style) in enumerate(zip(PHASES, LINES, strict=False)):
        if phase < len(batches[0]["sweeps"]):
            panels[0].plot(at, [b["sweeps"][phase] for b in batches], **style, label=name)
            panels[1].plot(at, [100 * b["settled"][phase] for b in batches], **style, label=name)
    panels[0].set(xlabel="epoch", title="Sweeps until settled (mean)", ylim=(0, None))
    low = min(min(b["settled"]) for b in batches)
    panels[1].set(xlabel="epoch", title="Samples that settled, %", ylim=(min(90, 100 * low - 2), 100.5))
    panels[0].legend()
    save(figure, path)


@styled
def confusion(counts: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Counts (C, C): rows are the true classes, columns the predicted ones."""
    size, few = 2.2 + 0.6 * min(len(classes), MOST_NAMED), len(classes) <= MOST_NAMED
    figure, ((panel,),) = grid(1, 1, (size + 0.8, size))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    panel.grid(False)
    for (i, j), share in np.ndenumerate(shares) if few else ():
        colour = "white" if share > 0.55 else "black"
        panel.text(j, i, f"{counts[i, j]:,}\n{share:.1%}", ha="center", va="center", color=colour, fontsize=9)
    classes = [plain(name) for name in classes]
    if few:
        panel.set_xticks(range(len(classes)), classes, rotation=30 if len(classes) > 3 else 0)
        panel.set_yticks(range(len(classes)), classes)
    panel.set(xlabel="predicted", ylabel="true")
    save(figure, path)


@styled
def histograms(groups: Mapping[str, np.ndarray], path: Path) -> None:
    """A histogram for each named array."""
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure, panels = grid(rows, columns, (10, 2.1 * rows))
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    for panel, (name, values) in zip(panels.flat, groups.items(), strict=False):
        panel.hist(np.asarray(values, np.float64).ravel(), bins=60, color=INK)
        panel.set_title(name, fontsize=9)
        panel.set_yticks([])
        panel.locator_params(axis="x", nbins=3)  # small numbers are long, and would run into each other
        panel.tick_params(labelsize=8)
    save(figure, path)


@styled
def words(rows: Sequence[tuple[str, float, float]], leading: str, path: Path) -> None:
    """Most attended words: attention in multiples of the mean, and the share of texts with it of class ``leading``."""
    figure, ((panel,),) = grid(1, 1, (10, 0.27 * len(rows) + 0.8))
    names, lift, share = (list(column) for column in zip(*rows, strict=True))
    at = np.arange(len(rows))[::-1]
    shades = matplotlib.colormaps["cividis"](np.array(share))
    panel.barh(at, lift, color=shades, edgecolor="#444444", lw=0.5)
    for place, value, part in zip(at, lift, share, strict=True):
        panel.text(value, place, f"  {part:.0%} {plain(leading)}", va="center", fontsize=8, color="#444444")
    panel.set_yticks(at, [plain(name) for name in names])
    panel.grid(axis="y", visible=False)
    panel.set(title="Attention in multiples of the mean word", xlim=(0, 1.18 * max(lift)))
    save(figure, path)


@styled
def synapse(post: np.ndarray, pre: np.ndarray, phases: Sequence, classes: Sequence[str], name: str, path: Path) -> None:
    """EP at one bundle of synapses and one sample: both ends in two phases, and the update.

    post (2, H) and pre (2, K) are the states in the phases (β, c).
    """
    (beta, c), (other, c_other) = phases
    update = c * np.outer(post[0], pre[0]) + c_other * np.outer(post[1], pre[1])
    towards = ("towards" if beta > 0 else "away from") + f" the label (β = {beta:g})"
    away = f"nudged away (β = {other:g})" if other else "free"
    classes = [plain(name) for name in classes]
    moved = np.abs(pre[0] - pre[1])
    order = np.argsort(-moved)[: min(40, max(8, int((moved > 1e-3).sum())))]
    pre, update = pre[:, order], update[:, order]
    figure = Figure(figsize=(10, 5.2))
    panels = figure.subplots(3, 1, height_ratios=(2.2, 1.2, 1.4))
    for panel, states, labels, what in (
        (panels[0], pre, None, f"Before the synapse: the {len(order)} units that move most"),
        (panels[1], post, classes, "After the synapse"),
    ):
        at = np.arange(states.shape[1])
        panel.vlines(at, states[1], states[0], color=PALE, lw=3, zorder=1)
        panel.plot(at, states[0], "^", color=INK, ms=6, label=f"nudged {towards}")
        panel.plot(at, states[1], "v", mfc="white", color=ACCENT, ms=6, label=away)
        panel.set_title(what)
        panel.set_xticks(at if labels is not None else [], labels)
        panel.margins(x=0.02, y=0.2)
    panels[1].legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)  # beside a short title
    largest = np.abs(update).max() or 1.0
    image = panels[2].imshow(update, aspect="auto", cmap="cividis", vmin=-largest, vmax=largest)
    panels[2].grid(False)
    panels[2].set_yticks(range(len(classes)), classes)
    panels[2].set_xticks([])
    panels[2].set_title(f"The update of {name}: the products sₚₒₛₜ ⊗ sₚᵣₑ, times {c:.3g} and {c_other:.3g}")
    figure.colorbar(image, ax=panels[2], pad=0.01)
    save(figure, path)


@styled
def baselines(accuracy: Mapping[str, float], samples: Sequence[int], chance: float, path: Path) -> None:
    """Accuracy of the network and its rivals, with intervals, each on so many samples of one split."""
    figure, ((panel,),) = grid(1, 1, (7, 3.2))
    at = np.arange(len(accuracy))[::-1]
    colours = [INK] + [PALE] * (len(accuracy) - 1)
    panel.barh(at, [100 * a for a in accuracy.values()], color=colours)
    for place, value, size in zip(at, accuracy.values(), samples, strict=True):
        low, high = wilson(value, size)
        panel.plot([100 * low, 100 * high], [place, place], color=ACCENT, lw=2)
        weight = "bold" if place == at[0] else "normal"
        panel.text(100 * high, place, f" {share_of(value, size)}", va="center", weight=weight)
    panel.axvline(100 * chance, color="#888888", ls=":", lw=1)
    panel.set_yticks(at, list(accuracy))
    panel.grid(axis="y", visible=False)
    panel.set(xlim=(0, 138), xticks=range(0, 101, 20), xlabel="accuracy, % (dotted: one class in so many)")
    save(figure, path)


@styled
def reliability(bins: Sequence[Mapping], best: np.ndarray, right: np.ndarray, path: Path) -> None:
    """Accuracy over score by bins, and over coverage by threshold; ``best`` (n,) scores, ``right`` (n,) truths."""
    figure, (panels,) = grid(1, 2, (10, 3.8))
    panels[0].plot([0, 100], [0, 100], color="#888888", ls=":", lw=1)
    for each in bins:
        low, high = wilson(each["accuracy"], each["texts"])
        panels[0].plot([100 * each["score"]] * 2, [100 * low, 100 * high], color=PALE, lw=3)
    panels[0].plot([100 * b["score"] for b in bins], [100 * b["accuracy"] for b in bins], "o", color=INK, ms=5)
    lowest = 100 * min(min(b["score"], wilson(b["accuracy"], b["texts"])[0]) for b in bins)
    span = (max(0, lowest - 5), 102)
    panels[0].set(xlabel="score of the best class, %", title="Right, %, by score", xlim=span, ylim=span)
    order = np.argsort(-best, kind="stable")
    count = np.arange(1, len(order) + 1)
    share = 100 * np.cumsum(right[order]) / count
    panels[1].plot(100 * count / len(order), share, **LINES[0])
    for threshold in (0.5, 0.9, 0.99):
        kept = int((best >= threshold).sum())
        if kept:
            panels[1].plot(100 * kept / len(order), share[kept - 1], "s", color=ACCENT, ms=5)
            at, away = (100 * kept / len(order), share[kept - 1]), {"xytext": (-7, -3), "textcoords": "offset points"}
            panels[1].annotate(f"{threshold:g}", at, **away, ha="right", va="top")
    panels[1].set(xlabel="share of the texts that are answered, %", title="Right, %, of those with the highest scores")
    save(figure, path)
