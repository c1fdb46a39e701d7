"""A report as one page of HTML that needs nothing else, and the parts that its sections are made of."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from eqnp.app import explain
from eqnp.runs.console import share_of


def image(path: Path, title: str) -> str:
    """A picture, held in the page itself."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def note(text: str) -> str:
    """A paragraph in small type."""
    return f"<p class=note>{html.escape(text)}</p>"


def table(head: tuple, rows: list[tuple]) -> str:
    """A table; what stands in its cells is text."""

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


def page(name: str, metrics: dict, sections: list[tuple[str, str]]) -> str:
    """The whole page of a run: its figures, then the sections, a title and HTML each."""
    where = "test" if "test" in metrics["accuracy"] else "validation"
    figures = {
        f"{where} accuracy": share_of(metrics["accuracy"][where], metrics["samples"][where]),
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
