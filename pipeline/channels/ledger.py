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
from operator import add
from typing import Any

from pipeline.broker.partition import Partition
from pipeline.channels.counts import ByChannel, ChannelCounts, SourceCounts

LEDGER_TOPIC = "zads.ledger"
LEDGER_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": str(400 * 86_400_000),
    "min.cleanable.dirty.ratio": "0.1",
}
"""Kept for 400 days, one record an entry: a worker writes the entry anew with each of its batches."""

_DATE = re.compile(r"(?:^|_)(\d{4})(\d\d)(\d\d)(?:_|$)")
_HALF_A_DAY = timedelta(hours=12)


@dataclass
class Page:
    """What became of the records of one night of a source."""

    source: SourceCounts = field(default_factory=SourceCounts)
    channels: ByChannel = field(default_factory=ByChannel)

    def add(self, other: Page) -> None:
        """Add the counts of another page."""
        self.source = SourceCounts._make(map(add, self.source, other.source))
        self.channels.add(other.channels)

    def as_json(self) -> str:
        """A list of the source's counts and those by channel."""
        return f"[{json.dumps(self.source)},{self.channels.as_json()}]"

    @classmethod
    def of_lists(cls, lists: list[Any]) -> Page:
        """From what `as_json` gave."""
        source, channels = lists
        counts = {name: ChannelCounts(*counts) for name, counts in channels.items()}
        return cls(SourceCounts(*source), ByChannel(counts))


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
        pages = ",".join([f"{json.dumps(night)}:{page.as_json()}" for night, page in self.pages.items()])
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
