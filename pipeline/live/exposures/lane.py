"""The Kafka of the exposure channels: all partitions in one hand, read once, judged in transactions.

EXACTLY ONCE. Only the member of the group that has the one partition of zads.exposures reads, and whoever
begins fences whoever read before (KIP-98). One transaction holds the alerts of some closed exposures, the
records that say what was judged together, and for each partition the offset below which everything has been
judged. Whoever reads from there again finds in zads.exposures which of the records above were judged.
"""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.broker.client import MESSAGE_MAX_BYTES
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import RangeReader, Stalled, settings_of_ranges
from pipeline.channels.channel import ChannelSet
from pipeline.channels.gaps import EXPOSURES_TOPIC as TOPIC
from pipeline.channels.ledger import Entry, Page
from pipeline.live.exposures.clock import BrokerClock
from pipeline.live.exposures.closings import CLOCK, Closing, closed_by
from pipeline.live.exposures.gathering import Gathering, Key, Place
from pipeline.live.membership import Membership
from pipeline.worker.deliver import Outgoing, applied_to_exposures, span_of
from pipeline.worker.holding.position import metadata_of, standing
from pipeline.worker.tally import tally

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0
_TRANSACTION_SECONDS = 60.0
_LOOK_SECONDS = 5.0
_MOST_AT_ONCE = 500
_AHEAD = 60_000  # milliseconds: a partition whose records are so much newer than another's waits for it


@dataclass(frozen=True)
class Judged:
    """A closing and what goes out with it.

    records: those judged now, in the order of its places. beside: those of the same exposure that were judged
    before, and came first in the judgement.
    """

    closing: Closing
    outgoing: Outgoing
    records: Sequence[Message]
    beside: Sequence[Message] = ()

    def pages(self) -> dict[str, Page]:
        """For the ledger, once it has been produced: of the channels alone, the run counts the sources."""
        every, topic = [*self.beside, *self.records], self.closing.key.topic
        pages = tally(topic, self.outgoing.verdicts, every, self.outgoing, first=len(self.beside))
        return {night: Page(channels=page.channels) for night, page in pages.items()}


