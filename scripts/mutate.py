"""Tests of the tests: put one defect at a time into a copy of the package, and see which test notices.

python scripts/mutate.py [--only WORD]  # ends with code 1 if a defect of tests/defects.toml, of one line each, survives
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("eqnp", "tests", "data", "scripts", "docs")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff")  # that tests look at
TESTS = (  # the quickest first
    "tests/twins/test_twins.py",
    "tests/theory/test_oracles.py",
    "tests/theory/test_settling.py",
    "tests/theory/test_memories.py",
    "tests/theory/test_locality.py",
    "tests/theory/test_padding.py",
    "tests/theory/test_gradients.py",
    "tests/theory/test_energy.py",
    "tests/theory/test_optim.py",
    "tests/theory/test_graph.py",
    "tests/theory/test_checkers.py",
    "tests/contract/test_ngrams.py",
    "tests/contract/test_resume.py",
    "tests/stories/test_extend.py",
    "tests/stories/test_train_and_use.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="defects whose name has this word")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the package that are tested at the same time")
    options = parser.parse_args()
    defects = tomllib.loads((ROOT / "tests" / "defects.toml").read_text("utf-8"))["defect"]
    chosen, started, own = [d for d in defects if options.only in d["name"]], time.time(), threading.local()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:

        def catch(defect: dict) -> str:
            if not hasattr(own, "copy"):
                own.copy = copied(Path(tempfile.mkdtemp(dir=folder)))
            test = caught_by(own.copy, **defect)
            print(f"{defect['name']:40} {test or 'SURVIVED'}", flush=True)
            return test

        caught = list(pool.map(catch, chosen))
    print(f"{sum(map(bool, caught))} of {len(chosen)} defects caught in {time.time() - started:.0f} s")
    return not all(caught)


def copied(folder: Path) -> Path:
    """A copy of all that the tests need."""
    for name in (*FOLDERS, *FILES):
        source, ignore = ROOT / name, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignore) if source.is_dir() else shutil.copy(source, folder / name)
    return folder


def caught_by(root: Path, name: str, file: str, right: str, wrong: str, by: str) -> str:
    """The first test that fails with the defect in place, or nothing; the file of tests ``by`` is tried first."""
    path = root / "eqnp" / file
    original = path.read_text("utf-8")
    if original.count(right) != 1:
        raise SystemExit(f"{name}: {right!r} is there {original.count(right)} times; mend the list of defects")
    path.write_text(original.replace(right, wrong), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(root), "EQNP_HYPOTHESIS": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--numprocesses=0"]
    try:
        command += [by, *(test for test in TESTS if test != by)]
        result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    finally:
        path.write_text(original, "utf-8")
    failures = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if result.returncode and not failures:
        raise SystemExit(f"the tests did not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return failures[0].split(" - ")[0] if failures else ""


if __name__ == "__main__":
    sys.exit(main())
