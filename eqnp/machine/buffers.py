"""Memory that is used again: what is touched for the first time costs as much as the arithmetic on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import prod

import numpy as np


class Buffers:
    """Uninitialised arrays by key, made by ``empty(shape, dtype)``.

    A key's memory is kept and handed out again, and grows when more is asked for.
    """

    def __init__(self, empty: Callable = np.empty):
        self._memory: dict[Hashable, np.ndarray] = {}
        self._empty = empty

    def __call__(self, key: Hashable, shape: tuple[int, ...], dtype) -> np.ndarray:
        """The array of a key; whatever was handed out for the same key before is overwritten with it."""
        size = prod(shape)
        memory = self._memory.get(key)
        if memory is None or memory.size < size or memory.dtype != dtype:
            self._memory[key] = memory = self._empty(size, dtype)
        return memory[:size].reshape(shape)
