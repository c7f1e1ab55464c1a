"""What must be in Kafka and the archive after a storm: by confluent-kafka, fastavro and deltalake alone.

Nothing of zads is imported here, neither the pipeline's code nor the ledger's: what they write is read as
JSON.
"""

from __future__ import annotations

import io
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import IsolationLevel, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from deltalake import DeltaTable

from tests.pipeline.topics import records

SECONDS_TO_BE_SEEN = 20.0
"""An open transaction would hide what follows it for 60 s; a busy machine needs a moment for the markers."""
Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Source:
    """One record of a source topic. candid: None where it cannot be read."""

    place: Place
    raw: bytes
    candid: int | None
    public: bool
    rb: float


@dataclass
class Oracle:
    """Judges what a storm has left.

    channels: channel -> its least rb. late: channels that were enabled under way. before: what was in topics
    that were deleted, or deleted from topics, meanwhile. restarts: how often each topic was made again.
    filled: gaps that a backfill has seen in a channel, by source partition: these come after their time.
    """

    servers: str
    group: str
    topics: list[str]
    channels: dict[str, float]
    late: set[str] = field(default_factory=set)
    before: list[Source] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    restarts: Counter[str] = field(default_factory=Counter)
    filled: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def judge(self) -> list[str]:
        """What is wrong, a sentence each."""
        hidden = hidden_after(self.servers, SECONDS_TO_BE_SEEN)
        self._expect(not hidden, f"an open transaction hides what is in {hidden}")
        now = sources(self.servers, self.topics)
        gaps = open_gaps(self.servers)
        for name, least in self.channels.items():
            self._judge_channel(name, least, now, gaps[name])
        self._judge_dead_letters(now)
        self._judge_ledger(now)
        return self.problems

    def _judge_channel(self, name: str, least: float, now: list[Source], gaps: list[dict[str, Any]]) -> None:
        got = records(self.servers, f"channel.{name}")
        counts = Counter(candid_of(message.value()) for message in got)
        twice = [candid for candid, count in counts.items() if count > 1]
        self._expect(not twice, f"{name}: delivered twice: {twice[:5]}")
        wanted = [one for one in now if passes(one, least)]
        allowed = {one.candid for one in [*wanted, *self.before] if passes(one, least)}
        strange = set(counts) - allowed
        self._expect(not strange, f"{name}: nobody asked for {list(strange)[:5]}")
        missing = [one for one in wanted if one.candid not in counts and not in_a_gap(one, gaps)]
        if name in self.late:
            first = {place[:2]: place[2] for place in reversed(places_of(got))}
            missing = [one for one in missing if one.place[2] > first.get(one.place[:2], 1 << 60)]
        self._expect(not missing, f"{name}: missing {len(missing)} of {len(wanted)}: {missing[:2]}")
        self._judge_order(name, got)

    def _judge_order(self, name: str, got: list[Message]) -> None:
        """By source partition; a topic that was made again counts anew, once for each time."""
        before: dict[tuple[str, int], int] = {}
        back: Counter[tuple[str, int]] = Counter()
        for topic, partition, offset in places_of(got):
            if offset <= before.get((topic, partition), -1):
                back[topic, partition] += 1
            before[topic, partition] = offset
        wrong = {
            place: count
            for place, count in back.items()
            if count > self.restarts[place[0]] + self.filled[name, *place]
        }
        self._expect(not wrong, f"{name}: out of order: {wrong}")

    def _judge_dead_letters(self, now: list[Source]) -> None:
        letters = Counter(
            message.value()
            for message in records(self.servers, "zads.dead-letters")
            if not dict(message.headers() or ()).get("channel")
        )
        bad = {one.raw for one in now if one.candid is None}
        known = bad | {one.raw for one in self.before if one.candid is None}
        self._expect(
            all(letters[raw] == 1 for raw in bad), f"dead letters: {len(bad)} wanted, {len(letters)}"
        )
        self._expect(letters.keys() <= known, "a good packet was blamed")

    def _judge_ledger(self, now: list[Source]) -> None:
        entries = ledger_entries(self.servers, self.group)
        received: Counter[str] = Counter()
        delivered: Counter[str] = Counter()
        for entry in entries:
            for (whole, judged, unreadable, unknown, _), channels in entry["pages"].values():
                received[entry["topic"]] += whole
                self._expect(whole == judged + unreadable + unknown, f"ledger: {entry['topic']}: {whole}")
                for name, counts in channels.items():
                    self._judge_counts(f"ledger: {name}, {entry['topic']}", counts)
                    delivered[name] += counts[6]
        for topic in self.topics:
            there = sum(one.place[0] == topic for one in now)
            if not any(one.place[0] == topic for one in self.before):
                self._expect(received[topic] == there, f"ledger: {received[topic]} of {there} in {topic}")
        for name in self.channels:
            there = len(records(self.servers, f"channel.{name}"))
            self._expect(delivered[name] == there, f"ledger: {delivered[name]} delivered, {there} in {name}")

    def _judge_counts(self, what: str, counts: list[int]) -> None:
        whole, passed, rejected, not_for_it, failed, gaps, delivered, undeliverable, limited, *_ = counts
        self._expect(whole == passed + rejected + not_for_it + failed + gaps, f"{what}: {counts}")
        self._expect(passed == delivered + undeliverable + limited, f"{what}: {counts}")

    def judge_archive(self, folder: Path) -> None:
        """Every record is a row, or quarantined, once."""
        now = sources(self.servers, self.topics)
        columns = ["_topic", "_partition", "_offset", "_digest"]
        rows = [
            tuple(row.values())
            for table in ("ztf", "quarantine")
            if DeltaTable.is_deltatable(f"{folder}/{table}")
            for row in DeltaTable(f"{folder}/{table}").to_pyarrow_table(columns=columns).to_pylist()
        ]
        self._expect(len(set(rows)) == len(rows), "archive: a row twice")
        kept = {row[:3] for row in rows}
        missing = {one.place for one in now} - kept
        self._expect(not missing, f"archive: {len(missing)} records are missing: {sorted(missing)[:3]}")
        if not self.before:
            self._expect(len(rows) == len(now), f"archive: {len(rows)} rows of {len(now)} records")

    def _expect(self, holds: bool, words: str) -> None:
        if not holds:
            self.problems.append(words)


