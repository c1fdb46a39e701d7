"""A trained network together with what turns text into its input: load it from a run folder, and predict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eqnp import files
from eqnp.architecture import build_network, graph_of
from eqnp.config import Config, from_tree, to_tree
from eqnp.costs import CrossEntropy
from eqnp.errors import CheckpointError, ConfigError, DataError, EqnpError, SettlingError, some
from eqnp.graph import Graph
from eqnp.machine import Machine
from eqnp.machine.wholes import gathering
from eqnp.network import EMBEDDING, Network
from eqnp.runs import label_sets
from eqnp.runs.calibration import calibration, calibration_of_sets, clipped, normalised, scaled, shifted
from eqnp.runs.contents import MODEL, instead
from eqnp.runs.loop import free_outputs, score
from eqnp.runs.metrics import figures
from eqnp.spans import in_span
from eqnp.text import tokens
from eqnp.text.labels import class_counts
from eqnp.text.ngrams import NGrams
from eqnp.text.store import Split
from eqnp.text.subwords import Subwords, slots_of, with_slots
from eqnp.text.tokens import Ragged, WordTokenizer

if TYPE_CHECKING:
    from eqnp.text.corpora import Corpus
    from eqnp.text.prepare import Prepared

KIND = "model"
PARAMETERS, NGRAMS = "parameters/", "ngrams"
CHARACTERS = 5  # of a text for a slot of its memory, at most about
BLOCK = 256  # texts that a thread reads and settles at a time


@dataclass(frozen=True)
class Prediction:
    """The predicted class, the scores of all classes (they sum to 1), and the number of known words.

    Where a text may have several labels, each score is that of a yes to its class, ``labels`` are the classes whose
    score is `eqnp.runs.label_sets.THRESHOLD` or more, and ``label`` has the largest; else ``labels`` is that label
    alone. Without a single known word, or any text, the scores are the prior: the share of each class in the training
    data.
    """

    label: str
    scores: dict[str, float]
    known_words: int
    labels: tuple[str, ...] = ()

    def note(self, texts: Iterable[str]) -> str:
        """What a reader must know of the prediction for these texts: that it is the prior, and why; else ""."""
        if self.known_words:
            return ""
        return "no known word: the prior" if any(text.strip() for text in texts) else "no text: the prior"


class Model:
    """A network with its tokenizer, class names, class prior and temperature: all that prediction needs.

    ``several`` says whether a text may have several labels, or none; calibration has an ``offset`` then too.
    """

    def __init__(
        self,
        network: Network,
        config: Config,
        tokenizer: WordTokenizer,
        ngrams: NGrams,
        classes: Sequence[str],
        prior: Sequence[float],
        subwords: Subwords | None = None,
        temperature: float = 1.0,
        floor: float = 0.0,
        several: bool = False,
        offset: float = 0.0,
    ):
        self.several, self.offset = several, offset
        self.network, self.config, self.tokenizer = network, config, tokenizer
        self.ngrams, self.subwords = ngrams, subwords or Subwords((), 0)
        self.classes, self.prior = tuple(classes), np.asarray(prior)
        self.temperature, self.floor = temperature, floor

    @classmethod
    def fresh(cls, config: Config, prepared: Prepared, rng: np.random.Generator, machine: Machine) -> Model:
        """An untrained one over prepared data, float32, whose first weights ``rng`` draws; raises ConfigError.

        Where the data are to go on from, it is as it was left there.
        """
        labels, classes = prepared.splits["train"].labels, prepared.classes
        positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
        network = build_network(
            config.network,
            prepared.embedding.copy() if prepared.warm and machine.ranks.size == 1 else prepared.embedding,
            len(classes),
            positions,
            rng,
            machine=machine.of_shards(config.training.shard),
            words=prepared.ngrams.first_id,
            features=len(prepared.words) + len(prepared.subwords),
        )
        for synapse in network.features.values():
            first = machine.held(prepared.votes[synapse.features], network.rows_of(synapse.weight))
            network.kernels.write(first, network.parameters[synapse.weight])
        prior, several = class_counts(labels, len(classes)) / len(labels), prepared.splits["train"].several
        read = prepared.tokenizer, prepared.ngrams, classes, prior, prepared.subwords
        model = cls(network, config, *read, several=several)
        if warm := prepared.warm:
            network.assign(warm.parameters)
            model.temperature, model.floor = warm.temperature, warm.floor
        return model

    def save(self, folder: Path) -> None:
        """Write ``model.h5`` into a run folder, replacing an older one only once it is complete; all ranks call it.

        The embeddings are written in the precision that the configuration says. Raises OSError, and ConfigError for a
        network that is not of a configuration.
        """
        self._check_rebuilds()
        name, half = PARAMETERS + EMBEDDING, self.config.training.precision == "half"
        ranks, parts = self.network.machine.ranks, self.arrays()
        with np.errstate(over="ignore"):
            if half and ranks.any(not np.isfinite(parts[name].astype(np.float16)).all()):
                raise SettlingError('an embedding is too large for half precision; set training.precision = "single"')
            with gathering(ranks, parts, self.network.rows_of_all(PARAMETERS)) as arrays:
                if arrays and half:
                    arrays[name] = arrays[name].astype(np.float16)
                if arrays:
                    files.save(folder / MODEL, KIND, arrays, self.about())

    def _is_of_configuration(self) -> bool:
        """Whether the network is the one that the configuration makes, and not one of one's own."""
        width = self.network.parameters[EMBEDDING].shape[1]
        positions = dict.fromkeys(self.config.data.columns, self.config.data.max_tokens)
        features = self.ngrams.first_id + len(self.ngrams) + len(self.subwords)
        sizes = (width, len(self.classes), positions, self.ngrams.first_id, features)
        layers, synapses, memories = graph_of(self.config.network, *sizes)
        return Graph(layers, synapses, positions, memories).outline() == self.network.outline()

    def _check_rebuilds(self) -> None:
        """Raise ConfigError for a network of one's own: a file holds a configuration, and no code."""
        if not self._is_of_configuration():
            raise ConfigError(
                "a model file holds the network of a configuration, and this one has layers or synapses of its own; "
                "keep its parameters (numpy.savez), and build it again from your code"
            )

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters and the n-grams, by their names in a file; of tables the rows of this rank."""
        parameters = {PARAMETERS + name: value for name, value in self.network.host_parameters().items()}
        return {**parameters, NGRAMS: self.ngrams.parts}

    def about(self) -> dict:
        """Everything else, as JSON can hold it."""
        return {
            "config": to_tree(self.config),
            **self.tokenizer.about(),
            **self.subwords.about(),
            "classes": list(self.classes),
            "prior": [float(p) for p in self.prior],
            "temperature": self.temperature,
            "floor": self.floor,
            "several": self.several,
            "offset": self.offset,
        }

    @classmethod
    def load(cls, folder: str | Path, machine: Machine | None = None) -> Model:
        """Read the model of a run folder, to run on a machine; raises CheckpointError if it is missing or damaged."""
        folder = Path(folder)
        if not (folder / MODEL).is_file():
            raise CheckpointError(instead(folder))
        return cls.from_file(folder / MODEL, *files.load(folder / MODEL, KIND), machine)

    @classmethod
    def from_file(
        cls, path: Path, arrays: Mapping[str, np.ndarray], about: Mapping, machine: Machine | None = None
    ) -> Model:
        """The model of what a file held; raises CheckpointError that names ``path``."""
        parameters = {n.removeprefix(PARAMETERS): a for n, a in arrays.items() if n.startswith(PARAMETERS)}
        if parameters.get(EMBEDDING, np.empty(0)).dtype == np.float16:
            parameters[EMBEDDING] = parameters[EMBEDDING].astype(np.float32)
        try:
            config = from_tree(about["config"])
            tokenizer, subwords = WordTokenizer.from_about(about), Subwords.from_about(about)
            ngrams = NGrams(arrays[NGRAMS], len(tokenizer))
            slots, parts = ngrams.first_id + len(ngrams), ngrams.parts
            classes, prior = [str(name) for name in about["classes"]], [float(p) for p in about["prior"]]
            older = {"temperature": 1, "floor": 0}  # which older ones lack
            temperature, floor = (float(about.get(key, value)) for key, value in older.items())
            of_shards, features = (machine or Machine()).of_shards(config.training.shard), slots + len(subwords)
            network = _network(config, parameters, classes, tokenizer, features, of_shards)
            inside = parts.ndim == 2 and parts.dtype.kind == "i" and ((parts >= 0) & (parts < ngrams.first_id)).all()
            if not inside or slots_of(config.data, ngrams) != len(parameters[EMBEDDING]) or len(prior) != len(classes):
                raise CheckpointError(f"its vocabulary, embeddings and classes do not fit; {files.MEND[KIND]}")
            if not 0 < temperature < np.inf:
                raise CheckpointError(f"its temperature is {temperature}; {files.MEND[KIND]}")
            if not 0 <= floor < np.inf:
                raise CheckpointError(f"its floor of scores is {floor}; {files.MEND[KIND]}")
            if any(value.dtype not in (np.float32, np.float64) for value in parameters.values()):
                raise CheckpointError(f"its weights are no floats; {files.MEND[KIND]}")
            sets = bool(about.get("several", False)), float(about.get("offset", 0.0))
            return cls(network, config, tokenizer, ngrams, classes, prior, subwords, temperature, floor, *sets)
        except EqnpError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except Exception as error:  # whatever the JSON inside may hold
            raise CheckpointError(f"{path}: damaged ({error!r}); {files.MEND[KIND]}") from error

    def __reduce__(self):
        """Pickled and copied as its file would be; raises ConfigError as `save` does."""
        self._check_rebuilds()
        return Model.from_file, (Path("a copy"), self.arrays(), self.about())

    def on(self, machine: Machine) -> Model:
        """The same model, run by another machine with the same kernels: by one at work, say."""
        return self._with(self.network.on(machine.of_shards(self.config.training.shard)))

    def in_numpy(self) -> Model:
        """The same model, of the same arrays, run by the kernels in NumPy; raises ConfigError as `save` does."""
        self._check_rebuilds()
        machine = Machine("naive").of_shards(self.config.training.shard)
        features = self.ngrams.first_id + len(self.ngrams) + len(self.subwords)
        given = self.config, self.network.parameters, self.classes, self.tokenizer, features
        return self._with(_network(*given, machine))

    def _with(self, network: Network) -> Model:
        other = Model.__new__(Model)  # a copy would be rebuilt as its file is
        vars(other).update(vars(self), network=network)
        return other

    def predict(self, texts: Mapping[str, Sequence[str]]) -> list[Prediction]:
        """A prediction for every sample; ``texts`` holds a list of strings per segment. Raises DataError."""
        scores, lengths = self.scores(texts)
        return [
            Prediction(
                self.classes[int(row.argmax())],
                dict(zip(self.classes, map(float, row), strict=True)),
                int(length),
                self.labels_of(row),
            )
            for row, length in zip(scores, lengths, strict=True)
        ]

    def labels_of(self, scores: np.ndarray) -> tuple[str, ...]:
        """The labels that scores (C,) give to a text: the largest, or of several all that are enough."""
        chosen = np.flatnonzero(label_sets.given(scores)) if self.several else [scores.argmax()]
        return tuple(self.classes[i] for i in chosen)

    def scores(self, texts: Mapping[str, Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n, C), as `probabilities`, and the number of known words (n,), of the samples; raises DataError."""
        self.check(texts)
        size, characters = len(next(iter(texts.values()))), sum(sum(map(len, column)) for column in texts.values())
        network = self._settles(min(characters // CHARACTERS, size * len(texts) * self.config.data.max_tokens))

        def read_and_settle(start: int) -> tuple[np.ndarray, np.ndarray]:
            split = self._encoded({name: column[start : start + BLOCK] for name, column in texts.items()})
            return free_outputs(network, split, self.config.settling), self.known(split)

        blocks = list(self.network.machine.map(read_and_settle, range(0, max(1, size), BLOCK)))
        output, known = (np.concatenate(part) for part in zip(*blocks, strict=True))
        return self.probabilities(output, known), known

    def encode(self, texts: Mapping[str, Sequence[str]]) -> Split:
        """Token ids of texts, a list of strings per segment, with labels 0; raises DataError."""
        self.check(texts)
        return self._encoded(texts)

    def check(self, texts: Mapping[str, Sequence[str]]) -> None:
        """Raise DataError for texts of other segments or numbers; they may be empty."""
        for name, column in texts.items():
            if isinstance(column, str):
                raise DataError(f"segment {name!r} is one text; give a list of texts")
        if set(texts) != set(self.config.data.columns) or len({len(column) for column in texts.values()}) != 1:
            given, needed = some(texts) or "no segment", some(self.config.data.columns)
            raise DataError(f"texts are given for {given}; give equally many for each of {needed}")

    def _encoded(self, texts: Mapping[str, Sequence[str]]) -> Split:
        encoded = {
            name: tokens.encode(self.tokenizer, column, self.config.data.max_tokens)[0]
            for name, column in texts.items()
        }
        return self._slots(Split(encoded, np.zeros(len(next(iter(encoded.values()))), np.int64)), texts)

    def _slots(self, split: Split, texts: Mapping[str, Sequence[str]]) -> Split:
        return with_slots(split, texts, self.config, self.tokenizer, self.ngrams, self.subwords)

    def encode_corpus(self, corpus: Corpus) -> Split:
        """Token ids of labelled texts, with the count of what was left out."""
        from eqnp.text.prepare import encode_corpus

        return self._slots(encode_corpus(self.tokenizer, corpus, self.config.data.max_tokens), corpus.texts)

    def vocabulary(self) -> list[str]:
        """Words, then n-grams, in the order of their ids."""
        words = tokens.words(self.tokenizer)
        return words + self.ngrams.names(words)

    def outputs(self, split: Split) -> np.ndarray:
        """The free outputs (n, C) for encoded samples; raises CheckpointError if they belong to another model."""
        largest = max((int(ids.ids.max(initial=0)) for ids in split.segments.values()), default=0)
        if (
            set(split.segments) != set(self.network.positions)
            or largest >= self.network.rows_of(EMBEDDING)
            or not split.is_of(len(self.classes), self.several)
        ):
            raise CheckpointError(
                "the samples are not of this model (other segments, words or classes); use its own run"
            )
        network = self._settles(sum(len(ids.ids) for ids in split.segments.values()))
        return free_outputs(network, split, self.config.settling)

    def _settles(self, slots: int) -> Network:
        """What settles on so many slots: a network over fewer dimensions, if it is less work to make than it saves."""
        machine, pays = self.network.machine, slots > self.network.rows_of(EMBEDDING) and self._is_of_configuration()
        narrow = pays and machine.ranks.size == 1 and machine.device != "cuda"
        return (narrow and in_span(self.network, self.config.network)) or self.network

    def evaluate(self, split: Split) -> tuple[dict, np.ndarray]:
        """The figures of what `predict` says of a split, and the scores (n, C) that it gives.

        The figures are `eqnp.runs.metrics.figures` (or those of `eqnp.runs.label_sets`) and ``loss``, the mean cost of
        the network's outputs. Raises CheckpointError for samples that belong to another model.
        """
        outputs = self.outputs(split)
        probabilities = self.probabilities(outputs, self.known(split))
        found = (label_sets.figures if self.several else figures)(probabilities, split.labels, self.classes)
        return {**found, "loss": score(outputs, split.labels, self.network).loss}, probabilities

    def calibrate(self, split: Split) -> dict:
        """Take the temperature (and the floor) that fits encoded samples, which the network must not have learned from.

        Returns it with log loss and calibration error before and after (`eqnp.runs.calibration.calibration`); texts
        without a known word, which get the prior, are left out. Where a text may have several labels, an offset is
        taken too (`eqnp.runs.calibration.calibration_of_sets`). Raises CheckpointError as `outputs` does.
        """
        worded = self.known(split) > 0
        if self.several:
            found = calibration_of_sets(clipped(self.outputs(split))[worded], split.labels[worded])
            self.temperature, self.offset = found["temperature"], found["offset"]
            return found
        floors = not isinstance(self.network.output.cost, CrossEntropy)  # a softmax never comes to 0
        found = calibration(normalised(self.outputs(split))[worded], split.labels[worded], floors)
        self.temperature, self.floor = found["temperature"], found["floor"]
        return found

    def known(self, split: Split) -> np.ndarray:
        """The number of known words of every sample, (n,)."""
        begun = len(self.tokenizer.start)
        return sum(_words(ids, self.ngrams.first_id) - begun for ids in split.segments.values())

    def decoded(self, split: Split, rows: Sequence[int]) -> dict[str, list[str]]:
        """Some texts of a split, a list per segment, put together again from their words; n-grams are left out."""
        words, known = self.vocabulary(), range(self.tokenizer.specials, self.ngrams.first_id)
        return {
            name: [" ".join(words[i] for i in ids[row] if i in known) for row in rows]
            for name, ids in split.segments.items()
        }

    def probabilities(self, outputs: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Scores (n, C) float64 that sum to 1, from outputs (n, C) and the number of known words (n,); or where a text
        may have several labels, in [0, 1] each.

        Under any cost an output estimates class frequencies, which calibration makes as sure as they were right on the
        validation texts. A sample without a known word gets the prior.
        """
        if self.several:
            scores = shifted(clipped(outputs), self.temperature, self.offset)
        else:
            scores = scaled(normalised(outputs), self.temperature, self.floor)
        scores[known == 0] = self.prior
        return scores


def _network(
    config: Config,
    parameters: Mapping[str, np.ndarray],
    classes: Sequence[str],
    tokenizer: WordTokenizer,
    features: int,
    machine: Machine,
) -> Network:
    """The network of a configuration with these parameters."""
    positions = dict.fromkeys(config.data.columns, config.data.max_tokens)
    given = {"parameters": dict(parameters), "machine": machine, "words": len(tokenizer), "features": features}
    return build_network(config.network, parameters[EMBEDDING], len(classes), positions, **given)


def _words(texts: Ragged, first_ngram: int) -> np.ndarray:
    """How many of the ids of each text are words."""
    ends = np.concatenate([[0], np.cumsum(texts.ids < first_ngram)])[texts.offsets]
    return np.diff(ends)
