"""How far a source is kept, as one number that never falls.

A log that was truncated (a leader that had not copied all was elected) has other records under offsets that
were read before. Those are of a later leader epoch. So a position is the epoch of the record before it, then
the offset: whatever is written after the truncation lies behind whatever was read before it.
"""

from __future__ import annotations

from typing import NamedTuple

_OFFSET_BITS = 44  # 17 million million records in a partition, half a million leaders; Delta takes 63 bits


class Stand(NamedTuple):
    """Where a source goes on. epoch: of the leader that wrote the record before; -1: not known."""

    offset: int
    epoch: int = -1

    @property
    def position(self) -> int:
        """The number that a keeper remembers; of an unknown epoch the offset itself."""
        return (self.epoch + 1 << _OFFSET_BITS) + self.offset


def stand_at(position: int) -> Stand:
    """The stand that a number is of.

    Parameters
    ----------
    position
        What a keeper remembers.
    """
    return Stand(position & (1 << _OFFSET_BITS) - 1, (position >> _OFFSET_BITS) - 1)
