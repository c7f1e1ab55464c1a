"""A worker's hold on one partition: what is known of it, and who reads it.

EXACTLY ONCE, the worker's half. Transactions are a slot's (pipeline.worker.holding.slot). By the time that a
coordinator gives a partition to a worker, nobody else can begin to commit for it any more, but somebody may
have done so just before. So a worker that takes a partition asks what is committed, and waits for offsets
that are pending; only if that is where its range begins does it read.

WHO READS. All partitions share one consumer, and a bundle of ranges is one request. The few that are far
behind have a consumer each, which reads ahead while the filters run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from confluent_kafka import Message, TopicPartition

from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import BUDGET, RangeReader, ahead_of, epoch_of
from pipeline.broker.reading.shared_ranges import Cut, SharedReader, Told, Wanted
from pipeline.channels.channel import is_older
from pipeline.channels.ledger import Entry
from pipeline.worker.holding.position import Standing, as_topic_partition, metadata_of, standing
from pipeline.worker.holding.remembered import NOTHING_REMEMBERED, Changes, memory_of
from pipeline.worker.holding.slot import Slot, transactional_id
from pipeline.worker.judging.memory import limit_of_worker
from pipeline.worker.work import Work

log = logging.getLogger(__name__)

_PART_OF_MEMORY = 16
_IDLE_SECONDS = 120.0
_FAR = 100
"""Offsets of a range from which on it counts as far behind."""
_MOST_OWN_READERS = 16
"""Partitions that have a consumer each: some 32 threads and 50 handles."""


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
    """

    def __init__(self, work: Work) -> None:
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
        self.epoch = -1  # of the leader that wrote the record read last
        self._reader: RangeReader | None = None
        self.slot = Slot(work.client, transactional_id(work.group, work.partition)) if work.own_slot else None

    def take(self, work: Work, ask: Callable[[], Told]) -> None:
        """Make sure that the range begins where the group stands; with a slot of its own, fence before that.

        ask: where it stands; not called before a slot of its own has fenced others.

        Raises Moved(offset) when it does not, Behind when the channels have changed since the work was
        made, KafkaException when the broker does not answer, or offsets are pending for too long.
        """
        if self.slot is not None:
            self.slot.take()
        told = ask()
        self.stood = standing(
            told.committed, work.topic_id, told.beginning, told.end if work.beyond else None
        )
        self.epoch = self.stood.epoch
        self.version = self.stood.version
        self.memory = memory_of(self._settings, self.group, self.stood.memory)
        if self.stood.offset != work.low:
            raise Moved(self.stood)
        self.refuse_older(work)
        self.committed = self.stood.offset
        self.entry.low = self.stood.low if self.stood.loss else self.stood.offset

    def goes_back_to(self, cut: Cut) -> Standing:
        """Go on where the log was cut: nobody has read what is there now. The next commit says it."""
        words = (
            f"{cut}, after what had been there was read up to offset {self.committed}: reading on from there"
        )
        self.stood = Standing(cut.offset, loss=words, low=cut.offset, high=cut.offset)
        self.committed, self.epoch = cut.offset, -1
        self.entry = Entry(self.group, *self.partition, self.topic_id, cut.offset, cut.offset)
        return self.stood

    def stands_before(self, work: Work) -> bool:
        """Whether this work can go on here without asking Kafka where the group stands."""
        own = self.slot is not None and self.slot.open
        same = (self.run, self.topic_id, own) == (work.run, work.topic_id, work.own_slot)
        return same and not work.ask and self.committed == work.low

    def refuse_older(self, work: Work) -> None:
        """Raise Behind for work whose channels are of an earlier state of the registry than the committed."""
        if is_older(work.version, self.version):
            raise Behind(f"channels {work.version} are older than {self.version}, which is in force here")

    @property
    def reads_alone(self) -> bool:
        """Whether it has a consumer of its own."""
        return self._reader is not None

    def read_alone(self, ahead: int) -> None:
        """Have a consumer of its own from now on. ahead: bytes of its records that may wait here."""
        self._reader = RangeReader(self._settings, self.group, self.partition, ahead)

    def read(self, low: int, high: int) -> list[Message]:
        """The records with low <= offset < high, in order (see RangeReader.read)."""
        assert self._reader is not None
        records = self._reader.read(low, high, self.epoch)
        self.epoch = self._reader.epoch
        return records

    def position(self, work: Work, changes: Changes) -> TopicPartition:
        """Where the group stands when this work is done, with the version in force and what limits remember.

        changes: to what they remember.
        """
        metadata = metadata_of(work.version, work.topic_id, self.memory.text_with(changes))
        return as_topic_partition(self.partition, work.high, self.epoch, metadata)

    def went_on(self, work: Work, changes: Changes) -> None:
        """This work has been committed."""
        self.version, self.committed, self.stood = work.version, work.high, Standing(work.high)
        self.memory.learn(changes)
        self.used = time.monotonic()

    def abandon(self) -> None:
        """Close without waiting: librdkafka may take minutes over it when the broker is away."""
        if self.slot is not None:
            self.slot.abandon()
        if self._reader is not None:
            threading.Thread(target=self._reader.close, name=f"close {self.partition}", daemon=True).start()


