"""The picture of the README, as SVG: the energy of one text by sweep in three phases, and one synapse and its update.

It is drawn from a record, a dictionary of plain numbers, so that the picture can be made again without the network.
Light and dark, and told apart without colour: by line, mark and words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np

from eqnp.costs import Nudge
from eqnp.dynamics import SettlingConfig, settle
from eqnp.errors import DataError
from eqnp.learning import LearningConfig, estimate
from eqnp.runs.model import Model

WIDTH, HEIGHT = 900, 310
LEFT, RIGHT, TOP, BOTTOM = 70, 440, 66, 266  # of the energies
LOWEST, HIGHEST = -8, 2  # powers of ten, of the energy above its end
EXACT = SettlingConfig(tolerance=1e-7, free_sweeps=200, nudged_sweeps=200, accelerate=False)
NAMES = ("free", "nudged towards", "nudged away")
STYLE = """
svg { --ink: #1b2733; --pale: #5b6773; --line: #c9d1d9; --paper: #ffffff; --own: #0b4f9e; --other: #b45309 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --pale: #9aa7b4; --line: #3d4650; --paper: #0d1117; --own: #79b8ff; --other: #f0a35e }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink) }
.title { font-weight: 600; font-size: 14px } .pale { fill: var(--pale); font-size: 12px }
.grid { stroke: var(--line); fill: none } .free { stroke: var(--ink); fill: none }
.plus { stroke: var(--own); fill: none; stroke-width: 2 }
.minus { stroke: var(--other); fill: none; stroke-width: 2; stroke-dasharray: 5 4 }
.free-mark { fill: var(--ink) } .plus-mark { fill: var(--own) }
.minus-mark { fill: var(--paper); stroke: var(--other); stroke-width: 1.5 }
.unit { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5 }
"""


def record(model: Model, text: str, label: str, beta: float) -> dict:
    """What a text does in three phases, and one synapse into the output that it moves, for `drawn`; for JSON.

    The synapse is that of the class ``label`` whose unit before it moves most. Raises DataError for another label.
    """
    if label not in model.classes:
        raise DataError(f"no class is called {label!r}; classes: {', '.join(model.classes)}")
    network, own = model.network.astype(np.float64), model.classes.index(label)
    (segment,) = model.config.data.columns
    batch, _ = model.encode({segment: [text]}).batch(np.array([0]))
    target = np.eye(len(model.classes))[[own]]
    result = estimate(network, batch, target, LearningConfig("symmetric", beta), EXACT, trace=True)
    into = next(synapse for synapse in network.synapses if synapse.pres and synapse.post is network.output)
    name, _, post, pre = next(into.ends(network.clamp(batch), result.states))
    unit = int(np.abs(pre[0, 0] - pre[1, 0]).argmax())
    x = network.clamp(batch)
    free = network.zero_state(x)
    settle(network, x, free, EXACT)
    starts = [[], *([float(network.energy(x, free, Nudge(b, target))[0])] for b, _ in result.phases)]
    traces = zip(starts, result.traces, strict=True)
    ends = [[float(post[phase, 0, own]), float(pre[phase, 0, unit])] for phase in (0, 1)]
    return {
        "text": text,
        "label": label,
        "beta": beta,
        "synapse": name,
        "unit": unit,
        "energy": [start + [float(energy[0]) for energy in trace.energy] for start, trace in traces],
        "ends": [{"post": post, "pre": pre} for post, pre in ends],
        "update": -float(result.gradients[name][own, unit]),
    }


def drawn(found: Mapping) -> str:
    """The picture of a `record`."""
    parts = [*_energies(found), *_synapse(found)]
    what = (
        f"Left: the energy of one text falls sweep by sweep in three phases, on a logarithmic scale. Right: the update "
        f"of a synapse is the difference of the products of its two ends, {found['update']:+.3f}."
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="var(--paper)"/>'
    return "\n".join([head, f"<title>{what}</title>", f"<style>{STYLE}</style>", paper, *parts, "</svg>", ""])


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def _mark(x: float, y: float, kind: str) -> str:
    if kind == "free":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" class="free-mark"/>'
    tip = -5 if kind == "plus" else 5  # up or down
    corners = f"{x:.1f},{y + tip:.1f} {x - 5:.1f},{y - tip * 0.7:.1f} {x + 5:.1f},{y - tip * 0.7:.1f}"
    return f'<polygon points="{corners}" class="{kind}-mark"/>'


def _energies(found: Mapping) -> list[str]:
    """Energy above its end, by sweep: the free phase, and both nudged ones from where it ends."""
    phases = [[value - energy[-1] for value in energy] for energy in found["energy"]]
    phases = [[above for above in phase if above > 10**LOWEST] for phase in phases]
    step, x = (RIGHT - LEFT) / (sum(map(len, phases)) + 3), LEFT
    parts = [_text(LEFT - 46, 28, "The energy F falls at every sweep", "title")]
    parts.append(_text(LEFT - 46, 47, "how far above its end it is in each phase, on a logarithmic scale", "pale"))
    for power in range(LOWEST, HIGHEST + 1, 2):
        y = BOTTOM - (power - LOWEST) / (HIGHEST - LOWEST) * (BOTTOM - TOP)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"1e{power}".replace("-", "−") if power else "1", "pale", "end"))
    for kind, name, phase in zip(("free", "plus", "minus"), NAMES, phases, strict=True):
        heights = ((math.log10(above) - LOWEST) / (HIGHEST - LOWEST) for above in phase)
        places = [(x + step * (n + 1), BOTTOM - share * (BOTTOM - TOP)) for n, share in enumerate(heights)]
        parts.append(f'<path class="{kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>')
        parts += [_mark(*each, kind) for each in places]
        beside = (places[0][0] + 12, places[0][1] + 16, name)
        above = ((places[0][0] + places[-1][0]) / 2, places[0][1] - 14, name, "", "middle")
        parts.append(_text(*(beside if kind == "free" else above)))
        x += step * (len(phase) + 1)
    words = f"sweeps; a nudge is β = ±{found['beta']:g} times the cost"
    return [*parts, _text((LEFT + RIGHT) / 2, BOTTOM + 24, words, "pale", "middle")]


def _synapse(found: Mapping) -> list[str]:
    """Both ends in the two nudged phases, their products, and the update."""
    x, pre, post, product = 480, 650, 760, 848
    parts = [
        _text(x, 28, "A synapse learns from its own two ends", "title"),
        _text(x, 47, f"“{found['text']}”, label {found['label']}", "pale"),
        f'<path class="free" d="M{pre + 13} 88H{post - 13}"/>',
        *(f'<circle class="unit" cx="{at}" cy="88" r="13"/>' for at in (pre, post)),
        _text((pre + post) / 2, 81, "weight", "pale", "middle"),
        _text(pre, 120, "before", "", "middle"),
        _text(post, 120, "after", "", "middle"),
        _text(product, 120, "product", "", "middle"),
        _text(x, 92, f"hidden unit {found['unit']} →"),
        _text(post + 22, 92, found["label"]),
    ]
    for y, kind, name, ends in zip((150, 196), ("plus", "minus"), NAMES[1:], found["ends"], strict=True):
        parts += [_mark(x + 6, y - 4, kind), _text(x + 20, y, name)]
        for at, value in ((pre, ends["pre"]), (post, ends["post"]), (product, ends["pre"] * ends["post"])):
            parts.append(_text(at, y, f"{value:.3f}", "", "middle"))
            parts.append(f'<path class="grid" d="M{at - 40} {y + 10}h80"/>')
            parts.append(f'<path class="{kind}" d="M{at - 40} {y + 10}h{80 * min(1.0, max(0.0, value)):.1f}"/>')
        parts += [_text((pre + post) / 2, y, "×", "", "middle"), _text((post + product) / 2, y, "=", "", "middle")]
    y = 244
    parts += [
        _text(x, y, "update: their difference / 2β"),
        _text(product, y, f"{found['update']:+.3f}", "title", "middle"),
    ]
    what = "grows" if found["update"] > 0 else "shrinks"
    return [*parts, _text(x, y + 24, f"The weight {what}. Nothing else in the network is asked.", "pale")]
