"""A recording of `eqnp.app.watch` as a page that needs nothing else, or a section of one: a slider, and what it moves.

The script (``watch.js``) draws the numbers that stand in the page, and computes none: arrays are float32 in base64, so
that they are what they were to 6e-8 of their size; energies are written out.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eqnp.app.watch import Ends, Phase, Recording, Synapses, record
from eqnp.files import write_text
from eqnp.runs.model import Model

HERE = Path(__file__).parent
STYLE = (HERE / "watch.css").read_text("utf-8")
SCRIPT = (HERE / "watch.js").read_text("utf-8")
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; background: #fbfaf7; color: #1c1c1c;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.35rem; margin: 0 0 .3rem; } blockquote { font: 1.1rem/1.5 Georgia, serif; margin: .4rem 0 .8rem; }
@media (prefers-color-scheme: dark) { body { background: #131416; color: #ece9e2; } }
"""
BODY = """
<div class="bar">
<button type="button" class="play" data-part="play">▶ Play</button>
<input type="range" min="0" max="0" value="0" step="1" data-part="slider" aria-label="sweep">
<label>towards <select data-part="class"></select></label>
<div class="jumps" data-part="jumps" role="group" aria-label="go to the start of a phase"></div>
<div class="where" data-part="where"></div>
</div>
<div class="columns">
<div>
<h3>Attention</h3>
<p>The stronger its shade, the more attention a word gets (full: the most of any sweep); the most is framed. Below:
a row for each query, a column for each word; click a row to read it.</p>
<div data-part="attention"></div>
</div>
<div>
<h3>Energy</h3>
<p>Above its lowest point in each phase, which lies on the ground, on a logarithmic scale: look for a straight fall.
Under a nudge, F is the energy and β times the cost.</p>
<div data-part="energy"></div>
<p>Bars and squares are the states of units: full is positive, hollow negative. The line across a bar is the end of the
free phase: the nudge moves the output, and what is below feels it.</p>
<div data-part="units"></div>
</div>
</div>
<details data-part="details"><summary>All numbers of this sweep</summary><div data-part="numbers"></div></details>
<h3>What a synapse learns</h3>
<p>Each square is the update of one synapse for this text and class: full strengthens it, hollow weakens it. Click one,
or choose its two ends: the update is made of the products of what stands there at the end of each phase, and of nothing
else.</p>
<div class="picks">
<label>weights <select data-part="bundle"></select></label>
<label>post unit <select data-part="post"></select></label>
<label>pre unit <select data-part="pre"></select></label>
</div>
<div class="scroll" data-part="update"></div>
<p data-part="size"></p>
<div data-part="product" aria-live="polite"></div>
<noscript><p>This part moves by JavaScript, which is turned off here.</p></noscript>
"""


def section(recording: Recording) -> str:
    """A recording as a part of a page that has `STYLE` in its head, and `SCRIPT` after its last section."""
    held = json.dumps(_payload(recording), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f'<div class="watch">{_notes(recording)}{BODY}<script type="application/json">{held}</script></div>'


def page(recording: Recording, title: str) -> str:
    """A recording as a self-contained HTML page."""
    text = "".join(f"<blockquote>{html.escape(text)}</blockquote>" for text in recording.texts.values())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{PAGE_STYLE}{STYLE}</style></head><body><main><h1>{html.escape(title)}</h1>{text}"
        f"{section(recording)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def write(
    model: Model,
    texts: Mapping[str, str],
    path: Path,
    towards: str | None = None,
    title: str = "A network settles on a text",
) -> Recording:
    """Write the page of a text (a string per segment), whole or not at all; raises as `record` does, and OSError."""
    recording = record(model, texts, towards)
    write_text(path, page(recording, title))
    return recording


def _notes(recording: Recording) -> str:
    label, given = recording.prediction.label, recording.prediction.labels
    what = (
        f"The prediction is {label}, with the score" if given == (label,) else f"The largest score is that of {label},"
    )
    notes = [f"{what} {recording.prediction.scores[label]:.3f}.", *recording.notes]
    return f"<p>{html.escape(' '.join(notes))}</p>"


def _payload(recording: Recording) -> dict:
    """What the script reads: see `Recording`, with classes by their places."""
    every = [recording.free, *(phase for phases in recording.nudged.values() for phase in phases)]
    states = {name: np.concatenate([phase.states[name] for phase in every]) for name in recording.units}
    return {
        "classes": list(recording.nudged),
        "queries": recording.queries,
        "slots": recording.slots,
        "units": recording.units,
        "sizes": recording.sizes,
        "output": recording.output,
        "range": {name: (float(each.min(initial=0)), float(each.max(initial=0))) for name, each in states.items()},
        "peaks": {name: _peaks([phase.attention[name] for phase in every]) for name in recording.queries},
        "free": _phase(recording.free),
        "nudged": [[_phase(phase) for phase in phases] for phases in recording.nudged.values()],
        "plan": recording.plan,
        "synapses": [_synapses(each) for each in recording.synapses],
    }


def _peaks(attention: list[np.ndarray]) -> tuple[float, float]:
    """The most attention that any word gets in any sweep, by the mean of the queries and by one of them."""
    return max(float(each[:, 0].max()) for each in attention), max(float(each[:, 1:].max()) for each in attention)


def _phase(phase: Phase) -> dict:
    return {
        "beta": phase.beta,
        "sweeps": phase.sweeps.tolist(),
        "energy": [round(each, 9) for each in phase.energy.tolist()],
        "residual": [round(each, 9) for each in phase.residual.tolist()],
        "attention": {name: _packed(each) for name, each in phase.attention.items()},
        "states": {name: _packed(each) for name, each in phase.states.items()},
    }


def _synapses(synapses: Synapses) -> dict:
    return {
        "parameter": synapses.parameter,
        "size": synapses.size,
        "post": synapses.post,
        "pre": synapses.pre,
        "rows": synapses.rows,
        "ends": [_ends(each) for each in synapses.ends.values()],
    }


def _ends(ends: Ends) -> dict:
    return {name: _packed(getattr(ends, name)) for name in ("post", "pre", "products", "update")}


def _packed(array: np.ndarray) -> dict:
    """An array for the script: its shape, and its numbers as float32, little-endian, in base64."""
    return {"shape": array.shape, "data": base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()}
