"""The rivals of a network on the tokens and splits of its own run: majority, bags of words, mean word vectors.

    python scripts/baselines.py RUN [RUN …]

Word vectors are those that the run started from: they are looked up (or made from the corpus) again.
"""

import sys
from pathlib import Path

import h5py
import numpy as np

from eqnp.baselines import baselines
from eqnp.config import load_config
from eqnp.errors import EqnpError
from eqnp.text.prepare import embed
from eqnp.text.store import STORE, read_split, split_names

for folder in map(Path, sys.argv[1:] or sys.exit(__doc__)):
    try:
        config, names = load_config(str(folder / "config.toml")), split_names(folder / STORE)
        splits = {name: read_split(folder / STORE, name) for name in names}
        with h5py.File(folder / STORE) as file:
            words = file["vocabulary"].asstr()[:].tolist()
        table, _ = embed(config, splits["train"], words, np.random.default_rng(config.training.seed))
    except EqnpError as error:
        sys.exit(f"{folder}: {error}")
    classes = 1 + max(int(split.labels.max()) for split in splits.values())
    for name, rival in baselines(splits, table, classes).items():
        figures = "  ".join(f"{split} {accuracy:.1%}" for split, accuracy in rival.accuracy.items())
        print(f"{folder}  {name:12}  {figures}")
