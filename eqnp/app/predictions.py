"""Predictions of many texts, block by block: of lines as they come, or of the rows of a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from eqnp.errors import DataError, some
from eqnp.machine import Machine
from eqnp.runs.model import Model, Prediction
from eqnp.text.corpora import check_columns
from eqnp.text.tables import Table, as_text
from eqnp.text.tokens import FEW
from eqnp.text.writing import table_writer

UNSURE = "unsure"  # in place of a label that has too low a score
ROWS = 8192  # of a table that are read and predicted together
TELL = 10  # seconds between two lines of progress, where there is no terminal for a bar


class Predictor:
    """A trained model that is asked block after block: few texts by kernels that are there, many by compiled ones.

    A context manager; it loads the ``model`` of a run, and raises CheckpointError.
    """

    def __init__(self, run: Path, device: str, threads: int | None):
        self.device, self.threads, self._stack = device, threads, ExitStack()
        self.model = Model.load(run, Machine("naive" if device == "cpu" else device))
        self._working: Model | None = None

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def for_texts(self, count: int) -> Model:
        """The model with the kernels for so many texts at a time; those that are loaded are kept."""
        if self._working is None and (count > FEW or self.device != "cpu"):
            machine = self._stack.enter_context(Machine(self.device).at_work(self.threads))
            self._working = self.model.on(machine)
        return self._working or self.model

    def predict(self, texts: Mapping[str, Sequence[str]]) -> list[Prediction]:
        """As `Model.predict`."""
        return self.for_texts(len(next(iter(texts.values())))).predict(texts)


@dataclass
class Outcome:
    """How many rows were predicted, how often each class, and how many rows held no known word and got the prior."""

    rows: int = 0
    predicted: dict[str, int] = field(default_factory=dict)
    prior: int = 0

    def add(self, labels: Sequence[str], predictions: Sequence[Prediction]) -> None:
        """Count some more."""
        self.rows += len(labels)
        for label in labels:
            self.predicted[label] = self.predicted.get(label, 0) + 1
        self.prior += sum(not each.known_words for each in predictions)


def said(prediction: Prediction, at_least: float) -> str:
    """The label, or that none is sure where its score is below ``at_least``; of several, or none, bars between them."""
    if len(prediction.labels) != 1:
        return "|".join(prediction.labels)
    return prediction.label if prediction.scores[prediction.label] >= at_least else UNSURE


def predict_table(predictor: Predictor, source: str | Sequence[str], out: Path, at_least: float = 0.0) -> Outcome:
    """Write the rows of a source with all their columns, and after them ``predicted`` and a ``score.CLASS`` for each.

    A number is added to a name that is there already. Where no score is ``at_least`` so high, ``predicted`` says
    "unsure". Rows without text get the prior. The table is there when all of it is written, and else nothing is. Raises
    DataError for what cannot be read, and OSError.
    """
    outcome, tables = Outcome(), tables_of(predictor.model, source)
    first, rows = next(tables)
    added = ["predicted", *(f"score.{name}" for name in predictor.model.classes)]
    names = [*first.names]
    for name in added:
        number = next(n for n in range(1, len(names) + 2) if (f"{name}_{n}" if n > 1 else name) not in names)
        names.append(f"{name}_{number}" if number > 1 else name)
    types = {**first.types, **_floats(names[len(first.names) + 1 :])} if out.suffix.lower() == ".parquet" else {}
    with table_writer(out, names, types) as write, counting() as count:
        while True:
            for block, texts in rows:
                predictions = predictor.predict(texts)
                labels = [said(each, at_least) for each in predictions]
                every = zip(block, labels, predictions, strict=True)
                write([(*row, label, *each.scores.values()) for row, label, each in every])
                outcome.add(labels, predictions)
                count(len(block))
            table, rows = next(tables, (None, None))
            if table is None:
                return outcome
            if table.names != first.names:
                found = f"its columns are {some(table.names)}, those of {first.where} {some(first.names)}"
                raise DataError(f"{table.where}: {found}; give files of the same columns, or one by one")


def _floats(names: Sequence[str]) -> dict:
    import pyarrow

    return dict.fromkeys(names, pyarrow.float64())


def tables_of(model: Model, source: str | Sequence[str]) -> Iterator[tuple[Table, Iterator[tuple[list, dict]]]]:
    """The tables of a source, each with blocks of its rows and their texts by segment; raises DataError.

    Columns without a name are left out.
    """
    from eqnp.text.prepare import reading_of
    from eqnp.text.sources import open_source

    data = model.config.data
    wanted = {f"data.columns.{segment}": column for segment, column in data.columns.items()}
    for table in open_source(source, "test", list(wanted.values()), labelled=False, reading=reading_of(data)):
        table.names = [name for name in table.names if name]
        check_columns(table, wanted | {name: name for name in table.names})
        yield table, _blocks(table, data.columns)
        for note in dict.fromkeys(table.notes):
            print(note, file=sys.stderr)


def _blocks(table: Table, columns: Mapping[str, str]) -> Iterator[tuple[list, dict[str, list[str]]]]:
    places = {segment: table.names.index(column) for segment, column in columns.items()}
    block: list[Sequence] = []
    texts: dict[str, list[str]] = {segment: [] for segment in columns}
    for number, row in enumerate(table.read(table.names)):
        block.append(row)
        for segment, place in places.items():
            texts[segment].append(as_text(row[place], columns[segment], table, number))
        if len(block) == ROWS:
            yield block, texts
            block, texts = [], {segment: [] for segment in columns}
    if block:
        yield block, texts


class Shown:
    """Lines on standard output, each block sent on at once; ``texts`` counts them.

    A bar on stderr, if that is a terminal and the lines go elsewhere, shows how far they are.
    """

    def __init__(self):
        from tqdm import tqdm

        here, there = (each is not None and each.isatty() for each in (sys.stderr, sys.stdout))
        self.texts, self.bar = 0, tqdm(unit=" texts", leave=False, disable=not here or there)

    def show(self, lines: Sequence[str]) -> bool:
        """Print some more; False once the reader has gone, or nothing more can be written."""
        print("\n".join(lines), flush=True)
        self.texts += len(lines)
        self.bar.update(len(lines))
        return getattr(sys.stdout, "failure", None) is None


@contextmanager
def counting():
    """What is told of texts that are done: a bar on stderr, or a line every ten seconds where that is no terminal."""
    from tqdm import tqdm

    silent = sys.stderr is None or not sys.stderr.isatty()
    done, began = 0, time.monotonic()
    told = began
    with tqdm(unit=" texts", leave=False, disable=silent) as bar:

        def count(texts: int) -> None:
            nonlocal done, told
            done += texts
            bar.update(texts)
            now = time.monotonic()
            if silent and now - told >= TELL:
                print(f"{done:,} texts, {done / (now - began):,.0f} a second", file=sys.stderr, flush=True)
                told = now

        yield count