class Lanes:
    """The partitions that this process holds, and the consumers that they share, one of each run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what is held; never while a lane is taken
        self._held: dict[tuple[str, Partition], Lane] = {}
        self._shared: dict[str, SharedReader] = {}  # run -> its reader
        self._told: dict[Partition, Told] = {}  # asked together, of partitions that are to be taken
        self.all_stalled = self.reader_failed = False

    @cached_property
    def _budget(self) -> int:
        """Bytes that the lanes share for what they read ahead."""
        limit = limit_of_worker()
        return limit // _PART_OF_MEMORY if limit else BUDGET

    def __len__(self) -> int:
        return len(self._held)

    def begin_bundle(self, works: Sequence[Work]) -> None:
        """Close idle lanes, or all when one stalled in the bundle before; ask together of those to be taken.

        works: all of one run. Asked of alone is a partition with a slot of its own, which has to be fenced
        before that, and one whose end is to be told too.
        """
        self._close(0.0 if self.all_stalled else _IDLE_SECONDS)
        if self.reader_failed:  # our password may have been rotated: a new client shows the present one
            self._close_readers(0.0)
        self.all_stalled, self.reader_failed, self._told = False, False, {}
        usual = [work for work in works if not (work.own_slot or work.beyond)]
        strange = [work.partition for work in usual if self._standing(work) is None]
        if len(strange) > 1:
            with suppress(Exception):  # of a client that cannot be made: whoever takes a lane says it
                self._told = self._reader(works[0]).told_together(strange)

    def for_work(self, work: Work) -> Lane:
        """The lane for this work; taken anew when not held, when elsewhere, or when told to ask."""
        lane = self._standing(work)
        if lane is None:
            return self._taken(work)  # its first range is read by the shared reader: that sees if it was cut
        lane.refuse_older(work)
        lane.used = time.monotonic()
        if not lane.reads_alone and work.high - work.low >= _FAR:
            with self._lock:
                own = sum(held.reads_alone for held in self._held.values())
                if own < _MOST_OWN_READERS:
                    lane.read_alone(ahead_of(own, self._budget))
        return lane

    def read(self, works: Sequence[Work]) -> Mapping[Partition, list[Message] | Exception]:
        """The records of partitions that share a reader, or why they cannot be read.

        works: of lanes that are held.
        """
        lanes = {work.partition: self._held[work.group, work.partition] for work in works}
        ranges = {one.partition: Wanted(one.low, one.high, lanes[one.partition].epoch) for one in works}
        found = self._reader(works[0]).read(ranges)
        for partition, records in found.items():
            if isinstance(records, Cut):
                found[partition] = Moved(lanes[partition].goes_back_to(records))
            elif isinstance(records, list) and records:
                lanes[partition].epoch = epoch_of(records[-1])
        return found

    def drop(self, work: Work) -> None:
        """Close the lane of this work, if it is held."""
        with self._lock:
            lane = self._held.pop((work.group, work.partition), None)
        if lane is not None:
            lane.abandon()

    def _standing(self, work: Work) -> Lane | None:
        """The lane in which this work can go on."""
        with self._lock:
            lane = self._held.get((work.group, work.partition))
        return lane if lane is not None and lane.stands_before(work) else None

    def _taken(self, work: Work) -> Lane:
        self.drop(work)
        lane = Lane(work)
        try:
            lane.take(work, lambda: self._ask(work))
        except BaseException:
            lane.abandon()
            raise
        with self._lock:
            self._held[work.group, work.partition] = lane
        return lane

    def _ask(self, work: Work) -> Told:
        """Where the group stands; of most partitions of a bundle that was asked together."""
        return self._told.get(work.partition) or self._reader(work).told(work.partition)

    def _reader(self, work: Work) -> SharedReader:
        with self._lock:
            if work.run not in self._shared:
                self._shared[work.run] = SharedReader(work.client, work.group)
            return self._shared[work.run]

    def _close(self, seconds: float) -> None:
        """Close what was not used for so long."""
        before = time.monotonic() - seconds
        for key in [key for key, lane in self._held.items() if lane.used <= before]:
            self._held.pop(key).abandon()
        self._close_readers(seconds)

    def _close_readers(self, seconds: float) -> None:
        before = time.monotonic() - seconds
        for run in [run for run, reader in self._shared.items() if reader.used <= before]:
            self._shared.pop(run).close()
