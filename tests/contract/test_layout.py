"""The shape of the code: imports that go one way, small files, and public names that say what they are."""

import ast
import inspect
import re

import pytest

import eqnp
from tests.conftest import ROOT

PACKAGE = ROOT / "eqnp"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDERED = ("machine", "oracles", "testing", "runs", "app", "paper")  # packages with an order of their own
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
LAYOUT = CONTRIBUTING[CONTRIBUTING.index("Imports go one way") :].split("- **", maxsplit=1)[0]
ORDER = re.findall(r"`(\w+)`", LAYOUT.split("A file imports only")[0])
WITHIN = {name: re.findall(r"`(\w+)`", rest) for name, rest in re.findall(r"- within `(\w+)`:(.*)", LAYOUT)}
NO_KINDS = ("network", "dynamics", "steps", "acceleration", "learning", "contrasts", "graph", "oracles", "optim")
LENGTHS = {"learning.py": 260, "network.py": 260, "dynamics.py": 200}  # lines; others have 400
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def place_of(path) -> list[str]:
    """Where a file stands in the package: ["network"], ["runs", "loop"] or ["runs", "__init__"]."""
    return list(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path) -> list[list[str]]:
    """The places of all that a file imports from the package, inside functions and for type hints too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return [place_of(file_of(name)) for name in names if name.split(".")[0] == "eqnp"]


def file_of(name: str):
    """The file of a module, or the one that a name is imported from."""
    path = ROOT.joinpath(*name.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return file_of(name.rpartition(".")[0])


def calls(path) -> list[ast.Call]:
    """All calls in a file."""
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


def test_the_order_is_that_of_the_files():
    """If this fails, CONTRIBUTING.md names a file that is not there, or leaves one out."""
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert sorted(ORDER) == sorted(modules - {"__init__", "__main__", "presets"})
    assert set(WITHIN) == set(ORDERED)
    for name, order in WITHIN.items():
        files = {path.stem for path in (PACKAGE / name).glob("*.py")}
        assert sorted({"__init__", *order}) == sorted(files)
        assert len(set(order)) == len(order)


@every_file
def test_a_file_imports_only_from_those_before_it(path):
    """If this fails, the code can no longer be read from the bottom up."""
    own = place_of(path)[0]
    if own.startswith("__") or own == "presets":
        return
    for other, *_ in imported(path):
        assert other == own or ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent.name in ORDERED], ids=lambda p: str(p.relative_to(ROOT))
)
def test_a_file_of_a_package_imports_only_from_those_before_it(path):
    """If this fails, a package can no longer be read from the bottom up; an __init__ that is not listed comes first."""
    package, own = place_of(path)
    order = WITHIN[package] if "__init__" in WITHIN[package] else ["__init__", *WITHIN[package]]
    for other in imported(path):
        if other[0] == package:
            assert order.index(other[1]) < order.index(own), f"{own} imports {other[1]}"


@every_file
def test_files_are_small(path):
    """If this fails, a file does more than one thing."""
    if path != PACKAGE / "kernels" / "cpu.py":
        allowed = LENGTHS.get(str(path.relative_to(PACKAGE)), 400)
        lines = path.read_text("utf-8").count("\n")
        assert lines <= allowed, f"{lines} lines, of at most {allowed}"


@pytest.mark.parametrize(("name", "most"), [("estimate", 7), ("settle", 6)])
def test_calls_are_short(name, most):
    """If this fails, where a network runs is said again at every call, and not by its machine."""
    assert len(inspect.signature(getattr(eqnp, name)).parameters) <= most


@every_file
def test_only_machines_know_of_devices(path):
    """If this fails, what settles or learns has a second way for a device, which tests without one never take."""
    if place_of(path)[0] not in ("machine", "kernels"):
        assert not re.search(r"\bASYNCHRONOUS\b", path.read_text("utf-8"))


@pytest.mark.parametrize(
    "path", [path for path in FILES if place_of(path)[0] in NO_KINDS], ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_asks_for_the_kind_of_a_layer_or_synapse(path):
    """If this fails, a layer, synapse, potential or cost of somebody else's is not treated as the package's own."""
    for call in calls(path):
        if isinstance(call.func, ast.Name) and call.func.id == "isinstance":
            kinds = ast.unparse(call.args[1])
            assert set(re.findall(r"\w+", kinds)) <= {"RowGradient", "int", "str"}, f"line {call.lineno}: {kinds}"
        if isinstance(call.func, ast.Attribute):
            assert call.func.attr not in ("startswith", "endswith"), f"line {call.lineno} asks for a part of a name"


def test_public_names_are_documented():
    """If this fails, a reader of help() is left alone."""
    for name in eqnp.__all__:
        thing = getattr(eqnp, name)
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and not issubclass(thing, Exception):
            for member, value in vars(thing).items():
                if inspect.isfunction(value) and not member.startswith("_"):
                    assert inspect.getdoc(value), f"{name}.{member}"
        if inspect.isfunction(thing) and "raises" not in inspect.getdoc(thing).lower():
            raise AssertionError(f"{name} does not say what it raises")
