"""Rivals of a network on the tokens and splits of its own run: majority, bags of words, mean word vectors, perceptron.

python scripts/baselines.py RUN [RUN …]
"""

import sys
from pathlib import Path

from eqnp import EqnpError, load_config
from eqnp.runs.baselines import baselines
from eqnp.text.prepare import load_prepared

for folder in map(Path, sys.argv[1:] or sys.exit(__doc__)):
    try:
        prepared = load_prepared(folder, load_config(str(folder / "config.toml")))
    except EqnpError as error:
        sys.exit(f"{folder}: {error}")
    for name, rival in baselines(prepared.splits, prepared.embedding, len(prepared.classes)).items():
        figures = "  ".join(f"{split} {accuracy:.1%}" for split, accuracy in rival.accuracy.items())
        print(f"{folder}  {name:12}  {figures}")
