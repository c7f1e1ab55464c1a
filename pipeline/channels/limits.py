"""How many channels may be throttled, and how much each channel has delivered within the last hour."""

from __future__ import annotations

from collections import defaultdict, deque

_HOUR = 3600.0  # seconds
MOST_THROTTLED = 180
"""Channels of a set: a committed offset has room for 4,096 bytes, and what a bucket remembers takes 21."""


class LastHour:
    """How many alerts each channel has delivered within the last hour."""

    def __init__(self) -> None:
        self._delivered: dict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def add(self, channel: str, alerts: int, now: float) -> int:
        """Count alerts that were delivered; return the number of the last hour, these included.

        Parameters
        ----------
        channel
            Name of the channel.
        alerts
            How many were delivered.
        now
            Time in seconds, never less than before.
        """
        delivered = self._delivered[channel]
        if alerts:
            delivered.append((now, alerts))
        while delivered and delivered[0][0] <= now - _HOUR:
            delivered.popleft()
        return sum(count for _, count in delivered)

    def forget(self, channel: str) -> None:
        """The channel is another one now: it begins with nothing."""
        self._delivered.pop(channel, None)
