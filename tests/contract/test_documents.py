"""What the documents cite is there, and the code cites no document that its readers do not have."""

import ast
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("results", ROOT / "scripts" / "results.py")
results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(results)

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "data" / "README.md"]
UNIT = r"%|points|seconds?|minutes?|GiB|MiB|GFLOP/s|ms|times as fast"
MEASURED = re.compile(rf"\d[\d.,]*(?: to \d[\d.,]*)? ?(?:{UNIT})(?!\w)[^.;|]{{0,30}}")  # with what follows
DEFINED = re.compile(  # limits, and sizes of data: nothing that was measured
    r"^(95 % intervals|99 % precision|80 % or (more|greater)|10 points more|0\.1 %|4 % of (its training pairs|all))"
)

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


# --- the pages: links, length, figures, and one place for each text -------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Those of a page, outside of its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


def links(path: Path) -> list[str]:
    """What a page points to in this repository."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`(?!\])", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    """If this fails, a reader clicks and finds nothing: no such file, or no such heading in it."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_pages_are_linked_both_ways():
    """If this fails, a page is not found from the README, or there is no way back."""
    from_readme = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    for page in PAGES[1:]:
        assert page in from_readme, page
        assert "../README.md" in links(page), page


def test_the_readme_is_short():
    """If this fails, the README is no longer read to its end; a page of docs/ is the place for more."""
    assert len(README.read_text("utf-8").split()) <= 1300


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_figures_are_those_of_their_records(page):
    """If this fails, run `python scripts/results.py`: a page says another figure than the record of its run."""
    text = page.read_text("utf-8")
    assert results.filled(text) == text
    places = [*results.PLACE.finditer(text)]
    assert len(places) == text.count("<!--= ") == text.count("<!--/-->")
    # In Markdown a comment at the start of a line ends a paragraph: only what is a block of its own may stand there.
    assert [place[2] for place in places if (place[3][0] == "\n") != (text[place.start() - 1] == "\n")] == []


def test_figures_change_with_their_records(monkeypatch):
    """If this fails, the test above would pass whatever a page says."""
    text = README.read_text("utf-8")
    kept = results.records
    monkeypatch.setattr(results, "records", lambda name: [{**run, "best_epoch": -1} for run in kept(name)])
    assert "(epoch -1, chosen on validation)" in results.filled(text)
    wrong = re.sub(r"\| \*\*(\d)", r"| **9\1", text)
    monkeypatch.undo()
    assert results.filled(wrong) == text != wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_no_figure_is_without_a_record(page):
    """If this fails, a page has a measured figure that no record holds: give it one, or make it dated history."""
    text = results.PLACE.sub("", page.read_text("utf-8"))
    text = re.sub(r"<!-- \w+ -->.*?<!-- end -->", "", text, flags=re.DOTALL)  # put in by scripts/paper.py
    text = re.sub(r"^## Measured on the way.*?(?=^## |\Z)|^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    assert [figure for figure in MEASURED.findall(" ".join(text.split())) if not DEFINED.search(figure)] == []


def test_no_page_repeats_another():
    """If this fails, a sentence stands in two places, and will be mended in one of them."""
    seen: dict[str, str] = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```|^\|.*$|<!--.*?-->", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for sentence in re.split(r"(?<=[.:;])\s+|\n\n", text):
            plain = " ".join(sentence.split())
            if len(plain.split()) >= 8:
                assert seen.setdefault(plain, page.name) == page.name, f"{page.name} and {seen[plain]}: {plain}"


def test_what_was_tried_is_what_the_records_were_made_on():
    """If this fails, the README says of a system that nothing was tried on it, or the other way round."""
    records = [json.loads(path.read_text("utf-8")) for path in (ROOT / "docs" / "results").rglob("*.json")]
    made_on = [record.get("metrics", record).get("environment") for record in records]
    made_on = [each for each in made_on if each]
    assert len(made_on) > 60
    assert {each["machine"] for each in made_on} == {"Linux x86_64"}
    found = {(each["python"].rpartition(".")[0], each.get("device", "cpu").split(",")[0]) for each in made_on}
    assert found == {("3.11", "cpu"), ("3.12", "NVIDIA H200")}
    text = " ".join(README.read_text("utf-8").split())
    assert "Linux on x86-64 with Python 3.11, and nothing else" in text
    assert "an NVIDIA H200 and Python 3.12" in text


def test_a_release_can_be_cited():
    """If this fails, CITATION.cff names another version than the package has, or the changelog has no place for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert (ROOT / "eqnp" / "py.typed").is_file()
