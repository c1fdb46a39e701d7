"""A report as one page of HTML that needs nothing else, and the parts that its sections are made of."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from eqnp.app import explain, player
from eqnp.runs.console import share_of

SHOWN = 0.72  # pixels of a page for one of a picture, which is drawn for screens with more of them


def image(path: Path, title: str) -> str:
    """A picture, held in the page itself."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def figure(path: Path, title: str, caption: str) -> str:
    """A picture, no larger than it was drawn, with what to look for under it; where the page is narrow it can be moved
    sideways."""
    width = round(int.from_bytes(path.read_bytes()[16:20], "big") * SHOWN)  # where a PNG has its own
    held = f'<div class=wide tabindex=0 role=group aria-label="{html.escape(title)}">{image(path, title)}</div>'
    return f'<figure style="--width:{width}px">{held}<figcaption>{html.escape(caption)}</figcaption></figure>'


def note(text: str) -> str:
    """A paragraph in small type."""
    return f"<p class=note>{html.escape(text)}</p>"


def table(head: tuple, rows: list[tuple]) -> str:
    """A table; what stands in its cells is text."""

    def line(cells, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class=wide><table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"


CSS = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fbfaf7; --dim: #5a554d; --line: #d9d5cc; --pale: #f3f0e8;
  --link: #14325a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece9e2; --paper: #131416; --dim: #b3ada1; --line: #4b4942; --pale: #1d1f22; --link: #9ec5ff; }
}
html { scroll-padding-top: 3rem; }
body { font: 16px/1.55 Georgia, "Times New Roman", serif; color: var(--ink); background: var(--paper); margin: 0; }
main { max-width: 980px; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; min-width: 0; }
h1 { font-size: 2rem; margin: .2em 0 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .4rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h2 small, .kicker, .note, td, th, dt, dd, figcaption { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; }
.kicker { color: var(--dim); font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; margin: 0; }
.note, figcaption { color: var(--dim); font-size: .86rem; max-width: 46rem; }
dl { display: flex; flex-wrap: wrap; gap: .4rem 2.4rem; margin: 1.1rem 0; }
dt { font-size: .75rem; color: var(--dim); } dd { margin: 0; font-size: 1.45rem; font-weight: 600; }
figure { margin: .8rem 0 1.4rem; } figcaption { margin-top: .3rem; }
img { width: 100%; max-width: var(--width); height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 6px; box-sizing: border-box; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .8rem 0; }
td, th { text-align: left; padding: .18rem 1.2rem .18rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
pre { background: var(--pale); padding: .9rem; overflow-x: auto; font-size: .78rem; line-height: 1.4;
  border-radius: 6px; }
.entry { margin: 1.2rem 0; padding-left: .9rem; border-left: 3px solid var(--link); }
.entry h3 { margin: 0; font-size: 1rem; } .entry small { color: var(--dim); }
nav { font: .84rem/1.4 system-ui, sans-serif; position: sticky; top: 0; z-index: 3; background: var(--paper); }
nav a { color: var(--link); text-decoration: none; } nav a:hover, nav a:focus { text-decoration: underline; }
nav b { color: var(--dim); font-weight: 600; }
@media (min-width: 1100px) {
  body { display: grid; grid-template-columns: 15rem minmax(0, 1fr); }
  nav { align-self: start; height: 100vh; box-sizing: border-box; overflow-y: auto; padding: 1.7rem 1rem 1rem 1.4rem;
    border-right: 1px solid var(--line); }
  nav b { display: block; margin: 1rem 0 .2rem; } nav a { display: block; padding: .18rem 0; }
}
@media (max-width: 1099px) {
  nav { display: flex; gap: .9rem; overflow-x: auto; white-space: nowrap; padding: .6rem 1.2rem;
    border-bottom: 1px solid var(--line); }
  :root { --top: 2.4rem; }
}
@media (max-width: 700px) { figure img { min-width: min(var(--width), 600px); } }
@media print { nav { display: none; } body { display: block; background: #fff; } h2 { break-after: avoid; }
  img { break-inside: avoid; } }
"""


def page(name: str, metrics: dict, sections: list[tuple[str, str, str]]) -> str:
    """The whole page of a run: its figures, then the sections: a group for the table of contents, a title and HTML."""
    where = "test" if "test" in metrics["accuracy"] else "validation"
    figures = {
        f"{where} accuracy": share_of(metrics["accuracy"][where], metrics["samples"][where]),
        "bag of words": f"{metrics['baselines']['bag_of_words'][where]:.1%}",
        "parameters": f"{metrics['parameters'] / 1e6:.2f} M",
        "epochs": f"{metrics['epochs']}",
        "time": _duration(metrics["seconds"]),
    }
    head = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in figures.items())
    links, last = [], ""
    for i, (group, title, _) in enumerate(sections):
        links += [f"<b>{html.escape(group)}</b>"] * (group != last)
        links.append(f'<a href="#s{i}">{html.escape(title)}</a>')
        last = group
    body = "".join(f'<h2 id="s{i}">{html.escape(t)}</h2>{content}' for i, (_, t, content) in enumerate(sections))
    script = f"<script>{player.SCRIPT}</script>" if 'class="watch"' in body else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(name)} · eqnp</title>'
        f"<style>{CSS}{explain.STYLE}{player.STYLE}</style></head><body>"
        f'<nav aria-label="contents">{"".join(links)}</nav><main>'
        f"<p class=kicker>eqnp · {html.escape(metrics['preset'] or 'own configuration')} · "
        f"{html.escape(metrics['algorithm'])}</p><h1>{html.escape(name)}</h1><dl>{head}</dl>{body}"
        f"</main>{script}</body></html>\n"
    )


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
