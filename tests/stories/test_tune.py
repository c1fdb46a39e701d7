"""A search for settings that fools nobody: what it tries, how it chooses, what it says, and that it goes on."""

import json
import tomllib
from math import comb

import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.config import from_tree, load_config, to_tree
from eqnp.machine import Machine
from eqnp.optim import Adam
from eqnp.runs.checkpoint import generators, untrained
from eqnp.runs.loop import epochs_of, fit
from eqnp.runs.tuning import RUNGS, SPACE, drawn, halves, run_tuning
from eqnp.text.prepare import load_prepared
from tests.conftest import ROOT
from tests.runs import said, weather

QUICK = ["--set=vectors.dimension=4", "--set=training.epochs=4", "--set=training.refit=false", "--seed=3"]
PAGE = (ROOT / "docs" / "texts.md").read_text("utf-8")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search of six trials that ran through: its folder, and the command that began it, without ``--out``."""
    root = tmp_path_factory.mktemp("tuned")
    weather(root / "own.csv", 300, 0)
    weather(root / "test.csv", 150, 1)
    given = ["--data", str(root / "own.csv"), "--test-data", str(root / "test.csv"), *QUICK, "--trials=6"]
    command = ["tune", *given, "--threads=1"]
    assert main([*command, "--out", str(root / "whole")]) == 0
    return root / "whole", command


def found(folder) -> dict:
    """What a search has written down."""
    return json.loads((folder / "tune.json").read_text())


def timeless(folder) -> dict:
    """The same without what hangs on the clock."""
    state = found(folder)
    for each in state["done"].values():
        del each["seconds"]
    return state


def test_the_better_half_goes_on(tuned):
    """If this fails, the search spends its time on the worse trials, or leaves out the settings that were there."""
    done = found(tuned[0])["done"]
    by_rung = [[int(n) for n, r in (each.split("/") for each in done) if int(r) == rung] for rung in range(len(RUNGS))]
    assert sorted(by_rung[0]) == [1, 2, 3, 4, 5, 6]
    assert [len(each) for each in by_rung] == [6, 3, 2 + 1]
    assert 0 in by_rung[2]
    for rung in (0, 1):
        rank = lambda n: (done[f"{n}/{rung}"]["score"]["accuracy"], -done[f"{n}/{rung}"]["score"]["loss"])  # noqa: B023, E731
        through = [n for n in by_rung[rung + 1] if n]
        assert min(map(rank, through)) >= max(rank(n) for n in by_rung[rung] if n not in through)


def test_what_is_drawn_is_what_the_page_says(tuned):
    """If this fails, the table of ranges is not what is searched."""
    config = from_tree(found(tuned[0])["config"])
    rows = [line.split("|")[1].strip().strip("`") for line in PAGE.splitlines() if line.startswith("| `")]
    assert {each.key for each in SPACE} <= set(rows)
    many = [drawn(config, 3, number) for number in range(1, 400)]
    assert drawn(config, 3, 0) == {}
    assert drawn(config, 3, 5) == many[4] != drawn(config, 4, 5)
    for key, own in (
        ("network.votes", 0.3),
        ("optimizer.learning_rate", 2e-3),
        ("optimizer.learning_rates.votes", 1e-2),
    ):
        values = np.array([each[key] for each in many]) / own
        assert 0.33 <= values.min() < 0.36
        assert 2.8 < values.max() <= 3.01
        assert 0.8 < np.exp(np.log(values).mean()) < 1.25  # evenly in the logarithm
    assert {each["training.epochs"] for each in many} == {2, 4, 6, 8}
    assert {each["network.attention.0.queries"] for each in many} == {2, 4, 8, 16}


def test_a_trial_is_a_training_like_any_other(tuned):
    """If this fails, what a search finds is not what training with these settings comes to."""
    folder, state = tuned[0], found(tuned[0])
    number = next(int(each.split("/")[0]) for each in state["done"] if each.endswith("/2") and each != "0/2")
    config = load_config(str(folder / "prepared" / "config.toml"))
    values = drawn(config, 3, number)
    assert state["done"][f"{number}/2"]["values"] == values
    config = from_tree(to_tree(config), given=values)
    prepared = load_prepared(folder / "prepared", load_config(str(folder / "prepared" / "config.toml")))
    choose, judge = halves(prepared.splits["validation"], np.random.default_rng([3, 0]))
    prepared.config = config
    prepared.votes = {each: table * np.float32(config.network.votes / 0.3) for each, table in prepared.votes.items()}
    model, optimizer = untrained(prepared, Machine())
    progress = fit(model.network, optimizer, config, prepared.splits["train"], choose, generators(3)[2])
    assert len(progress.epochs) == epochs_of(config, len(prepared.splits["train"])) == values["training.epochs"]
    score = state["done"][f"{number}/2"]["score"]
    assert progress.best_epoch.validation.accuracy == score["accuracy"]
    np.testing.assert_allclose(progress.best_epoch.validation.loss, score["loss"], rtol=1e-4)
    bits = state["done"][f"{number}/2"]["right"]
    assert bits["judge"].count("1") / len(judge) == model.evaluate(judge)[0]["accuracy"]
    assert bits["test"].count("1") / 150 == model.evaluate(prepared.splits["test"])[0]["accuracy"]


def test_the_judges_chose_nothing(tuned):
    """If this fails, the search is praised by the texts that it was made to please."""
    prepared = load_prepared(tuned[0] / "prepared", load_config(str(tuned[0] / "prepared" / "config.toml")))
    validation = prepared.splits["validation"]
    assert len(validation) == 60  # twice the usual tenth of 300
    validation.labels = np.array(validation.labels)
    numbered = [validation.take(np.array([row])) for row in range(60)]
    choose, judge = halves(validation, np.random.default_rng([3, 0]))
    assert len(choose) == len(judge) == 30
    assert np.abs(np.bincount(choose.labels, minlength=4) - np.bincount(judge.labels, minlength=4)).max() <= 1
    ids = lambda split: sorted(tuple(split.segments["text"][row]) for row in range(len(split)))  # noqa: E731
    assert sorted(ids(choose) + ids(judge)) == sorted(ids(each)[0] for each in numbered)


def test_what_it_says_of_the_best(tuned, capsys):
    """If this fails, the table, the best settings, or the test of them is wrong."""
    folder, command = tuned
    result, text = said(capsys, *command, "--out", folder)  # all is done: it only says so
    done = found(folder)["done"]
    last = {int(each.split("/")[0]): done[each] for each in done if each.endswith("/2")}
    best = max(last, key=lambda n: (last[n]["score"]["accuracy"], -last[n]["score"]["loss"]))
    assert result["trial"] == result["table"][0]["trial"] == best
    assert f"trial {best}" in text if best else "no trial did better" in text
    assert len(result["table"]) == 7
    own = tomllib.loads((folder / "best.toml").read_text())
    assert own["data"]["validation_share"] == 0.1
    assert load_config(str(folder / "best.toml")) == from_tree(own)
    for key, value in drawn(from_tree(found(folder)["config"]), 3, best).items():
        section, _, rest = key.partition(".")
        place = own[section]
        for step in rest.split("."):
            place = place[int(step)] if isinstance(place, list) else place[step]
        assert place == value
    for kind in ("judge", "test") if best else ():
        before, after = last[0]["right"][kind], last[best]["right"][kind]
        only = [sum(a > b for a, b in zip(*pair, strict=True)) for pair in ((before, after), (after, before))]
        tail = sum(comb(sum(only), k) for k in range(min(only) + 1)) / 2 ** sum(only)
        assert result["compared"][kind]["p"] == pytest.approx(min(1, 2 * tail))
        assert result["compared"][kind]["difference"] == pytest.approx((only[1] - only[0]) / len(before))
        better = kind == "judge" and only[1] > only[0] and result["compared"][kind]["p"] < 0.05
        assert kind == "test" or ("not shown to be better" in text) != better


@pytest.mark.parametrize("steps", [3, 60])
def test_killed_and_begun_again_to_the_same_table(tuned, tmp_path, monkeypatch, capsys, steps):
    """If this fails, a search that was stopped is lost, or ends with something else."""
    whole, command = tuned
    taken, step = 0, Adam.step

    def stop(self, *arguments):
        nonlocal taken
        taken += 1
        if taken > steps:
            raise KeyboardInterrupt
        step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Adam, "step", stop)
        assert main([*command, "--out", str(tmp_path)]) == 130
    before = found(tmp_path)["done"] if steps > 3 else {}
    assert (tmp_path / "tune.json").exists() == bool(before)
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert timeless(tmp_path) == timeless(whole)
    assert {each: found(tmp_path)["done"][each] for each in before} == before  # and not done again
    assert (tmp_path / "best.toml").read_text() == (whole / "best.toml").read_text()


def test_other_settings_need_another_folder(tuned, capsys):
    """If this fails, trials of two searches stand in one table."""
    folder, command = tuned
    for other, words in (
        ([*command, "--set=training.batch=7"], "search of other settings"),
        ([*command, "--minutes=1"], "leave one of them out"),
        (["tune", str(folder / "prepared")], "texts of its own"),
    ):
        capsys.readouterr()
        assert main([*other, "--out", str(folder)]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_minutes_from_python(tmp_path, capsys):
    """If this fails, a search with a time limit does not end, or cannot be begun from Python."""
    weather(tmp_path / "own.csv", 120, 0)
    given = {"vectors.dimension": 4, "training.epochs": 4, "network.votes": 0.0, "training.metric": "loss"}
    config = load_config("text", given={"data.train": str(tmp_path / "own.csv"), **given})
    result = run_tuning(config, tmp_path / "out", minutes=1e-9, threads=1)
    assert len(result["table"]) == 9
    assert not any("votes" in key for key in result["table"][-1])
    assert result["values"] == drawn(from_tree(found(tmp_path / "out")["config"]), 0, result["trial"])
    assert "as it is" in capsys.readouterr().out
