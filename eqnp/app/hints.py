"""What somebody meant by an option that a command does not have, or by a first argument that is no preset.

Nothing here is imported before something is wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from eqnp import errors
from eqnp.config import Config, keys_named
from eqnp.errors import nearest
from eqnp.runs.contents import CONFIG, DATA, instead, quoted
from eqnp.settings import inline, kind_of, mended

ALSO_CALLED = {  # options by names that they have elsewhere
    "--data": "train train_data train_file training_data train_set dataset data_file data_path data_dir input inputs "
    "input_file file files path source corpus csv i f",
    "--val-data": "val valid validation dev val_file valid_file dev_file validation_file validation_data valid_data "
    "dev_data eval eval_data dev_set",
    "--test-data": "test test_file test_set testing",
    "--unlabelled": "unlabeled unsupervised unlabeled_data unlabelled_data unsup",
    "--vectors": "embeddings embedding word_vectors vector glove word2vec w2v fasttext emb",
    "--out": "output out_dir outdir output_dir output_folder output_path o save save_dir save_to run_dir log_dir "
    "logdir model_dir destination",
    "--device cuda": "gpu cuda gpus use_gpu use_cuda ngpu n_gpus nvidia",
    "--device cpu": "cpu no_cuda no_gpu",
    "--threads": "jobs n_jobs j workers num_workers num_threads n_threads nthreads cores cpus num_cpus",
    "--seed": "random_seed random_state rng seeds",
    "--from": "from_run warm_start init_from initial_weights pretrained finetune fine_tune",
    "--resume": "continue restart resume_from go_on",
    "--distributed mpi": "mpi",
    "--html": "page html_file",
    "--explain": "explanation explanations",
    "--at-least": "threshold min_score min_confidence confidence min_probability cutoff",
    "--json": "as_json format_json",
}
FIRST = {  # what is not an option but the first argument, by the commands that take it
    "config config_file conf cfg c toml settings": ("train", "prepare", "check"),
    "preset task": ("train", "prepare", "check"),
    "data train train_data dataset input file csv": ("data",),
    "run run_folder model model_path checkpoint ckpt load m": (
        *("evaluate", "versus", "predict", "words"),
        *("report", "check", "info"),
    ),
}
KEYS = {  # of a configuration, where there is --set but not the option
    "--val-data": "data.validation",
    "--test-data": "data.test",
    "--unlabelled": "vectors.unlabelled",
    "--seed": "training.seed",
    "--algorithm": "learning.algorithm",
}
TEXTS = ("predict", "report")  # commands whose last arguments are texts
ANY = "…"  # where no value was given


def unknown_option(command: str, typed: str, value: str | None, run: str, options: Mapping[str, Sequence[str]]) -> str:
    """What to write for an option that a command lacks; ``options`` are those of every command.

    ``value`` is what followed it, and ``run`` the run folder, if those were given.
    """
    name, equals, attached = typed.partition("=")
    value = attached if equals else value
    word = name.lstrip("-").lower().replace("-", "_")
    own = options[command]
    as_text = f"put -- before a text that begins with a dash: eqnp {command} {run} -- {_in_quotes(typed)}"
    if command in TEXTS and not typed.startswith("--") and f"-{name}" not in own:
        return as_text
    if command == "predict" and word in ("text", "texts", "sentence"):
        return f"texts need no option: eqnp predict {run} {_in_quotes(value or ANY)}"
    for words, commands in FIRST.items():
        if word in words.split() and command in commands:
            return f"give it by itself, as the first argument: eqnp {command} {quoted(value) if value else ANY}"
    meant = _also_called(word) or name.lower().replace("_", "-")
    if meant.endswith("-data") and meant not in own and command in ("evaluate", "versus", "predict"):
        meant = "--data"
    option = meant.split()[0]
    takes = "" if " " in meant or value is None or option in ("--json", "--explain") else f" {quoted(value)}"
    if option in own:
        return f"write {meant}{takes}"
    if option in KEYS and "--set" in own:
        return f"write {_setting(KEYS[option], value)}"
    having = [other for other, known in options.items() if option in known]
    if having:
        return f"eqnp {command} has no {option}; eqnp {_listed(having)} {'have' if len(having) > 1 else 'has'} it"
    close = difflib.get_close_matches(name, own, n=1, cutoff=0.8)
    keys = keys_named(word, cutoff=1) or (not close and keys_named(word))
    if keys:
        settings = " or ".join(_setting(key, value) for key in keys)
        return f"write {settings}" if "--set" in own else f"for that there is eqnp train {settings}"
    if command in TEXTS:  # where it may be a text, unless it is near to an option
        return errors.close(name, close or own, cutoff=0.6).removeprefix("; ") or as_text
    return nearest(name, close or own).removeprefix("; ")


def missing_value(arguments: Sequence[str]) -> str:
    """What to write for ``--set KEY VALUE`` among the arguments of a command, nothing if there is none."""
    for place, argument in enumerate(arguments):
        if not argument.startswith("--set=") and (place == 0 or arguments[place - 1] != "--set"):
            continue
        key, equals, attached = argument.removeprefix("--set=").partition("=")
        value = next((part.removeprefix("=") for part in arguments[place + 1 : place + 3] if part != "="), "")
        if attached or not value or value.startswith("--") or (equals and kind_of(Config, key) is str):
            continue
        if meant := [key] if "." in key else keys_named(key, cutoff=1):
            return f"--set {key} has no value; write {' or '.join(_setting(each, value) for each in meant)}"
    return ""


def no_preset(command: str, source: str) -> str:
    """What to write for a first argument that is data, or a folder of another kind; nothing if it may be right."""
    path, preset = Path(source), "mini-sentiment " * (command == "check")
    if path.is_dir() and not (path / CONFIG).is_file():
        return instead(path)
    if source.endswith(".toml") or path.is_dir():
        return ""
    if path.is_file() and (path.parent / CONFIG).is_file() and path.suffix in (".h5", ".json", ".jsonl"):
        return f"{source} is a file of a run; give its folder: eqnp {command} {quoted(path.parent)}"
    if path.is_file() or DATA.fullmatch(source):
        return f"{source} is data, and no preset; write eqnp {command} {preset}--data {quoted(source)}"
    return ""


def _also_called(word: str) -> str:
    return next((option for option, words in ALSO_CALLED.items() if word in words.split()), "")


def _setting(key: str, value: str | None) -> str:
    """``--set key=value`` as a shell takes it."""
    if value is None:
        return f"--set {key}={ANY}"
    right = mended(kind_of(Config, key), value)
    setting = f"{key}={inline(right) if isinstance(right, list | dict) else value}"
    return f"--set {quoted(setting)}"


def _in_quotes(text: str) -> str:
    return quoted(text) if quoted(text) != text else f"'{text}'"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
