"""Where a run can begin and go on from: its first weights, its best epoch on the disk, its last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqnp import files
from eqnp.errors import CheckpointError
from eqnp.machine import Machine
from eqnp.network import Network
from eqnp.optim import Optimizer, make_optimizer
from eqnp.runs.contents import MODEL
from eqnp.runs.model import KIND, PARAMETERS, Model
from eqnp.runs.progress import Progress
from eqnp.text.prepare import Prepared


def generators(seed: int) -> list[np.random.Generator]:
    """Three independent streams of a seed: for preparation, for the first weights, and for training."""
    return np.random.default_rng(seed).spawn(3)


@dataclass
class BestOnDisk:
    """The parameters of the best epoch so far, kept as the model file of the run."""

    folder: Path
    model: Model
    optimizer: Optimizer

    def keep(self, network: Network) -> None:
        """Write the model file."""
        self.model.save(self.folder)

    def restore(self, network: Network) -> None:
        """Read it back; there is nothing left for the optimiser to do, and it makes room."""
        network.machine.ranks.wait()
        self.optimizer.clear()
        arrays, _ = files.load(self.folder / MODEL, KIND, mapped=True)
        network.assign({name: arrays[PARAMETERS + name] for name in network.parameters})


def load_last(path: Path, machine: Machine) -> tuple[Model, Optimizer, Progress]:
    """What a checkpoint holds, to run on a machine; raises CheckpointError."""
    arrays, about = files.load(path, "checkpoint", mapped=machine.ranks.size > 1)
    model = Model.from_file(path, arrays, about, machine)
    optimizer = make_optimizer(model.network, model.config.optimizer)
    try:
        optimizer.restore(arrays, about)
        return model, optimizer, Progress.from_tree(about["progress"])
    except Exception as error:  # whatever the JSON inside may hold
        raise CheckpointError(f"{path}: damaged ({error!r}); {files.MEND['checkpoint']}") from error


def untrained(prepared: Prepared, machine: Machine) -> tuple[Model, Optimizer]:
    """A model with its first weights, and its optimiser."""
    config = prepared.config
    model = Model.fresh(config, prepared, generators(config.training.seed)[1], machine)
    return model, make_optimizer(model.network, config.optimizer)
