"""The kernels for a GPU where there is none: on numba's simulator, and through the compiler for one."""

import ctypes
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from eqnp import kernels
from eqnp.dynamics import ORDERS, SettlingConfig
from eqnp.learning import LearningConfig, estimate
from eqnp.optim import OPTIMIZERS, OptimizerConfig, make_optimizer
from eqnp.testing import KINDS, problem
from tests.conftest import ROOT
from tests.simulator import SIMULATED

COMPILED: dict[tuple, list[str]] = {}  # parameters of all kernels of all tests: to compile one takes a second
PARAMETERS = {"q": "u64", "d": "f64", "f4x": "f32", "?7x": "u8"}  # how the compiler calls what the driver is given


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


@pytest.fixture
def compiler(monkeypatch):
    """A driver without a GPU: it compiles what it is asked to run, for one, and runs nothing.

    The code must keep its sums in registers, and take the arguments that the driver is given for it.
    """
    pytest.importorskip("numba_cuda", reason="needs pip install 'eqnp[cuda]', and no GPU")
    if SIMULATED:
        pytest.skip("the simulator has no compiler")
    from numba import cuda
    from numba.cuda import dispatcher

    from eqnp.kernels.cuda import driver

    class Hopper:
        compute_capability = (9, 0)

    def compile_only(kernel, signature):
        if (kernel.py_func, signature) not in COMPILED:
            code, _ = cuda.compile_ptx(kernel.py_func, signature, cc=Hopper.compute_capability)
            assert "ld.local" not in code
            assert_in_registers(code)
            COMPILED[kernel.py_func, signature] = re.findall(r"\.param \.(\w+) \w+_param_\d+[,\n]", code)
        return None, 0

    class Checked(driver.Entry):
        def __init__(self, kernel, arguments):
            super().__init__(kernel, arguments)
            signature, codes = driver.layout(arguments)
            assert COMPILED[kernel.py_func, signature] == [PARAMETERS[code] for code in codes]

    def allocate(size):
        piece = np.zeros(size, np.uint8)
        return piece, piece.ctypes.data

    def nothing(out, source, size):
        ctypes.memset(out, 0, size)
        return (0,)

    monkeypatch.setattr("eqnp.kernels.cuda.products.cublas", None)  # ours, also where it is there
    entries = {}
    monkeypatch.setattr(driver._thread, "read", [], raising=False)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: Hopper)
    for name, instead in (
        ("entries", lambda: entries), ("load", compile_only), ("Entry", Checked), ("allocate", allocate)
    ):  # fmt: skip
        monkeypatch.setattr(driver, name, instead)
    for name, instead in (
        ("cuLaunchKernel", lambda *_: (0,)), ("cuMemcpyHtoDAsync", lambda *_: (0,)), ("cuMemcpyDtoH", nothing)
    ):  # fmt: skip
        monkeypatch.setattr(driver.driver, name, instead)


def assert_in_registers(code: str) -> None:
    """Where CUDA's assembler is at hand, it must find registers for everything."""
    wheels = (Path(folder) for folder in getattr(find_spec("nvidia"), "submodule_search_locations", ()))
    assembler = next((path for wheel in wheels for path in wheel.glob("*/bin/ptxas")), None)  # as new as the compiler
    if assembler:
        command = [assembler, "-v", "-arch=sm_90", "-o", os.devnull, "/dev/stdin"]
        result = subprocess.run(command, input=code, capture_output=True, text=True)
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in result.stderr, result.stderr


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("output", ["clipped", "logistic", "tanh", "softmax"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_compile_for_a_gpu(compiler, kind, output, dtype):
    """If this fails, a GPU's compiler refuses a kernel that the simulator runs, spills its sums out of registers, or
    takes other arguments than it will be given.
    """
    p = problem(kind=kind, activation="clipped" if output == "softmax" else output, output_activation=output)
    network = p.network.astype(dtype).to("cuda")
    for order in ORDERS:
        settling = SettlingConfig(order, 0.0, 2, 2)
        result = estimate(network, p.batch, p.target.astype(dtype), LearningConfig(), settling)
    for name in OPTIMIZERS:
        make_optimizer(network, OptimizerConfig(name, clip=1.0, weight_decay=0.1)).step(network, result.gradients)
    assert len(COMPILED) >= 15


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [50, 300, 1024])
@pytest.mark.parametrize("queries", [2, 25, 600])
@pytest.mark.parametrize("by_products", [False, True])
def test_retrieval_fits_a_gpu(compiler, monkeypatch, by_products, queries, width, dtype):
    """If this fails, some number of queries or width of vectors needs more registers or memory than a block has."""
    twin = kernels.load("cuda")
    monkeypatch.setattr("eqnp.kernels.cuda.attention.BY_PRODUCTS", by_products)
    states = [twin.zeros((2, queries, width), dtype) for _ in range(2)]
    memory, counts = twin.zeros((2, 30, width), dtype), [twin.zeros(2, np.int64) for _ in range(3)]
    residual, value = twin.zeros(2, dtype), twin.zeros(2, np.float64)
    twin.retrieve(states[0], memory, *counts, dtype(1), twin.zeros(2, np.int64), states[1], residual, value)
