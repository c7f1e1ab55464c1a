"""A slot: a transactional producer that a worker keeps, for all partitions that it works on.

EXACTLY ONCE, the transaction's half. One transaction delivers a bundle of batches and moves the offsets of
all their partitions. Kafka does not know which partitions a slot may move: of two slots with offsets of one
partition it takes both. So a partition has one slot at a time, and that is the coordinator's to see to
(pipeline.live.fleet.slots): before work that did not come back goes to anybody else, it fences the slot that
had it. For this the end of each transaction is reported: committed, aborted, or "it may be open".

A partition that a channel with `once` reads has a slot of its own, under the partition's name: what the
channel remembers of objects is also changed by a backfill, and of the two, whoever took the name last is the
only one that commits. (Such a channel reads the topic of another channel, so these partitions are few.)
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from pipeline.broker.client import MESSAGE_MAX_BYTES
from pipeline.broker.paced import Paced, fence, paced_settings
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import Stalled

log = logging.getLogger(__name__)

TRANSACTION_SECONDS = 10.0
_KAFKA_SECONDS = 5.0
_ROUND_SECONDS = 8.0

Part = Callable[[Paced], TopicPartition]
"""Sends what belongs to one partition; returns where the group is to stand in it."""


def transactional_id(group: str, partition: Partition) -> str:
    """Of the slot that a partition has for itself."""
    return f"{group}/{partition}"


def slot_name(group: str, replica: str, number: int) -> str:
    """The transactional id of a worker's slot. A topic's name has no slash, so it is no partition's.

    Parameters
    ----------
    group
        The consumer group.
    replica
        Whose worker it is.
    number
        Which no slot of this replica has had.
    """
    return f"{group}/slots/{replica}/{number}"


class Slot:
    """A transactional producer, of this process until another takes its name.

    Parameters
    ----------
    kafka
        Settings of any client.
    name
        The transactional id.

    Attributes
    ----------
    open
        Whether a transaction can be begun: it is taken, and how each of its transactions ended is known.
    began
        When the last transaction was begun, on the monotonic clock.
    """

    def __init__(self, kafka: Mapping[str, Any], name: str) -> None:
        self.name, self.open, self.began = name, False, 0.0
        milliseconds = int(TRANSACTION_SECONDS * 1000)
        self._producer = Producer(
            {
                **paced_settings(kafka),
                "transactional.id": name,
                "transaction.timeout.ms": milliseconds,
                "message.timeout.ms": milliseconds,
                "linger.ms": milliseconds - 1000,
                "retry.backoff.ms": 10,  # the default, 100, is paid by each transaction that follows at once
                "message.max.bytes": MESSAGE_MAX_BYTES,
            }
        )

    def take(self) -> None:
        """Fence whoever had the name before. Raises KafkaException."""
        fence(self._producer, _KAFKA_SECONDS)
        self.open = True

    def commit(self, parts: Sequence[Part], membership: object) -> None:
        """One transaction: what all parts send, and the offsets of all their partitions.

        Parameters
        ----------
        parts
            One for each partition.
        membership
            Proof that the partitions are the coordinator's, in the present generation of the group.

        Raises
        ------
        KafkaException, Stalled, or what a part raises
            NotTaken for a record that is not known to be taken. Then `open` says whether the transaction is
            known to have been aborted; otherwise it may be open, or committed.
        """
        self.open = False  # until it is known how this one ends
        self._producer.begin_transaction()
        self.began = time.monotonic()
        try:
            paced = Paced(self._producer, seconds=_ROUND_SECONDS)
            positions = [part(paced) for part in parts]
            paced.flush()
            _within(
                _KAFKA_SECONDS + 1,
                lambda: self._producer.send_offsets_to_transaction(positions, membership, _KAFKA_SECONDS),
            )
        except Exception as error:
            self.open = self._aborted() and not _timed_out(error)
            raise
        _within(_KAFKA_SECONDS + 1, lambda: self._producer.commit_transaction(_KAFKA_SECONDS))
        self.open = True

    def _aborted(self) -> bool:
        """End the transaction before anything of it was committed; whether that is known to be done."""
        try:
            _within(_KAFKA_SECONDS + 1, lambda: self._producer.abort_transaction(_KAFKA_SECONDS))
        except Exception as error:  # fenced, say: whatever it is, the coordinator sees to it
            log.debug("%s: its transaction may be open: %s", self.name, error)
            return False
        return True

    def abandon(self) -> None:
        """Close without waiting: librdkafka may take minutes over it when the broker is away."""
        self.open = False
        threading.Thread(target=self._producer.purge, name=f"close {self.name}", daemon=True).start()


def _timed_out(error: Exception) -> bool:
    """Whether its records were not taken in time. It may be its password, which was rotated meanwhile: the
    connection to the coordinator of transactions lives on, one that is made anew is not let in. So the slot
    is left to be fenced, and the next one shows what our profile has then."""
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._TIMED_OUT


def _within(seconds: float, function: Callable[[], None]) -> None:
    """Call `function`; raises what it raises, or Stalled when it has not come back after `seconds`.

    librdkafka 2.16 does not keep the time limit of send_offsets_to_transaction when the broker goes away
    under it. The call is then left behind in its thread; whoever takes the slot's name makes it harmless.
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


class Slots:
    """The slots that this process keeps for coordinators, by their names."""

    def __init__(self) -> None:
        self._held: dict[str, Slot] = {}

    def open(self, kafka: Mapping[str, Any], name: str) -> None:
        """Take a slot that the coordinator gives to this worker, and leave those that it gave before.

        Parameters
        ----------
        kafka
            Settings of any client.
        name
            Never given before: so no work that another slot was to do is done by this one.

        Raises
        ------
        KafkaException
            When the broker does not answer, or refuses the name.
        """
        owner = name.rpartition("/")[0]
        for before in [held for held in self._held if held.rpartition("/")[0] == owner]:
            self.close(before)
        slot = Slot(kafka, name)
        try:
            slot.take()
        except BaseException:
            slot.abandon()
            raise
        self._held[name] = slot

    def get(self, name: str) -> Slot | None:
        """The slot of this name, if it is held and can begin a transaction."""
        slot = self._held.get(name)
        return slot if slot is not None and slot.open else None

    def close(self, name: str) -> None:
        """Leave a slot, if it is held."""
        if (slot := self._held.pop(name, None)) is not None:
            slot.abandon()
