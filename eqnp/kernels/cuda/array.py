"""Arrays on the device, whose views and arguments cost the host little.

A training step is some hundred short kernels, and the host has to be ahead of them. numba's own device arrays take it 5
to 270 µs a view and 5 µs an argument of a kernel; these take it one or two.
"""

from __future__ import annotations

from collections import defaultdict
from math import prod
from typing import ClassVar

import numpy as np

from eqnp.kernels.cuda.timeline import driver, mark

WHOLE = slice(None)


class Array:
    """A shape and strides (in bytes) over a piece of the device's memory, which lives as long as an array needs it.

    ``numbers`` are those that numba's kernels take for an array, and ``kind`` is what decides how they are compiled.
    """

    __slots__ = (
        "_seen", "address", "contiguous", "dtype", "kind", "memory", "ndim", "numbers", "shape", "size", "strides",
    )  # fmt: skip

    def __init__(self, memory: _Memory, address: int, shape: tuple[int, ...], dtype: np.dtype, strides=None):
        packed, step = [], dtype.itemsize
        for length in reversed(shape):
            packed.append(step)
            step *= length
        packed = tuple(reversed(packed))
        self.memory, self.address, self.shape, self.dtype = memory, address, shape, dtype
        self.ndim, self.size = len(shape), prod(shape)
        self.strides = packed if strides is None else strides
        self.contiguous = self.strides == packed or all(
            length == 1 or stride == of_packed
            for length, stride, of_packed in zip(shape, self.strides, packed, strict=True)
        )
        self.kind = dtype.char, self.ndim, self.contiguous
        self._seen: dict[tuple, Array] = {}  # in other shapes
        self.numbers = (0, 0, self.size, dtype.itemsize, address, *shape, *self.strides)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> Array:
        """A view, by integers and slices without a step."""
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices are too many for {self.ndim} axes")
        address, shape, strides = self.address, [], []
        for axis, (length, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            along = keys[axis] if axis < len(keys) else WHOLE
            if isinstance(along, slice):
                start, stop, step = along.indices(length)
                if step != 1:
                    raise IndexError("an array on the device cannot be cut in steps")
                shape.append(max(stop - start, 0))
                strides.append(stride)
                address += start * stride
            else:
                if not -length <= along < length:
                    raise IndexError(f"there is no {along} along an axis of {length}")
                address += along % length * stride
        return Array(self.memory, address, tuple(shape), self.dtype, tuple(strides))

    def reshape(self, *shape) -> Array:
        """The same entries in another shape, of which one length may be -1; the array must be without gaps."""
        seen = self._seen.get(shape)
        if seen is None:
            seen = self._seen[shape] = self._reshape(*shape)
        return seen

    def _reshape(self, *shape) -> Array:
        shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if -1 in shape:
            shape = tuple(self.size // -prod(shape) if length == -1 else length for length in shape)
        if not self.contiguous or prod(shape) != self.size:
            raise ValueError(f"an array of shape {self.shape} cannot be seen as {shape}")
        return Array(self.memory, self.address, shape, self.dtype)


class _Memory:
    """A piece of the device's memory; when nothing needs it any more it waits for the next of its size.

    To take memory from the driver is to wait for the device. All work is on one stream, so that what is handed out
    again is written only after all that was to be done with it before.
    ``pieces`` keeps what keeps the memory, by address: if it hung on the object, a garbage collector that finds both in
    a cycle (of an exception, say) would free the memory first, and only then call the finalizer that hands it on.
    """

    __slots__ = ("address", "size")
    pieces: ClassVar[dict[int, object]] = {}
    waiting: ClassVar[defaultdict[int, list[int]]] = defaultdict(list)

    def __init__(self, size: int):
        self.address = None
        step = max(512, (1 << size.bit_length()) >> 3)
        self.size = max(step, -(-size // step) * step)
        try:
            self.address = self.waiting[self.size].pop()
        except IndexError:
            self.address = self._take()

    def _take(self) -> int:
        try:
            piece, address = driver.allocate(self.size)
        except MemoryError:
            for addresses in self.waiting.values():
                while addresses:
                    del self.pieces[addresses.pop()]
            piece, address = driver.allocate(self.size)
        self.pieces[address] = piece
        return address

    def __del__(self):
        if self.address is not None:
            self.waiting[self.size].append(self.address)


def empty(shape, dtype) -> Array:
    """An uninitialised array; raises MemoryError when the device's memory is full."""
    shape = (shape,) if isinstance(shape, int) else tuple(map(int, shape))
    dtype = np.dtype(dtype)
    memory = _Memory(prod(shape) * dtype.itemsize)
    return Array(memory, memory.address, shape, dtype)


def device(array: np.ndarray) -> Array:
    """A copy on the device; raises MemoryError."""
    copied = empty(array.shape, array.dtype)
    driver.to_device(np.ascontiguousarray(array), copied)
    mark("copies")
    return copied


def host(array: Array) -> np.ndarray:
    """A copy on the host of an array without gaps, once all work before it is done."""
    if not array.contiguous:
        raise ValueError("an array with gaps cannot be copied to the host; copy it on the device first")
    copied = np.empty(array.shape, array.dtype)
    driver.to_host(array, copied)
    mark("copies")
    return copied
