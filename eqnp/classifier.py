"""A trained network together with what turns text into its input: load it from a run folder, and predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from eqnp import checkpoint
from eqnp.config import Config, from_tree, to_tree
from eqnp.errors import CheckpointError, DataError, EqnpError
from eqnp.network import Network
from eqnp.text import tokens
from eqnp.text.store import Split
from eqnp.training import Score, evaluate, free_outputs

MODEL = "model.h5"


@dataclass(frozen=True)
class Prediction:
    """The predicted class, the scores of all classes (they sum to 1), and the number of known words.

    Without a single known word the scores are the prior: the share of each class in the training data.
    """

    label: str
    scores: dict[str, float]
    known_words: int


class SequenceClassifier:
    """A network with its tokenizer, class names and class prior."""

    def __init__(
        self,
        network: Network,
        config: Config,
        tokenizer: Tokenizer,
        classes: Sequence[str],
        prior: Sequence[float],
    ):
        self.network, self.config, self.tokenizer = network, config, tokenizer
        self.classes, self.prior = tuple(classes), np.asarray(prior)

    def save(self, folder: Path) -> None:
        """Write ``model.h5`` into a run folder, replacing an older one only once it is complete."""
        about = {
            "config": to_tree(self.config),
            "tokenizer": self.tokenizer.to_str(),
            "classes": list(self.classes),
            "prior": [float(p) for p in self.prior],
        }
        checkpoint.save_model(folder / MODEL, self.network.parameters, about)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> SequenceClassifier:
        """Read the model of a run folder; raises CheckpointError if it is missing or damaged."""
        path = Path(folder) / MODEL
        if not Path(folder).is_dir():
            raise CheckpointError(f"{folder}: no such run folder; `eqnp train` makes one and prints its name")
        parameters, about = checkpoint.load_model(path)
        try:
            config = from_tree(about["config"])
            tokenizer = Tokenizer.from_str(about["tokenizer"])
            positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
            network = Network(
                config.network,
                parameters["embedding.weight"],
                len(about["classes"]),
                positions,
                device=device,
                parameters=parameters,
            )
            if tokenizer.get_vocab_size() != len(parameters["embedding.weight"]):
                raise CheckpointError("its vocabulary and its embeddings differ in size; train again")
            return cls(network, config, tokenizer, about["classes"], about["prior"])
        except EqnpError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except Exception as error:  # whatever the JSON inside may hold
            raise CheckpointError(f"{path}: damaged ({error!r}); restore it or train again") from error

    def predict(self, texts: Mapping[str, Sequence[str]], executor: Executor | None = None) -> list[Prediction]:
        """A prediction for every sample; ``texts`` holds a list of strings per segment. Raises DataError."""
        for name, column in texts.items():
            if isinstance(column, str):
                raise DataError(f"segment {name!r} is one text; give a list of texts")
            for number, text in enumerate(column, start=1):
                if not text.strip():
                    raise DataError(f"text {number} of segment {name!r} is empty; give at least one word")
        encoded = {
            name: tokens.encode(self.tokenizer, column, self.config.data.max_tokens)[0]
            for name, column in texts.items()
        }
        size = len(next(iter(encoded.values())))
        split = Split(encoded, np.zeros(size, np.int64))
        output = free_outputs(self.network, split, self.config.settling, executor, self.config.training.shard)
        scores = self.normalised(output)
        scores[split.lengths == 0] = self.prior
        return [
            Prediction(
                self.classes[int(row.argmax())], dict(zip(self.classes, map(float, row), strict=True)), int(length)
            )
            for row, length in zip(scores, split.lengths, strict=True)
        ]

    def evaluate(self, split: Split, executor: Executor | None = None) -> Score:
        """Loss and accuracy on encoded samples; raises CheckpointError if they belong to another model."""
        words, classes = len(self.network.parameters["embedding.weight"]), len(self.classes)
        largest = max((int(ids.ids.max(initial=0)) for ids in split.segments.values()), default=0)
        if (
            set(split.segments) != set(self.network.positions)
            or largest >= words
            or not ((split.labels >= 0) & (split.labels < classes)).all()
        ):
            raise CheckpointError(
                "the samples are not of this model (other segments, words or classes); use its own run"
            )
        return evaluate(self.network, split, self.config.settling, executor, self.config.training.shard)

    def normalised(self, output: np.ndarray) -> np.ndarray:
        """Scores that sum to 1 from outputs (n, C): under either cost the output estimates class frequencies."""
        positive = np.maximum(output.astype(np.float64), 0) + 1e-9
        return positive / positive.sum(axis=1, keepdims=True)
