"""The shape of the code: imports that go one way, and public names that say what they are."""

import ast
import inspect
import re

import pytest

import eqnp
from tests.conftest import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
ORDER = re.findall(r"`(\w+)`", CONTRIBUTING[CONTRIBUTING.index("Imports go one way") :].split("A file imports only")[0])


def package_of(module: str) -> str:
    """The place in the order that a module of the package belongs to: its file, or its folder."""
    return module.split(".")[1]


def imported(path) -> set[str]:
    """What a file imports from the package when it is itself imported."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eqnp"):
            names |= {node.module} if node.module != "eqnp" else {f"eqnp.{alias.name}" for alias in node.names}
    return {package_of(name) for name in names}


@pytest.mark.parametrize("path", sorted((ROOT / "eqnp").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_from_those_before_it(path):
    """If this fails, the code can no longer be read from the bottom up."""
    own = path.relative_to(ROOT / "eqnp").parts[0].removesuffix(".py")
    if own.startswith("__") or own == "presets":
        return
    for other in imported(path) - {own}:
        assert ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"


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
