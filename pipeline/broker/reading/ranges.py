"""Reads a range of offsets from one partition; ranges may have gaps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.broker.partition import Partition

STALL_SECONDS = 20.0
_MOST_AT_ONCE = 500
_MOST_A_FETCH = 16 << 20  # bytes; a record that is larger comes all the same
_MOST_SKIPPED = 500  # offsets that are read and left out rather than sought

AHEAD = 64 << 20
"""Bytes that a reader has ready while its process works on what came before: most of a full batch."""
_LEAST_AHEAD = 1 << 20
BUDGET = 256 << 20
"""Bytes that many readers of a process share, where nothing else limits them."""


def ahead_of(held: int, budget: int = BUDGET) -> int:
    """Bytes that another reader may have ready, where some are held: the more there are, the fewer.

    A thousand of them together have at most seven times the budget, and 1 MiB more for each.

    Parameters
    ----------
    held
        How many readers the process has.
    budget
        Bytes.
    """
    return min(AHEAD, max(_LEAST_AHEAD, budget // (held + 1)))


class Stalled(Exception):
    """The broker stopped answering in the middle of a batch; trying again is safe."""


class Range:
    """The records with low <= offset < high of one partition, as they arrive.

    It is complete at the last offset below `high`, at the first record at or past it, or at an
    end-of-partition event there; never by count, because offsets have gaps.

    Parameters
    ----------
    low
        First offset.
    high
        Offset after the last.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high, self.records = low, high, list[Message]()

    def add(self, message: Message) -> bool:
        """Take a record or an end-of-partition event; whether the range is complete.

        Raises KafkaException for any other event.
        """
        offset, is_record = offset_of(message), message.error() is None
        if is_record and self.low <= offset < self.high:
            self.records.append(message)
        return offset >= self.high or (is_record and offset == self.high - 1)


class RangeReader:
    """A consumer that stays on one partition and reads committed records range by range.

    It is long-lived, because `assign` for each range would throw the prefetched records away.

    Parameters
    ----------
    kafka
        Settings of the client.
    group
        Consumer group whose committed offsets `consumer` can be asked for; reading does not move them.
    partition
        The partition.
    ahead
        Bytes that may wait here before anybody asks for them.
    """

    def __init__(self, kafka: dict[str, str], group: str, partition: Partition, ahead: int = AHEAD) -> None:
        self.partition = partition
        self._arrived: list[Message] = []  # read past the end of the last range
        self._position = -1
        self.epoch = -1  # of the leader that wrote the last record read, or the one before the range
        self.consumer = Consumer(
            {
                **settings_of_ranges(kafka, group),
                # An idle partition asks so often; what comes is answered at once.
                "fetch.wait.max.ms": 2_000,
                "max.partition.fetch.bytes": min(_MOST_A_FETCH, ahead),
                "queued.max.messages.kbytes": ahead // 1024,
            }
        )

    def read(self, low: int, high: int, epoch: int = -1) -> list[Message]:
        """The records with low <= offset < high, in order.

        Parameters
        ----------
        low
            First offset.
        high
            Offset after the last.
        epoch
            Leader epoch of the record before `low`, with which librdkafka notices when the log was truncated
            below `low`; -1: unknown.

        Raises
        ------
        Stalled
            After 20 s without an answer.
        """
        if low >= high:
            return []
        self._seek(low, epoch)
        wanted = Range(low, high)
        deadline = time.monotonic() + STALL_SECONDS
        while time.monotonic() < deadline:
            arrived = self._arrived or next_events(self.consumer)
            self._arrived = []
            for index, message in enumerate(arrived):
                if wanted.add(message):
                    self._arrived = arrived[index + (offset_of(message) < high) :]
                    self._position = high
                    self.epoch = epoch_of(wanted.records[-1]) if wanted.records else self.epoch
                    return wanted.records
            if arrived:
                deadline = time.monotonic() + STALL_SECONDS
        raise Stalled(f"no record of {self.partition} past offset {low} for {STALL_SECONDS:.0f} s")

    def _seek(self, low: int, epoch: int) -> None:
        """Go on at `low`. A little further on it is cheaper to read what lies between: at the end of a topic
        a fetch is under way already, and another begins only when the broker has answered that one, which
        takes it up to two seconds."""
        if self._position == low:
            return
        if 0 <= self._position < low <= self._position + _MOST_SKIPPED:
            self.epoch = epoch
            return
        self._arrived, self.epoch = [], epoch
        known = ("", epoch) if epoch >= 0 else ()
        self.consumer.assign([TopicPartition(*self.partition, low, *known)])
        self._position = low

    def close(self) -> None:
        """Close the consumer."""
        self.consumer.close()


def settings_of_ranges(kafka: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Settings of a consumer that reads committed records from offsets that it is given, and commits none.

    Parameters
    ----------
    kafka
        Settings of any client.
    group
        Consumer group whose committed offsets it can be asked for.
    """
    return {
        **kafka,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.queue.backoff.ms": 10,  # 0 spins, the default second stalls a caught-up reader
    }


def next_events(consumer: Consumer) -> list[Message]:
    """Whatever has arrived, as soon as anything has: `consume` alone would wait for a full list.

    Parameters
    ----------
    consumer
        With partitions assigned.
    """
    first = consumer.poll(0.5)
    return [] if first is None else [first, *consumer.consume(_MOST_AT_ONCE, 0)]


def epoch_of(message: Message) -> int:
    """The epoch of the leader that wrote a record; -1: the broker does not say.

    Parameters
    ----------
    message
        A record.
    """
    epoch = message.leader_epoch()
    return -1 if epoch is None else epoch


def offset_of(message: Message) -> int:
    """The offset of a record, or of an end-of-partition event (the offset that comes next).

    Parameters
    ----------
    message
        Of a consumer.

    Raises
    ------
    KafkaException
        For any other event.
    """
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return message.offset()
