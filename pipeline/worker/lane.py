"""A worker's hold on one partition: a consumer that stays on it, and what is known of it.

EXACTLY ONCE, the worker's half. Transactions are a slot's (pipeline.worker.slot). By the time that a
coordinator gives a partition to a worker, nobody else can begin to commit for it any more, but somebody may
have done so just before. So a worker that takes a partition asks what is committed, and waits for offsets
that are pending; only if that is where its range begins does it read.
"""

from __future__ import annotations

import logging
import resource
import threading
import time
from functools import cached_property

from confluent_kafka import KafkaException, Message, TopicPartition

from pipeline.broker.partition import Partition
from pipeline.broker.ranges import AHEAD, BUDGET, RangeReader, ahead_of
from pipeline.channels.channel import is_older
from pipeline.channels.ledger import Entry
from pipeline.worker.memory import limit_of_worker
from pipeline.worker.position import Standing, as_topic_partition, metadata_of, standing
from pipeline.worker.remembered import NOTHING_REMEMBERED, Changes, memory_of
from pipeline.worker.slot import Slot, transactional_id
from pipeline.worker.work import Work

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0

_PART_OF_MEMORY = 16
_HANDLES_A_LANE, _OTHER_HANDLES = 8, 300
MOST_LANES = 320
"""Partitions that a worker holds at a time: some 1,300 threads and 2,600 handles. With fewer than it works
on, it would open and close clients all the time; this is two workers' usual share, for when one has ended."""


