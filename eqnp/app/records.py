"""Figures of finished runs as Markdown: one line for runs that differ by their seed alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

from eqnp.app import benchmark, check
from eqnp.runs.results import RIVALS, further_lines, headline

ALL = ("texts", "classes", "weights", "seeds", "accuracy", *RIVALS.values(), "gain", "minutes", "memory")
TITLES = {"accuracy": "accuracy, %"}  # of columns; the others are called what they are


def look(record: Mapping, key: str):
    """What stands under "a.b.c" in a record; of an accuracy, that on test data, or else on validation data."""
    found = reduce(lambda level, name: level[name], key.split("."), record)
    return found.get("test", found.get("validation")) if isinstance(found, Mapping) else found


def spread(shares: Sequence[float]) -> str:
    """Mean ± standard deviation, or the value alone, in percent."""
    mean = f"{100 * statistics.mean(shares):.1f}"
    return mean if len(shares) < 2 else f"{mean} ± {100 * statistics.stdev(shares):.1f}"


def cell(column: str, runs: Sequence[Mapping]) -> str:
    """What a column says of runs, each as in ``metrics.json``; a dash for what they lack."""
    first, rivals = runs[0], {name: key for key, name in RIVALS.items() if key in runs[0]["baselines"]}
    own = statistics.mean(look(run, "accuracy") for run in runs)
    means = {name: statistics.mean(look(run, f"baselines.{key}") for run in runs) for name, key in rivals.items()}
    best = max(means, key=means.__getitem__)
    minutes = [f"{pick(run['seconds'] / 60 for run in runs):.2g}" for pick in (min, max)]
    cells = {
        "texts": f"{first['samples']['train']:,}",
        "classes": f"{len(first['classes'])}",
        "weights": f"{first['parameters'] / 1e6:.2f} M",
        "seeds": f"{len(runs)}",
        "accuracy": f"**{spread([look(run, 'accuracy') for run in runs])}**",
        **{name: f"{100 * mean:.1f}" for name, mean in means.items()},
        "best rival": f"{100 * means[best]:.1f} ({best})",
        "gain": f"{100 * (own - means[best]):+.1f}".replace("-", "−"),
        "minutes": " to ".join(dict.fromkeys(minutes)),
        "memory": f"{max(run['peak_resident_gib'] or 0 for run in runs):.1f} GiB",
    }
    return cells.get(column, "–")


def table(groups: Iterable[tuple[str, Sequence[Mapping]]], columns: Sequence[str] = ALL) -> str:
    """A line for each label and its runs."""
    rows = [["", *(TITLES.get(each, each) for each in columns)]]
    rows += [[label, *(cell(each, runs) for each in columns)] for label, runs in groups]
    head, *lines = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *lines])


def written(what: str, records: Callable[[str], list[dict]]) -> str:
    """Markdown for one request, from what ``records`` finds under a name. The requests:

    ``table COLUMN, COLUMN …; LABEL=NAME; …``: a line for the runs of each name. ``share NAME KEY``: mean ± standard
    deviation in percent. ``value NAME KEY FORMAT``: one number, as Python's ``format`` writes it. ``lines NAME [N]``,
    ``check NAME``, ``benchmark NAME …``: what `eqnp train` (the first N lines of its end), `eqnp check` and
    `eqnp benchmark` print.
    """
    kind, _, rest = what.partition(" ")
    if kind == "table":
        columns, *groups = (part.strip() for part in rest.split(";"))
        named = (group.rsplit("=", 1) for group in groups)
        return f"\n{table([(label, records(name)) for label, name in named], columns.split(', '))}\n"
    name, *more = rest.split()
    first, *_ = runs = records(name)
    if kind == "benchmark":
        tasks = [task for each in (name, *more) for record in records(each) for task in record["tasks"]]
        return f"\n{benchmark.table(tasks)}\n"
    if kind in ("lines", "check"):
        lines = [check.table(first)] if kind == "check" else [headline(first), *further_lines(first)]
        return "\n".join(["", "```text", *lines[: int(more[0]) if more else None], "```", ""])
    return format(look(first, more[0]), more[1]) if kind == "value" else spread([look(run, more[0]) for run in runs])
