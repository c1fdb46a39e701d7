"""The picture of the README: what it shows is what a network does, and the committed picture is that of its record."""

import json
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from eqnp import SequenceClassifier
from eqnp.app.sketch import drawn, record
from eqnp.errors import DataError
from tests.conftest import ROOT

RECORD = json.loads((ROOT / "docs" / "results" / "sketch.json").read_text("utf-8"))


def is_true(found: dict) -> None:
    """Energies fall in every phase, and the update is the difference of the products of two ends over 2β."""
    assert len(found["energy"]) == 3
    for energy in found["energy"]:
        rises = [after - before for before, after in pairwise(energy)]
        assert max(rises) <= 1e-12 * abs(energy[-1])
        assert energy[0] - energy[-1] > 0
    plus, minus = (ends["post"] * ends["pre"] for ends in found["ends"])
    assert found["update"] == pytest.approx((plus - minus) / (2 * found["beta"]), abs=1e-9)


def test_the_record_is_of_what_the_picture_says():
    """If this fails, the first picture of the README shows an energy that rises, or an update that is none."""
    is_true(RECORD)


def test_the_committed_picture_is_that_of_its_record():
    """If this fails, run `python scripts/sketch.py`."""
    assert (ROOT / "docs" / "sketch.svg").read_text("utf-8") == drawn(RECORD)


def test_a_network_of_ones_own_is_recorded_and_drawn():
    """If this fails, the picture cannot be made anew."""
    texts = ["hot sun & fire", "cold ice <and> snow"] * 20
    settings = {"vectors.dimension": 8, "network.hidden": [6], "network.attention": [{"queries": 2, "memory": "text"}]}
    settings |= {"network.activation": "logistic", "data.subwords": 0}
    model = SequenceClassifier(epochs=2, settings=settings, random_state=0).fit(texts, ["dry", "wet"] * 20).model_
    found = record(model, "hot <sun> & fire", "dry", 0.3)
    is_true(json.loads(json.dumps(found)))
    words = " ".join(ET.fromstring(drawn(found)).itertext())
    assert "hot <sun> & fire" in words
    assert f"{found['update']:+.3f}" in words
    with pytest.raises(DataError, match="dry, wet"):
        record(model, "hot", "damp", 0.3)
