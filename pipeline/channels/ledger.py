"""The ledger: what became of every record, as counts that ride in the transaction that moves the offset.

A worker that takes a partition begins an entry. With each batch it adds the batch's counts, and sends the
whole entry under the same key in the batch's own transaction. So the newest record of a key says what became
of exactly the records that the group's offset has passed since then; an aborted batch leaves no trace, and
the compacted topic holds one record for each time that a partition was taken. A backfill writes entries too:
they move counts from "gaps" to what the records have come to.

Every record of a source is judged, unreadable, or of a survey that is not known. Every record that a channel
receives has passed, was rejected, was not for it (another survey's, not public, unreadable), has failed (the
filter raised on it), or lies in a gap. What has passed was delivered, was stopped by a limit of the channel,
or could not be delivered (too large, or not to be made public).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import add
from typing import Any, NamedTuple

from pipeline.broker.partition import Partition

LEDGER_TOPIC = "zads.ledger"
LEDGER_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(400 * 86_400_000),
    "min.cleanable.dirty.ratio": "0.1",
}
"""Kept for 400 days, one record an entry: a worker writes the entry anew with each of its batches."""

_DATE = re.compile(r"(?:^|_)(\d{4})(\d\d)(\d\d)(?:_|$)")
_HALF_A_DAY = timedelta(hours=12)


class SourceCounts(NamedTuple):
    """Records of a source. lost: offsets that were deleted before they were read, no part of `received`."""

    received: int = 0
    judged: int = 0
    unreadable: int = 0
    unknown: int = 0
    lost: int = 0

    @property
    def imbalances(self) -> list[str]:
        """What does not add up, a sentence each."""
        parts = self.judged + self.unreadable + self.unknown
        return _unequal(self.received, "received", parts, "judged, unreadable or of an unknown survey")


class ChannelCounts(NamedTuple):
    """Records of a source as one channel received them. bytes: of those that were delivered."""

    received: int = 0
    passed: int = 0
    rejected: int = 0
    not_for_it: int = 0
    failed: int = 0
    gaps: int = 0
    delivered: int = 0
    undeliverable: int = 0
    limited: int = 0
    bytes: int = 0

    @property
    def imbalances(self) -> list[str]:
        """What does not add up, a sentence each."""
        parts = self.passed + self.rejected + self.not_for_it + self.failed + self.gaps
        sent = self.delivered + self.undeliverable + self.limited
        return [
            *_unequal(self.received, "received", parts, "passed, rejected, not for it, failed or in gaps"),
            *_unequal(self.passed, "passed", sent, "delivered, undeliverable or limited"),
        ]


def _unequal(whole: int, name: str, parts: int, names: str) -> list[str]:
    return [] if whole == parts else [f"{whole:,} {name}, {parts:,} {names}"]


@lru_cache(maxsize=10_000)
def _sum(one: ChannelCounts, other: ChannelCounts) -> ChannelCounts:
    """Of many channels the counts are the same."""
    return ChannelCounts._make(map(add, one, other))


@lru_cache(maxsize=10_000)
def _json(value: str | ChannelCounts) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass
class Page:
    """What became of the records of one night of a source."""

    source: SourceCounts = field(default_factory=SourceCounts)
    channels: dict[str, ChannelCounts] = field(default_factory=dict)

    def add(self, other: Page) -> None:
        """Add the counts of another page."""
        self.source = SourceCounts._make(map(add, self.source, other.source))
        if not self.channels:
            self.channels = dict(other.channels)
            return
        for name, counts in other.channels.items():
            before = self.channels.get(name)
            self.channels[name] = _sum(before, counts) if before else counts

    def as_json(self) -> str:
        """A list of the source's counts and those by channel."""
        channels = ",".join([f"{_json(name)}:{_json(counts)}" for name, counts in self.channels.items()])
        return f"[{json.dumps(self.source)},{{{channels}}}]"

    @classmethod
    def of_lists(cls, lists: list[Any]) -> Page:
        """From what `as_json` gave."""
        source, channels = lists
        return cls(SourceCounts(*source), {name: ChannelCounts(*counts) for name, counts in channels.items()})


@dataclass
class Entry:
    """What became of the records of `topic`/`partition` with low <= offset < high.

    name: of the entry. kind: "live"; "backfill" of offsets that a live entry has counted as a gap;
    "exposures" for channels that judge these whole, without offsets: they close in no order of them. pages:
    night ("2023-10-12") -> counts.
    """

    group: str
    topic: str
    partition: int
    topic_id: str
    low: int
    high: int
    kind: str = "live"
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    pages: dict[str, Page] = field(default_factory=dict)

    @property
    def source(self) -> Partition:
        return Partition(self.topic, self.partition)

    def and_then(self, high: int, pages: dict[str, Page]) -> Entry:
        """The entry with one batch more, which ends at `high`; this one stays as it is."""
        longer = Entry(
            self.group, self.topic, self.partition, self.topic_id, self.low, high, self.kind, self.name
        )
        for some in (self.pages, pages):
            for night, page in some.items():
                longer.pages.setdefault(night, Page()).add(page)
        return longer

    def record(self) -> dict[str, Any]:
        """Arguments for Producer.produce."""
        told = {name: value for name, value in vars(self).items() if name != "pages"}
        pages = ",".join([f"{_json(night)}:{page.as_json()}" for night, page in self.pages.items()])
        value = f'{json.dumps(told)[:-1]},"pages":{{{pages}}}}}'
        key = f"{self.group}|{self.source}|{self.kind}|{self.name}"
        return {"topic": LEDGER_TOPIC, "key": key.encode(), "value": value.encode()}


def entries_of(records: Iterable[tuple[bytes, bytes]]) -> list[Entry]:
    """The entries as they stand, from keys and values of zads.ledger in order."""
    latest = dict(records)
    entries = []
    for value in latest.values():
        told = json.loads(value)
        told["pages"] = {night: Page.of_lists(lists) for night, lists in told["pages"].items()}
        entries.append(Entry(**told))
    return entries


def night_of_topic(topic: str) -> str:
    """The night that a topic is named for, "2023-10-12"; "" for one that names none."""
    named = _DATE.search(topic)
    return "-".join(named.groups()) if named else ""


def night_of_arrival(timestamp: int | None) -> str:
    """The night in which a record was written, where nothing else tells: the date of UTC - 12 h.

    timestamp: Unix time in ms, None for the present.
    """
    moment = datetime.now(UTC) if timestamp is None else datetime.fromtimestamp(timestamp / 1000, UTC)
    return f"{moment - _HALF_A_DAY:%Y-%m-%d}"
