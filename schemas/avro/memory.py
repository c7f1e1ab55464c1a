"""Memory that is reused from batch to batch.

A batch needs some megabytes, and the kernel gives new ones page by page (measured: a third of a batch's time
when other work runs between batches). So a block that is no longer used, when the last Arrow array in it is
deleted, is kept for the next batch.
"""

import weakref
from collections import deque

import numpy as np

_ALIGN = 64  # Arrow's recommended alignment, bytes
_SMALL = 1 << 16  # below this the allocator keeps memory itself
_KEPT_BLOCKS = 24
_KEPT_BYTES = 1 << 27


class Arenas:
    """Blocks of bytes to take; a block returns when its array is deleted. Safe to share between threads."""

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque()

    def take(self, size: int, zeroed: bool = True) -> np.ndarray:
        """uint8, `size` long, aligned.

        The memory is reused when the array itself is deleted, even if a part of it is still used.
        """
        if size < _SMALL:
            return _aligned(np.zeros(size + _ALIGN, np.uint8), size)
        block = self._fitting(size)
        if block is None:
            block = np.zeros(size + size // 4 + _ALIGN, np.uint8)
            taken = _aligned(block, size)
        else:
            taken = _aligned(block, size)
            if zeroed:
                taken.fill(0)
        weakref.finalize(taken, self._give_back, block).atexit = False
        return taken

    def _fitting(self, size: int) -> np.ndarray | None:
        """A free block that is large enough, but not much too large."""
        for _ in range(len(self._free)):
            try:
                block = self._free.popleft()
            except IndexError:  # another thread was faster
                return None
            if size + _ALIGN <= len(block) <= 4 * size:
                return block
            self._free.append(block)
        return None

    def _give_back(self, block: np.ndarray) -> None:
        self._free.append(block)
        while len(self._free) > _KEPT_BLOCKS or sum(map(len, tuple(self._free))) > _KEPT_BYTES:
            try:
                self._free.popleft()
            except IndexError:
                return


def _aligned(block: np.ndarray, size: int) -> np.ndarray:
    start = -block.ctypes.data % _ALIGN
    return block[start : start + size]


ARENAS = Arenas()
"""The process's."""
