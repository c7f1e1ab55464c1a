"""Limits of a channel: which of the alerts that pass its filter are delivered.

A limit is a small class: it says under what it remembers (`key`), and from what it remembered there whether
an alert goes through and what is to be remembered then (`admit`). To add another: a class, a field of
`Limits`, and a line in `Limits.of`.

Masks come before limits: live and replay agree on who passes, whatever the limits. What a limit remembers is
committed with the offsets of the records that it saw, so a run that dies has forgotten nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HOUR = 3_600_000_000  # microseconds
_HASHES = 2**64

ALWAYS = 0
"""What a limit remembers that has nothing to remember."""


@dataclass(frozen=True)
class Passing:
    """An alert that passes its filter.

    candid: int. objectId: str. received: microseconds since 1970, the timestamp of its Kafka record. jd: days
    UTC, when it was observed.
    """

    candid: int
    objectId: str
    received: int = 0
    jd: float = float("nan")


class Memory(Protocol):
    """What limits remember: key -> number. Integers stay integers."""

    def get(self, key: str, /) -> float | None: ...


class Limit(Protocol):
    """One limit of one channel."""

    def key(self, one: Passing) -> str | None:
        """Under what it remembers something of this alert; None: it needs no memory."""

    def admit(self, one: Passing, before: float | None) -> float | None:
        """What to remember when the alert goes through, None when it does not.

        before: what was remembered under its key, None for nothing.
        """


@dataclass(frozen=True)
class Sample:
    """Lets a share of the alerts through, by a hash of channel and candid: the same ones everywhere."""

    channel: str
    share: float

    def key(self, one: Passing) -> str | None:
        """No memory."""
        return None

    def admit(self, one: Passing, before: float | None) -> float | None:
        """By the alert alone."""
        told = hashlib.sha256(f"{self.channel}/{one.candid}".encode()).digest()[:8]
        return ALWAYS if int.from_bytes(told, "big") < self.share * _HASHES else None


@dataclass(frozen=True)
class Throttle:
    """A token bucket: it fills with `an_hour` tokens an hour, holds `burst`, and each alert takes one.

    There is one for each source partition, and its time is that of the records there, so that neither the
    speed of a run nor what other partitions bring has a part in it. One integer is enough: when the bucket
    would be full again, in microseconds. A record stamped earlier than the one before it finds the bucket of
    its own time.

    Source
    ------
    The generic cell rate algorithm (ITU-T I.371, virtual scheduling), which is a token bucket.
    """

    an_hour: int
    burst: int

    def key(self, one: Passing) -> str | None:
        """One for the partition: another rate begins with a full bucket."""
        return f"throttle {self.an_hour} {self.burst}"

    def admit(self, one: Passing, before: float | None) -> float | None:
        """By when the bucket is full again."""
        token = round(_HOUR / self.an_hour)
        full = max(int(before or 0), one.received) + token
        return full if full - one.received <= self.burst * token else None


@dataclass(frozen=True)
class Once:
    """Lets an object's first passing alert through, and the first from `again_days` after it (None: none)."""

    again_days: float | None = None

    def key(self, one: Passing) -> str | None:
        """One for each object."""
        return f"{OBJECT}{one.objectId}"

    def admit(self, one: Passing, before: float | None) -> float | None:
        """By when the object's last delivered alert was observed."""
        if before is None:
            return one.jd
        again = self.again_days is not None and one.jd - before >= self.again_days
        return one.jd if again else None


OBJECT = "object "
"""Begins the keys of what is remembered of an object; other keys are of a source partition."""


class Limits(BaseModel):
    """A channel's own limits; None (or false) where there is none.

    alerts_per_hour: one that delivers more within any hour of the clock is suspended. alarm_per_hour: that is
    only told. sample: the share that goes through, 0 to 1. throttle_per_hour: as many an hour and source
    partition, at most throttle_burst at once (as many as an hour's where left out). once: an object's first
    alert only; with again_days (days) also the first from so long after the one delivered last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alerts_per_hour: int | None = Field(default=None, gt=0)
    alarm_per_hour: int | None = Field(default=None, gt=0)
    sample: float | None = Field(default=None, gt=0, le=1)
    throttle_per_hour: int | None = Field(default=None, gt=0, le=1_000_000)
    throttle_burst: int | None = Field(default=None, gt=0)
    once: bool = False
    again_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _belongs_to_something(self) -> Limits:
        if self.throttle_burst is not None and self.throttle_per_hour is None:
            raise ValueError("throttle_burst needs throttle_per_hour")
        if self.again_days is not None and not self.once:
            raise ValueError("again_days needs once = true")
        return self

    def __str__(self) -> str:
        """As `zads channel set --limit` takes it; "" without limits."""
        return " ".join(f"{name}={_word(value)}" for name, value in self if value not in (None, False))

    def of(self, channel: str) -> list[Limit]:
        """Those that choose among the alerts of a channel of this name, in the order of asking."""
        found: list[Limit] = []
        if self.sample is not None:
            found.append(Sample(channel, self.sample))
        if self.once:
            found.append(Once(self.again_days))
        if self.throttle_per_hour is not None:
            found.append(Throttle(self.throttle_per_hour, self.throttle_burst or self.throttle_per_hour))
        return found


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def admitted(limits: Sequence[Limit], one: Passing, memory: Memory) -> dict[str, float] | None:
    """What to remember when an alert goes through all limits, None when one of them stops it.

    What is stopped leaves nothing behind: it takes no token, and is not an object's first.

    Parameters
    ----------
    limits
        Of one channel, in the order of asking.
    one
        The alert.
    memory
        What they remember.
    """
    changed: dict[str, float] = {}
    for limit in limits:
        key = limit.key(one)
        after = limit.admit(one, None if key is None else memory.get(key))
        if after is None:
            return None
        if key is not None:
            changed[key] = after
    return changed


def let_through(limits: Sequence[Limit], ones: Sequence[Passing]) -> list[bool]:
    """Which of some alerts go through, in their order, beginning with nothing to remember."""
    memory: dict[str, float] = {}
    through = []
    for one in ones:
        changed = admitted(limits, one, memory)
        memory |= changed or {}
        through.append(changed is not None)
    return through
