"""What each command does: it reads the options, prints, and returns what ``--json`` ends with.

Imports that take long are inside the commands that need them.
"""

from __future__ import annotations

import json
from pathlib import Path

from eqnp.app.given import columns_of, readable
from eqnp.errors import ConfigError, some

OWN = ("text", "text-vectors", "pairs")  # presets for what --data brings


def train_command(options) -> dict:
    """``eqnp train``: returns the metrics of the run."""
    from eqnp.machine.ranks import join, together

    ranks = join(options.distributed, options.reduction or "fast")
    return together(ranks, lambda: _train(options, ranks))


def _train(options, ranks) -> dict:
    from eqnp.runs.training import resume_training, run_training

    if options.resume:
        others = (
            "source",
            "data",
            "val_data",
            "test_data",
            "vectors",
            "unlabelled",
            "set",
            "seed",
            "algorithm",
            "out",
            "from_run",
        )
        if given := [name for name in others if getattr(options, name) not in (None, [])]:
            option = {"source": "CONFIG", "from_run": "--from"}.get(given[0], f"--{given[0].replace('_', '-')}")
            raise ConfigError(f"--resume goes on with the run as it is; leave {option} out, or start a new run")
        return resume_training(options.resume, options.threads, ranks, options.device)
    given = {"numbered": not options.out, "threads": options.threads}
    if options.from_run:
        from eqnp.runs.warmstart import Beginning

        if wrong := [n for n in ("source", "vectors", "unlabelled") if getattr(options, n)]:
            option = "CONFIG" if wrong[0] == "source" else f"--{wrong[0]}"
            raise ConfigError(
                f"--from goes on with the network and the vectors of {options.from_run}; leave {option} out"
            )
        given["beginning"] = beginning = Beginning.load(options.from_run)
        config = beginning.config(options.set, _given(options))
        out = options.out or Path("runs") / options.from_run.resolve().name
    else:
        options.source = options.source or _default(options)
        given["prepared"] = _prepared_folder(options)
        config = _config(options)
        out = options.out or Path("runs") / _name(options)
    return run_training(config, out, **given, ranks=ranks, device=options.device)


def tune_command(options) -> dict:
    """``eqnp tune``: returns the table of trials, and how the best of them compares."""
    from eqnp.runs.tuning import TRIALS, run_tuning

    options.source = options.source or _default(options)
    if _prepared_folder(options):
        raise ConfigError("eqnp tune holds out texts of its own; give it --data F, and no folder")
    given = {"trials": options.trials or TRIALS, "minutes": options.minutes or 0.0, "threads": options.threads}
    if options.trials and options.minutes:
        raise ConfigError("--trials and --minutes both say when to stop; leave one of them out")
    return run_tuning(_config(options), options.out or Path("tuned") / _name(options), **given)


def prepare_command(options) -> dict:
    """``eqnp prepare``: returns the folder and what is in it."""
    from eqnp.machine.ranks import join, together
    from eqnp.runs.training import run_preparation

    ranks = join(options.distributed, "fixed")
    options.source = options.source or _default(options)
    if _prepared_folder(options):
        raise ConfigError(f"{Path(options.source).parent} is prepared already; give it to eqnp train")
    out, given = options.out or Path("prepared") / _name(options), {"numbered": not options.out, "ranks": ranks}
    return together(ranks, lambda: run_preparation(_config(options), out, **given))


def data_command(options) -> dict:
    """``eqnp data``: returns what is in data, what is doubtful about it, and what the default would choose."""
    from dataclasses import asdict

    import numpy as np

    from eqnp.text import tokens
    from eqnp.text.prepare import encode_corpora, fitted_to, load_splits
    from eqnp.text.survey import of_vectors
    from eqnp.text.vectors import load_vectors

    options.data = options.data[0] if len(options.data) == 1 else options.data
    options.source = _default(options)
    config = _config(options)
    loaded = load_splits(config.data, np.random.default_rng(config.training.seed))
    config, chosen = fitted_to(config, loaded["train"])
    encoded = encode_corpora(config, loaded, print, told=0)
    survey, lacking = encoded.survey, []
    findings = survey.findings
    if config.vectors.source != "corpus":
        words, special = tokens.words(encoded.tokenizer), encoded.tokenizer.specials
        ids = np.concatenate([texts.ids for texts in encoded.splits["train"].segments.values()])
        counts = np.bincount(ids, minlength=len(words))
        _, has_vector = load_vectors(config.vectors.source, words)
        counts[:special] = 0
        finding, lacking = of_vectors(config.vectors.source, words, has_vector, counts)
        findings = sorted([*findings, *([finding] if lacking else [])], key=lambda each: -each.gravity)
    rows = sum(survey.classes.values())
    sizes = sorted(survey.classes.items(), key=lambda each: -each[1])
    print(f"classes: {some([f'{name} {count:,} ({count / rows:.0%})' for name, count in sizes], 10)}")
    median, most, longest = survey.lengths.values()
    print(f"known tokens of a text: {median:,} (median), {most:,} (at most, of 19 in 20), {longest:,} (the longest)")
    print(f"rows that repeat a text: {survey.repeated:,}; whose text has several labels: {survey.contradictory:,}")
    for name, count in survey.overlap.items():
        print(f"{name} texts that stand in the training data: {count:,}")
    print(f"preset without another one: {config.name}{'; ' * bool(chosen)}{chosen}")
    for number, finding in enumerate(findings, start=1):
        print(f"finding {number}: {finding.line}")
    if not findings:
        print("nothing doubtful was found")
    return {
        **asdict(survey),
        "findings": [asdict(each) for each in findings],
        "tokens": {name: asdict(split.coverage) for name, split in encoded.splits.items()},
        "words": len(encoded.tokenizer) - encoded.tokenizer.specials,
        "words_without_vector": lacking,
        "chosen": {
            "preset": config.name,
            "training.epochs": config.training.epochs,
            "data.ngram_min_texts": config.data.ngram_min_texts,
            "data.subwords": config.data.subwords,
        },
    }


