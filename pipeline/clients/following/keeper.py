"""What a follower hands on, what keeps it, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from pipeline.broker.reading.ranges import epoch_of
from pipeline.clients.following.position import Stand


class Received(NamedTuple):
    """A record as Kafka gave it. timestamp: Unix time in ms, None where the topic keeps none; epoch: of the
    leader that wrote it, -1: not known."""

    raw: bytes
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    epoch: int = -1

    @property
    def position(self) -> int:
        """Where it lies in its source: a number that grows along it, though the log be cut."""
        return Stand(self.offset, self.epoch).position


def received_of(message: Message) -> Received:
    """What is kept of a message."""
    kind, written = message.timestamp()
    return Received(
        raw=message.value() or b"",
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=None if kind == TIMESTAMP_NOT_AVAILABLE else written,
        key=message.key(),
        headers=tuple(message.headers() or ()),
        epoch=epoch_of(message),
    )


class Keeper(Protocol):
    """What keeps the records. A source is one partition of one topic as this group reads it, by name."""

    @property
    def due(self) -> bool:
        """Whether it is time to flush."""

    def marks(self, sources: Iterable[str]) -> dict[str, int]:
        """The position at which each source goes on, of those known; what was gathered is forgotten."""

    def append(self, source: str, records: Sequence[Received], next_position: int) -> None:
        """Collect records of a source, in order.

        Parameters
        ----------
        source
            The source's name.
        records
            The records.
        next_position
            Where the source goes on after them.
        """

    def flush(self) -> dict[str, int] | None:
        """Keep what was gathered and answer where the sources stand; None when somebody else has gone on
        with one of them: then nothing is kept, and `marks` says where to go on. Raises Unreachable when it
        cannot keep anything now; what was gathered is still there then."""


@dataclass
class Followed:
    """How far it is.

    read: records; partitions: that are ours now. lost: partition -> what can no longer be read; made_again:
    topics that were made again under us, and were read from their beginning. aside: partition -> why it
    cannot be read now.
    """

    read: int = 0
    partitions: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    made_again: list[str] = field(default_factory=list)
    aside: dict[str, str] = field(default_factory=dict)
