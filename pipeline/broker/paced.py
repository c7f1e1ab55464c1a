"""Sends at most one request a partition at a time, so that acknowledged records are really there.

LOST ACKNOWLEDGED RECORDS. A broker that has no state of an idempotent producer in a partition (a topic
just made, or made anew) takes a request with any sequence number. When it refuses the first request (its
leader does not know yet that it leads) and takes the second, which was in flight behind it, librdkafka
reports the first as delivered too, without an offset. No setting of librdkafka forbids the second: it
counts messages in flight, not requests, and `max.in.flight` leaves one waiting in its buffer. So records
wait in librdkafka's queue until they make one request for each partition; these go out together, and
nothing follows before all are answered.

An acknowledgement without an offset means nothing. In a transaction it ends the transaction.

This is also cheaper: as long as a full batch waits behind a request, librdkafka 2.16 calls poll() without
a pause, some 700,000 times a second, four fifths of what sending a packet cost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

REQUEST_BYTES = 4_000_000
_ROUND_BYTES = 32_000_000
_RECORD_OVERHEAD = 1_000
_KAFKA_SECONDS = 30.0
_TRANSACTIONS = "__transaction_state"
_SLICE_SECONDS = 0.5
_LINGER = 50_000  # ms; librdkafka wants it below the time limit of a message, 60 s in a transaction


def paced_settings(settings: Mapping[str, Any], request_bytes: int = REQUEST_BYTES) -> dict[str, Any]:
    """The settings of a producer, changed so that Paced can send through it.

    Nothing goes out before it is flushed (which a commit does too), so no alert waits for `linger.ms`.
    """
    longest = int(settings.get("message.timeout.ms", 2 * _LINGER))
    return {
        **settings,
        "batch.size": request_bytes,
        "batch.num.messages": request_bytes // _RECORD_OVERHEAD,
        "linger.ms": min(_LINGER, longest // 2),
        "queue.buffering.max.kbytes": 2 * _ROUND_BYTES // 1024,
    }


def fence(producer: Producer, seconds: float) -> None:
    """`init_transactions`: fence every earlier holder of the transactional id.

    Connected first, and that twice: the first answer comes from a bootstrap address, which librdkafka leaves
    for the brokers that it has learned from it. A producer that looks for its coordinator without a
    connection looks again after half a second, and once more when the coordinator's is not there: 0.5 or
    1.0 s each time that a partition is taken, instead of 0.02 s (librdkafka 2.16, measured). What is asked
    does not matter; the topic is Kafka's own, so that asking never creates one.

    Parameters
    ----------
    producer
        With a transactional id, new.
    seconds
        For each of the steps.

    Raises
    ------
    KafkaException
        When the broker does not answer in time, or refuses the id.
    """
    for _ in range(2):
        producer.list_topics(_TRANSACTIONS, seconds)
    producer.init_transactions(seconds)


class NotTaken(KafkaException):
    """A broker did not take a record of `topic`, or it is unknown whether it has."""

    def __init__(self, topic: str, error: KafkaError) -> None:
        super().__init__(error)
        self.topic = topic


class Paced:
    """Hands records to a producer in rounds of one request a partition.

    Without a partition in the record, a topic is taken for one partition: its requests are only smaller.

    Parameters
    ----------
    producer : Producer
        With `paced_settings`.
    request_bytes : int
        As in these settings.
    seconds : float
        For a round, after which what is left counts as not taken; 0: for as long as librdkafka tries.
    meanwhile : callable
        Called twice a second while a round is under way; may raise.
    """

    def __init__(
        self,
        producer: Producer,
        request_bytes: int = REQUEST_BYTES,
        seconds: float = _KAFKA_SECONDS,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self._producer, self._request_bytes, self._seconds = producer, request_bytes, seconds
        self._meanwhile = meanwhile
        self._waiting: Counter[tuple[str, int]] = Counter()  # bytes by topic and partition
        self._together = 0  # bytes
        self._unanswered: Counter[str] = Counter()  # records by topic
        self._wrong: NotTaken | None = None

    def produce(self, **record: Any) -> None:
        """As Producer.produce; raises NotTaken when the broker did not take what came before.

        For a record with an `on_delivery` of its own, only that function is called.
        """
        place = record["topic"], record.get("partition", -1)
        size = len(record.get("value") or b"") + _RECORD_OVERHEAD
        full = self._waiting[place] and self._waiting[place] + size > self._request_bytes
        if full or self._together > _ROUND_BYTES:
            self.flush()
        self._producer.produce(**{"on_delivery": self._delivered, **record})
        self._waiting[place] += size
        self._together += size
        self._unanswered[record["topic"]] += 1

    def flush(self) -> None:
        """Send what waits and return when all of it is answered. Raises NotTaken."""
        deadline = time.monotonic() + self._seconds if self._seconds else None
        while self._waiting and (left := self._flush_some()):
            self._meanwhile()
            if deadline is not None and time.monotonic() > deadline:
                topic = max(self._unanswered, key=lambda topic: self._unanswered[topic])
                raise NotTaken(topic, KafkaError(KafkaError._TIMED_OUT, f"{left} records were not taken"))
        self._waiting.clear()
        self._together = 0
        self._unanswered.clear()
        if self._wrong is not None:
            raise self._wrong

    def _flush_some(self) -> int:
        """How many records are left after a while.

        A fatal error (another holder of the transactional id) is raised by confluent-kafka 2.16 in the midst
        of delivery callbacks, which turns it into a SystemError, at times without the error behind it.
        """
        try:
            return self._producer.flush(_SLICE_SECONDS)
        except (KafkaException, SystemError) as error:
            topic = min(topic for topic, _ in self._waiting)
            raise NotTaken(topic, _kafka_error_behind(error) or self._fatal_error()) from None

    def _fatal_error(self) -> KafkaError:
        """Why the producer cannot go on. After a fatal error each transactional call tells the reason."""
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.fatal():
                return reason
        return KafkaError(KafkaError._FATAL, "the producer cannot go on")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._unanswered[message.topic()] -= 1
        if error is None and not has_offset(message):
            error = KafkaError(KafkaError._INCONSISTENT, "acknowledged without an offset")
        if error is not None:  # the first error says most; the later ones are its consequences
            self._wrong = self._wrong or NotTaken(message.topic(), error)


def _kafka_error_behind(error: BaseException | None) -> KafkaError | None:
    while error is not None:
        if isinstance(error, KafkaException):
            reason: KafkaError = error.args[0]
            return reason
        error = error.__cause__ or error.__context__
    return None


def has_offset(message: Message) -> bool:
    """Whether the acknowledgement of a record says where the record is; otherwise it may be nowhere."""
    offset = message.offset()
    return offset is not None and offset >= 0
