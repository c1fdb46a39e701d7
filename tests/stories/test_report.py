"""What a run looks like: the report in a real browser, explained predictions, `eqnp info` and `eqnp list`."""

import html
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from eqnp.app.cli import main
from eqnp.app.explain import explain
from eqnp.dynamics import settle
from eqnp.files import load
from eqnp.machine import Machine
from eqnp.runs.model import Model
from tests.browser import browser, needs_browser
from tests.runs import TRAIN, killed_after


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs on the embedded reviews, with a small gradient check beside them."""
    folder = tmp_path_factory.mktemp("report") / "run"
    assert main(["train", "--set=training.epochs=2", "--out", str(folder)]) == 0
    assert main(["check", str(folder), "--samples", "2", "--out", str(folder)]) == 0
    assert main(["report", str(folder), "this is <b>not</b> a bad film & I liked it"]) == 0
    return folder


def test_the_report_is_one_page_that_needs_nothing_else(run):
    """If this fails, the report cannot be mailed, or a section is missing, or a text can break the page."""
    page = (run / "report.html").read_text("utf-8")
    assert len(page) <= 3 * 2**20
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("<script") == 2  # the numbers of the text that settles, and what draws them
    titles = re.findall(r"<h2 id=\"s\d+\">(.*?)</h2>", page)
    assert len(titles) == 13
    assert re.findall(r"<a href=\"#s\d+\">(.*?)</a>", page) == titles
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == page.count("<img")
    assert all("Look" in caption or "look" in caption for caption in captions)
    assert len(re.findall("<img", page)) == len(list((run / "report").glob("*.png"))) + 1  # that of the check
    for image in (run / "report").glob("*.png"):
        assert image.read_bytes().startswith(b"\x89PNG")
    assert "&lt;" in page
    assert "<b>not</b> a bad" not in page
    accuracy = json.loads((run / "metrics.json").read_text())["accuracy"]["test"]
    assert f"{accuracy:.1%}" in page


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_a_strong_one_sided_nudge_is_shown_as_it_is(small, beta):
    """If this fails, a report or a check nudges by −β, where the output has no single minimum: −2 divides by zero."""
    learning = ["--set=learning.estimator=one-sided", f"--set=learning.beta={beta}"]
    assert main([*TRAIN, *learning, "--set=training.epochs=1", "--out", "run"]) == 0
    assert main(["check", "run", "--samples", "2", "--out", "run"]) == 0
    phases = json.loads(Path("run/check.json").read_text())["phases"]
    assert {kind: [phase["beta"] for phase in each] for kind, each in phases.items()} == {
        kind: [0.0, beta] for kind in ("accelerated", "even-odd", "synchronous")
    }
    assert all(np.isfinite(phase["energy"]).all() for each in phases.values() for phase in each)
    assert main(["report", "run"]) == 0
    page = re.sub(r"base64,[\w+/=]+", "", Path("run/report.html").read_text("utf-8"))
    assert f"β = {beta:g}" in page
    assert not re.search(r"\b(nan|inf)\b", page)


@needs_browser
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_opens_the_report_without_complaint(run, tmp_path, width):
    """If this fails, the page is broken where it is looked at, slow, too wide, or its contents scroll away."""
    with browser(tmp_path) as tab:
        tab.open(run / "report.html", width)
        took = tab.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        tab.open(run / "report.html", width)
        assert min(took, tab.run("performance.getEntriesByType('navigation')[0].loadEventEnd")) <= 1000
        assert tab.run("document.documentElement.scrollWidth") <= width
        picture = tmp_path / "page.png"
        picture.write_bytes(tab.picture(whole=True))
        tab.run("document.querySelectorAll('nav a')[6].click()")
        assert 0 <= tab.run("document.querySelectorAll('nav a')[6].getBoundingClientRect().top") < 900
        assert "Watch" in tab.run("document.querySelectorAll('h2')[6].textContent")
        assert -1 <= tab.run("document.querySelectorAll('h2')[6].getBoundingClientRect().top") < 200
        tab.run("scrollBy(0, 420)")
        places = "[nav, bar].map((each) => each.getBoundingClientRect())"
        found = "const [nav, bar] = ['nav', '.watch .bar'].map((name) => document.querySelector(name))"
        assert tab.run(f"{{ {found}; const [a, b] = {places}; b.top >= a.bottom - 1 || a.right <= b.left }}")
        before = tab.picture()
        tab.run("document.querySelector('[data-part=slider]').focus({preventScroll: true})")
        tab.press("ArrowRight", 39)
        assert "sweep 2" in tab.run("document.querySelector('[data-value=phase]').textContent")
        assert tab.picture() != before
        before, until = tab.picture(), time.monotonic() + 10
        tab.run("document.querySelector('[data-part=play]').click()")
        while "sweep 2" in tab.run("document.querySelector('[data-value=phase]').textContent"):
            assert time.monotonic() < until, "nothing is played"
        tab.run("document.querySelector('[data-part=play]').click()")
        assert tab.picture() != before
        assert (tab.said, tab.requests) == ([], [])
    from matplotlib.image import imread

    pixels = imread(picture)
    assert len(pixels) > 4000
    pixels = pixels[::4, ::4]
    assert np.std(pixels[..., :3]) > 0.05  # something is drawn
    assert np.std(pixels[..., :3], axis=-1).mean() < 0.1  # nearly all of it in greys


def test_explanations_join_to_the_text_and_share_out_the_attention(run):
    """If this fails, a word is shaded that has another's attention."""
    model = Model.load(run)
    text = "  Not a bad film, merely a zzzqq LONG one <br /> really!"
    (result,) = explain(model, {"text": [text]})
    pieces = result.pieces["text"]
    assert "".join(piece.text for piece in pieces) == text
    known = [piece for piece in pieces if piece.free is not None]
    assert [piece.text.lower() for piece in known][:3] == ["not", "a", "bad"]
    assert all("zzz" not in piece.text for piece in known)
    for phase in ("free", "nudged"):
        assert np.mean([getattr(piece, phase) for piece in known]) == pytest.approx(1, abs=2e-3)
    assert result.towards == result.prediction.label


