"""What the documents cite is there, and the code cites no document that its readers do not have."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

THEORY = (ROOT / "docs" / "theory.md").read_text("utf-8")
CITATION = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FACTS = dict(re.findall(r"^### Fact (\d+)\. (.*?)(?=^##|\Z)", THEORY, flags=re.MULTILINE | re.DOTALL))
FILES = sorted(
    path
    for part in ("eqnp", "tests", "scripts", "docs", "README.md", "CONTRIBUTING.md")
    for path in ([ROOT / part] if (ROOT / part).is_file() else (ROOT / part).rglob("*"))
    if path.is_file() and "__pycache__" not in path.parts
)
ELSEWHERE = re.compile(r"\bdesign,?\s+(section|facts?)\b|\bDESIGN\.md\b", re.IGNORECASE)


def names_in(path: Path) -> set[str]:
    """The names of the tests of a file, which is not imported."""
    body = ast.parse(path.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def matches(pattern: re.Pattern) -> list[tuple[str, re.Match]]:
    """Every match in the files of the repository that people read, with its file and line."""
    found = []
    for path in FILES:
        text = path.read_text("utf-8", errors="replace")
        for match in pattern.finditer(text):
            line = 1 + text.count("\n", 0, match.start())
            found.append((f"{path.relative_to(ROOT)}:{line}", match))
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(CITATION.findall(THEORY))))
def test_every_cited_test_exists(file, name):
    """If this fails, a reader looks for the proof of a fact and does not find it."""
    assert (ROOT / file).is_file(), file
    assert name in names_in(ROOT / file)


def test_every_citation_is_seen():
    """If this fails, a citation is written in a way that the test above overlooks."""
    assert len(CITATION.findall(THEORY)) == THEORY.count("::") > 0


def test_every_fact_has_a_test():
    """If this fails, docs/theory.md claims what nothing checks, or two facts have one number."""
    assert list(FACTS) == [str(n) for n in range(1, 1 + len(re.findall(r"^#+ Fact ", THEORY, flags=re.MULTILINE)))]
    assert [n for n, text in FACTS.items() if not CITATION.search(text)] == []


def test_cited_facts_exist():
    """If this fails, a docstring sends its reader to a fact that docs/theory.md does not have."""
    cited = matches(re.compile(r"docs/theory\.md,\s+facts?\s+(\d+)(?:\s+and\s+(\d+))?"))
    assert [where for where, match in cited if not {n for n in match.groups() if n} <= FACTS.keys()] == []


def test_no_document_is_cited_that_readers_do_not_have():
    """If this fails, a docstring sends its reader to a page that is not in this repository; cite docs/theory.md."""
    assert [where for where, _ in matches(ELSEWHERE)] == []
