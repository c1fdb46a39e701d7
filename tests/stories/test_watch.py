"""A network that one can watch: what a page of `eqnp watch` shows is what `settle` did, and a browser moves it."""

import json
import re
import time
from itertools import chain

import numpy as np
import pytest

from eqnp import Nudge, SequenceClassifier, Trace, estimate, one_hot, settle
from eqnp.app.cli import main
from eqnp.app.player import page, section
from eqnp.app.watch import WORDS, network_of, record
from eqnp.errors import CheckpointError, DataError
from eqnp.machine import Machine
from eqnp.runs.model import Model
from tests.browser import browser, needs_browser
from tests.runs import said

TEXT = "this is not a bad film at all , and the plot is never dull"
LONG = " ".join([TEXT] * 12)
WEATHER = [f"{'hot sun and fire' if i % 2 else 'cold ice and snow'} in week {i % 7}" for i in range(24)]
CLASSES = ["hot", "cold"] * 12
SMALL = {"vectors.dimension": 6, "training.min_updates": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One epoch on the embedded reviews."""
    folder = tmp_path_factory.mktemp("watch") / "run"
    assert main(["train", "--set=training.epochs=1", "--threads=1", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def model(run):
    """Its model."""
    return Model.load(run, Machine("naive"))


def small(preset: str, **settings) -> Model:
    """A model that has seen one small batch."""
    X = list(zip(WEATHER, WEATHER[1:] + WEATHER[:1], strict=True)) if "nli" in preset else WEATHER
    given = {**SMALL, **{key.replace("__", "."): value for key, value in settings.items()}}
    return SequenceClassifier(preset, settings=given, random_state=0).partial_fit(X, CLASSES).model_


def texts_for(model: Model, text: str) -> dict[str, str]:
    """One text in every segment of a model, in another order in each."""
    words = text.split()
    return {name: " ".join(words[i:] + words[:i]) for i, name in enumerate(model.config.data.columns)}


def settled(model: Model, texts: dict[str, str], towards: str, beta: float):
    """Network, clamped batch, and the traces of the free phase and of one nudged by β."""
    network, settling = network_of(model), model.config.settling.for_nudge(model.config.learning.beta)
    split = model.encode({name: [text] for name, text in texts.items()})
    batch, _ = split.batch(np.arange(1))
    x, free, nudged = network.clamp(batch), Trace(), Trace()
    state = network.zero_state(x)
    settle(network, x, state, settling, trace=free)
    target = one_hot(np.array([model.classes.index(towards)]), network)
    settle(network, x, state, settling, Nudge(beta, target), nudged)
    return network, x, batch, target, (free, nudged)


# ---- what is recorded ------------------------------------------------------------------------------------------------


def test_a_recording_is_the_trace_of_settle(model):
    """If this fails, what is watched is not what the network does: energies, residuals, states and attention."""
    recording = record(model, {"text": TEXT}, towards="negative")
    network, x, _, _, traces = settled(model, {"text": TEXT}, "negative", 0.1)
    assert next(iter(recording.nudged)) == "negative"
    memory = x.tokens[network.attention[0].potential.memory][0]
    for trace, phase in zip(traces, (recording.free, recording.nudged["negative"][0]), strict=True):
        np.testing.assert_allclose(phase.energy, np.concatenate(trace.energy), atol=1e-12)
        np.testing.assert_allclose(phase.residual, np.concatenate(trace.residual), atol=1e-12)
        assert len(phase.sweeps) == len(trace.energy)
        np.testing.assert_allclose(phase.states["output"], [each["output"][0] for each in trace.states], atol=1e-12)
        for shown, states in zip(phase.attention["attention0"], trace.states, strict=True):
            np.testing.assert_allclose(shown[1:] @ memory, states["attention0"][0], atol=1e-9)  # s = A X
            np.testing.assert_allclose(shown[0], shown[1:].mean(axis=0), atol=1e-12)
            np.testing.assert_allclose(shown.sum(axis=1), 1, atol=1e-9)
    assert recording.slots["attention0"] == TEXT.split()[: len(recording.slots["attention0"])] or recording.notes


def test_sweeps_end_between_blocks_where_settle_does(model):
    """If this fails, the page counts other sweeps than `settle`, whose phases may end after half of one."""
    recording = record(model, {"text": TEXT})
    for phase in chain([recording.free], *recording.nudged.values()):
        assert phase.sweeps[-1] in (len(phase.sweeps), len(phase.sweeps) - 0.5)
        assert (phase.sweeps[:-1] == np.arange(1, len(phase.sweeps))).all()


KINDS = [
    ("mini-sentiment", {"network__hidden": [5]}),
    (
        "mini-sentiment",
        {"network__output_activation": "clipped", "network__activation": "tanh", "network__hidden": [5]},
    ),
    ("mini-sentiment", {"learning__estimator": "one-sided"}),
    ("mini-sentiment", {"learning__estimator": "other-side"}),
    ("mini-sentiment", {"learning__estimator": "richardson"}),
    ("mini-sentiment", {"learning__estimator": "holomorphic", "network__activation": "tanh", "network__hidden": [5]}),
    ("mini-nli", {"network__compare": 5, "network__hidden": [4]}),
    ("text", {}),
    ("imdb-paper", {"network__hidden": [9, 5], "data__max_tokens": 12, "settling__free_sweeps": 6}),
    ("snli-paper", {"network__hidden": [9], "data__max_tokens": 12, "settling__nudged_sweeps": 4}),
]


@pytest.mark.parametrize(("preset", "settings"), KINDS, ids=[f"{preset} {settings}" for preset, settings in KINDS])
def test_an_update_is_the_estimate_of_the_gradient(preset, settings):
    """If this fails, the update at a clicked synapse is not what training makes of it: sign, coefficient or unit."""
    model = small(preset, **settings)
    texts = texts_for(model, "hot sun and snow in week 3")
    recording = record(model, texts, towards="cold")
    network, _, batch, target, _ = settled(model, texts, "cold", model.config.learning.beta)
    learning = model.config.learning.on_the_line()
    expected = estimate(network, batch, target, learning, model.config.settling).gradients
    assert {each.parameter for each in recording.synapses} >= {"output.weight", "output.bias"}
    for each in recording.synapses:
        ends, (post, pre) = each.ends["cold"], each.units
        whole = expected[each.parameter].reshape(each.size[0], -1)
        np.testing.assert_allclose(ends.update, -whole[np.ix_(post, pre)], rtol=1e-6, atol=1e-9)
        assert len(each.post) == len(post) == ends.post.shape[2]
        assert len(each.pre) == len(pre) == ends.pre.shape[2]
        assert len(each.rows) == ends.post.shape[1]
        products = [post.T @ pre for post, pre in zip(ends.post, ends.pre, strict=True)]
        np.testing.assert_allclose(ends.products, products, atol=1e-12)
    assert page(recording, "x")


def test_the_synapses_shown_are_those_that_learn_most(model):
    """If this fails, a reader looks at synapses that do not learn, and the ones that do are left out."""
    recording = record(model, {"text": TEXT})
    into_output = next(each for each in recording.synapses if each.parameter == "output.weight")
    network, _, batch, target, _ = settled(model, {"text": TEXT}, "positive", 0.1)
    whole = estimate(network, batch, target, model.config.learning, model.config.settling).gradients["output.weight"]
    strongest = np.argsort(-np.linalg.norm(whole, axis=0))[: len(into_output.pre) // 2]
    assert set(strongest) <= set(into_output.units[1])


def test_several_labels_can_be_watched(tmp_path):
    """If this fails, a run whose texts have several labels has no page."""
    y = [["hot"], ["cold"], ["hot", "cold"], []] * 6
    settings = {**SMALL, "training.refit": False}
    clf = SequenceClassifier("text", settings=settings, epochs=1, random_state=0).fit(WEATHER, y)
    path = clf.watch("hot sun in week 3", tmp_path / "several.html", towards="cold")
    assert path.read_text("utf-8").count('class="watch"') == 1
    (prediction,) = clf.model_.predict({"text": ["hot sun in week 3"]})
    alone = prediction.labels == (prediction.label,)
    assert f"{'prediction is' if alone else 'score is that of'} {prediction.label}" in path.read_text("utf-8")


# ---- its limits ------------------------------------------------------------------------------------------------------


def test_a_page_is_small(model):
    """If this fails, a page cannot be mailed, or a long text makes one that no browser likes, or is cut in silence."""
    recording = record(model, {"text": LONG})
    assert len(page(recording, "x").encode()) <= 400_000
    longest = model.config.data.max_tokens
    assert len(recording.slots["attention0"]) == longest < WORDS
    left, (read,) = re.search(r"The last (\d+) words", recording.notes[0]), recording.texts.values()
    assert LONG.startswith(read)
    assert len(LONG.split()) - len(read.split()) == int(left.group(1)) > 0


@pytest.mark.parametrize(("preset", "positions"), [("imdb-paper", 150), ("snli-paper", 25)])
def test_pages_of_the_papers_networks_are_cut_to_size(preset, positions):
    """If this fails, a page of a network whose tokens query, with 25 to 60 sweeps a phase, has tens of megabytes."""
    model = small(preset, data__max_tokens=positions)
    texts = {name: " ".join([WEATHER[0], WEATHER[1]] * 20) for name in model.config.data.columns}
    recording = record(model, texts)
    content = page(recording, "x")
    assert 200_000 <= len(content.encode()) <= 4_000_000
    assert "left out here" in content
    assert len(recording.free.energy) == model.config.settling.free_sweeps
    assert max(map(len, recording.slots.values())) <= WORDS


def test_five_classes_are_nudged_towards_at_most():
    """If this fails, a run of 77 classes settles for minutes, and its page has no end."""
    names = [f"k{i}" for i in range(9)]
    X, y = [f"word{i % 9} and more" for i in range(36)], [names[i % 9] for i in range(36)]
    model = SequenceClassifier("mini-sentiment", settings=SMALL, random_state=0).partial_fit(X, y).model_
    recording = record(model, {"text": "word3 and more"}, towards="k7")
    assert len(recording.nudged) == 5
    assert next(iter(recording.nudged)) == "k7"
    assert len(recording.units["output"]) == 9


def test_the_command_says_what_it_wrote(run, tmp_path, capsys):
    """If this fails, who runs `eqnp watch` does not find the page, or a program cannot."""
    found, shown = said(capsys, "watch", run, TEXT, "--towards", "positive", "--out", tmp_path / "page.html")
    assert (found["watch"], found["classes"]) == (str(tmp_path / "page.html"), ["positive", "negative"])
    assert f"{tmp_path}/page.html" in shown
    assert "</html>" in (tmp_path / "page.html").read_text("utf-8")


def test_mistakes_are_told_in_one_line(run, model, tmp_path, capsys):
    """If this fails, a page is written that shows nothing, or an older one is lost to a mistake."""
    with pytest.raises(DataError, match="no word of it is known"):
        record(model, {"text": "zzzq"})
    with pytest.raises(DataError, match="did you mean 'positive'"):
        record(model, {"text": TEXT}, towards="positiv")
    with pytest.raises(CheckpointError, match="no such run"):
        Model.load(tmp_path / "none")
    kept = tmp_path / "kept.html"
    kept.write_text("old")
    for wrong in (["zzzq"], [TEXT, TEXT], ["bad", "--towards", "good"]):
        assert main(["watch", str(run), *wrong, "--out", str(kept)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert kept.read_text() == "old"
    with pytest.raises(SystemExit, match="2"):
        main(["watch", str(run)])
    assert "TEXT is missing" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_texts_and_classes_cannot_break_the_page():
    """If this fails, a class called </script> runs in the browser of whoever opens the page."""
    X, y = WEATHER, ["</script><img src=x onerror=alert(1)>", "$<b>"] * 12
    model = SequenceClassifier("mini-sentiment", settings=SMALL, random_state=0).partial_fit(X, y).model_
    content = page(record(model, {"text": "hot <script>alert(1)</script> sun"}), "<title>")
    assert content.count("<script") == 2  # the numbers, and what draws them
    assert "<img" not in content
    assert "<b>" not in content
    held = json.loads(re.search(r'<script type="application/json">(.*?)</script>', content).group(1))
    assert set(held["classes"]) == set(y)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", content)


# ---- in a browser ----------------------------------------------------------------------------------------------------

SHOWN = """(() => { const watch = document.querySelector(".watch");
  watch.querySelector("details").open = true;
  watch.querySelector("[data-part=slider]").value = FRAME;
  watch.querySelector("[data-part=slider]").dispatchEvent(new Event("input"));
  const read = (text) => Number(text.replace("\u2212", "-"));
  return new Promise((done) => setTimeout(() => done({
    energy: read(watch.querySelector("[data-value=energy]").textContent),
    residual: read(watch.querySelector("[data-value=residual]").textContent),
    phase: watch.querySelector("[data-value=phase]").textContent,
    output: [...watch.querySelectorAll("[data-value^=output]")].map((each) => read(each.textContent)),
    attention: [...watch.querySelectorAll("[data-table='attention0: attention'] tbody tr")].map(
      (row) => [...row.querySelectorAll("td")].map((cell) => read(cell.textContent))),
    update: read(watch.querySelector("[data-value=update]").textContent),
    ends: [...watch.querySelectorAll("[data-part=product] tbody tr")].map(
      (row) => [...row.querySelectorAll("td")].map((cell) => read(cell.textContent))),
  }), 50)); })()"""
CONTRAST = """(() => { const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map((v) => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const back = (node) => { for (let n = node; n; n = n.parentElement) {
    const c = getComputedStyle(n).backgroundColor; if (!/, 0\\)$/.test(c)) return c; } return "rgb(255,255,255)"; };
  return Math.min(...[...document.querySelectorAll(".watch p, .watch h3, .watch button, .watch select, .watch .where")]
    .map((node) => { const [a, b] = [light(getComputedStyle(node).color), light(back(node))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); })()"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """A tab of a browser."""
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(scope="module")
def watched(run):
    """The page of a text."""
    assert main(["watch", str(run), TEXT, "--towards", "negative"]) == 0
    return run / "watch.html"


@needs_browser
def test_the_numbers_in_the_browser_are_those_of_the_trace(tab, watched, model):
    """If this fails, a reader sees other numbers than the network had: at three sweeps, one in each phase."""
    tab.open(watched, 1200)
    recording = record(model, {"text": TEXT}, towards="negative")
    every = [recording.free, *recording.nudged["negative"]]
    places = np.cumsum([0, *(len(phase.energy) for phase in every)])
    for k, i in ((0, 0), (1, 1), (2, -1)):
        phase, sweep = every[k], range(len(every[k].energy))[i]
        shown = tab.run(SHOWN.replace("FRAME", str(places[k] + sweep)))
        assert f"sweep {phase.sweeps[sweep]:g} of {phase.sweeps[-1]:g}" in shown["phase"]
        assert shown["energy"] == pytest.approx(phase.energy[sweep], abs=1e-6)
        assert shown["residual"] == pytest.approx(phase.residual[sweep], abs=1e-6)
        assert shown["output"] == pytest.approx(phase.states["output"][sweep], abs=1e-6)
        np.testing.assert_allclose(shown["attention"], phase.attention["attention0"][sweep], atol=1e-6)
    into_output, ends = recording.synapses[0], recording.synapses[0].ends["negative"]
    assert abs(shown["update"]) == pytest.approx(np.abs(ends.update).max(), abs=1e-6)
    h, k = np.unravel_index(np.abs(ends.update).argmax(), ends.update.shape)
    for row, post, pre in zip(shown["ends"], ends.post, ends.pre, strict=True):
        assert row[:3] == pytest.approx([post[0, h], pre[0, k], post[0, h] * pre[0, k]], abs=1e-6)
    assert into_output.parameter == "output.weight"


@needs_browser
def test_slider_play_class_and_synapse_move_the_picture(tab, watched):
    """If this fails, a control of the page does nothing, or it says something on the console, or asks for a file."""
    tab.open(watched, 1200)
    first = tab.picture()
    assert tab.picture() == first  # so that what follows means something
    tab.run("document.querySelector('[data-part=slider]').focus()")
    tab.press("ArrowRight", 39)
    slid = tab.picture()
    assert slid != first
    assert "sweep 2 of" in tab.run("document.querySelector('[data-part=slider]').getAttribute('aria-valuetext')")
    tab.run("document.querySelector('[data-part=play]').click()")
    until = time.monotonic() + 20
    while tab.run("document.querySelector('[data-part=slider]').value") == "1" and time.monotonic() < until:
        time.sleep(0.1)
    assert tab.picture() != slid
    assert "Pause" in tab.run("document.querySelector('[data-part=play]').textContent")
    tab.run("document.querySelector('[data-part=play]').click()")
    update = "document.querySelector('[data-value=update]').textContent"
    phase = "document.querySelector('[data-value=phase]').textContent"
    before = tab.run(update)
    tab.run("[...document.querySelectorAll('[data-cell]')].at(-1).dispatchEvent(new Event('click'))")
    clicked = tab.run(update)
    assert clicked != before
    tab.run("document.querySelector('[data-part=update] svg').focus()")
    tab.press("ArrowLeft", 37)
    assert tab.run(update) != clicked
    pick = "const c = document.querySelector('[data-part=%s]'); c.value = %d; c.dispatchEvent(new Event('change'))"
    tab.run(f"{{ {pick % ('class', 1)} }}")
    tab.run("document.querySelectorAll('[data-part=jumps] button')[1].click()")
    assert "towards positive" in tab.run(phase)
    tab.run(f"{{ {pick % ('bundle', 2)} }}")
    assert tab.run("document.querySelector('[data-part=post]').options.length") > 2
    assert (tab.said, tab.requests) == ([], [])


@needs_browser
@pytest.mark.parametrize("width", [1200, 400])
def test_it_can_be_read_at_both_widths_in_light_and_dark(tab, watched, width):
    """If this fails, a phone scrolls sideways, or grey stands on grey."""
    pictures = []
    for dark in (False, True):
        tab.open(watched, width, dark=dark)
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run(CONTRAST) >= 4.5
        unnamed = "[...document.querySelectorAll('button, select, input')].filter((each) => !(each.labels?.length"
        assert tab.run(f"{unnamed} || each.textContent || each.ariaLabel)).length") == 0
        pictures.append(tab.picture())
    assert pictures[0] != pictures[1]
    assert (tab.said, tab.requests) == ([], [])


@needs_browser
def test_long_names_and_texts_stay_within_a_phone(tab, tmp_path):
    """If this fails, the name of a class pushes the slider off the screen."""
    y = ["a class with a name that is much longer than a phone is wide", "b" * 70] * 12
    classifier = SequenceClassifier("text", settings={**SMALL, "network.hidden": [60]}, random_state=0)
    path = classifier.partial_fit(WEATHER, y).watch(" ".join(WEATHER[:2] * 6), tmp_path / "long.html")
    tab.open(path, 400)
    assert tab.run("document.documentElement.scrollWidth") <= 400
    tab.run("document.querySelector('details').open = true")
    assert tab.run("document.documentElement.scrollWidth") <= 400
    assert (tab.said, tab.requests) == ([], [])


def test_a_section_needs_the_style_and_script_of_its_page(model):
    """If this fails, a report holds the script once for each text, or numbers that its script cannot read."""
    part = section(record(model, {"text": "a bad film"}))
    assert part.count("<script") == 1
    assert "<style" not in part
