"""Tests of the tests: put one defect at a time into a copy of the package, and see which test notices.

    python scripts/mutate.py [--only WORD]

Every defect is one line that a tired author could have written (tests/defects.toml). Ends with code 1 if one survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = (  # the quickest first
    "tests/twins/test_twins.py",
    "tests/theory/test_oracles.py",
    "tests/theory/test_settling.py",
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
    options = parser.parse_args()
    survived, started = [], time.time()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "eqnp"
        for name in ("eqnp", "tests", "data", "scripts", "pyproject.toml", "README.md"):
            source = ROOT / name
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy / name)
        defects = tomllib.loads((ROOT / "tests" / "defects.toml").read_text("utf-8"))["defect"]
        chosen = [defect for defect in defects if options.only in defect["name"]]
        for number, defect in enumerate(chosen, start=1):
            caught = caught_by(copy, copy / "eqnp" / defect["file"], defect["right"], defect["wrong"], defect.get("by"))
            print(f"{number:2}/{len(chosen)} {defect['name']:32} {caught or 'SURVIVED'}", flush=True)
            if not caught:
                survived.append(defect["name"])
    print(f"{len(chosen) - len(survived)} of {len(chosen)} defects caught in {time.time() - started:.0f} s")
    return 1 if survived else 0


def caught_by(root: Path, path: Path, right: str, wrong: str, likely: str | None) -> str:
    """The first test that fails with the defect in place, or nothing; the ``likely`` file of tests is tried first."""
    original = path.read_text("utf-8")
    if original.count(right) != 1:
        raise SystemExit(f"{path.name}: {right!r} is there {original.count(right)} times; mend the list of defects")
    path.write_text(original.replace(right, wrong), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(root), "EQNP_HYPOTHESIS": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--numprocesses=0"]
    command += sorted(TESTS, key=lambda test: test != likely and not (likely or "").startswith(test + "/"))
    try:
        result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    finally:
        path.write_text(original, "utf-8")
    failures = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if result.returncode == 0:
        return ""
    if not failures:
        raise SystemExit(f"the tests did not run:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return failures[0].split(" - ")[0]


if __name__ == "__main__":
    sys.exit(main())