def most_lanes() -> int:
    """How many this process can hold, by the files that it may open."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MOST_LANES, (handles - _OTHER_HANDLES) // _HANDLES_A_LANE))


class Moved(Exception):
    """The committed offset is not where the range begins, so somebody else has done (some of) it."""

    def __init__(self, stood: Standing) -> None:
        super().__init__(f"the committed offset is {stood.offset}")
        self.stood = stood


class Behind(Exception):
    """The partition already goes by a later state of the channel registry than this work does."""


class Lane:
    """One partition, held by this process for as long as the coordinator gives it.

    Parameters
    ----------
    work
        Of the partition.
    ahead
        Bytes of its records that may wait here.
    """

    def __init__(self, work: Work, ahead: int = AHEAD) -> None:
        self.partition = work.partition
        self.group, self.run = work.group, work.run
        self.version = ""  # of the channel set, as committed last
        self.topic_id = work.topic_id
        self.committed = -1  # where the group stands, for as long as nobody else moves it
        self.stood = Standing(-1)  # when we took it
        self.memory = NOTHING_REMEMBERED  # what limits remember of the partition
        self._settings = work.client
        self.used = time.monotonic()
        self.entry = Entry(work.group, *work.partition, work.topic_id, work.low, work.low)  # of the ledger
        self._reader = RangeReader(work.client, work.group, work.partition, ahead)
        self.slot = Slot(work.client, transactional_id(work.group, work.partition)) if work.own_slot else None

    def take(self, work: Work) -> None:
        """Make sure that the range begins where the group stands; with a slot of its own, fence before that.

        Raises Moved(offset) when it does not, Behind when the channels have changed since the work was
        made, KafkaException when the broker does not answer, or offsets are pending for too long.
        """
        if self.slot is not None:
            self.slot.take()
        committed = self._reader.consumer.committed([TopicPartition(*self.partition)], _KAFKA_SECONDS)[0]
        if committed.error is not None:
            raise KafkaException(committed.error)
        place = TopicPartition(*self.partition)
        beginning, end = self._reader.consumer.get_watermark_offsets(place, _KAFKA_SECONDS)
        self.stood = standing(committed, work.topic_id, beginning, end if work.beyond else None)
        self.version = self.stood.version
        self.memory = memory_of(self._settings, self.group, self.stood.memory)
        if self.stood.offset != work.low:
            raise Moved(self.stood)
        self.refuse_older(work)
        self.committed = self.stood.offset
        self.entry.low = self.stood.low if self.stood.loss else self.stood.offset

    def stands_before(self, work: Work) -> bool:
        """Whether this work can go on here without asking Kafka where the group stands."""
        own = self.slot is not None and self.slot.open
        same = (self.run, self.topic_id, own) == (work.run, work.topic_id, work.own_slot)
        return same and not work.ask and self.committed == work.low

    def refuse_older(self, work: Work) -> None:
        """Raise Behind for work whose channels are of an earlier state of the registry than the committed."""
        if is_older(work.version, self.version):
            raise Behind(f"channels {work.version} are older than {self.version}, which is in force here")

    def read(self, low: int, high: int) -> list[Message]:
        """The records with low <= offset < high, in order (see RangeReader.read)."""
        return self._reader.read(low, high, self.stood.epoch)

    def position(self, work: Work, changes: Changes) -> TopicPartition:
        """Where the group stands when this work is done, with the version in force and what limits remember.

        changes: to what they remember.
        """
        metadata = metadata_of(work.version, work.topic_id, self.memory.text_with(changes))
        return as_topic_partition(self.partition, work.high, self._reader.epoch, metadata)

    def went_on(self, work: Work, changes: Changes) -> None:
        """This work has been committed."""
        self.version, self.committed, self.stood = work.version, work.high, Standing(work.high)
        self.memory.learn(changes)
        self.used = time.monotonic()

    def abandon(self) -> None:
        """Close without waiting: librdkafka may take minutes over it when the broker is away."""
        if self.slot is not None:
            self.slot.abandon()
        threading.Thread(target=self._reader.close, name=f"close {self.partition}", daemon=True).start()


class Lanes:
    """The partitions that this process holds. The lanes of a bundle are taken side by side, in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what is held; never while a lane is taken
        self._held: dict[tuple[str, Partition], Lane] = {}
        self.all_stalled = False
        self._since = 0.0  # when the bundle began that is done now

    @cached_property
    def _budget(self) -> int:
        """Bytes that the lanes share for what they read ahead."""
        limit = limit_of_worker()
        return limit // _PART_OF_MEMORY if limit else BUDGET

    def __len__(self) -> int:
        return len(self._held)

    def for_work(self, work: Work) -> Lane:
        """The lane for this work; taken anew when not held, when elsewhere, or when told to ask."""
        with self._lock:
            lane = self._held.get((work.group, work.partition))
        if lane is not None and lane.stands_before(work):
            lane.refuse_older(work)
            lane.used = time.monotonic()
            return lane
        self.drop(work)
        lane = Lane(work, ahead_of(len(self._held), self._budget))
        try:
            lane.take(work)
        except BaseException:
            lane.abandon()
            raise
        with self._lock:
            self._held[(work.group, work.partition)] = lane
            self._close_the_longest_unused()
        return lane

    def drop(self, work: Work) -> None:
        """Close the lane of this work, if it is held."""
        with self._lock:
            lane = self._held.pop((work.group, work.partition), None)
        if lane is not None:
            lane.abandon()

    def begin_bundle(self) -> None:
        """At the beginning of a bundle: close idle lanes, or all when one stalled in the bundle before."""
        self._since = time.monotonic()
        self._close_idle()
        if self.all_stalled:
            for lane in self._held.values():
                lane.abandon()
            self._held.clear()
            self.all_stalled = False

    def _close_the_longest_unused(self) -> None:
        """A lane is a client: threads and handles. Whoever needs a closed one again takes it anew.

        Those of the bundle that is done now stay, however many they are.
        """
        by_use = sorted(self._held, key=lambda key: self._held[key].used)
        for key in by_use[: max(0, len(by_use) - most_lanes())]:
            if self._held[key].used < self._since:
                self._held.pop(key).abandon()

    def _close_idle(self, seconds: float = 120.0) -> None:
        idle = [key for key, lane in self._held.items() if time.monotonic() - lane.used > seconds]
        for key in idle:
            self._held.pop(key).abandon()
