"""The recommended preset for reviews, untouched, on data it was not tuned on."""

import json

from eqnp.app.cli import main


def test_the_imdb_preset_beats_its_rival_on_other_data(tmp_path):
    """If this fails, the preset has been fitted to one data set, or small data get too few updates."""
    assert main(["train", "imdb", "--data", "mini-sentiment", "--out", str(tmp_path / "run")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["accuracy"]["test"] >= metrics["baselines"]["bag_of_words"]["test"]
    assert metrics["epochs"] > 20
