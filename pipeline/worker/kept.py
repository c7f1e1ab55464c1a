"""Detects a filter that keeps memory from call to call, before its worker's memory is full."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_UNLIMITED = 1 << 31


class Kept:
    """How much memory each channel's filter has kept over its calls in this process."""

    SHARE = 0.4  # of the memory that this process may use

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        self.most = _UNLIMITED if limit == resource.RLIM_INFINITY else int(self.SHARE * limit)
        self._kept: Counter[str] = Counter()

    @contextmanager
    def by(self, channel: str) -> Iterator[None]:
        """A context in which the growth of this process counts for the channel.

        Raises HoardsMemory beyond the limit.
        """
        before = _resident()
        yield
        self._kept[channel] += _resident() - before
        if self._kept[channel] > self.most:
            kept, self._kept[channel] = self._kept[channel], 0
            raise HoardsMemory(f"it has kept {kept / 1e6:,.0f} MB of memory over its calls")


class HoardsMemory(MemoryError):
    """A filter keeps memory from call to call: in the end its worker would be killed."""


def _resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0
