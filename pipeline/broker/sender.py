"""Alerts to topics, counted when the broker has them; what it does not accept becomes a dead letter."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from pipeline.broker.acknowledged import AcknowledgedProducer, Record
from pipeline.broker.client import MESSAGE_MAX_BYTES, SIZED, BrokerError, sentence, wait_for_broker
from pipeline.broker.dead_letters import SETTINGS as DEAD_LETTERS_SETTINGS
from pipeline.broker.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.broker.dead_letters import dead_letter_record
from pipeline.broker.topics import ensure_topics

_SOON_SECONDS = 10.0
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


class NotDelivered(BrokerError):
    """The broker did not take an alert; `sent` alerts had been taken until then."""

    def __init__(self, message: str, sent: int) -> None:
        super().__init__(f"{message} ({sent:,} alerts had been taken)")
        self.sent = sent


@dataclass(frozen=True)
class Outgoing:
    """One packet to send: its topic, key and bytes, and values for a dead letter."""

    topic: str
    key: bytes | None
    raw: bytes = field(repr=False)
    file: str = ""
    candid: int | None = None
    objectId: str | None = None


class Delivery:
    """Sends alerts and counts those that the broker is known to have.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    partitions
        Partitions of topics that are created.
    rate
        Most alerts a second; None: no limit.
    kafka
        librdkafka's own keys.

    Attributes
    ----------
    topics
        Alerts taken, by topic.
    objects
        Their distinct objectIds.
    bytes
        Their size.
    refused
        Dead letters by reason.

    Raises
    ------
    BrokerError
        When no broker answers.
    """

    def __init__(self, bootstrap: str, partitions: int, rate: float | None, kafka: dict[str, Any]) -> None:
        self.topics: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.objects: set[str] = set()
        self.bytes = 0
        self._bootstrap, self._partitions, self._kafka = bootstrap, partitions, kafka
        self._pace = None if rate is None else _Pace(rate)
        self._open: set[str] = set()
        self._failure: str | None = None
        self._again: list[Outgoing] = []
        self._oversize: list[tuple[Outgoing, KafkaError]] = []
        wait_for_broker(bootstrap, **kafka)
        self._producer = AcknowledgedProducer(bootstrap, kafka, self._fail_loudly)

    def send(self, alert: Outgoing) -> None:
        """Hand one alert over; waits while too many are under way. Raises NotDelivered."""
        self._ensure(alert.topic, self._partitions)
        if self._pace is not None:
            self._pace.wait(self._flush, self._producer.poll)
        self._send(alert, lambda error: self._again.append(alert))

    def refuse(self, alert: Outgoing, reason: str, detail: str, largest: int = MESSAGE_MAX_BYTES) -> None:
        """Make a dead letter of a packet.

        Parameters
        ----------
        alert
            The packet.
        reason
            Why, in kebab-case.
        detail
            One sentence.
        largest
            Largest size of a dead letter that contains the packet, bytes.
        """
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
        self._producer.send(Record(**record, ended=self._dead_lettered))

    def settle(self) -> None:
        """Return when the broker has answered for everything, and what was too large has been dealt with.

        The broker accepts or refuses a whole request, so the alerts of a refused one are sent again, each
        alone. One that is still too large becomes a dead letter without its bytes. Raises NotDelivered.
        """
        self._flush()
        while self._again:
            alert = self._again.pop(0)
            self._send(alert, partial(self._is_oversize, alert))
            self._flush()
        while self._oversize:
            alert, error = self._oversize.pop(0)
            self.refuse(alert, "oversize", f"{len(alert.raw):,} bytes: {sentence(error)}", largest=0)
            self._flush()
        self._fail_loudly()

    def finish(self) -> None:
        """Return when the broker has everything, and it is there. Raises NotDelivered."""
        self.settle()
        try:
            self._producer.check()
        except BrokerError as error:
            raise NotDelivered(str(error), self.topics.total()) from None

    def finish_soon(self) -> None:
        """After an interruption: send what was handed over, if that takes only seconds."""
        self._producer.flush_soon(_SOON_SECONDS)

    def give_up(self) -> None:
        """Drop what is under way."""
        self._producer.give_up()

    def _flush(self) -> None:
        try:
            self._producer.flush()
        except KafkaException as error:
            raise NotDelivered(sentence(error.args[0]), self.topics.total()) from None

    def _send(self, alert: Outgoing, too_large: Callable[[KafkaError], None]) -> None:
        try:
            ended = partial(self._ended, alert, too_large)
            self._producer.send(Record(alert.topic, alert.key, alert.raw, ended))
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() not in _TOO_LARGE:
                raise NotDelivered(sentence(error), self.topics.total()) from None
            self._is_oversize(alert, error)

    def _ended(
        self, alert: Outgoing, too_large: Callable[[KafkaError], None], error: KafkaError | None
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

    def _dead_lettered(self, error: KafkaError | None) -> None:
        if error is not None:
            self._failed(DEAD_LETTERS, "a dead letter", error)

    def _failed(self, topic: str, what: str, error: KafkaError) -> None:
        # The first failure says most; the later ones are its consequences.
        self._failure = (
            self._failure or f"{topic} at {self._bootstrap} did not take {what}: {sentence(error)}"
        )

    def _fail_loudly(self) -> None:
        if self._failure is not None:
            raise NotDelivered(self._failure, self.topics.total())

    def _ensure(self, topic: str, partitions: int) -> None:
        if topic not in self._open:
            settings = DEAD_LETTERS_SETTINGS if topic == DEAD_LETTERS else SIZED
            ensure_topics(self._bootstrap, [topic], partitions, settings, **self._kafka)
            self._producer.open(topic)
            self._open.add(topic)


class _Pace:
    """Alerts evenly spaced in time, from the first on."""

    def __init__(self, rate: float) -> None:
        self._step = 1.0 / rate
        self._next: float | None = None

    def wait(self, flush: Callable[[], None], poll: Callable[[float], None]) -> None:
        """Return when the next alert is due, and those before are out.

        After a slow source, at most one second is caught up.
        """
        now = time.monotonic()
        due = now if self._next is None else self._next
        if due > now:
            flush()
            now = time.monotonic()
        while (left := due - now) > 0:
            poll(left)
            now = time.monotonic()
        self._next = max(due, now - 1.0) + self._step
