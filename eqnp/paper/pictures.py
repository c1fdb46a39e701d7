"""The pictures of docs/paper.md (need matplotlib), in the style of a report's: they can be read without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eqnp.app.figures import ACCENT, INK, PALE, THIRD, grid, save, styled

COLOURS = {"ep": INK, "implicit": ACCENT, "bptt": THIRD}
NAMES = {"ep": "EP", "implicit": "implicit differentiation", "bptt": "BPTT"}
STYLES = ("-", "--", ":", "-.")
FLOOR = 1e-9  # of the largest: smaller ones are rounding, and are not drawn


@styled
def curves(groups: Mapping[str, Sequence[Mapping]], path: Path) -> None:
    """Validation accuracy by epoch: a panel for each group of trainings, a line for each of them."""
    figure, every = grid(1, len(groups), (4.5 * len(groups), 3.4))
    for (title, records), axes in zip(groups.items(), every[0], strict=True):
        named = set()
        for record in records:
            algorithm = record["metrics"]["algorithm"]
            label = None if algorithm in named else NAMES[algorithm]
            named.add(algorithm)
            epochs = [epoch["epoch"] for epoch in record["curve"]]
            accuracy = [100 * epoch["validation"]["accuracy"] for epoch in record["curve"]]
            axes.plot(
                epochs, accuracy, "o" + STYLES[list(NAMES).index(algorithm)], color=COLOURS[algorithm], label=label
            )
        axes.set(title=title, xlabel="epoch", ylabel="accuracy on validation data, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    save(figure, path)


@styled
def settling(states: Mapping[str, Mapping], path: Path) -> None:
    """Residual and energy by sweep, a column for each network: free and nudged, synchronous and even–odd."""
    figure, every = grid(2, len(states), (4.5 * len(states), 6))
    for column, (title, orders) in enumerate(states.items()):
        for order, colour in (("synchronous", ACCENT), ("even-odd", INK)):
            for phase, style in zip(orders[order][:2], STYLES, strict=False):
                label = f"{'nudged' if phase['beta'] else 'free'}, {order.replace('-', '–')}"
                sweeps = np.arange(1, len(phase["residual"]) + 1)
                shown = {"color": colour, "ls": style, "label": label}
                every[0][column].semilogy(sweeps, np.maximum(phase["residual"], 1e-12), **shown)
                every[1][column].semilogy(sweeps, np.maximum(phase["energy"], 1e-12), **shown)
        every[0][column].set(title=title, xlabel="sweep", ylabel="largest change of a unit")
        every[1][column].set(xlabel="sweep", ylabel="mean F above its end")
        every[0][column].legend(fontsize=8)
    save(figure, path)


@styled
def steps(states: Mapping[str, Sequence[Mapping]], path: Path) -> None:
    """Norm of every step's update, BPTT as lines and EP as marks, a panel for each network, at the smallest nudge."""
    figure, every = grid(1, len(states), (4.5 * len(states), 3.6))
    for (title, nudges), axes in zip(states.items(), every[0], strict=True):
        axes.set(title=title, xlabel="step", ylabel="norm of the update")
        weights = [name for name in nudges[0]["norms"] if not name.endswith("bias")]
        if not any(max(nudges[0]["norms"][name]["bptt"]) for name in weights):
            axes.text(0.5, 0.5, "no update: outputs at 0", transform=axes.transAxes, ha="center")
            continue
        for i, name in enumerate(weights):
            backward, forward = (np.array(nudges[0]["norms"][name][by]) for by in ("bptt", "ep"))
            at = np.flatnonzero(backward > FLOOR * backward.max())
            shade = [INK, ACCENT, THIRD, PALE][i % 4]
            label = name.removesuffix(".weight")
            axes.semilogy(1 + at, backward[at], STYLES[i // 4 % 4], color=shade, label=label)
            axes.semilogy(1 + at, forward[at], "o+xs"[i % 4], color=shade, markersize=4, fillstyle="none")
        axes.legend(fontsize=7)
    save(figure, path)


@styled
def memory(tasks: Mapping[str, Mapping], path: Path) -> None:
    """Peak memory of an estimate by T = K; the dotted line is what the formula says of BPTT."""
    figure, every = grid(1, len(tasks), (4.5 * len(tasks), 3.4))
    for (title, measured), axes in zip(tasks.items(), every[0], strict=True):
        number = np.array(measured["steps"])
        for name, style in zip(NAMES, STYLES, strict=False):
            axes.plot(number, measured[name], style, marker="o", color=COLOURS[name], label=NAMES[name])
        step = sum(layer["step"] for layer in measured["layers"].values())
        formula = measured["bptt"][0] + (number - number[0]) * step
        axes.plot(number, formula, ":", color="black", linewidth=1, label="BPTT, by formula")
        axes.set(
            title=f"{title}, {measured['samples']} texts", xlabel="T = K", ylabel="MiB at the peak", ylim=(0, None)
        )
        axes.legend(fontsize=8)
    save(figure, path)


@styled
def ablation(records: Sequence[Mapping], path: Path) -> None:
    """Accuracy against the error of the gradient: a line of marks for each estimator, with their β, and other marks."""
    figure, ((axes,),) = grid(1, 1, (7, 4))
    families: dict[str, list] = {}
    for record in records:
        name = record["name"].removeprefix("snli-")
        family, _, value = name.rpartition("-")
        point = (record["bias"]["error"], 100 * max(each["validation"]["accuracy"] for each in record["curve"]), value)
        families.setdefault(family or name, []).append(point)
    colours = (INK, ACCENT, THIRD, PALE, "black")
    for (family, points), mark, colour in zip(families.items(), "os^D*", colours, strict=False):
        errors, accuracies, _ = zip(*points, strict=True)
        beta = family in ("one-sided", "symmetric")
        label = f"{family}, by β" if beta else family
        axes.plot(errors, accuracies, f"{mark}-" if len(points) > 1 else mark, color=colour, label=label)
        for error, accuracy, value in points if len(points) > 1 else ():
            axes.annotate(value, (error, accuracy), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="error of the gradient after training", ylabel="accuracy on validation data, %")
    axes.legend()
    save(figure, path)
