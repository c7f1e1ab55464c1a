"""What a channel may deliver, and how much it has delivered within the last hour."""

from __future__ import annotations

from collections import defaultdict, deque

from pydantic import BaseModel, ConfigDict, Field

_HOUR = 3600.0  # seconds


class Limits(BaseModel):
    """A channel's own limits; None where there is none.

    alerts_per_hour: one that delivers more within any hour of the clock is suspended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alerts_per_hour: int | None = Field(default=None, gt=0)

    def __str__(self) -> str:
        """As `zads channel set --limit` takes it; "" without limits."""
        return " ".join(f"{name}={most}" for name, most in self if most is not None)


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
