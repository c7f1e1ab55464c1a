"""How much memory filters may take and keep, by what is resident.

Thread stacks and caches take address space and hardly any memory, so a fixed limit on address space says
little. Instead a filter that begins may take as much more as its worker has left below the limit of
resident memory; beyond that an allocation raises MemoryError, which names the filter. Outside filters only
the nanny limits memory.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from distributed import get_worker

_UNLIMITED = 1 << 31
_PAGE = resource.getpagesize()
_SHARE = 0.9  # of the worker's memory limit: below the nanny's 0.95
_LEAST = 64_000_000
"""A filter may always take this, with librdkafka's threads, which end the process when they get none."""


class Kept:
    """How much memory each channel's filter takes, and has kept over its calls in this process.

    limit: resident bytes of this process, 0 for no limit. most: bytes that one filter may keep.
    """

    SHARE = 0.4  # of the limit

    def __init__(self) -> None:
        self.limit = limit_of_worker()
        self.most = int(self.SHARE * self.limit) if self.limit else _UNLIMITED
        self._kept: Counter[str] = Counter()
        self._statistics = _opened()

    @contextmanager
    def by(self, channel: str) -> Iterator[None]:
        """Within, what this process grows by is the channel's.

        An allocation beyond the limit raises MemoryError; what is kept beyond its share, HoardsMemory.
        """
        before = self._size()
        with _at_most(before, self.limit):
            yield
        self._kept[channel] += self._size().resident - before.resident
        if self._kept[channel] > self.most:
            kept, self._kept[channel] = self._kept[channel], 0
            raise HoardsMemory(f"it has kept {kept / 1e6:,.0f} MB of memory over its calls")

    def _size(self) -> _Size:
        """Nothing where the system does not say (only Linux counts all private memory as data)."""
        if self._statistics is None:
            return _Size(0, 0)
        pages = os.pread(self._statistics.fileno(), 256, 0).split()
        return _Size(int(pages[1]) * _PAGE, int(pages[5]) * _PAGE)


class HoardsMemory(MemoryError):
    """A filter keeps memory from call to call: sooner or later it would end its worker."""


class _Size(NamedTuple):
    """Of this process, in bytes: in memory, and private address space."""

    resident: int
    data: int


@contextmanager
def _at_most(now: _Size, limit: int) -> Iterator[None]:
    """Within, this process may grow up to so many resident bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if not limit or not now.data:
        yield
        return
    wanted = now.data + max(limit - now.resident, _LEAST)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if soft < 0 else min(wanted, soft), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def limit_of_worker() -> int:
    """Resident bytes that the Dask worker of this process may have; 0 where there is none, or no limit."""
    try:
        return int(_SHARE * (get_worker().memory_manager.memory_limit or 0))
    except ValueError:  # not in a worker
        return 0


def _opened() -> BinaryIO | None:
    """What the system says of the memory of this process, open for as long as somebody asks."""
    try:
        return open("/proc/self/statm", "rb", buffering=0)
    except OSError:
        return None
