"""The kernels for a GPU where there is none: on numba's simulator, and through the compiler for one."""

import os
import subprocess
import sys

import numpy as np
import pytest

from eqnp.dynamics import ORDERS, SettlingConfig
from eqnp.learning import LearningConfig, estimate
from eqnp.optim import Adam, OptimizerConfig
from tests.conftest import ROOT
from tests.simulator import SIMULATED
from tests.strategies import KINDS, problem

COMPILED = set()  # of all tests: a kernel takes a second


@pytest.mark.slow
def test_everything_for_a_gpu_on_a_simulated_one():
    """If this fails, `--device cuda` computes something else than the CPU does.

    The simulator has to be asked for before numba is imported, hence a process of its own.
    """
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--numprocesses=0", "-rf", "tests"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "EQNP_HYPOTHESIS": "simulator"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("output", ["clipped", "logistic", "tanh", "softmax"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_compile_for_a_gpu(monkeypatch, kind, output, dtype):
    """If this fails, a GPU's compiler refuses a kernel that the simulator runs, or spills its sums out of registers.

    Every launch of a training step is compiled for the types of its arguments, and none is run.
    """
    pytest.importorskip("numba_cuda", reason="needs pip install 'eqnp[cuda]', and no GPU")
    from numba import cuda, typeof
    from numba.cuda import dispatcher

    from eqnp.kernels import cuda as package
    from eqnp.kernels.cuda import learning, memory

    if SIMULATED:
        pytest.skip("the simulator has no compiler")

    def compile_only(kernel, configuration):
        def launch(*arguments):
            types = tuple(typeof(argument) for argument in arguments)
            if (kernel.py_func, types) in COMPILED:
                return
            code, _ = cuda.compile_ptx(kernel.py_func, types, cc=(8, 0))
            assert "ld.local" not in code
            COMPILED.add((kernel.py_func, types))

        return launch

    class Ampere:
        compute_capability = (8, 0)

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: Ampere)
    monkeypatch.setattr(dispatcher.CUDADispatcher, "__getitem__", compile_only)
    for module in (package, memory, learning):
        for name, on_host in (("device", np.ascontiguousarray), ("host", np.asarray), ("empty", np.zeros)):
            monkeypatch.setattr(module, name, on_host, raising=False)
    p = problem(kind=kind, activation="clipped" if output == "softmax" else output, output_activation=output)
    network = p.network.astype(dtype).to("cuda")
    for order in ORDERS:
        settling = SettlingConfig(order, 0.0, 2, 2)
        result = estimate(network, p.segments, p.target.astype(dtype), LearningConfig(), settling)
    Adam(network, OptimizerConfig(clip=1.0, weight_decay=0.1)).step(result.gradients, 0.0)
    assert len(COMPILED) >= 15
