"""A worker's hold on one partition: a consumer that stays on it and a transactional producer.

EXACTLY ONCE, the worker's half. The transactional id is made from the group and the partition, so the next
owner of the partition fences the one before (KIP-98). That alone does not remove duplicates: a predecessor
may have committed just before it died. So a worker that takes a partition fences first and then asks what is
committed; only if that is where its range begins does it read.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaException, Message, Producer, TopicPartition

from pipeline.broker.client import MESSAGE_MAX_BYTES
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.partition import Partition
from pipeline.broker.ranges import RangeReader, Stalled
from pipeline.channels.channel import is_older
from pipeline.channels.ledger import Entry
from pipeline.worker.position import Standing, as_topic_partition, metadata_of, standing
from pipeline.worker.remembered import NOTHING_REMEMBERED, Changes, memory_of
from pipeline.worker.work import Work

log = logging.getLogger(__name__)

_KAFKA_SECONDS = 10.0

_ROUND_SECONDS = 20.0
MOST_LANES = 160
"""Partitions that a worker holds at a time: some 1,300 threads and 2,600 handles."""
TRANSACTION_SECONDS = 60.0


def transactional_id(group: str, partition: Partition) -> str:
    """Of whoever holds the partition for the group."""
    return f"{group}/{partition}"


class Moved(Exception):
    """The committed offset is not where the range begins, so somebody else has done (some of) it."""

    def __init__(self, stood: Standing) -> None:
        super().__init__(f"the committed offset is {stood.offset}")
        self.stood = stood


class Behind(Exception):
    """The partition already goes by a later state of the channel registry than this work does."""


class Lane:
    """One partition, held by this process until another fences it."""

    def __init__(self, work: Work) -> None:
        self.partition = work.partition
        self.group = work.group
        self.version = ""  # of the channel set, as committed last
        self.topic_id = work.topic_id
        self.committed = -1  # where the group stands, for as long as nobody fences us
        self.stood = Standing(-1)  # when we took it
        self.memory = NOTHING_REMEMBERED  # what limits remember of the partition
        self._settings = work.client
        self.used = time.monotonic()
        self.began = 0.0  # when the transaction now open was begun
        self.entry = Entry(work.group, *work.partition, work.topic_id, work.low, work.low)  # of the ledger
        self._reader = RangeReader(work.client, work.group, work.partition)
        self._producer = Producer(
            {
                **paced_settings(work.client),
                "transactional.id": transactional_id(work.group, work.partition),
                "transaction.timeout.ms": int(TRANSACTION_SECONDS * 1000),
                "retry.backoff.ms": 10,  # the default, 100, is paid by each transaction that follows at once
                "message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )

    def take(self, work: Work) -> None:
        """Fence every earlier holder, then make sure that the range begins where the group stands.

        Raises Moved(offset) when it does not, Behind when the channels have changed since the work was
        made, KafkaException when the broker does not answer.
        """
        fence(self._producer, _KAFKA_SECONDS)
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

    def refuse_older(self, work: Work) -> None:
        """Raise Behind for work whose channels are of an earlier state of the registry than the committed."""
        if is_older(work.version, self.version):
            raise Behind(f"channels {work.version} are older than {self.version}, which is in force here")

    def read(self, low: int, high: int) -> list[Message]:
        """The records with low <= offset < high, in order (see RangeReader.read)."""
        return self._reader.read(low, high, self.stood.epoch)

    def commit(self, work: Work, produce: Callable[[Paced], Changes]) -> None:
        """One transaction: whatever `produce` sends, and the input offset with the version in force.

        `produce` returns what the limits are to remember from now on.

        Raises KafkaException (NotTaken for a record that is not known to be taken) or Stalled; the lane is
        then not to be used again, and whoever takes the partition next aborts the transaction.
        """
        self._producer.begin_transaction()
        self.began = time.monotonic()
        paced = Paced(self._producer, seconds=_ROUND_SECONDS)
        changes = produce(paced)
        paced.flush()
        metadata = metadata_of(work.version, work.topic_id, self.memory.text_with(changes))
        position = as_topic_partition(self.partition, work.high, self._reader.epoch, metadata)

        def finish() -> None:
            self._producer.send_offsets_to_transaction([position], work.membership, _KAFKA_SECONDS)
            self._producer.commit_transaction(_KAFKA_SECONDS)

        _within(_KAFKA_SECONDS, finish)
        self.version, self.committed, self.stood = work.version, work.high, Standing(work.high)
        self.memory.learn(changes)
        self.used = time.monotonic()

    def abandon(self) -> None:
        """Close without waiting: librdkafka may take minutes over it when the broker is away."""
        threading.Thread(target=self.close, name=f"close {self.partition}", daemon=True).start()

    def close(self) -> None:
        """Let go, leaving an unfinished transaction to whoever fences us."""
        self._producer.purge()
        self._reader.close()


def _within(seconds: float, function: Callable[[], None]) -> None:
    """Call `function`; raises what it raises, or Stalled when it has not come back after `seconds`.

    librdkafka 2.16 does not keep the time limit of send_offsets_to_transaction when the broker goes away
    under it. The call is then left behind in its thread; the next holder's fence makes it harmless.
    """
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def call() -> None:
        try:
            function()
            outcome.put(None)
        except BaseException as error:  # handed to the waiting thread, which raises it
            outcome.put(error)

    threading.Thread(target=call, daemon=True).start()
    try:
        error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise Stalled(f"the broker did not take a transaction within {seconds:g} s") from None
    if error is not None:
        raise error


class Lanes:
    """The partitions that this process holds. The lanes of a bundle are taken side by side, in threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of what is held; never while a lane is taken
        self._held: dict[tuple[str, Partition], Lane] = {}
        self.all_stalled = False
        self._since = 0.0  # when the bundle began that is done now

    def __len__(self) -> int:
        return len(self._held)

    def for_work(self, work: Work) -> Lane:
        """The lane for this work; taken anew when not held, when elsewhere, or when told to fence."""
        with self._lock:
            lane = self._held.get((work.group, work.partition))
        ours = lane is not None and not work.fence and lane.topic_id == work.topic_id
        if lane is not None and ours and lane.committed == work.low:
            lane.refuse_older(work)
            lane.used = time.monotonic()
            return lane
        self.drop(work)
        lane = Lane(work)
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
        """A lane is two clients: threads and handles. Whoever needs a closed one again takes it anew.

        Those of the bundle that is done now stay, however many they are.
        """
        by_use = sorted(self._held, key=lambda key: self._held[key].used)
        for key in by_use[: max(0, len(by_use) - MOST_LANES)]:
            if self._held[key].used < self._since:
                self._held.pop(key).abandon()

    def _close_idle(self, seconds: float = 120.0) -> None:
        idle = [key for key, lane in self._held.items() if time.monotonic() - lane.used > seconds]
        for key in idle:
            self._held.pop(key).abandon()
