"""numba's simulated GPU, with two of its flaws mended for the time of the tests."""

import os
import sys
from threading import Lock

import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def mend() -> None:
    """Give the threads of a block one and the same shared array, also when they come at once; and let them wait less.

    They wait for each other in loops, which keep the interpreter from the one that is waited for until it switches.
    """
    from numba.cuda.simulator.kernelapi import FakeCUDAShared
    from numba.np.numpy_support import as_dtype

    lock = Lock()

    def array(self, shape, dtype):
        caller = sys._getframe(1)
        with lock:
            place = caller.f_code.co_filename, caller.f_lineno
            if place not in self._allocations:
                self._allocations[place] = np.empty(shape, as_dtype(dtype))
            return self._allocations[place]

    FakeCUDAShared.array = array
    sys.setswitchinterval(1e-4)
