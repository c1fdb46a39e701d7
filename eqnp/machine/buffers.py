"""Memory that is used again: what is touched for the first time costs as much as the arithmetic on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from math import prod

import numpy as np


class Room:
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


class Workspace:
    """Room for the batch as a whole, and room for each thread that settles shards of it."""

    def __init__(self, empty: Callable = np.empty):
        self.batch, self._empty = Room(empty), empty
        self._threads = threading.local()

    @property
    def shard(self) -> Room:
        """The room of the calling thread."""
        if not hasattr(self._threads, "room"):
            self._threads.room = Room(self._empty)
        return self._threads.room
