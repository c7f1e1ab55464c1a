"""What a channel missed while it was suspended, kept in Kafka until a backfill has delivered it.

A gap is a record of the compacted topic zads.gaps, written in the same transaction that moves the
input offset past it; a backfill delivers the alerts and takes the gap away (a tombstone) in one
transaction too. So a gap is either there or filled, whichever process dies at whatever time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.broker.partition import Partition
from pipeline.channels.channel import Channel

GAPS_TOPIC = "zads.gaps"
GAPS_SETTINGS = {"cleanup.policy": "compact"}
APPLIED_TOPIC = "zads.applied"
ONCE_TOPIC = "zads.once"
ONCE_SETTINGS = {"cleanup.policy": "compact"}
"""What limits remember of objects: see pipeline.worker.holding.remembered."""
EXPOSURES_TOPIC = "zads.exposures"
EXPOSURES_SETTINGS = {"message.timestamp.type": "LogAppendTime"}
"""Which alerts of an exposure were judged together: see pipeline.live.exposures.closings."""
RANKED_TOPIC = "zads.ranked"
RANKED_SETTINGS = {"cleanup.policy": "compact"}
"""Which nights of which ranked channels are done: see pipeline.clients.ranked."""
APPLIED_SETTINGS = {"retention.ms": "-1"}
"""Kept for ever."""
Counted = Literal["gaps", "failed", "undeliverable", ""]


@dataclass(frozen=True)
class Gap:
    """A channel did not see the records of `topic`/`partition` with low <= offset < high.

    counted: as what the ledger has these records until they are delivered; "": it does not have them.
    traceback: of a user's code that was suspended here, for its owner. topic_id: of the topic that these
    offsets are of, which one that is made again does not have; "": nobody asked. epoch: of the leader that
    wrote the last of these records, since a log that was cut has others there; -1: not known.
    """

    channel: str
    topic: str
    partition: int
    low: int
    high: int
    filter: str
    version: str
    parameters: dict[str, Any]
    reason: str
    counted: Counted = ""
    traceback: str = ""
    topic_id: str = ""
    epoch: int = -1

    @property
    def source(self) -> Partition:
        return Partition(self.topic, self.partition)

    @property
    def key(self) -> bytes:
        """The range as an idempotent key: writing the same gap twice has no effect."""
        of = f"|{self.topic_id}" if self.topic_id else ""
        return f"{self.channel}|{self.topic}|{self.partition}|{self.low}|{self.high}{of}".encode()

    def is_of(self, topic_id: str | None) -> bool:
        """Whether its offsets are of the topic with this id (None: there is none), as far as it says so."""
        return self.topic_id in ("", topic_id)

    def record(self) -> dict[str, Any]:
        """Arguments for Producer.produce that note the gap."""
        return {"topic": GAPS_TOPIC, "key": self.key, "value": json.dumps(asdict(self)).encode()}

    def tombstone(self) -> dict[str, Any]:
        """Arguments for Producer.produce that take the gap away."""
        return {"topic": GAPS_TOPIC, "key": self.key, "value": None}


def gap_of(
    channel: Channel, source: Partition, low: int, high: int, reason: str, counted: Counted = ""
) -> Gap:
    """The gap that a channel has in one partition.

    Parameters
    ----------
    channel
        The channel.
    source
        The partition.
    low
        First offset.
    high
        Offset after the last.
    reason
        Why it did not see these records.
    counted
        As what the ledger has these records; "": it does not have them.
    """
    of = channel.filter
    return Gap(channel.name, *source, low, high, of.name, of.version, dict(of.values), reason, counted)


def open_gaps(records: Iterable[tuple[bytes, bytes]]) -> list[Gap]:
    """The gaps still open, from keys and values of zads.gaps in order; an empty value fills its gap."""
    latest = dict(records)
    return [Gap(**json.loads(value)) for value in latest.values() if value]
