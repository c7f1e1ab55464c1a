"""A channel: one filter with its parameters, what it may read, and the topic it feeds."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import cloudpickle

from filters import Filter

Access = Literal["public", "collaboration"]
PUBLIC_PREFIX, COLLABORATION_PREFIX = "channel.", "collab."
_PROGRAMID_SUFFIX = re.compile(r"_programid(\d+)$")


@dataclass(frozen=True)
class Channel:
    """A filter at work, and where its alerts go.

    `access` is "public" unless somebody says otherwise: such a channel reads no topic that is named
    for another programid than 1, and sees and passes on only alerts and history rows of programid 1.
    """

    name: str
    filter: Filter
    access: Access = "public"
    drop: tuple[str, ...] = field(default=())

    @property
    def topic(self) -> str:
        """The Kafka topic that the channel's alerts go to."""
        return (PUBLIC_PREFIX if self.public else COLLABORATION_PREFIX) + self.name

    @property
    def public(self) -> bool:
        return self.access == "public"

    def reads_topic(self, topic: str) -> bool:
        """Whether the channel may read `topic` at all."""
        named_for = _PROGRAMID_SUFFIX.search(topic)
        return not self.public or named_for is None or named_for[1] == "1"

    def describe(self) -> dict[str, Any]:
        """What makes the channel deliver what it delivers, as plain JSON values."""
        return {
            "name": self.name,
            "filter": self.filter.name,
            "version": self.filter.version,
            "parameters": dict(self.filter.values),
            "access": self.access,
            "drop": list(self.drop),
            "topic": self.topic,
        }

    @cached_property
    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers that are the same on each of the channel's alerts."""
        return [
            ("filter", self.filter.name.encode()),
            ("version", self.filter.version.encode()),
            ("parameters", json.dumps(dict(self.filter.values), sort_keys=True).encode()),
        ]


@dataclass(frozen=True)
class ChannelSet:
    """The channels that are in force together, with a version that changes when any of them does."""

    channels: tuple[Channel, ...]
    survey: str = "ztf"

    @cached_property
    def version(self) -> str:
        """A hash of every channel's description, its filter's source included."""
        described = json.dumps([channel.describe() for channel in self.channels], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()[:12]

    def to_bytes(self) -> bytes:
        """For a worker: filters from a user's file travel by value."""
        return cloudpickle.dumps(self)
