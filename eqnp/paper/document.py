"""The tables of docs/paper.md, from what was measured; the words between them are written by hand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

ALGORITHMS = {"ep": "EP", "implicit": "implicit differentiation", "bptt": "BPTT"}
MISSING = "*not run yet*"
BLOCK = r"(<!-- {name} -->\n).*?(<!-- end -->)"


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """The page with what stands between ``<!-- NAME -->`` and ``<!-- end -->`` replaced; KeyError without one."""
    for name, text in blocks.items():
        pattern = re.compile(BLOCK.format(name=re.escape(name)), re.DOTALL)
        if not pattern.search(page):
            raise KeyError(f"no <!-- {name} --> … <!-- end --> in the page")
        page = pattern.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
    return page


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, or that nothing was run yet."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]) if lines else MISSING


def spread(values: Sequence[float], unit: float = 100, digits: int = 1) -> str:
    """Mean ± standard deviation over seeds, or the value of one."""
    mean = f"{unit * statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {unit * statistics.stdev(values):.{digits}f}"


def accuracies(records: Sequence[Mapping]) -> str:
    """A line for each task and algorithm: seeds, epochs, accuracy on validation and test data, sweeps, minutes, GiB."""
    groups: dict[tuple, list] = {}
    for record in records:
        name = re.sub(r"-\d+$", "", record["name"])
        groups.setdefault((name, record["metrics"]["algorithm"]), []).append(record)
    rows = []
    for (name, algorithm), each in groups.items():
        metrics = [record["metrics"] for record in each]
        last = each[0]["curve"][-1]
        rows.append(
            [
                name.removesuffix(f"-{algorithm}"),
                ALGORITHMS[algorithm],
                str(len(each)),
                spread([m["epochs"] for m in metrics], unit=1, digits=0),
                spread([m["accuracy"]["validation"] for m in metrics]),
                f"**{spread([m['accuracy']['test'] for m in metrics])}**" if "test" in metrics[0]["accuracy"] else "–",
                " + ".join(f"{sweeps:.1f}" for sweeps in last["sweeps"]),
                spread([sum(e["seconds"] for e in r["curve"]) / 60 for r in each], unit=1, digits=0),
                f"{max(m['peak_resident_gib'] or 0 for m in metrics):.1f}",
                ", ".join(dict.fromkeys(_where(record) for record in each)),
            ]
        )
    head = ["trained", "by", "seeds", "epochs", "validation, %", "test, %", "sweeps", "minutes of training", "GiB"]
    return table([*head, "trained on"], rows)


def _where(record: Mapping) -> str:
    """What a network was trained on."""
    device = record["metrics"]["environment"].get("device", "cpu").split(",")[0]
    cores = record["cores"]
    return device if device != "cpu" else "a core" if cores == 1 else f"{cores} cores"


def settling(tasks: Mapping[str, Mapping]) -> str:
    """Share of texts settled within T and K, and the largest rise of the energy, by network and order of updates."""
    rows = []
    for title, orders in tasks.items():
        for order, phases in orders.items():
            for phase in phases:
                what = f"nudged, β = {phase['beta']:g}" if phase["beta"] else "free"
                first = next((i for i, share in enumerate(phase["settled"], 1) if share == 1), None)
                reached = f"{100 * phase['settled'][-1]:.0f} % of {len(phase['settled'])}"
                cells = [title, order.replace("-", "–"), what, reached, str(first or "–")]
                rows.append([*cells, f"{phase['residual'][-1]:.0e}", f"{phase['rise']:.0e}"])
    head = [
        "network",
        "updates",
        "phase",
        "texts settled within the sweeps",
        "all after sweep",
        "last change",
        "F rises",
    ]
    return table(head, rows)


def steps(tasks: Mapping[str, Sequence[Mapping]]) -> str:
    """Relative error of EP's updates against BPTT's, step by step, for every synapse; where that is 0, EP's norm."""

    def error(nudge: Mapping, name: str) -> str:
        norms = nudge["norms"][name]
        if any(norms["bptt"]):
            return f"{nudge['error'][name]:.0e}"
        return f"of 0: {max(norms['ep']):.0e}" if any(norms["ep"]) else "both 0"

    rows = []
    for title, nudges in tasks.items():
        for name in nudges[0]["error"]:
            rows.append([title, f"`{name}`", *(error(nudge, name) for nudge in nudges)])
    betas = [f"β = {each['beta']:g}" for each in next(iter(tasks.values()), ())]
    return table(["network", "parameter", *(betas and ["nearly no nudge, " + betas[0], "as trained"])], rows)


def memory(tasks: Mapping[str, Mapping]) -> str:
    """MiB of one estimate by number of steps, and BPTT's growth by a step, measured and by formula."""
    rows = []
    for title, measured in tasks.items():
        number = measured["steps"]
        for algorithm, name in ALGORITHMS.items():
            slope = (measured[algorithm][-1] - measured[algorithm][0]) / (number[-1] - number[0])
            step = sum(layer["step"] for layer in measured["layers"].values()) if algorithm == "bptt" else 0
            sizes = (f"{size:.0f}" for size in measured[algorithm])
            rows.append([title, name, *sizes, f"{slope:.2f}", f"{step:.2f}"])
    first = next(iter(tasks.values()), {"steps": ()})
    head = ["network, texts", "by", *(f"T = K = {n}" for n in first["steps"]), "a step more", "by formula"]
    return table(head, rows)


def layers(tasks: Mapping[str, Mapping]) -> str:
    """Of every layer, the MiB of its state, and of what BPTT keeps of a step."""
    rows = [
        [title, f"`{name}`", f"{size['state']:.2f}", f"{size['step']:.2f}"]
        for title, measured in tasks.items()
        for name, size in measured["layers"].items()
    ]
    return table(["network, texts", "layer", "state, MiB", "a step of BPTT, MiB"], rows)


def ablation(records: Sequence[Mapping]) -> str:
    """Accuracy and error of the gradient side by side, of every training of the ablation."""
    rows = []
    for record in records:
        learning, caps = record["learning"], record["settling"]
        rows.append(
            [
                record["name"].removeprefix("snli-"),
                f"{learning['estimator']}, β = {learning['beta']:g}",
                f"{caps['free_sweeps']}, {caps['nudged_sweeps']}",
                f"{100 * record['metrics']['accuracy']['validation']:.1f}",
                f"{record['bias']['error']:.1e}",
                f"{record['bias']['cosine']:.4f}",
            ]
        )
    head = ["changed", "estimator", "T, K at most", "validation, %", "error of the gradient", "least cosine"]
    return table(head, rows)
