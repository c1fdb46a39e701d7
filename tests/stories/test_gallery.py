"""The recipes of the gallery run, print what the page says, and draw what it shows."""

import importlib.util
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from eqnp.app import charts
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "gallery.md").read_text("utf-8")
PICTURES = ROOT / "docs" / "gallery"
spec = importlib.util.spec_from_file_location("gallery", ROOT / "scripts" / "gallery.py")
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)
RECIPES = list(gallery.RECIPES)
every_recipe = pytest.mark.parametrize("name", RECIPES)
SVG = "{http://www.w3.org/2000/svg}"


def printed(name: str) -> str:
    """What the page says that a recipe prints."""
    part = PAGE.split(f"\n## {RECIPES.index(name) + 1}. ")[1].split("\n## ")[0]
    return re.findall(r"```text\n(.*?)\n```", part, flags=re.DOTALL)[-1]


def words(text: str) -> str:
    """A text without its numbers, and the blanks around them."""
    return re.sub(r"\s*[+−-]?\d[\d.,e]*(?:[-+]\d+)?%?\s*", " # ", text)


def texts(svg: str) -> set[str]:
    """What is written in a picture, but for numbers."""
    found = {each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    return {words(text) for text in found if not re.fullmatch(r"[−\d.e⁻⁰¹²³⁴⁵⁶⁷⁸⁹+]+", text)}


@every_recipe
def test_recipes_are_short(name):
    """If this fails, a student no longer reads a recipe in one sitting."""
    lines = len((ROOT / "scripts" / f"{name}.py").read_text("utf-8").splitlines())
    assert lines <= 100 if name == "ep" else lines < 60


@every_recipe
def test_the_page_is_that_of_the_recipes(name):
    """If this fails, a recipe was changed, and the page tells of the one before: python scripts/gallery.py."""
    assert gallery.section(name, printed(name)) in PAGE
    picture = (PICTURES / f"{name}.svg").read_text("utf-8")
    assert len(picture) < 40_000
    assert texts(picture)


def test_the_page_has_no_more():
    """If this fails, a picture lies about that no recipe draws, or a recipe is not told of."""
    assert PAGE.startswith(gallery.HEAD)
    assert {path.stem for path in PICTURES.iterdir()} == set(RECIPES)
    assert re.findall(r"^## \d+\. (.*)$", PAGE, flags=re.MULTILINE) == list(gallery.RECIPES.values())


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "ep"])  # which has tests of its own
def test_a_recipe_prints_and_draws_what_the_page_shows(name, tmp_path):
    """If this fails, who runs a recipe sees something else than the page promises."""
    command = [sys.executable, ROOT / "scripts" / f"{name}.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    shown, expected = result.stdout.strip(), printed(name)
    if name == "train":  # which words speak most may be others on another machine
        shown, expected = (text.rpartition(": ")[0] for text in (shown, expected))
    assert words(shown) == words(expected)
    assert texts((tmp_path / f"{name}.svg").read_text("utf-8")) == texts((PICTURES / f"{name}.svg").read_text("utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.svg"} | (
        {"train.html"} if name == "train" else set()
    )
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", result.stdout)]
    if name == "synapse":  # update and slope at β = 0.002
        assert numbers[-2] == pytest.approx(numbers[-1], abs=1e-5)
    elif name == "sweeps":  # rises of even–odd and accelerated sweeps
        rises = re.findall(r"rise (\S+)", result.stdout)
        assert max(map(float, rises[:2])) <= 1e-12
    elif name == "locality":
        assert "weights" not in result.stdout
        assert "drives" not in result.stdout
        assert result.stdout.count("\n") == 8
    elif name == "check_gradients":
        of = {
            line.split()[0]: [float(e) for e in re.findall(r": (\S+)", line)] for line in result.stdout.splitlines()[1:]
        }
        assert (
            of["one-sided"][-1] > 10 * of["symmetric"][-1] > 100 * of["richardson"][-1] > 1000 * of["holomorphic"][-1]
        )
    elif name == "own_layer":
        assert max(numbers[1:3]) < 1
        assert "off by 0.10%" in result.stdout


# ---- the charts ------------------------------------------------------------------------------------------------------


def drawn(tmp_path, *panels) -> ElementTree.Element:
    """A picture, read back."""
    charts.save(tmp_path / "drawn.svg", *panels)
    return ElementTree.parse(tmp_path / "drawn.svg").getroot()


@pytest.mark.parametrize("log", [False, True])
def test_a_curve_goes_where_its_numbers_are(tmp_path, log):
    """If this fails, a picture is upside down, or bends what is straight on its axes."""
    x = np.array([1.0, 10, 100, 1000])
    y = x**2 if log else 5 - 2 * x
    root = drawn(tmp_path, charts.lines({"a": (x, y)}, "a <title> & more", "x", log_x=log, log_y=log))
    points = np.array([pair.split(",") for pair in root.find(f".//{SVG}polyline").get("points").split()], float)
    steps = np.diff(points, axis=0)
    assert (steps[:, 0] > 0).all()
    assert (steps[:, 1] < 0).all() if log else (steps[:, 1] > 0).all()  # down is more, in a picture
    slopes = steps[:, 1] / steps[:, 0]
    np.testing.assert_allclose(slopes, slopes[0], atol=0.02)
    assert points[:, 0].min() >= charts.LEFT
    assert "a <title> & more" in {each.text for each in root.iter(f"{SVG}text")}


def test_what_a_logarithmic_axis_cannot_show_is_left_out(tmp_path):
    """If this fails, an energy at its minimum, which is 0 above it, ends the recipe in a warning or a NaN."""
    curve = ([1, 2, 3, 4], [1.0, 0.1, 0.0, np.nan])
    root = drawn(tmp_path, charts.lines({"a": curve, "b": curve}, "t", "x", log_y=True))
    assert [len(each.get("points").split()) for each in root.iter(f"{SVG}polyline")] == [2, 2]
    assert "nan" not in (tmp_path / "drawn.svg").read_text()


def test_a_square_has_the_size_and_sign_of_its_number(tmp_path):
    """If this fails, a reader takes a weakened synapse for a strengthened one, or a small number for a large one."""
    root = drawn(tmp_path, charts.squares(np.array([[4.0, -1.0, 0.0]]), ["row"], ["a", "b", "c"], "t"))
    full, hollow = (each for each in root.iter(f"{SVG}rect") if each.get("x"))
    assert float(full.get("width")) == pytest.approx(2 * float(hollow.get("width")))
    assert full.get("fill") == charts.INK
    assert (hollow.get("fill"), hollow.get("stroke")) == ("none", charts.INK)


def test_panels_stand_side_by_side(tmp_path):
    """If this fails, one picture lies upon another."""
    panel = charts.lines({"a": ([0, 1], [0, 1])}, "t", "x", width=300)
    root = drawn(tmp_path, panel, panel)
    assert [each.get("transform") for each in root.findall(f"{SVG}g")] == ["translate(0,0)", "translate(300,0)"]
    assert root.get("width") == "600"
