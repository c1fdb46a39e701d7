"""What the commands do that ask a trained network: they read the options, print, and return what ``--json`` ends with.

Imports that take long are inside the commands that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from eqnp.app.given import blocks_of, columns_of, readable
from eqnp.errors import ConfigError, some

if TYPE_CHECKING:
    from eqnp.app.explain import Explanation
    from eqnp.app.predictions import Predictor
    from eqnp.runs.model import Model, Prediction
    from eqnp.text.corpora import Corpus
    from eqnp.text.store import Split


def evaluate_command(options) -> dict:
    """``eqnp evaluate``: returns accuracy, loss, and the figures of every class."""
    from eqnp.app.classes import LEGEND, examples
    from eqnp.machine import Machine
    from eqnp.machine.device import choose
    from eqnp.runs import console
    from eqnp.runs.console import class_lines, label_figures, share_of
    from eqnp.runs.contents import check_texts, quoted
    from eqnp.runs.model import Model

    machine = Machine(choose(options.device))
    if not options.data:
        check_texts(options.run, f"give some to measure it on: eqnp evaluate {quoted(options.run)} --data F")
    model = Model.load(options.run, machine)
    where, split, corpus = _texts_asked_for(options.run, model, options)
    with machine.at_work(options.threads) as working:
        found, scores = model.on(working).evaluate(split)
    left_out = corpus.unlabelled if corpus else 0
    shown = label_figures({"": found}) if model.several else f"accuracy {share_of(found['accuracy'], len(split))}"
    print(
        f"{where}: {shown}, loss {found['loss']:.4f}, "
        f"{len(split):,} samples, {split.coverage.tokens:,} tokens, {split.coverage}"
        + (f"; {left_out:,} rows without an agreed label left out" if left_out else "")
    )
    of_words = {
        "unlabelled": left_out,
        "tokens": split.coverage.tokens,
        "unknown_tokens": split.coverage.unknown,
        "cut_tokens": split.coverage.cut,
    }
    if model.several:
        print("\n".join(class_lines(found)))
        return {"data": where, **found, **of_words}
    texts = examples(model, split, scores.argmax(axis=1), corpus)
    parts = [class_lines(found), console.precision_lines(found), console.confusion_lines(found)]
    parts += [console.pair_lines(found, texts), console.threshold_lines(found), LEGEND]
    print("\n".join(line for part in parts for line in part))
    return {
        "data": where,
        **found,
        "examples": [{"true": true, "predicted": given, "text": text} for (true, given), text in texts.items()],
        **of_words,
    }


def _texts_asked_for(run: Path, model: Model, options) -> tuple[str, Split, Corpus | None]:
    """Name and token ids of the texts of ``--data``, and themselves; or of a split of a run, of which there are only
    ids."""
    from eqnp.runs.contents import METRICS
    from eqnp.runs.folder import read_json
    from eqnp.text.store import STORE, read_split, split_names

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
            separator=data.label_separator,
            several=model.several,
        )
        for note in corpus.notes:
            print(note)
        return where, model.encode_corpus(corpus), corpus
    where = options.split or ("test" if "test" in split_names(run / STORE) else "validation")
    metrics = run / METRICS
    if where == "validation" and metrics.is_file() and read_json(metrics).get("refit"):
        print(f"{run} was trained once more with the validation texts: give others (--data F)")
    return where, read_split(run / STORE, where), None


def versus_command(options) -> dict:
    """``eqnp versus``: returns how two runs differ on the same texts, and whether chance would do as much."""
    from eqnp.machine import Machine
    from eqnp.machine.device import choose
    from eqnp.runs.console import difference_line, share_of
    from eqnp.runs.contents import check_texts, quoted
    from eqnp.runs.metrics import compared
    from eqnp.runs.model import Model

    machine, read = Machine(choose(options.device)), []
    for run in (options.run, options.other):
        if not options.data:
            check_texts(run, f"give some: eqnp versus {quoted(options.run)} {quoted(options.other)} --data F")
        model = Model.load(run, machine)
        if model.several:
            raise ConfigError(f"{run}: its texts may have several labels; eqnp versus is for runs with one to a text")
        where, split, _ = _texts_asked_for(run, model, options)
        with machine.at_work(options.threads) as working:
            _, scores = model.on(working).evaluate(split)
        names = [model.classes[label] for label in split.labels]
        read.append((model, where, names, scores.argmax(axis=1) == split.labels))
    (model, where, names, right), (other_model, other_where, other_names, other) = read
    if set(model.classes) != set(other_model.classes):
        raise ConfigError(
            f"{options.run} has the classes {some(model.classes)}, and {options.other} {some(other_model.classes)}; "
            "give two runs with the same"
        )
    same = options.data or (where == other_where and _sources(model, where) == _sources(other_model, where))
    if not same or names != other_names:
        raise ConfigError(
            f"{options.run} and {options.other} do not have the same {where} texts; give some with --data F"
        )
    result = compared(right, other)
    shares = [float(right.mean()), float(other.mean())]
    by_run = (
        f"{run} {share_of(share, len(right))}" for run, share in zip((options.run, options.other), shares, strict=True)
    )
    print(f"{where}: {', '.join(by_run)}")
    print(
        f"{len(right):,} texts: both right {result['both_right']:,}, only the first {result['only_first']:,}, "
        f"only the second {result['only_second']:,}, neither {result['neither']:,}"
    )
    print(difference_line(result))
    return {"data": where, "runs": [str(options.run), str(options.other)], "accuracies": shares, **result}


def _sources(model: Model, where: str) -> tuple:
    """What decides which texts a split of a run is made of."""
    data = model.config.data
    own = (data.validation or (data.train, data.validation_share, data.seed)) if where == "validation" else ()
    return (data.columns, data.label, data.test or data.train if where == "test" else data.train, own)


def predict_command(options) -> dict:
    """``eqnp predict``: returns a list of predictions, with attention and contributions of every word if asked.

    With ``--out``, it returns how many rows there are, and of which classes.
    """
    from dataclasses import asdict

    from eqnp.app.predictions import UNSURE, Predictor, predict_table
    from eqnp.machine.device import choose

    _check_prediction(options)
    device = "cpu" if options.explain else choose(options.device)
    with Predictor(options.run, device, options.threads) as predictor:
        if options.at_least and UNSURE in predictor.model.classes:
            raise ConfigError(
                f"{options.run} has a class {UNSURE!r}, which --at-least gives in place of others; leave it out"
            )
        if options.at_least and predictor.model.several:
            raise ConfigError(
                f"{options.run}: its texts may have several labels; --at-least is for runs with one to a text"
            )
        if options.out:
            outcome = predict_table(predictor, options.data, options.out, options.at_least)
            shares = ", ".join(f"{name} {count:,}" for name, count in sorted(outcome.predicted.items()))
            prior = f"; {outcome.prior:,} without a known word got the prior" * bool(outcome.prior)
            print(f"{outcome.rows:,} rows in {options.out}: {shares}{prior}")
            return {"out": str(options.out), **asdict(outcome)}
        return _print_predictions(options, predictor)


def _check_prediction(options) -> None:
    """Raise ConfigError for options that do not go together, and for files that cannot be written."""
    if options.html and not options.explain:
        raise ConfigError("--html is a page of explanations; add --explain")
    if options.data and options.text:
        raise ConfigError("texts are given as arguments and with --data; give one of them")
    if options.out and (options.explain or not options.data):
        what = "--explain prints; leave --out out" if options.explain else "--out needs --data F, the table to predict"
        raise ConfigError(what)
    if options.html or options.out:
        from eqnp.runs.folder import check_writable_file
        from eqnp.text.writing import check_ending

        if options.out:
            check_ending(options.out)
        check_writable_file(options.html or options.out, "--html" if options.html else "--out")


def _print_predictions(options, predictor: Predictor) -> dict:
    """A line for each text, block by block; what ``--json`` and a page need is kept."""
    from eqnp.app.predictions import Shown

    found, explanations, shown, least = [], [], Shown(), options.at_least
    for texts in _blocks_of_texts(options, predictor):
        predictions = predictor.predict(texts)
        if options.explain:
            from eqnp.app.explain import explain

            explained = explain(predictor.for_texts(len(predictions)), texts, predictions=predictions)
            explanations += explained if options.html else []
            lines = [_explained_line(each, least) for each in explained]
            found += [_explained_json(each, least) for each in explained] if options.json else []
        else:
            pairs = zip(zip(*texts.values(), strict=True), predictions, strict=True)
            lines = [_prediction_line(each, " | ".join(parts), parts, least) for parts, each in pairs]
            found += [_as_json(each, least) for each in predictions] if options.json else []
        if not shown.show(lines) and not options.json:
            break
    if not shown.texts:
        raise ConfigError("there is no text to predict; give texts as arguments or lines on standard input")
    if options.html:
        from eqnp.app.explain import page
        from eqnp.files import write_text

        write_text(options.html, page(explanations, f"What {options.html.stem} attends to"))
        print(f"written to {options.html}")
    return {"predictions": found}


def _blocks_of_texts(options, predictor: Predictor) -> Iterator[dict[str, list[str]]]:
    """Blocks of texts by segment: of a source, of the arguments, or of lines as they come."""
    segments = list(predictor.model.config.data.columns)
    if options.data:
        from eqnp.app.predictions import tables_of

        for _, blocks in tables_of(predictor.model, options.data):
            yield from (texts for _, texts in blocks)
    elif options.text:
        yield columns_of([readable(text) for text in options.text], segments, from_lines=False)
    else:
        before = 0
        for lines in blocks_of(sys.stdin):
            yield columns_of(lines, segments, from_lines=True, before=before)
            before += len(lines)


def _prediction_line(prediction: Prediction, shown: str, texts: Iterable[str], at_least: float) -> str:
    from eqnp.app.predictions import said

    note = f"  [{note}]" if (note := prediction.note(texts)) else ""
    if len(prediction.labels) != 1:  # a text may have several
        answer = ", ".join(f"{label}  {prediction.scores[label]:.3f}" for label in prediction.labels)
        none = f"(none; {prediction.label} {prediction.scores[prediction.label]:.3f})"
        return f"{answer or none}  {shown}{note}"
    return f"{said(prediction, at_least)}  {prediction.scores[prediction.label]:.3f}  {shown}{note}"


def _as_json(prediction: Prediction, at_least: float) -> dict:
    from dataclasses import asdict

    from eqnp.app.predictions import said

    label = said(prediction, at_least) if len(prediction.labels) == 1 else prediction.label
    return {**asdict(prediction), "label": label}


def _explained_line(each: Explanation, at_least: float) -> str:
    """A text with its heaviest words marked, and what speaks for its class."""
    from eqnp.app.explain import as_terminal, speaks_line

    colours = sys.stdout is not None and sys.stdout.isatty()
    shown = " | ".join(as_terminal(pieces, colours) for pieces in each.pieces.values())
    speaks = speaks_line(each)
    return _prediction_line(each.prediction, shown, each.texts, at_least) + f"  ({speaks})" * bool(speaks)


def _explained_json(each: Explanation, at_least: float) -> dict:
    from dataclasses import asdict

    return {**_as_json(each.prediction, at_least), "towards": each.towards, "pieces": asdict(each)["pieces"]}


def words_command(options) -> dict:
    """``eqnp words``: returns, by class, the words and n-grams that speak most for it over the training texts."""
    from dataclasses import asdict

    from eqnp.app.contributions import speakers
    from eqnp.errors import nearest
    from eqnp.machine import Machine
    from eqnp.runs.contents import check_texts
    from eqnp.runs.model import Model
    from eqnp.text.store import STORE, read_split

    model = Model.load(options.run)
    if options.cls and options.cls not in model.classes:
        raise ConfigError(f"unknown class {options.cls!r}{nearest(options.cls, model.classes)}")
    check_texts(options.run, "what speaks for a class is read off a run's own training texts; restore them")
    split = read_split(options.run / STORE, "train")
    classes = [options.cls] if options.cls else model.classes
    with Machine().at_work(options.threads) as machine:
        found = speakers(model.on(machine), split, classes, options.top, options.least or 0)
    print(
        f"mean contribution to the drive of a class over {found.texts:,} of {len(split):,} training texts, "
        f"of words and n-grams in {found.least} of them or more"
    )
    for name, words in found.by_class.items():
        print(f"{name}:{'' if words else ' none'}")
        for each in words:
            print(f"  {each.contribution:+.3f}  {each.words}  ({each.texts:,} texts)")
    return asdict(found)
