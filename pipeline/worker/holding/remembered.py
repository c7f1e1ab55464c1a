"""What limits remember of a partition, for as long as its lane is held and beyond.

A NUMBER OF A PARTITION (a token bucket) is written into the metadata of the committed offset: with the offset
it is committed or not, and whoever takes the partition next gets both in one answer. WHAT IS REMEMBERED OF AN
OBJECT is a record of the compacted topic zads.once, in the same transaction; whoever takes the partition
reads it when first needed, after fencing, so that nothing can be added behind its back.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from filters.limits import Passing, admitted
from filters.limits.limits import OBJECT
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader
from pipeline.channels.channel import Channel
from pipeline.channels.gaps import ONCE_TOPIC

_KAFKA_SECONDS = 10.0
_AT_ONCE = 20_000

Changes = dict[str, dict[str, float]]
"""Channel -> key -> number: what a batch adds to what is remembered."""


class PartitionMemory:
    """What the limits of all channels remember of one partition; see `Admission` for a batch's part in it."""

    def __init__(self, text: str, objects: Callable[[str], dict[str, float]]) -> None:
        """text: of the committed offset's metadata. objects: a channel's, asked once when they are needed."""
        self._numbers = dict(_parsed(one) for one in text.split(",") if one)
        self._ask, self._objects = objects, dict[str, dict[str, float]]()

    def get(self, channel: str, key: str) -> float | None:
        """What is remembered under a key of a channel."""
        if key.startswith(OBJECT):
            return self._of_objects(channel).get(key)
        return self._numbers.get(_short(channel, key))

    def recall(self, channel: str) -> None:
        """Ask for what is remembered of a channel's objects, unless that was done. Raises as asking does."""
        self._of_objects(channel)

    def text_with(self, changes: Changes) -> str:
        """For the metadata of the commit that these changes come with."""
        return ",".join(f"{name}{_base36(number)}" for name, number in self._with(changes).items())

    def learn(self, changes: Changes) -> None:
        """They have been committed."""
        self._numbers = self._with(changes)
        for channel, found in changes.items():
            new = {key: number for key, number in found.items() if key.startswith(OBJECT)}
            if new:
                self._of_objects(channel).update(new)

    def _with(self, changes: Changes) -> dict[str, int]:
        new = {
            _short(channel, key): int(number)
            for channel, found in changes.items()
            for key, number in found.items()
            if not key.startswith(OBJECT)
        }
        return {**self._numbers, **new}

    def _of_objects(self, channel: str) -> dict[str, float]:
        if channel not in self._objects:
            self._objects[channel] = self._ask(channel)
        return self._objects[channel]


class Admission:
    """Which of a batch's alerts the limits let through, and what is to be remembered of them."""

    def __init__(self, memory: PartitionMemory) -> None:
        self._memory, self.changes = memory, Changes()

    def read(self, channels: Iterable[Channel]) -> None:
        """Have at hand what these channels, each of which delivers an object once, remember of objects.

        To be called outside of a transaction: it waits for those of others, and nobody is to wait for us.

        Raises
        ------
        KafkaException, Stalled
            When it cannot be read.
        """
        for channel in channels:
            self._memory.recall(channel.name)

    def admits(self, channel: Channel, one: Passing) -> dict[str, float] | None:
        """What to remember if the alert is delivered now, None when a limit stops it."""
        limits = channel.limits.of(channel.name)
        if not limits:
            return {}
        return admitted(limits, one, _Now(self._memory, channel.name, self.changes))

    def delivered(self, channel: Channel, changed: dict[str, float]) -> None:
        """The alert has been sent."""
        if changed:
            self.changes.setdefault(channel.name, {}).update(changed)

    def records(self) -> list[dict[str, Any]]:
        """Arguments for Producer.produce that keep what is remembered of objects."""
        return [
            {"topic": ONCE_TOPIC, "key": f"{channel}/{key}".encode(), "value": json.dumps(number).encode()}
            for channel, found in self.changes.items()
            for key, number in found.items()
            if key.startswith(OBJECT)
        ]


@dataclass(frozen=True)
class _Now:
    """What is remembered of a channel in the middle of a batch."""

    memory: PartitionMemory
    channel: str
    changes: Changes

    def get(self, key: str, /) -> float | None:
        changed = self.changes.get(self.channel, {})
        return changed[key] if key in changed else self.memory.get(self.channel, key)


def memory_of(kafka: dict[str, str], group: str, text: str) -> PartitionMemory:
    """Of a partition that has been taken.

    Parameters
    ----------
    kafka
        Settings of any client.
    group
        For the client that reads what is remembered of objects.
    text
        Of the committed offset's metadata.
    """
    return PartitionMemory(text, partial(_objects_of, kafka, group))


NOTHING_REMEMBERED = PartitionMemory("", lambda channel: {})


def _objects_of(kafka: dict[str, str], group: str, channel: str) -> dict[str, float]:
    """What the topic holds of a channel's objects now, uncommitted neighbours waited for.

    Raises KafkaException, Stalled.
    """
    place, admin = TopicPartition(ONCE_TOPIC, 0), AdminClient(kafka)
    asked = [
        admin.list_offsets({place: which}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[place]
        for which in (OffsetSpec.earliest(), OffsetSpec.latest())
    ]
    low, end = (answer.result(_KAFKA_SECONDS).offset for answer in asked)
    reader, begins = RangeReader(kafka, group, Partition(ONCE_TOPIC, 0)), f"{channel}/".encode()
    found: dict[str, float] = {}
    try:
        while low < end:
            high = min(low + _AT_ONCE, end)
            for record in reader.read(low, high):
                key, value = record.key() or b"", record.value()
                if key.startswith(begins) and value:
                    found[key[len(begins) :].decode()] = json.loads(value)
            low = high
    finally:
        reader.close()
    return found


def _short(channel: str, key: str) -> str:
    """Eight characters for a channel and a key."""
    return base64.b64encode(hashlib.sha256(f"{channel} {key}".encode()).digest()[:6]).decode()


def _parsed(text: str) -> tuple[str, int]:
    return text[:8], int(text[8:], 36)


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, last = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[last] + digits
    return digits
