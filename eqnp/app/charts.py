"""Small charts as SVG, without any library: what the recipes in ``scripts/`` draw.

They can be told apart without colour, by dashes and marks, and stand on white, so that they can be read on any page.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqnp.files import write_text

INK, PALE, ACCENT, THIRD, FOURTH = "#14325a", "#9fb3c8", "#c2570c", "#6b7280", "#2f7d5b"
STYLES = ((INK, "", "circle"), (ACCENT, "6 3", "square"), (THIRD, "2 3", "diamond"), (FOURTH, "8 3 2 3", "cross"))
LEFT, TOP, RIGHT, BOTTOM = 52, 30, 14, 40  # around a panel's axes
MARKED = 30  # points of a curve that have a mark each; more would run into each other
TEXT = 'font-family="system-ui, sans-serif" font-size="12"'


@dataclass(frozen=True)
class Panel:
    """A chart: its size in pixels, and what is drawn in it, as SVG."""

    width: float
    height: float
    body: str


def save(path: Path | str, *panels: Panel) -> None:
    """Write panels side by side as one SVG file, whole or not at all; raises OSError."""
    left, parts, height = 0.0, [], max(panel.height for panel in panels)
    for panel in panels:
        parts.append(f'<g transform="translate({left:g},0)">{panel.body}</g>')
        left += panel.width
    size = f'viewBox="0 0 {left:g} {height:g}" width="{left:g}" height="{height:g}"'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    write_text(Path(path), f'<svg xmlns="http://www.w3.org/2000/svg" {size} {TEXT}>{ground}{"".join(parts)}</svg>\n')


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    width: float = 420,
    height: float = 270,
) -> Panel:
    """Curves by name, (xs, ys) each, with a legend where there are several. On a logarithmic axis what is not above 0
    is left out."""
    kept = {name: _above_zero(*curve, log_x, log_y) for name, curve in curves.items()}
    every = [np.concatenate([curve[i] for curve in kept.values()]) for i in (0, 1)]
    across = _Axis(every[0], log_x, LEFT, width - RIGHT)
    up = _Axis(every[1], log_y, height - BOTTOM, TOP)
    parts = [_text(8, 18, title, bold=True), _text((LEFT + width - RIGHT) / 2, height - 6, x, "middle")]
    for value in across.ticks():
        parts.append(_line(across(value), TOP, across(value), height - BOTTOM, "#eeeeee"))
        parts.append(_text(across(value), height - BOTTOM + 16, across.label(value), "middle"))
    for value in up.ticks():
        parts.append(_line(LEFT, up(value), width - RIGHT, up(value), "#eeeeee"))
        parts.append(_text(LEFT - 6, up(value) + 4, up.label(value), "end"))
    parts.append(_line(LEFT, height - BOTTOM, width - RIGHT, height - BOTTOM, "#888888"))
    parts.append(_line(LEFT, TOP, LEFT, height - BOTTOM, "#888888"))
    ends = []
    for (xs, ys), (colour, dash, mark) in zip(kept.values(), _styles(len(kept)), strict=True):
        points = [(across(a), up(b)) for a, b in zip(xs, ys, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.7"{dashes}/>')
        parts += [_mark(a, b, mark, colour) for a, b in points if len(points) <= MARKED]
        ends.append(points[-1][1] if points else TOP)
    return Panel(width, height, "".join(parts) + (_legend(list(kept), width, ends, height) if len(kept) > 1 else ""))


def squares(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, *, cell: float = 26) -> Panel:
    """A Hinton diagram of (R, C) numbers: a square's area is the size of a number, full where it is positive and hollow
    where it is negative."""
    largest = np.abs(values).max(initial=0) or 1.0
    side, top = (room + 7 * max(map(len, names), default=0) for room, names in ((20, rows), (34, columns)))
    width, height = side + cell * len(columns) + RIGHT, top + cell * len(rows) + 10
    parts = [_text(8, 18, title, bold=True)]
    for c, name in enumerate(columns):
        at = side + cell * (c + 0.5) + 4
        parts.append(f'<g transform="rotate(-90 {at:g} {top - 6:g})">{_text(at, top - 6, name)}</g>')
    for r, name in enumerate(rows):
        middle = top + cell * (r + 0.5)
        parts.append(_text(side - 8, middle + 4, name, "end"))
        parts.append(_line(side, top + cell * r, side + cell * len(columns), top + cell * r, "#eeeeee"))
        for c, value in enumerate(values[r]):
            size = max(1.0, (cell - 4) * float(np.sqrt(abs(value) / largest)))
            look = f'fill="{INK}"' if value >= 0 else f'fill="none" stroke="{INK}" stroke-width="1.4"'
            corner = side + cell * (c + 0.5) - size / 2
            place = f'x="{corner:.1f}" y="{middle - size / 2:.1f}" width="{size:.1f}" height="{size:.1f}"'
            parts += [f"<rect {place} {look}/>"] if value else []
    return Panel(max(width, 40 + 7.2 * len(title)), height, "".join(parts))


class _Axis:
    """Where numbers stand between two places in pixels."""

    def __init__(self, values: np.ndarray, log: bool, start: float, end: float):
        values = np.log10(values) if log else values
        self.low, self.high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        room = 0.04 * (self.high - self.low) or 0.5
        self.low, self.high = self.low - room, self.high + room
        self.log, self.start, self.end = log, start, end

    def __call__(self, value: float) -> float:
        at = float(np.log10(value)) if self.log else float(value)
        return self.start + (self.end - self.start) * (at - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers, about five of them; of a logarithmic axis powers of ten, or 2 and 5 times them if they are
        few."""
        if self.log:
            low, high = int(np.ceil(self.low)), int(np.floor(self.high))
            if high - low >= 1:
                step = max(1, -(-(high - low) // 5))
                return [10.0**power for power in range(low, high + 1, step)]
            every = [m * 10.0**p for p in range(low - 2, high + 2) for m in (1, 2, 5)]
            return [value for value in every if self.low <= np.log10(value) <= self.high]
        rough = (self.high - self.low) / 5
        step = next(
            m * 10.0 ** np.floor(np.log10(rough)) for m in (1, 2, 5, 10) if m * 10 ** np.floor(np.log10(rough)) >= rough
        )
        return [step * n for n in range(int(np.ceil(self.low / step)), int(np.floor(self.high / step)) + 1)]

    def label(self, value: float) -> str:
        """A tick in words."""
        if self.log and self.high - self.low > 2:
            power = f"{round(np.log10(value))}"
            return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(c)] if c.isdigit() else "⁻" for c in power)
        return f"{value:g}".replace("-", "−")


