"""The device itself: its memory, copies to and from it, and kernels started on it.

Kernels are compiled by numba and started through the driver's own call: numba's takes 8 µs and 5 more for each array,
which is longer than most kernels here run. All work is on the legacy default stream.
"""

from __future__ import annotations

import ctypes
import threading
from struct import Struct

import numpy as np
from cuda.bindings import driver
from numba import cuda, from_dtype, typeof, types

CODES = {types.int64: "q", types.float64: "d", types.float32: "f4x", types.boolean: "?7x"}  # eight bytes each
ARRAY = "q"  # each number of an array
_thread = threading.local()


def allocate(size: int):
    """So many bytes of the device's memory: what keeps them, and their address; raises MemoryError."""
    try:
        piece = cuda.device_array(size, np.uint8)
    except Exception as error:
        if "MEMORY" in str(error):
            raise MemoryError("the GPU's is full") from error
        raise
    return piece, piece.__cuda_array_interface__["data"][0]


def to_device(source: np.ndarray, out) -> None:
    """out ← source, of the same shape and without gaps; the source must stay as it is until the next copy to the host.

    This returns at once. The driver may still read the source, which is therefore kept.
    """
    entries()
    _thread.read.append(source)
    _check(driver.cuMemcpyHtoDAsync(out.address, source.ctypes.data, source.nbytes, 0))


def to_host(source, out: np.ndarray) -> None:
    """out ← source, of the same shape and without gaps, once all work before it is done."""
    entries()
    _check(driver.cuMemcpyDtoH(out.ctypes.data, source.address, out.nbytes))
    _thread.read.clear()


def moment():
    """When the device will be done with all work so far, as an event."""
    event = cuda.event()
    event.record()
    return event


def between(before, after) -> float:
    """Seconds from one moment to another, once both have come."""
    after.synchronize()
    return cuda.event_elapsed_time(before, after) / 1000


def launch(kernel, grid, block, *arguments) -> None:
    """Have a kernel run on a grid of blocks, after all work before it; arguments are arrays and numbers."""
    compiled, key, numbers = entries(), [kernel], []
    for argument in arguments:
        kind = getattr(argument, "kind", None)
        if kind is None:
            key.append(type(argument))
            numbers.append(argument)
        else:
            key.append(kind)
            numbers += argument.numbers
    key = tuple(key)
    entry = compiled.get(key)
    if entry is None:
        entry = compiled[key] = Entry(kernel, arguments)
    entry.pack(*numbers)
    _check(driver.cuLaunchKernel(entry.function, *_three(grid), *_three(block), 0, 0, entry.pointers, 0))


class Entry:
    """A kernel compiled for the types of its arguments, and a place from which the driver reads these."""

    def __init__(self, kernel, arguments):
        signature, codes = layout(arguments)
        self._code, self.function = load(kernel, signature)
        self._values = ctypes.create_string_buffer(8 * len(codes))
        first = ctypes.addressof(self._values)
        self._pointers = (ctypes.c_void_p * len(codes))(*range(first, first + 8 * len(codes), 8))
        self.pointers = ctypes.addressof(self._pointers)
        self._layout = Struct("=" + "".join(codes))

    def pack(self, *numbers) -> None:
        """Have these passed at the next start."""
        self._layout.pack_into(self._values, 0, *numbers)


def load(kernel, signature):
    """The kernel compiled for types of arguments, on the device as long as it lives; and the driver's name for it."""
    compiled = kernel.compile(signature)
    return compiled, int(compiled._codelibrary.get_cufunc().handle)


def layout(arguments) -> tuple[tuple, list[str]]:
    """Numba's types of the arguments of a kernel, and a code for each number that is passed for them."""
    signature, codes = [], []
    for argument in arguments:
        if hasattr(argument, "numbers"):
            real, ndim, contiguous = argument.dtype, argument.ndim, argument.contiguous
            signature.append(types.Array(from_dtype(real), ndim, "C" if contiguous else "A"))
            codes += [ARRAY] * len(argument.numbers)
        else:
            signature.append(typeof(argument))
            codes.append(CODES[signature[-1]])
    return tuple(signature), codes


def entries() -> dict:
    """The entries of the calling thread, to which the device is attached the first time."""
    try:
        return _thread.entries
    except AttributeError:
        cuda.current_context()
        _thread.entries, _thread.read = {}, []
        return _thread.entries


def _three(size) -> tuple[int, int, int]:
    return (size, 1, 1) if isinstance(size, int) else (*size, 1, 1)[:3]


def _check(result) -> None:
    """Raise MemoryError or RuntimeError for an error of the driver, perhaps one of the work before."""
    code = result[0]
    if code:
        if code == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError("the GPU's is full")
        _, name = driver.cuGetErrorName(code)
        raise RuntimeError(f"the GPU reports {name.decode() if name else code}")
