"""What the commands do that ask a trained network: they read the options, print, and return what ``--json`` ends with.

Imports that take long are inside the commands that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from eqnp.app.given import columns_of, lines_of, readable
from eqnp.errors import ConfigError

FEW_TEXTS = 64  # so few are predicted by the NumPy kernels sooner than the compiled ones are loaded


def evaluate_command(options) -> dict:
    """``eqnp evaluate``: returns accuracy and loss."""
    from eqnp.machine import Machine
    from eqnp.machine.device import choose
    from eqnp.runs.contents import METRICS, check_texts, quoted
    from eqnp.runs.folder import read_json
    from eqnp.runs.model import Model
    from eqnp.text.store import STORE, read_split, split_names

    machine = Machine(choose(options.device))
    if not options.data:
        check_texts(options.run, f"give some to measure it on: eqnp evaluate {quoted(options.run)} --data F")
    model = Model.load(options.run, machine)
    if options.data:
        from eqnp.text.corpora import load_corpus
        from eqnp.text.prepare import is_numbered, reading_of
        from eqnp.text.sources import splits_of

        where = options.data if isinstance(options.data, str) else ", ".join(options.data)
        if options.split and options.split not in (splits := splits_of(options.data)):
            found = f"the splits {', '.join(splits)}" if splits else "no splits; leave --split out"
            raise ConfigError(f"--split {options.split}: {where} has {found}")
        data = model.config.data
        corpus = load_corpus(
            options.data,
            data.columns,
            data.label,
            split=options.split or "test",
            classes=model.classes,
            numbered=is_numbered(data, model.classes),
            reading=reading_of(data),
        )
        for note in corpus.notes:
            print(note)
        split, left_out = model.encode_corpus(corpus), corpus.unlabelled
    else:
        names = split_names(options.run / STORE)
        where = options.split or ("test" if "test" in names else "validation")
        split, left_out = read_split(options.run / STORE, where), 0
        metrics = options.run / METRICS
        if where == "validation" and metrics.is_file() and read_json(metrics).get("refit"):
            print("the network was trained once more with the validation texts: give others (--data F)")
    with machine.at_work(options.threads) as working:
        score = model.on(working).evaluate(split)
    print(
        f"{where}: accuracy {score.accuracy:.2%}, loss {score.loss:.4f}, {len(split):,} samples, "
        f"{split.coverage.tokens:,} tokens, {split.coverage}"
        + (f"; {left_out:,} rows without an agreed label left out" if left_out else "")
    )
    return {
        "data": where,
        "accuracy": score.accuracy,
        "loss": score.loss,
        "samples": len(split),
        "unlabelled": left_out,
        "tokens": split.coverage.tokens,
        "unknown_tokens": split.coverage.unknown,
        "cut_tokens": split.coverage.cut,
    }


def predict_command(options) -> dict:
    """``eqnp predict``: returns a list of predictions, with the attention to every word if that was asked for."""
    from dataclasses import asdict

    from eqnp.machine import Machine
    from eqnp.machine.device import choose
    from eqnp.runs.model import Model

    if options.html and not options.explain:
        raise ConfigError("--html is a page of explanations; add --explain")
    if options.html:
        from eqnp.runs.folder import check_writable_file

        check_writable_file(options.html, "--html")
    given = [readable(text) for text in options.text or lines_of(sys.stdin)]
    if not given:
        raise ConfigError("there is no text to predict; give texts as arguments or lines on standard input")
    device = choose(options.device)
    few = len(given) <= FEW_TEXTS and device == "cpu"
    machine = Machine("naive" if few else "cpu" if options.explain else device)
    model = Model.load(options.run, machine)
    texts = columns_of(given, list(model.config.data.columns), from_lines=not options.text)
    if options.explain:
        return _explain(model, texts, options.html)
    if few:
        predictions = model.predict(texts)
    else:
        with machine.at_work(options.threads) as working:
            predictions = model.on(working).predict(texts)
    for parts, prediction in zip(zip(*texts.values(), strict=True), predictions, strict=True):
        print(_prediction_line(prediction, " | ".join(parts), parts))
    return {"predictions": [asdict(prediction) for prediction in predictions]}


def _prediction_line(prediction, shown: str, texts: Iterable[str]) -> str:
    note = f"  [{note}]" if (note := prediction.note(texts)) else ""
    return f"{prediction.label}  {prediction.scores[prediction.label]:.3f}  {shown}{note}"


def _explain(model, texts, path: Path | None) -> dict:
    """Print every text with its heaviest words marked, and write the page if there is to be one."""
    from dataclasses import asdict

    from eqnp.app.explain import as_terminal, explain, page
    from eqnp.files import write_text

    explanations, colours = explain(model, texts), sys.stdout is not None and sys.stdout.isatty()
    for each in explanations:
        shown = " | ".join(as_terminal(pieces, colours) for pieces in each.pieces.values())
        print(_prediction_line(each.prediction, shown, each.texts))
    if path:
        write_text(path, page(explanations, f"What {path.stem} attends to"))
        print(f"written to {path}")
    return {
        "predictions": [
            {**asdict(each.prediction), "towards": each.towards, "pieces": asdict(each)["pieces"]}
            for each in explanations
        ]
    }
