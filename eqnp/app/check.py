"""Is the gradient right, on this network and this text? Every estimator against the exact gradient, in float64.

The exact gradient is that of implicit differentiation at tightly settled states, itself held against finite differences
of the loss along random directions. See `eqnp.oracles` for the routes, `eqnp.learning` for the estimators.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eqnp.config import Config
from eqnp.dynamics import SettlingConfig
from eqnp.files import replacing
from eqnp.learning import Estimate, LearningConfig, estimate
from eqnp.machine.gradients import RowGradient, entries
from eqnp.network import Network
from eqnp.oracles import bptt, finite_difference, gdu, implicit
from eqnp.runs.loop import one_hot
from eqnp.runs.model import Model
from eqnp.runs.training import fresh_network
from eqnp.states import Batch
from eqnp.testing import EXACT, errors_of
from eqnp.text.store import STORE, Split, bucketed, read_split

BETAS = {  # where each estimator is looked at; orders are fitted through the last three
    "one-sided": (0.01, 0.02, 0.05),
    "symmetric": (0.01, 0.02, 0.05, 0.1),
    "richardson": (0.05, 0.1, 0.15, 0.2),
    "holomorphic": (0.05, 0.2, 0.3, 0.4),
}
STEPS = (10, 25, 50, 100)  # of BPTT and EP, for their memory
LONG, GDU_STEPS, GDU_BETA, DIRECTION_STEP = 400, 30, 1e-4, 1e-5
UPDATES = {  # order of updates, and whether extrapolated
    "accelerated": ("even-odd", True),
    "even-odd": ("even-odd", False),
    "synchronous": ("synchronous", False),
}
FLOOR = 1e-9  # of the largest step: smaller ones are rounding divided by β, and are not drawn


@dataclass
class Row:
    """One estimate against the exact gradient; by parameter, relative error and cosine."""

    name: str
    beta: float | None
    errors: dict[str, float]
    cosines: dict[str, float]
    residual: float

    def line(self) -> str:
        """As a line of the table: the worst parameter decides."""
        worst = max(self.errors, key=self.errors.get)
        beta = "" if self.beta is None else f"{self.beta:g}"
        return f"{self.name:28} {beta:>5}  {self.errors[worst]:8.1e}  {min(self.cosines.values()):11.8f}  {worst}"


def run_problem(run: Path, samples: int) -> tuple:
    """The trained network of a run in float64, and a batch of its training texts: the arguments of `check`."""
    model = Model.load(run)
    return _problem(model.network, read_split(run / STORE, "train"), model.config, samples)


def preset_problem(config: Config, samples: int) -> tuple:
    """The same for fresh weights of a configuration."""
    return _problem(*fresh_network(config), config, samples)


def _problem(network: Network, split: Split, config: Config, samples: int) -> tuple:
    batch, labels = split.batch(next(bucketed(split, samples, np.random.default_rng(0))))
    network = network.astype(np.float64)
    return network, batch, one_hot(labels, network), config


def check(network: Network, batch: Batch, target: np.ndarray, config: Config) -> dict:
    """Compare all routes on one batch; ``network`` in float64, target (B, C). Returns a JSON-serialisable report.

    ``config`` gives the settings it is trained with, whose own bias is a row of the table.
    """
    exact = implicit.estimate(network, batch, target, EXACT)
    rows = [_row("as trained", config.learning.beta, exact, _ep(network, batch, target, config))]
    orders: dict[str, float] = {}
    refused: dict[str, str] = {}
    smooth = all(layer.potential.analytic for layer in network.layers)
    for name, betas in BETAS.items():
        if name == "holomorphic" and not smooth:
            refused[name] = "needs analytic activations (logistic, tanh), and this network's has kinks"
            continue
        new = []
        for beta in betas:
            result = estimate(network, batch, target, LearningConfig(name, beta), EXACT)
            new.append(_row(name, beta, exact, result))
        errors = [max(row.errors.values()) for row in new]
        logs = np.log(np.maximum(errors[-3:], np.finfo(float).tiny))  # no error at all where all units are at bounds
        orders[name] = float(np.polyfit(np.log(betas[-3:]), logs, 1)[0])
        rows += new
    for steps in (config.settling.nudged_sweeps, LONG):
        result = bptt.estimate(network, batch, target, EXACT, steps=steps)
        rows.append(_row(f"BPTT, {steps} steps", None, exact, result))
    return {
        "samples": len(target),
        "exact_residual": float(exact.residual.max()),
        "finite_differences": _against_differences(network, batch, target, exact),
        "rows": [vars(row) for row in rows],
        "orders": orders,
        "refused": refused,
        "gdu": _gdu(network, batch, target),
        "phases": _phases(network, batch, target, config.learning),
        "memory": _memory(network, batch, target),
    }


def table(report: Mapping) -> str:
    """The report as text."""
    lines = [f"{'estimate':28} {'β':>5}  {'error':>8}  {'cosine':>11}  worst parameter"]
    lines += [Row(**row).line() for row in report["rows"]]
    lines += [f"{name}: refused, {reason}" for name, reason in report["refused"].items()]
    orders = ", ".join(f"{name} {order:.2f}" for name, order in report["orders"].items())
    phases, gdu_error = report["phases"], max(report["gdu"]["error"].values())
    rise = max(phase["rise"] for kind in ("even-odd", "accelerated") for phase in phases[kind])
    lines += [
        f"order of the error in β: {orders}"
        + (" (units have kinks: where a nudge crosses one, it says little)" if report["refused"] else ""),
        f"exact gradient: settled to {report['exact_residual']:.0e}; "
        f"finite differences agree to {max(report['finite_differences'].values()):.0e}",
        f"step by step (GDU, {GDU_STEPS} steps): EP's increments are BPTT's to {gdu_error:.0e}",
        f"energy, even–odd sweeps: largest rise {rise:.0e} of 1 + |F|",
        "memory of one batch, MiB (steps: EP, BPTT): "
        + "; ".join(f"{m['steps']}: {m['ep']:.1f}, {m['bptt']:.1f}" for m in report["memory"]),
    ]
    return "\n".join(lines)


def _ep(network, batch, target, config: Config) -> Estimate:
    learning = replace(config.learning, train_embeddings=True)
    return estimate(network, batch, target, learning, config.settling)


def _row(name: str, beta: float | None, exact: Estimate, result: Estimate) -> Row:
    return Row(name, beta, *errors_of(result, exact), float(result.residual.max()))


def _against_differences(network, batch, target, exact: Estimate) -> dict[str, float]:
    """Relative error of the exact gradient along a random direction of each parameter."""
    rng, errors = np.random.default_rng(0), {}
    for name, gradient in exact.gradients.items():
        table = network.parameters[name]
        rows = gradient.rows if isinstance(gradient, RowGradient) else slice(None)
        direction = np.zeros_like(table)
        size = np.linalg.norm(entries(gradient))  # 0 where all units of a batch are at their bounds
        direction[rows] = entries(gradient) / (size or 1)
        direction[rows] += rng.standard_normal(direction[rows].shape) / np.sqrt(direction[rows].size)
        args = (network, batch, target, EXACT, name, direction, DIRECTION_STEP)
        slope = finite_difference.directional(*args)
        errors[name] = abs(float((entries(gradient) * direction[rows]).sum()) - slope) / (abs(slope) or 1)
    return errors


def _gdu(network, batch, target) -> dict:
    """Norms per step of BPTT's increments and of EP's deviation from them, relative to the largest step."""
    every = gdu.norms(gdu.each_step(network, batch, target, EXACT, beta=GDU_BETA, steps=GDU_STEPS))
    many = {name for name, value in network.parameters.items() if value.ndim > 1}  # biases would hide the rest
    curves = {name: {by: lists[by] for by in ("bptt", "ep")} for name, lists in every.items() if name in many}
    error = {name: max(lists["apart"]) / (max(lists["bptt"]) or 1) for name, lists in every.items()}
    return {"curves": curves, "error": error}


def _phases(network, batch, target, learning: LearningConfig) -> dict:
    """Energy and residual by sweep of the free and the nudged phases that training has, in every kind of update."""
    result = {}
    for kind, (order, accelerate) in UPDATES.items():
        settling = SettlingConfig(order, 1e-9 / min(1, learning.beta), 60, 60, accelerate)
        estimated = estimate(network, batch, target, learning.on_the_line(), settling, trace=True)
        phases = []
        for beta, trace in zip((0.0, *(beta for beta, _ in estimated.phases)), estimated.traces, strict=True):
            if not trace.energy:  # the free phase, contrasted
                continue
            energy = np.array(trace.energy)
            rise = np.diff(energy, axis=0) / (1 + np.abs(energy[:-1]))
            phases.append(
                {
                    "beta": beta,
                    "energy": energy.mean(axis=1).tolist(),
                    "residual": [float(r.max()) for r in trace.residual],
                    "rise": float(rise.max(initial=0)),
                }
            )
        result[kind] = phases
    return result


def _memory(network, batch, target) -> list[dict]:
    """Peak of what a batch allocates, MiB, by the number of steps: EP keeps no step, BPTT keeps all."""
    rows = []
    for steps in STEPS:
        settling = SettlingConfig("synchronous", 0.0, steps, steps, accelerate=False)
        peaks = []
        for route in (
            lambda settling=settling: estimate(network, batch, target, LearningConfig(beta=0.1), settling),
            lambda settling=settling, steps=steps: bptt.estimate(network, batch, target, settling, steps=steps),
        ):
            tracemalloc.start()
            route()
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
            tracemalloc.stop()
        rows.append({"steps": steps, "ep": round(peaks[0], 2), "bptt": round(peaks[1], 2)})
    return rows


def draw(report: Mapping, path: Path) -> None:
    """Four panels: error against β, step-by-step increments, energy and residual by sweep. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    (errors, steps), (energy, residual) = figure.subplots(2, 2)
    marks = iter("osD^v")
    for name in BETAS:
        points = [(row["beta"], max(row["errors"].values())) for row in report["rows"] if row["name"] == name]
        if points:
            label = f"{name} (order {report['orders'][name]:.1f})"
            errors.loglog(*zip(*points, strict=True), marker=next(marks), label=label)
    errors.set(xlabel="β", ylabel="relative error of the worst parameter", title="Error against the exact gradient")
    for i, (name, curve) in enumerate(report["gdu"]["curves"].items()):
        backward, largest = np.array(curve["bptt"]), max(curve["bptt"])
        at = np.flatnonzero(backward > FLOOR * largest)
        steps.semilogy(at, backward[at], color=f"C{i}", label=name.removesuffix(".weight"))
        steps.semilogy(at, np.array(curve["ep"])[at], "o", color=f"C{i}", markersize=4, fillstyle="none")
    steps.set(xlabel="step of the nudged phase", ylabel="norm of the update", title="BPTT (lines) and EP (circles)")
    styles = {"accelerated": "-", "even-odd": "-.", "synchronous": ":"}
    for kind, phases in report["phases"].items():
        for i, phase in enumerate(phases):
            what = f"β = {phase['beta']:g}" if phase["beta"] else "free"
            label = f"{what}, {kind}"
            above = np.array(phase["energy"]) - min(phase["energy"])
            energy.semilogy(range(1, len(above) + 1), above + 1e-16, styles[kind], color=f"C{i}", label=label)
            sweeps = range(1, len(phase["residual"]) + 1)
            residual.semilogy(sweeps, phase["residual"], styles[kind], color=f"C{i}", label=label)
    energy.set(xlabel="sweep", ylabel="F above its end (mean)", title="Energy", ylim=(1e-13, None))
    residual.set(xlabel="sweep", ylabel="largest change of a unit", title="Residual")
    for panel in (errors, steps, energy, residual):
        panel.legend(frameon=False, fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