def _default(options) -> str:
    """The preset where none is given: for texts of one's own, for pairs of them, or for the embedded reviews."""
    from eqnp.config import Config, segments_named
    from eqnp.settings import read_setting

    settings = dict(read_setting(Config, setting) for setting in options.set)
    if len(segments_named(settings)) == 2:
        return "pairs"
    if not options.data and "data.train" not in settings:
        return "mini-sentiment"
    vectors = options.vectors or settings.get("vectors.source", "corpus")
    return "text" if vectors == "corpus" else "text-vectors"


def _name(options) -> str:
    source = Path(options.source)
    return source.resolve().parent.name if source.name == "config.toml" else source.stem


def _prepared_folder(options) -> Path | None:
    """The folder that is given as configuration, if one is (and no preset has its name): its texts are settled."""
    from eqnp.config import presets

    folder = Path(options.source)
    if options.source in presets():
        return None
    _check_source(options)
    if not folder.is_dir():
        return None
    given = [key for key in ("data", "val_data", "test_data", "vectors", "unlabelled") if getattr(options, key)]
    given += [setting for setting in options.set if setting.split(".")[0].strip() in ("data", "vectors")]
    if given:
        raise ConfigError(f"{folder} has its texts and vectors already; prepare again to change {given[0]!r}")
    options.source = str(folder / "config.toml")
    return folder


def _check_source(options) -> None:
    """Raise ConfigError for data, or a folder without a configuration, where a configuration is to be."""
    from eqnp.app.hints import no_preset

    if advice := no_preset(options.command, options.source):
        raise ConfigError(advice)


def _config(options):
    """The configuration that the options of a command describe."""
    from eqnp.config import load_config

    return load_config(options.source, options.set, _given(options))


def _given(options) -> dict[str, object]:
    """The values that options give, by key."""
    given = {
        "data.train": options.data,
        "data.validation": getattr(options, "val_data", None),
        "data.test": getattr(options, "test_data", None),
        "vectors.source": options.vectors,
        "vectors.unlabelled": getattr(options, "unlabelled", None),
        "training.seed": getattr(options, "seed", None),
        "learning.algorithm": getattr(options, "algorithm", None),
    }
    return {key: value for key, value in given.items() if value is not None}


def check_command(options) -> dict:
    """``eqnp check``: returns the report."""
    from eqnp.app.check import check, draw, preset_problem, run_problem, table
    from eqnp.app.report import needs_matplotlib
    from eqnp.config import presets
    from eqnp.files import write_text
    from eqnp.machine.threads import workers
    from eqnp.runs.contents import check_texts
    from eqnp.runs.folder import check_writable

    if options.out:
        needs_matplotlib()
        check_writable(options.out)
        options.out.mkdir(parents=True, exist_ok=True)
    with workers(options.threads):
        if options.source not in presets() and Path(options.source).is_dir():
            if options.data or options.vectors or options.set:
                raise ConfigError("--data, --vectors and --set are for presets; a run has its own")
            check_texts(Path(options.source), "eqnp check PRESET --data F checks a network on other texts")
            problem = run_problem(Path(options.source), options.samples)
        else:
            if options.source not in presets():
                _check_source(options)
            problem = preset_problem(_config(options), options.samples)
        report = check(*problem)
    print(table(report))
    if options.out:
        write_text(options.out / "check.json", json.dumps(report, indent=1) + "\n")
        draw(report, options.out / "check.png")
        print(f"written to {options.out}")
    return report


def report_command(options) -> dict:
    """``eqnp report``: returns the path of the page."""
    from eqnp.app.report import needs_matplotlib, write_report

    needs_matplotlib()
    from eqnp.runs.folder import check_writable
    from eqnp.runs.model import Model

    if options.out:
        check_writable(options.out)
    texts = None
    if options.text:
        columns = list(Model.load(options.run).config.data.columns)
        texts = columns_of([readable(text) for text in options.text], columns, from_lines=False)
    page = write_report(options.run, options.out or options.run, texts, options.threads)
    print(f"{page} ({page.stat().st_size / 2**20:.1f} MiB), pictures in {page.parent / 'report'}")
    return {"report": str(page)}