class ExposureLane:
    """Every partition of the topics, held by this process until another fences it.

    Parameters
    ----------
    kafka
        Settings of any client.
    group
        The consumer group of the exposure channels.
    pattern
        A regular expression of the topics.
    grace
        How long to wait for the rest of an exposure, milliseconds.

    Attributes
    ----------
    gathering
        The exposures, from `take` on.
    records
        Topic and place -> record, of the exposures that are open.
    """

    def __init__(self, kafka: dict[str, str], group: str, pattern: str, grace: int) -> None:
        self._kafka, self._group, self._grace = kafka, group, grace
        self._patterns = pattern
        self._admin = AdminClient(kafka)
        self._producer = Producer(
            {
                **paced_settings(kafka),
                "transactional.id": group,
                "transaction.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
                "retry.backoff.ms": 10,
                "message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )
        self._reader = Consumer(
            {
                **settings_of_ranges(kafka, group),
                "queued.max.messages.kbytes": 65_536,
            }
        )
        self._ids: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}  # topic -> of the ledger
        self._looked = -_LOOK_SECONDS
        self._applied = ""  # the version of the channels that zads.applied was told last
        self._committed: dict[Partition, int] = {}
        self._newest: dict[Partition, int] = {}  # milliseconds, of the records read
        self._at_end: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._clock = BrokerClock()
        self.records: dict[tuple[str, Place], Message] = {}

    def take(self, membership: Membership) -> None:
        """Fence whoever read before, and begin where the group stands. Raises KafkaException."""
        fence(self._producer, _KAFKA_SECONDS)
        topics = self._topics()
        self._ids = membership.topic_ids(topics)
        told = self._read_whole(Partition(TOPIC, 0))
        values = [record.value() or b"" for record in told if record.key() != CLOCK]
        self.gathering = Gathering(closed_by(values, self._ids), self._grace)
        self._begin_with(membership, list(self._ids))
        self._ask_the_clock()

    def _topics(self) -> list[str]:
        known = self._admin.list_topics(timeout=_KAFKA_SECONDS).topics
        return sorted(name for name in known if re.match(self._patterns, name))

    def _begin_with(self, membership: Membership, topics: Sequence[str]) -> None:
        """Read these topics too, each partition from where the group stands in it."""
        places = [TopicPartition(*p) for p in membership.partitions_of(topics)] if topics else []
        for found in self._reader.committed(places, _KAFKA_SECONDS) if places else ():
            if found.error is not None:
                raise KafkaException(found.error)
            partition = Partition(found.topic, found.partition)
            low, _ = self._reader.get_watermark_offsets(TopicPartition(*partition), _KAFKA_SECONDS)
            stood = standing(found, self._ids[partition.topic], low)
            if stood.loss:
                log.error("%s: %s", partition, stood.loss)
            self.gathering.begin(partition, stood.offset)
            self._committed[partition] = stood.offset
            self._newest[partition] = -1
            self._reader.incremental_assign([TopicPartition(*partition, stood.offset)])

    def look_for_topics(self, membership: Membership) -> None:
        """Now and then: topics that are new, gone, or made again. Raises KafkaException, BrokerError."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if self._clock.due:
            self._ask_the_clock()
        now = membership.topic_ids(self._topics())
        gone = [topic for topic, was in self._ids.items() if now.get(topic) != was]
        for topic in gone:
            log.warning("topic %s was deleted: its open exposures are forgotten", topic)
            self._forget(topic)
        new = [topic for topic in now if topic not in self._ids]
        self._ids |= {topic: now[topic] for topic in new}
        self._begin_with(membership, new)

    def _forget(self, topic: str) -> None:
        del self._ids[topic]
        self._entries.pop(topic, None)
        mine = [partition for partition in self._committed if partition.topic == topic]
        self._reader.incremental_unassign([TopicPartition(*partition) for partition in mine])
        for partition in mine:
            del self._committed[partition], self._newest[partition]
            self._at_end.discard(partition)
            self._paused.discard(partition)
        self.gathering.forget(topic)
        self.records = {key: record for key, record in self.records.items() if key[0] != topic}

    def _ask_the_clock(self) -> None:
        """The broker's clock, as it stamps a record of ours."""

        def answered(error: KafkaError | None, message: Message) -> None:
            kind_and_time = message.timestamp()
            if error is None and kind_and_time is not None:
                self._clock.heard(kind_and_time[1])

        self._producer.begin_transaction()
        self._producer.produce(TOPIC, b"", CLOCK, partition=0, on_delivery=answered)
        self._producer.flush(_KAFKA_SECONDS)
        self._producer.commit_transaction(_KAFKA_SECONDS)

    def read(self) -> list[Message]:
        """What has come, of any partition. Raises KafkaException."""
        self._let_the_slowest_catch_up()
        found = []
        first = self._reader.poll(0.1)
        for message in [] if first is None else [first, *self._reader.consume(_MOST_AT_ONCE, 0)]:
            partition = Partition(message.topic() or "", message.partition() or 0)
            offset = message.offset() or 0
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if partition in self._committed:
                    self._at_end.add(partition)
                    self.gathering.reaches(partition, offset)
            elif partition in self._committed:
                self._at_end.discard(partition)
                self._newest[partition] = max(self._newest[partition], message.timestamp()[1])
                self.gathering.reaches(partition, offset + 1)
                found.append(message)
        return found

    def times(self) -> dict[Partition, int]:
        """The time of each partition, milliseconds: of its newest record, the broker's at its end."""
        clock = self._clock.now
        return {p: max(clock, newest) if p in self._at_end else newest for p, newest in self._newest.items()}

    def _let_the_slowest_catch_up(self) -> None:
        """Exposures stay open, and in memory, until every partition has passed them."""
        times = self.times()
        reached = min(times.values(), default=0)
        ahead = {p for p in times if p not in self._at_end and times[p] > reached + self._grace + _AHEAD}
        for change, which in ((self._reader.pause, ahead), (self._reader.resume, self._paused - ahead)):
            if places := [TopicPartition(*partition) for partition in which]:
                change(places)
        self._paused = ahead

    def again(self, key: Key, places: Sequence[Place]) -> list[Message]:
        """Records that were judged before, as far as they are still there."""
        readers: dict[int, RangeReader] = {}
        found: list[Message] = []
        try:
            for place in sorted(places):
                if place.partition not in readers:
                    partition = Partition(key.topic, place.partition)
                    readers[place.partition] = RangeReader(self._kafka, self._group, partition)
                found += readers[place.partition].read(place.offset, place.offset + 1)
        except (KafkaException, Stalled) as error:
            log.warning("%s: a late record is judged beside %d of its exposure: %s", key, len(found), error)
        finally:
            for reader in readers.values():
                reader.close()
        return found

    def closing(self, key: Key, places: Sequence[Place], late: bool) -> Closing:
        """What is to be said of records that are judged now.

        Parameters
        ----------
        key
            Their exposure.
        places
            Where they are.
        late
            Whether it was closed before.
        """
        idle = self._at_end & {p for p in self._newest if p.topic == key.topic}
        reason = "late" if late else "clock" if idle else "passed"
        return Closing(key, tuple(places), reason, self._ids[key.topic])  # type: ignore[arg-type]

    def commit(self, judged: Sequence[Judged], channels: ChannelSet, membership: Membership) -> None:
        """One transaction: what was judged, what is said of it, and where each partition stands then.

        Parameters
        ----------
        judged
            Closings, with what goes out.
        channels
            That have judged.
        membership
            Of the group: proof that it is ours.

        Raises
        ------
        KafkaException
            The lane is then not to be used again.
        """
        closed = [one.closing.key for one in judged if one.closing.reason != "late"]
        late = [
            (one.closing.key, p) for one in judged if one.closing.reason == "late" for p in one.closing.places
        ]
        positions = self.gathering.positions(without=closed, late=late)
        moved = {p: offset for p, offset in positions.items() if self._committed[p] != offset}
        if not judged and not moved:
            return
        self._producer.begin_transaction()
        paced = Paced(self._producer, seconds=20.0)
        for one in judged:
            one.outgoing.produce(paced, *map(span_of, one.records))
            paced.produce(**one.closing.record(channels), partition=0)
        if judged and channels.version != self._applied:
            paced.produce(**applied_to_exposures(channels))
        entries = self._entries_with(judged)
        for entry in entries.values():
            paced.produce(**entry.record())
        paced.flush()
        places = [
            TopicPartition(*p, offset, metadata_of(channels.version, self._ids[p.topic]))
            for p, offset in moved.items()
        ]
        if places:
            self._producer.send_offsets_to_transaction(places, membership.metadata, _KAFKA_SECONDS)
        self._producer.commit_transaction(_KAFKA_SECONDS)
        self._committed |= moved
        self._entries |= entries
        self._applied = channels.version if judged else self._applied
        for one in judged:
            self._settle(one.closing)

    def _entries_with(self, judged: Sequence[Judged]) -> dict[str, Entry]:
        """The entries of the ledger that these change, one a topic."""
        entries: dict[str, Entry] = {}
        for one in judged:
            topic = one.closing.key.topic
            new = Entry(self._group, topic, -1, self._ids[topic], 0, 0, kind="exposures")
            entry = entries.get(topic) or self._entries.get(topic) or new
            entries[topic] = entry.and_then(0, one.pages())
        return entries

    def _settle(self, closing: Closing) -> None:
        if closing.reason == "late":
            self.gathering.judged(closing.key, closing.places)
        else:
            self.gathering.close(closing.key)
        for place in closing.places:
            self.records.pop((closing.key.topic, place), None)

    def has_reached(self, targets: Mapping[Partition, int]) -> bool:
        """Whether everything below these offsets has been judged, and committed."""
        return all(self._committed.get(partition, -1) >= end for partition, end in targets.items())

    @property
    def waiting(self) -> int:
        """Records that are read and not yet judged."""
        return len(self.records)

    def _read_whole(self, partition: Partition) -> list[Message]:
        """Every record of a partition, transactions that are under way waited for."""
        place = TopicPartition(*partition)
        low, end = (
            self._admin.list_offsets({place: which}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[place]
            .result(_KAFKA_SECONDS)
            .offset
            for which in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        reader = RangeReader(self._kafka, self._group, partition)
        try:
            return reader.read(low, end)
        finally:
            reader.close()

    def close(self) -> None:
        """Let go, leaving an unfinished transaction to whoever fences us."""
        self._producer.purge()
        self._reader.close()


def by_topic(records: Sequence[Message]) -> dict[str, list[Message]]:
    """In their order."""
    found: dict[str, list[Message]] = defaultdict(list)
    for record in records:
        found[record.topic() or ""].append(record)
    return found


def place_of(record: Message) -> Place:
    """Where a record is."""
    return Place(record.partition() or 0, record.offset() or 0)
