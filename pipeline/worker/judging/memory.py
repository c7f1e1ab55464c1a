"""How much memory filters may take and keep, by what is resident.

Thread stacks and caches take address space and hardly any memory, so a fixed limit on address space says
little. Instead a filter that begins may take as much more as its worker has left below the limit of
resident memory; beyond that an allocation raises MemoryError, which names the filter. Outside filters only
the nanny limits memory.
"""

from __future__ import annotations

import os
from collections import Counter
from resource import RLIMIT_DATA, getpagesize, getrlimit, setrlimit
from typing import BinaryIO

from distributed import get_worker

_UNLIMITED = 1 << 31
_PAGE = getpagesize()
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

    def by(self, channel: str) -> _Taking:
        """Within, what this process grows by is the channel's.

        An allocation beyond the limit raises MemoryError; what is kept beyond its share, HoardsMemory.

        Parameters
        ----------
        channel
            Whose filter runs.
        """
        return _Taking(self, channel)

    def add(self, channel: str, taken: int) -> None:
        """Count what a filter has taken and not given back, bytes. Raises HoardsMemory."""
        self._kept[channel] += taken
        if self._kept[channel] > self.most:
            kept, self._kept[channel] = self._kept[channel], 0
            raise HoardsMemory(f"it has kept {kept / 1e6:,.0f} MB of memory over its calls")

    def size(self) -> tuple[int, int]:
        """Of this process, bytes: what is resident, and its private address space.

        0 and 0 where the system does not say (only Linux counts all private memory as data).
        """
        if self._statistics is None:
            return 0, 0
        pages = os.pread(self._statistics.fileno(), 256, 0).split()
        return int(pages[1]) * _PAGE, int(pages[5]) * _PAGE


class _Taking:
    """A context manager: within, the memory that is taken is a channel's, and limited."""

    __slots__ = ("_before", "_channel", "_kept", "_usual")

    def __init__(self, kept: Kept, channel: str) -> None:
        self._kept, self._channel = kept, channel

    def __enter__(self) -> None:
        resident, data = self._kept.size()
        self._before, self._usual, limit = resident, None, self._kept.limit
        if limit and data:  # this process may grow up to so many resident bytes
            soft, hard = self._usual = getrlimit(RLIMIT_DATA)
            wanted = data + max(limit - resident, _LEAST)
            setrlimit(RLIMIT_DATA, (wanted if soft < 0 else min(wanted, soft), hard))

    def __exit__(self, kind: object, *_: object) -> None:
        if self._usual is not None:
            setrlimit(RLIMIT_DATA, self._usual)
        if kind is None:
            self._kept.add(self._channel, self._kept.size()[0] - self._before)


class HoardsMemory(MemoryError):
    """A filter keeps memory from call to call: sooner or later it would end its worker."""


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
