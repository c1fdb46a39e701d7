"""Run the recipes in reading order, and write docs/gallery.md with what they print and draw.

python scripts/gallery.py
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

from eqnp.app import charts
from eqnp.files import write_text

SCRIPTS = Path(__file__).resolve().parent
DOCS = SCRIPTS.parent / "docs"
PICTURES = DOCS / "gallery"
RECIPES = {
    "ep": "The whole idea",
    "synapse": "One synapse",
    "sweeps": "Energy against sweeps",
    "check_gradients": "Bias against β",
    "locality": "Locality by poisoning",
    "own_layer": "A layer of one's own",
    "train": "Train and inspect",
}
HEAD = """# Gallery: recipes to read

[← eqnp](../README.md) · [theory](theory.md) · [extending](extending.md)

Short scripts, in reading order: each can be read in one sitting, runs in seconds, and draws a picture. They need the
package and nothing else (the first needs NumPy alone). What they print and draw here was made by
`python scripts/gallery.py`; the mathematics is in [theory.md](theory.md), and a page on which a trained network settles
before one's eyes in [watch.md](watch.md).

"""


def parts(name: str) -> tuple[str, str, str]:
    """The first sentence of a recipe's docstring, its command, and the rest."""
    first, command, rest = ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text("utf-8"))).split("\n\n", 2)
    return first, command.strip(), rest.strip()


def section(name: str, printed: str) -> str:
    """A recipe as a part of the page. What is indented in its text is a formula."""
    first, command, rest = parts(name)
    text = re.sub(r"(?m)(?:^    .*\n?)+", lambda found: f"```text\n{found.group().rstrip()}\n```\n", rest)
    title = f"## {list(RECIPES).index(name) + 1}. {RECIPES[name]}"
    picture = f"![What {name}.py draws](gallery/{name}.svg)"
    code = f"```bash\n{command}\n```\n\n```text\n{printed.rstrip()}\n```"
    return f"{title}\n\n[scripts/{name}.py](../scripts/{name}.py). {first}\n\n{text}\n\n{picture}\n\n{code}\n"


def run(name: str) -> str:
    """What a recipe prints; its picture lies in docs/gallery then."""
    command = [sys.executable, str(SCRIPTS / f"{name}.py")]
    printed = subprocess.run(command, cwd=PICTURES, capture_output=True, text=True, check=True).stdout
    if name == "ep":  # which knows of no package that could draw
        validation = [float(share) for share in re.findall(r"validation ([\d.]+)%", printed)]
        curve = {"validation": (range(1, 1 + len(validation)), validation)}
        charts.save(PICTURES / "ep.svg", charts.lines(curve, "Validation accuracy, %", "epoch"))
    return printed


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    write_text(DOCS / "gallery.md", HEAD + "\n".join(section(name, run(name)) for name in RECIPES))
    (PICTURES / "train.html").unlink()  # a page to be opened where it was made
