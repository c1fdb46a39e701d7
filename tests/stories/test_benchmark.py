"""The benchmark measures training batches, beside another program's and of trained weights."""

from dataclasses import replace

import pytest

from eqnp.app.benchmark import Peer, growth, load_problem, make_problem, measure, table, useful_flops
from eqnp.app.cli import main
from eqnp.errors import ConfigError

SMALL = ("data.max_tokens=12", "network.hidden=[16]")


def test_a_task_beside_a_peer(tmp_path):
    """If this fails, ratios are not those of the two programs' times."""
    script = tmp_path / "peer.py"
    script.write_text("import json, sys; print(json.dumps({'seconds': 0.5, 'options': sys.argv}))")
    figures = measure("snli", batch=8, repeat=1, threads=1, peer=Peer(str(script), batch=4), settings=SMALL)
    assert figures["peer_seconds"] == 1.0  # half a second for a batch of 4, scaled to 8
    assert figures["ratio"] == pytest.approx(1 / figures["seconds"], rel=0.02)
    assert figures["residual"] <= 1e-5
    assert len(figures["sweeps"]) == 3
    assert "| snli | 8 |" in table([figures])


def test_useful_work_is_what_the_sweeps_need():
    """If this fails, the share of the machine's peak is an invention; counted here by hand, product by product."""
    p = make_problem("snli", batch=6, settings=SMALL)
    settling = replace(p.config.settling, tolerance=0.0, free_sweeps=3, nudged_sweeps=2)
    p.config = replace(p.config, settling=settling)
    result = p.step()
    assert result.sweeps.tolist() == [[3] * 6, [2] * 6, [2] * 6]
    premise, hypothesis = (int(p.batch[name].lengths.sum()) for name in ("premise", "hypothesis"))
    wide, narrow = 4 * 12 * 300 * 16, 16 * 3
    dense = 2 * (wide + narrow) * 6 * (5 + 2 + 2 + 2)  # products of the sweeps of three phases, and two contrasts
    retrieved = 4 * 12 * 300 * 2 * (premise + hypothesis) * (3 + 1 + 1)
    projected = 2 * 300 * 300 * 2 * (premise + hypothesis) * 2
    assert useful_flops(p, result) == pytest.approx(dense + retrieved + projected, rel=1e-9)


def test_growth_goes_through_the_sizes():
    """If this fails, the plot of the growth shows the same size several times."""
    rows = growth("recommended", "positions", (50, 400), repeat=1)
    assert [row["size"] for row in rows] == [50, 400]
    assert rows[0]["gflop"] < rows[1]["gflop"]


def test_weights_of_a_run(tmp_path, capsys):
    """If this fails, trained weights cannot be timed, or those of another network are."""
    assert main(["train", "--out", str(tmp_path / "run"), "--set=training.epochs=1", "--set=network.hidden=[8]"]) == 0
    with pytest.raises(ConfigError, match="not that of the preset"):
        load_problem("recommended", tmp_path / "run")
    assert main(["benchmark", "--weights", str(tmp_path / "run")]) == 2
    assert "--task" in capsys.readouterr().err