@pytest.mark.parametrize(
    "text", ["a good film… bad", "½ … bad ½", "…", "film ﬁne", "e\u0301 not\u2026\u2026bad", "℀ bad"]
)
def test_characters_that_stand_for_several_words_stay_one_piece(run, text):
    """If this fails, an ellipsis comes back as three."""
    (result,) = explain(Model.load(run), {"text": [text]})
    assert "".join(piece.text for piece in result.pieces["text"]) == text


def test_a_report_of_odd_classes_and_texts(tmp_path, monkeypatch):
    """If this fails, a class name with a dollar sign or a tag breaks the report, or runs in it."""
    monkeypatch.chdir(tmp_path)
    names = ["$", "zz<img src=x>", "$$$"]
    rows = [{"text": f"$ w{i % 3} " + "long $ text " * (40 * (i % 2)), "label": names[i % 3]} for i in range(90)]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [
        "--set=vectors.dimension=4",
        "--set=training.epochs=1",
        "--set=data.ngrams=2",
        "--set=data.max_tokens=200",
    ]
    assert main(["train", "--data", "odd.jsonl", *settings, "--out", "run"]) == 0
    assert main(["report", "run"]) == 0
    assert "<img src=x>" not in (tmp_path / "run" / "report.html").read_text("utf-8")
    for name, content in (("log.jsonl", "{}"), ("log.jsonl", "[]"), ("metrics.json", "{}"), ("metrics.json", "1")):
        kept = (tmp_path / "run" / name).read_text()
        (tmp_path / "run" / name).write_text(content)
        assert main(["report", "run"]) == 2
        assert main(["info", "run"]) in (0, 2)
        (tmp_path / "run" / name).write_text(kept)
    (tmp_path / "run" / "log.jsonl").write_text("")
    assert main(["report", "run"]) == 0


def test_attention_explained_is_that_of_the_definition(run):
    """If this fails, what is shown is not what the network settles on."""
    model = Model.load(run, Machine("naive"))
    (result,) = explain(model, {"text": ["a truly bad film"]})
    split = model.encode({"text": ["a truly bad film"]})
    batch, _ = split.batch(np.arange(1))
    network = model.network
    x = network.clamp(batch)
    memory = x.tokens[network.attention[0].potential.memory][0].astype(np.float64)
    state = network.zero_state(x)
    settle(network, x, state, model.config.settling.for_nudge(model.config.learning.beta))
    logits = model.config.network.scale * state.drives["attention0"][0].astype(np.float64) @ memory.T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0) * len(memory)
    shown = [piece.free for piece in result.pieces["text"] if piece.free is not None]
    np.testing.assert_allclose(shown, expected, atol=2e-3)


def test_predict_explains_in_the_terminal_and_as_a_page(run, tmp_path, capsys):
    """If this fails, --explain marks nothing, or its page is broken by a text."""
    page = tmp_path / "why.html"
    assert main(["predict", str(run), "--explain", "--html", str(page), "not a bad film", "<i>superb</i> & zzz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"\w+\[\d\.\d\]", lines[0])
    content = page.read_text("utf-8")
    assert content.count('class="entry"') + content.count("class=entry") == 2
    assert html.escape("<i>") not in lines[1]
    assert "<i>superb" not in content
    assert main(["predict", str(run), "--html", str(page), "a film"]) == 2
    assert "--explain" in capsys.readouterr().err


def test_info_and_list(run, tmp_path, monkeypatch, capsys, small):
    """If this fails, nobody can tell what is in a run folder, or what there is to choose from."""
    assert main(["info", str(run), "--json"]) == 0
    about = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert about["state"] == "finished"
    assert about["parameters"] == sum(a.size for a in load(run / "model.h5", "model")[0].values())
    killed_after(tmp_path / "half", batches=3)
    assert main(["info", str(tmp_path / "half")]) == 0
    assert "--resume" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "half")]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "none")]) == 2
    assert "no run" in capsys.readouterr().err
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "imdb" in found["presets"]
    assert "mini-nli" in found["data"]
    assert TRAIN[1] in found["presets"]