def hidden_after(servers: str, seconds: float) -> list[str]:
    """Topics where readers of committed records do not come to the end, however often one looks so long.

    A transaction is over for its producer a moment before its markers are in the partitions.
    """
    admin = AdminClient({"bootstrap.servers": servers})
    known = admin.list_topics(timeout=20).topics
    asked = {
        TopicPartition(topic, number): OffsetSpec.latest()
        for topic, told in known.items()
        if not topic.startswith("__")
        for number in told.partitions
    }

    def ends(isolation: IsolationLevel) -> dict[tuple[str, int], int]:
        answers = admin.list_offsets(asked, isolation_level=isolation).items()
        return {(place.topic, place.partition): answer.result().offset for place, answer in answers}

    written, deadline = ends(IsolationLevel.READ_UNCOMMITTED), time.monotonic() + seconds
    while True:
        stable = ends(IsolationLevel.READ_COMMITTED)
        hidden = sorted({topic for (topic, number), end in written.items() if stable[topic, number] < end})
        if not hidden or time.monotonic() > deadline:
            return hidden
        time.sleep(0.2)


def sources(servers: str, topics: list[str]) -> list[Source]:
    """Every committed record of the source topics."""
    return [source_of(message) for topic in topics for message in records(servers, topic)]


def source_of(message: Message) -> Source:
    place = (message.topic(), message.partition(), message.offset())
    try:
        packet: Any = next(iter(fastavro.reader(io.BytesIO(message.value()))))
    except Exception:
        return Source(place, message.value(), None, False, 0.0)
    candidate = packet["candidate"]
    rb = -1.0 if candidate["rb"] is None else candidate["rb"]
    return Source(place, message.value(), packet["candid"], candidate["programid"] == 1, rb)


def passes(one: Source, least: float) -> bool:
    return one.candid is not None and one.public and one.rb >= least


def candid_of(raw: bytes) -> int:
    packet: Any = next(iter(fastavro.reader(io.BytesIO(raw))))
    return packet["candid"]


def places_of(got: list[Message]) -> list[Place]:
    """The sources of a channel's records, by their header, in order."""
    found = []
    for message in got:
        topic, partition, offset = dict(message.headers())["source"].decode().rsplit("/", 2)
        found.append((topic, int(partition), int(offset)))
    return found


def open_gaps(servers: str) -> defaultdict[str, list[dict[str, Any]]]:
    """Channel -> its gaps: the last record of each key, unless that is empty."""
    latest = {message.key(): message.value() for message in records(servers, "zads.gaps")}
    gaps = defaultdict(list)
    for value in filter(None, latest.values()):
        gap = json.loads(value)
        gaps[gap["channel"]].append(gap)
    return gaps


def in_a_gap(one: Source, gaps: list[dict[str, Any]]) -> bool:
    topic, partition, offset = one.place
    return any(
        (gap["topic"], gap["partition"]) == (topic, partition) and gap["low"] <= offset < gap["high"]
        for gap in gaps
    )


def ledger_entries(servers: str, group: str) -> list[dict[str, Any]]:
    """The last record of each key of the ledger."""
    latest = {message.key(): message.value() for message in records(servers, "zads.ledger")}
    return [entry for entry in map(json.loads, latest.values()) if entry["group"] == group]
