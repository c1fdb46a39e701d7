"""Tests of the tests: put one defect at a time into a copy of the package, and see which test notices.

    python scripts/mutate.py [--only WORD]

Every defect is one line that a tired author could have written. Ends with code 1 if a defect survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = (  # the quickest first
    "tests/twins",
    "tests/theory/test_oracles.py",
    "tests/theory/test_settling.py",
    "tests/theory/test_locality.py",
    "tests/theory/test_padding.py",
    "tests/theory/test_gradients.py",
    "tests/theory/test_energy.py",
    "tests/stories/test_train_and_use.py",
)
DEFECTS = {  # what is wrong: file, the line's part that is right, what stands there instead
    "sign of the update": ("learning.py", "for _, c in plan]) / -len(target)", "for _, c in plan]) / len(target)"),
    "missing 1/2 of the loss": ("network.py", "(difference * difference).sum(axis=1) / 2",
                                "(difference * difference).sum(axis=1)"),
    "missing 1/(2β)": ("learning.py", "((beta, 1 / (2 * beta)), (-beta, -1 / (2 * beta)))", "((beta, 1), (-beta, -1))"),
    "one-sided for symmetric": ("learning.py", '"symmetric": _symmetric', '"symmetric": _one_sided'),
    "Richardson's weights": ("learning.py", "2 / (3 * beta), -1 / (12 * beta)", "2 / (3 * beta), -1 / (6 * beta)"),
    "half circle counted once": ("learning.py", "1 if k in (0, points / 2) else 2", "1 if k in (0, points / 2) else 1"),
    "keys are not values": ("kernels/cpu.py", "np.dot(block, stored[:m], ret", "np.dot(block, 1.01 * stored[:m], ret"),
    "scale left out": ("kernels/cpu.py", "math.exp(scale * (out[i, j] - peak))", "math.exp(out[i, j] - peak)"),
    "dropped mask": ("network.py", "slots = np.asarray(segments[attention.memory].lengths, np.int64)",
                     "slots = np.full(len(memory), memory.shape[1])"),
    "inverted padding": ("network.py",
                         "np.zeros_like(slots) if masked else", "np.zeros_like(slots) if not masked else"),
    "transposed projection": ("synapses.py",
                              "np.matmul(flat_tokens, weight.T, out", "np.matmul(flat_tokens, weight, out"),
    "dropped feedback": ("network.py", "if above and state.states[above.post.name].any():", "if False:"),
    "missing bias": ("synapses.py", 'out[...] = parameters[f"{self.name}.bias"]', "out[...] = 0"),
    "stale states": ("dynamics.py", "        if residual.any():\n", "        if residual.min() > 1e-3:\n"),
    "one sweep too many": ("learning.py", "state, config.nudged_sweeps,", "state, config.nudged_sweeps + 1,"),
    "sign of the nudge": ("kernels/cpu.py", "(drive[b, c] + beta * target[b, c]) / (2 + beta)",
                          "(drive[b, c] - beta * target[b, c]) / (2 + beta)"),
    "sign of the paper's nudge": ("dynamics.py",
                                  "state.drives[layer.name] -= nudge.beta", "state.drives[layer.name] += nudge.beta"),
    "words without the query path": ("synapses.py", "out += np.tensordot(", "out += 0 * np.tensordot("),
    "a word's last occurrence only": ("kernels/cpu.py", "row[d] += values[b, m, d]", "row[d] = values[b, m, d]"),
    "Adam without bias correction": ("kernels/cpu.py", "kind(1 / (1 - decay_mean**step))", "kind(1)"),
    "shuffled labels in evaluation": ("training.py", "output.argmax(axis=1) == labels).mean()",
                                      "output.argmax(axis=1) == labels[::-1]).mean()"),
    "energy may rise": ("acceleration.py", "risen = ~(self.bound - value <= slack)",
                        "risen = np.zeros(len(value), bool)"),
    "extrapolation the wrong way": ("acceleration.py", "np.divide(now - across, curvature",
                                    "np.divide(across - now, curvature"),
    "samples in each other's places": ("dynamics.py", "whole.put(self.rows, self.state)",
                                       "whole.put(self.rows[::-1], self.state)"),
    "NaN taken for settled": ("dynamics.py", "moving = ~(residual <= tolerance)", "moving = residual > tolerance"),
    "memory left from the last batch": ("network.py", "            state[...] = 0\n", "            pass\n"),
    "adjoint without feedback": ("oracles/linearised.py", "result[pre] += (v[post] @", "result[pre] += 0 * (v[post] @"),
    "softmax differentiated half": ("oracles/linearised.py", "weights * (agreement - (weights",
                                    "weights * (agreement - 0 * (weights"),
    "BPTT a step short": ("oracles/bptt.py", "in reversed(history[:-1]):", "in reversed(history[1:-1]):"),
}  # fmt: skip


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
        chosen = {name: defect for name, defect in DEFECTS.items() if options.only in name}
        for number, (name, (file, right, wrong)) in enumerate(chosen.items(), start=1):
            caught = caught_by(copy, copy / "eqnp" / file, right, wrong)
            print(f"{number:2}/{len(chosen)} {name:32} {caught or 'SURVIVED'}", flush=True)
            if not caught:
                survived.append(name)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} defects caught in {time.time() - started:.0f} s")
    return 1 if survived else 0


def caught_by(root: Path, path: Path, right: str, wrong: str) -> str:
    """The first test that fails with the defect in place, or nothing."""
    original = path.read_text("utf-8")
    if original.count(right) != 1:
        raise SystemExit(f"{path.name}: {right!r} is there {original.count(right)} times; mend the list of defects")
    path.write_text(original.replace(right, wrong), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(root), "EQNP_HYPOTHESIS": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *TESTS]
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
