"""Reads ranges of many partitions through one consumer, when they are asked for.

A consumer for each partition costs two threads, three connections, a request every two seconds though nothing
comes, and a request for each record that comes: with 320 partitions those were most of what the broker
answered. Here a bundle of ranges is one request, and between bundles there is none. Nothing is read ahead, so
a partition that is far behind is better read by a RangeReader.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import (
    STALL_SECONDS,
    Range,
    Stalled,
    epoch_of,
    next_events,
    offset_of,
    settings_of_ranges,
)

log = logging.getLogger(__name__)

_STRAGGLER_SECONDS = 10.0  # for a partition of which nothing comes while others' records do
_TAIL = 16  # offsets before a range that are read to see whose they are: markers may be among them
_A_FETCH, _A_PARTITION = 16 << 20, 1 << 20  # bytes; a record that is larger comes all the same
_TOGETHER_SECONDS, _ALONE_SECONDS = 3.0, 10.0


class Wanted(NamedTuple):
    """A range: low <= offset < high. epoch: of the leader that wrote the record before; -1: not known."""

    low: int
    high: int
    epoch: int = -1


class Told(NamedTuple):
    """Where a group stands in a partition, and the first offset that can be read; end: if it was asked."""

    committed: TopicPartition
    beginning: int
    end: int | None = None


class Cut(Exception):
    """The log was cut below the range and written again: what was read from `offset` on is not there.

    Parameters
    ----------
    offset
        Of the first record that nobody of the group has read.
    """

    def __init__(self, offset: int) -> None:
        super().__init__(f"the log was cut at offset {offset} and written again")
        self.offset = offset


class _First(Range):
    """Complete as soon as it has a record."""

    def add(self, message: Message) -> bool:
        return super().add(message) or bool(self.records)


class SharedReader:
    """A consumer that reads committed records of any partition, range by range.

    Parameters
    ----------
    kafka
        Settings of the client.
    group
        Consumer group whose committed offsets are told; reading does not move them.
    """

    def __init__(self, kafka: Mapping[str, Any], group: str) -> None:
        self.used = time.monotonic()
        self._consumer = Consumer(
            {
                **settings_of_ranges(kafka, group),
                # What is asked for is there. The request that goes out behind its last record finds nothing,
                # and the next range waits for it.
                "fetch.wait.max.ms": 10,
                "fetch.max.bytes": _A_FETCH,
                "max.partition.fetch.bytes": _A_PARTITION,
                "queued.max.messages.kbytes": 2 * _A_FETCH // 1024,
            }
        )

    def read(self, wanted: Mapping[Partition, Wanted]) -> dict[Partition, list[Message] | Exception]:
        """The records of each range in order, or why they cannot be read: one's fault is nobody else's.

        A log that was truncated has other records under offsets that were read before. Those are of a later
        leader epoch. So wherever a record is of another epoch than the one before it, what lies below is
        looked at. (librdkafka 2.16.1 does so only where a leader's epoch is news to it.)

        Parameters
        ----------
        wanted
            The range of each partition.

        Returns
        -------
        dict
            A KafkaException, Cut, or Stalled where nothing came or the log was cut between two of the
            records, in place of records that cannot be read.
        """
        found = self._round({partition: Range(one.low, one.high) for partition, one in wanted.items()})
        doubts = {}
        for partition, records in found.items():
            # Epochs never fall along a log: where the last is that of before, they all are.
            if isinstance(records, list) and records and epoch_of(records[-1]) != wanted[partition].epoch:
                doubts[partition] = changes(map(_offset_and_epoch, records), wanted[partition].epoch)
        cut = self.cut(doubts)
        return {**found, **{partition: _for(wanted[partition], why) for partition, why in cut.items()}}

    def cut(self, doubts: Mapping[Partition, Sequence[Wanted]]) -> dict[Partition, Exception]:
        """Of logs that may have been cut: Cut of those that were, or why that cannot be told.

        Parameters
        ----------
        doubts
            Ranges of each partition, below whose `low` there may be something later than `epoch` (`changes`).
            They are looked at in turn until one is true.
        """
        found: dict[Partition, Exception] = {}
        left = {partition: list(some) for partition, some in doubts.items() if some}
        while left:
            found |= self._cut({partition: some[0] for partition, some in left.items()})
            left = {p: some[1:] for p, some in left.items() if p not in found and some[1:]}
        return found

    def _cut(self, doubtful: Mapping[Partition, Wanted]) -> dict[Partition, Exception]:
        try:
            first = self._beginnings(doubtful)
        except KafkaException as error:
            return dict.fromkeys(doubtful, error)
        told = {partition: one for partition, one in doubtful.items() if partition in first}
        tails = self._round({p: Range(max(first[p], one.low - _TAIL), one.low) for p, one in told.items()})
        cut: dict[Partition, Exception] = {
            partition: Stalled(f"the broker does not say where {partition} begins")
            for partition in doubtful.keys() - told.keys()
        }
        for partition, tail in tails.items():
            if wrong := self._wrong_below(partition, first[partition], told[partition], tail):
                cut[partition] = wrong
        return cut

    def _wrong_below(
        self, partition: Partition, beginning: int, wanted: Wanted, tail: list[Message] | Exception
    ) -> Exception | None:
        """Cut when the log was; why it cannot be read; None when below the range is what was read before."""
        if isinstance(tail, Exception):
            return tail
        if tail and epoch_of(tail[-1]) <= wanted.epoch:
            return None
        try:
            offset = self._first_of_later(partition, beginning, wanted)
        except (KafkaException, Stalled) as error:
            return error
        return None if offset is None else Cut(offset)

    def _first_of_later(self, partition: Partition, beginning: int, wanted: Wanted) -> int | None:
        """The offset of the first record below the range that is of a later epoch, None when there is none.

        Epochs never fall along a log, so this is a search by halves.
        """
        low, high = beginning, wanted.low
        while low < high:
            middle = (low + high) // 2
            record = self._first_in(partition, middle, wanted.low)
            if record is not None and epoch_of(record) <= wanted.epoch:
                low = offset_of(record) + 1
            else:
                high = middle
        later = self._first_in(partition, low, wanted.low)
        return None if later is None else offset_of(later)

    def _first_in(self, partition: Partition, low: int, high: int) -> Message | None:
        """The first record with low <= offset < high. Raises KafkaException, Stalled."""
        found = self._round({partition: _First(low, high)})[partition]
        if isinstance(found, Exception):
            raise found
        return found[0] if found else None

    def _round(self, ranges: Mapping[Partition, Range]) -> dict[Partition, list[Message] | Exception]:
        self.used = time.monotonic()
        found: dict[Partition, list[Message] | Exception] = {
            partition: [] for partition, one in ranges.items() if one.low >= one.high
        }
        missing = ranges.keys() - found.keys()
        self._consumer.assign([TopicPartition(*partition, ranges[partition].low) for partition in missing])
        try:
            self._collect(ranges, missing, found)
        except KafkaException as error:  # of the client as a whole
            found |= dict.fromkeys(missing, error)
        finally:
            self._consumer.unassign()
        return found

    def _collect(
        self,
        ranges: Mapping[Partition, Range],
        missing: set[Partition],
        found: dict[Partition, list[Message] | Exception],
    ) -> None:
        """Move partitions from `missing` to `found`, until nothing more comes for too long."""
        seconds, came = STALL_SECONDS, time.monotonic()
        while missing and time.monotonic() < came + seconds:
            for message in next_events(self._consumer):
                partition = Partition(message.topic() or "", message.partition() or 0)
                if message.error() is not None and not message.topic():
                    raise KafkaException(message.error())
                if partition not in missing:  # what follows a range that is complete
                    continue
                came = time.monotonic()
                try:
                    if not ranges[partition].add(message):
                        continue
                    found[partition], seconds = ranges[partition].records, _STRAGGLER_SECONDS
                except KafkaException as error:
                    found[partition] = error
                missing.discard(partition)
        for partition in missing:
            words = f"no record of {partition} past offset {ranges[partition].low} for {seconds:.0f} s"
            found[partition] = Stalled(words)

    def told_together(self, partitions: Collection[Partition]) -> dict[Partition, Told]:
        """Where the group stands in each of them; those are left out of which that is not told at once.

        Parameters
        ----------
        partitions
            Which. While offsets are pending in one of them, none is told.
        """
        self.used = time.monotonic()
        asked = [TopicPartition(*partition) for partition in partitions]
        try:
            committed = self._consumer.committed(asked, _TOGETHER_SECONDS)
            first = self._beginnings(partitions)
        except KafkaException as error:
            log.debug("where the group stands cannot be asked for together: %s", error)
            return {}
        places = {Partition(tp.topic, tp.partition): tp for tp in committed if tp.error is None}
        return {
            partition: Told(tp, first[partition]) for partition, tp in places.items() if partition in first
        }

    def _beginnings(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The first offset of each; those are left out of which it is not told. Raises KafkaException."""
        asked = [TopicPartition(*partition, OFFSET_BEGINNING) for partition in partitions]
        told = self._consumer.offsets_for_times(asked, _TOGETHER_SECONDS)
        return {
            Partition(tp.topic, tp.partition): tp.offset for tp in told if not (tp.error or tp.offset < 0)
        }

    def told(self, partition: Partition) -> Told:
        """Where the group stands in a partition, when no offsets are pending there any more; and its end.

        Parameters
        ----------
        partition
            Which.

        Raises
        ------
        KafkaException
            When the broker does not answer, or offsets are pending for too long.
        """
        self.used = time.monotonic()
        committed = self._consumer.committed([TopicPartition(*partition)], _ALONE_SECONDS)[0]
        if committed.error is not None:
            raise KafkaException(committed.error)
        place = TopicPartition(*partition)
        return Told(committed, *self._consumer.get_watermark_offsets(place, _ALONE_SECONDS))

    def close(self) -> None:
        """Close without waiting: librdkafka may take minutes over it when the broker is away."""
        threading.Thread(target=self._consumer.close, name="close reader", daemon=True).start()


def changes(records: Iterable[tuple[int, int]], epoch: int) -> list[Wanted]:
    """Where another leader wrote a record than the one before it: what lies below may have been cut then.

    Parameters
    ----------
    records
        Offset and leader epoch of each, in order.
    epoch
        Of the record before them; -1: not known.
    """
    found = []
    for offset, later in records:
        if epoch not in (-1, later):
            found.append(Wanted(offset, offset, epoch))
        epoch = later
    return found


def _offset_and_epoch(record: Message) -> tuple[int, int]:
    return offset_of(record), epoch_of(record)


def _for(wanted: Wanted, why: Exception) -> Exception:
    """Of a log that was cut between two records of a range nothing is lost: it is read again."""
    if isinstance(why, Cut) and why.offset >= wanted.low:
        return Stalled(f"{why}, while it was read")
    return why
