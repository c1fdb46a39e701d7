"""Write docs/keys.md, the page of all keys of a configuration, from the docstrings of its sections.

python scripts/keys.py
"""

from pathlib import Path

from eqnp.app.keys import page
from eqnp.files import write_text

if __name__ == "__main__":
    write_text(Path(__file__).resolve().parents[1] / "docs" / "keys.md", page())