def watch_command(options) -> dict:
    """``eqnp watch``: returns the path of the page, and how often the network swept in each phase."""
    from eqnp.app import player
    from eqnp.machine import Machine
    from eqnp.runs.folder import check_writable_file
    from eqnp.runs.model import Model

    model, out = Model.load(options.run, Machine("naive")), options.out or options.run / "watch.html"
    check_writable_file(out, "--out")
    columns = columns_of([readable(text) for text in options.text], list(model.config.data.columns), from_lines=False)
    if (given := len(next(iter(columns.values())))) > 1:
        raise ConfigError(
            f"{given} texts are given, and a page shows one; put it in quotes, or call eqnp watch for each"
        )
    title, texts = f"{options.run.resolve().name} settles on a text", {name: text for name, (text,) in columns.items()}
    recording = player.write(model, texts, out, options.towards, title)
    print(f"sweeps: free {recording.free.sweeps[-1]:g}, energy {recording.free.energy[-1]:.6f}")
    for name, phases in recording.nudged.items():
        print(f"  towards {name}: " + ", ".join(f"{each.sweeps[-1]:g} at β = {each.beta:g}" for each in phases))
    print(f"{out} ({out.stat().st_size / 1000:.0f} kB); open it in a browser")
    return {"watch": str(out), "predicted": recording.prediction.label, "classes": list(recording.nudged)}


def list_command(options) -> dict:
    """``eqnp list``: returns presets, embedded data sets and packages of vectors."""
    from eqnp.config import load_config, presets
    from eqnp.text.sources import EMBEDDED
    from eqnp.text.vectors import installed_packages

    described = {}
    for name in presets():
        config = load_config(name)
        data = "data of your own" if name in OWN else config.data.train
        epochs = f"{config.training.epochs} epochs" if config.training.epochs > 0 else "epochs chosen by the data"
        described[name] = f"{data}, {len(config.data.columns)} text(s), {epochs}"
    found = installed_packages()
    print("presets (eqnp train PRESET):")
    for name, text in described.items():
        print(f"  {name:16}{text}")
    print(f"data sets that come with the package (--data): {', '.join(EMBEDDED)}")
    print(f"packages of word vectors found (--vectors): {', '.join(found) or 'none'}; 'corpus' needs none")
    return {"presets": described, "data": list(EMBEDDED), "vectors": found}


def config_command(options) -> dict:
    """``eqnp config``: returns keys with their values, defaults, what is allowed, and what they are."""
    from dataclasses import asdict

    from eqnp.app.keys import chosen, lines

    preset, keys = chosen(options.names)
    if preset:
        print(f"the values of {preset}:")
    for each in keys:
        print(lines(each))
    return {"preset": preset, "keys": [asdict(each) for each in keys]}


def info_command(options) -> dict:
    """``eqnp info``: returns what is known of a run."""
    from eqnp.runs.folder import summary

    about = summary(options.run)
    for key, value in about.items():
        print(f"{key.replace('_', ' '):14}{_readable_value(value)}")
    return about


def _readable_value(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable_value(each)}" for name, each in value.items())
    if isinstance(value, list):
        return some(value)
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def benchmark_command(options) -> dict:
    """``eqnp benchmark``: returns the figures of every task."""
    from eqnp.app.benchmark import PRESETS, measure, table
    from eqnp.machine.device import choose

    if options.distributed:
        return _benchmark_ranks(options)
    if options.weights and options.set:
        raise ConfigError("--weights times a network as it was trained; leave --set out")
    if options.weights and not options.task:
        raise ConfigError("--weights needs the --task that the run was trained for")
    tasks = [options.task] if options.task else list(PRESETS)
    device = choose(options.device)
    given = {"repeat": options.repeat, "threads": options.threads, "weights": options.weights, "device": device}
    given["settings"] = options.set
    figures = [measure(task, **given, say=print) for task in tasks]
    print(table(figures))
    return {"tasks": figures}


def _benchmark_ranks(options) -> dict:
    from eqnp.app.scaling import measure_ranks
    from eqnp.machine.ranks import join, together

    if options.task:
        raise ConfigError("--task is for one process; with --distributed give --preset, or --weights FOLDER")
    ranks = join(options.distributed, options.reduction or "fast")
    given = {"repeat": options.repeat, "threads": options.threads, "settings": options.set}
    return together(ranks, lambda: measure_ranks(ranks, preset=options.preset, folder=options.weights, **given))


def cache_command(options) -> dict:
    """``eqnp cache``: returns where the compiled kernels are, and their size in bytes."""
    from eqnp.kernels import cache, load

    load("cpu")
    found = cache.files()
    size = cache.clear() if options.clear else sum(path.stat().st_size for path in found)
    folders = sorted({str(path.parent) for path in found})
    where = f"{'removed from' if options.clear else 'in'} {', '.join(folders)}"
    print(f"{len(found)} files, {size / 2**20:.1f} MiB {where}" if found else "no compiled kernels on disk")
    return {"files": len(found), "bytes": size, "folders": folders, "cleared": options.clear}
