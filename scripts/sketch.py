"""The picture of the README: energy by sweep in three phases, and one synapse's update.

python scripts/sketch.py          # from docs/results/sketch.json
python scripts/sketch.py RUN      # record it anew, from a trained network of one text and a hidden layer
"""

import json
import sys
from pathlib import Path

from eqnp import Model
from eqnp.app.sketch import drawn, record
from eqnp.files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT, LABEL, BETA = "the acting is superb, but the plot is a mess", "negative", 0.5

if __name__ == "__main__":
    if sys.argv[1:]:
        found = record(Model.load(sys.argv[1]), TEXT, LABEL, BETA)
        write_text(DOCS / "results" / "sketch.json", json.dumps(found, indent=1) + "\n")
    found = json.loads((DOCS / "results" / "sketch.json").read_text("utf-8"))
    write_text(DOCS / "sketch.svg", drawn(found))
