"""Alerts to topics, counted when the broker has them; what it cannot take becomes a dead letter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.broker.client import (
    MESSAGE_MAX_BYTES,
    SIZED,
    BrokerError,
    ensure_topics,
    producer_settings,
    sentence,
    wait_for_broker,
)
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.broker.dead_letters import dead_letter_record

_SOON_SECONDS = 10.0
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


class NotDelivered(BrokerError):
    """The broker did not take an alert; `sent` alerts had been taken until then."""

    def __init__(self, message: str, sent: int) -> None:
        super().__init__(f"{message} ({sent:,} alerts had been taken)")
        self.sent = sent


@dataclass(frozen=True)
class Outgoing:
    """One packet on its way: where to, its key and bytes, and what is known of it for a dead letter."""

    topic: str
    key: bytes | None
    raw: bytes = field(repr=False)
    file: str = ""
    candid: int | None = None
    objectId: str | None = None


class Delivery:
    """An idempotent producer that counts what the broker has acknowledged.

    topics: alerts taken, by topic; objects: their distinct objectIds; bytes: their size; refused: dead
    letters by reason. rate: alerts/s at most. Raises BrokerError when no broker answers.
    """

    def __init__(self, bootstrap: str, partitions: int, rate: float | None, kafka: dict[str, Any]) -> None:
        self.topics: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.objects: set[str] = set()
        self.bytes = 0
        self._bootstrap, self._partitions, self._kafka = bootstrap, partitions, kafka
        self._pace = None if rate is None else _Pace(rate)
        self._known: set[str] = set()
        self._failure: str | None = None
        self._again: list[Outgoing] = []
        self._oversize: list[tuple[Outgoing, KafkaError]] = []
        wait_for_broker(bootstrap, **kafka)
        self._producer = Producer(producer_settings(bootstrap, **kafka))
        self._alone: Producer | None = None

    def send(self, alert: Outgoing) -> None:
        """Hand one alert over; waits while too many are under way. Raises NotDelivered."""
        self._ensure(alert.topic, self._partitions)
        if self._pace is not None:
            self._pace.wait(self._producer)
        self._send(self._producer, alert, lambda error: self._again.append(alert))

    def refuse(self, alert: Outgoing, reason: str, detail: str, largest: int = MESSAGE_MAX_BYTES) -> None:
        """Make a dead letter of a packet; with its bytes when they are at most `largest`."""
        self.refused[reason] += 1
        self._ensure(DEAD_LETTERS, 1)
        record = dead_letter_record(
            stage="publish",
            reason=reason,
            detail=detail,
            value=alert.raw,
            file=alert.file or None,
            candid=alert.candid,
            objectId=alert.objectId,
            largest=largest,
        )
        self._hand_over(self._producer, **record, on_delivery=self._dead_lettered)

    def settle(self) -> None:
        """Deal with what the broker has found too large until now. Raises NotDelivered.

        It judges a batch of the client as one, so the alerts of a refused batch are sent once more, each
        alone; what is too large even so becomes a dead letter by reference.
        """
        while self._again:
            alert = self._again.pop(0)
            self._send(self._one_at_a_time(), alert, partial(self._is_oversize, alert))
        while self._oversize:
            alert, error = self._oversize.pop(0)
            self.refuse(alert, "oversize", f"{len(alert.raw):,} bytes: {sentence(error)}", largest=0)
        self._fail_loudly()

    def finish(self) -> None:
        """Return when the broker has everything. Raises NotDelivered."""
        while True:
            self._producer.flush()
            if self._alone is not None:
                self._alone.flush()
            if not self._again and not self._oversize:
                return self._fail_loudly()
            self.settle()

    def finish_soon(self) -> None:
        """After an interruption: what was handed over still goes out, if that can be done within seconds."""
        self._producer.flush(_SOON_SECONDS)

    def give_up(self) -> None:
        """Drop what is under way."""
        for producer in (self._producer, self._alone):
            if producer is not None:
                producer.purge()
                producer.flush(1)

    def _one_at_a_time(self) -> Producer:
        if self._alone is None:
            single = {"batch.num.messages": 1}
            self._alone = Producer(producer_settings(self._bootstrap, **(self._kafka | single)))
        return self._alone

    def _send(self, producer: Producer, alert: Outgoing, too_large: Callable[[KafkaError], None]) -> None:
        delivered = partial(self._delivered, alert, too_large)
        try:
            self._hand_over(
                producer, topic=alert.topic, key=alert.key, value=alert.raw, on_delivery=delivered
            )
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() not in _TOO_LARGE:
                raise NotDelivered(sentence(error), self.topics.total()) from None
            self._is_oversize(alert, error)

    def _hand_over(self, producer: Producer, **message: Any) -> None:
        """Produce, waiting while the client's queue is full: that bounds the memory."""
        while True:
            try:
                producer.produce(**message)
                producer.poll(0)
                return
            except BufferError:
                producer.poll(0.1)
                self._fail_loudly()

    def _delivered(
        self,
        alert: Outgoing,
        too_large: Callable[[KafkaError], None],
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if error is None:
            self.topics[alert.topic] += 1
            self.bytes += len(alert.raw)
            if alert.objectId is not None:
                self.objects.add(alert.objectId)
        elif error.code() in _TOO_LARGE:
            too_large(error)
        else:
            self._failed(alert.topic, "an alert", error)

    def _is_oversize(self, alert: Outgoing, error: KafkaError) -> None:
        self._oversize.append((alert, error))

    def _dead_lettered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed(DEAD_LETTERS, "a dead letter", error)

    def _failed(self, topic: str, what: str, error: KafkaError) -> None:
        # The first failure tells most; those after it follow from it.
        self._failure = (
            self._failure or f"{topic} at {self._bootstrap} did not take {what}: {sentence(error)}"
        )

    def _fail_loudly(self) -> None:
        if self._failure is not None:
            raise NotDelivered(self._failure, self.topics.total())

    def _ensure(self, topic: str, partitions: int) -> None:
        if topic not in self._known:
            ensure_topics(self._bootstrap, [topic], partitions, SIZED, **self._kafka)
            self._known.add(topic)


class _Pace:
    """Alerts evenly spaced in time, from the first on."""

    def __init__(self, rate: float) -> None:
        self._step = 1.0 / rate
        self._next: float | None = None

    def wait(self, producer: Producer) -> None:
        """Return when the next alert is due; what a slow source lost is made up for by one second at most."""
        now = time.monotonic()
        due = now if self._next is None else self._next
        while (left := due - now) > 0:
            producer.poll(left)
            now = time.monotonic()
        self._next = max(due, now - 1.0) + self._step