def _above_zero(xs: Sequence[float], ys: Sequence[float], log_x: bool, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(xs, float), np.asarray(ys, float)
    kept = np.isfinite(xs) & np.isfinite(ys) & ((xs > 0) | (not log_x)) & ((ys > 0) | (not log_y))
    return xs[kept], ys[kept]


def _styles(count: int) -> list[tuple[str, str, str]]:
    return [STYLES[i % len(STYLES)] for i in range(count)]


def _text(x: float, y: float, text: str, anchor: str = "start", bold: bool = False) -> str:
    look = ('fill="#1c1c1c" font-weight="600"' if bold else 'fill="#555555"') + f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{html.escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _mark(x: float, y: float, kind: str, colour: str) -> str:
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{colour}"/>'
    if kind == "cross":
        return f'<path d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6" stroke="{colour}" stroke-width="1.6"/>'
    turned = f' transform="rotate(45 {x:.1f} {y:.1f})"' if kind == "diamond" else ""
    corner = f'x="{x - 2.5:.1f}" y="{y - 2.5:.1f}" width="5" height="5"'
    return f'<rect {corner} fill="#ffffff" stroke="{colour}" stroke-width="1.4"{turned}/>'


def _legend(names: Sequence[str], width: float, ends: Sequence[float], height: float) -> str:
    """The names, in the upper or the lower corner on the right: in that from which curves end farther."""
    low = np.mean(ends) < (TOP + height - BOTTOM) / 2
    top, parts = (height - BOTTOM - 17 * len(names) - 4 if low else TOP + 6), []
    room = 34 + 7 * max(map(len, names))
    left = width - RIGHT - room
    parts.append(
        f'<rect x="{left - 4:.1f}" y="{top - 4:.1f}" width="{room + 4:.1f}" height="{17 * len(names) + 6}" '
        'fill="#ffffff" fill-opacity="0.85"/>'
    )
    for n, (name, (colour, dash, mark)) in enumerate(zip(names, _styles(len(names)), strict=True)):
        y = top + 17 * n + 8
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{left + 24:.1f}" y2="{y:.1f}" stroke="{colour}" '
            f'stroke-width="1.7"{dashes}/>{_mark(left + 12, y, mark, colour)}{_text(left + 30, y + 4, name)}'
        )
    return "".join(parts)
