"""Alerts from a Kafka topic: `for alert in listen("channel.young_supernova"): ...`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from pipeline.broker.client import (
    BrokerError,
    NoSuchTopic,
    admin_client,
    client_settings,
    consumer_settings,
    find_topics,
    is_not_let_in,
    passes_by_itself,
    sentence,
    topic_names,
    unreachable,
    wait_for_broker,
    words_of,
)
from pipeline.broker.logs import NowAndThen
from pipeline.broker.partition import Partition
from pipeline.broker.reading.begin import starts_of_last, starts_since
from pipeline.broker.reading.ranges import Stalled
from pipeline.broker.topics import NO_LEADER_YET, offsets
from schemas.avro.framing import SchemaSource
from schemas.frame import value_in_packet
from schemas.packets.packet import read_packet

log = logging.getLogger("zads.listen")

MOST_AT_ONCE = 500
# How often a listener without a group looks for new partitions and topics, seconds.
LOOK_AGAIN = 5.0
# After so long without a sign while draining, ask whether the broker is there at all, seconds.
SILENCE = 15.0
_POLL = 0.2
_LEADER_SECONDS = 10.0
_UNKNOWN_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
# librdkafka looks for a group's coordinator even where only single partitions are read.
_NO_GROUP_NEEDED = {KafkaError.GROUP_AUTHORIZATION_FAILED}
# A loop that took its time over an alert: the group takes the reader back.
_SLOW = {KafkaError._MAX_POLL_EXCEEDED}

Place = tuple[str, int]


@dataclass
class Alert:
    """One message of a topic.

    topic, partition, offset: its place; headers: as text; timestamp: Unix time in milliseconds at which
    it was written (None when the topic keeps none); raw: the packet's bytes as they travelled.
    """

    topic: str
    partition: int
    offset: int
    headers: dict[str, str] = field(repr=False)
    timestamp: int | None
    raw: bytes = field(repr=False)
    key: bytes | None = field(repr=False, default=None)
    schemas: SchemaSource | None = field(repr=False, default=None)

    def packet(self) -> dict[str, Any]:
        """The packet as a plain dictionary, stamps included. Raises PacketError when it cannot be read."""
        return read_packet(self.raw, self.schemas)[0]

    @cached_property
    def candid(self) -> int | None:
        """From the header, else the packet; None when it has none. Raises PacketError like packet()."""
        number = whole(self.headers.get("candid"))
        return self._field("candid") if number is None else number

    @cached_property
    def objectId(self) -> str | None:
        """From the header, else the packet; None when it has none. Raises PacketError like packet()."""
        return self.headers.get("objectId") or self._field("objectId")

    @property
    def values(self) -> dict[str, Any]:
        """What the channel's filter computed for this alert, by name; missing values are None."""
        try:
            values = json.loads(self.headers.get("values", "{}"))
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}

    @property
    def source(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the record that a channel's alert was; KeyError without a header."""
        topic, partition, offset = self.headers["source"].rsplit("/", 2)
        return topic, int(partition), int(offset)

    def _field(self, name: str) -> Any:
        return value_in_packet(read_packet(self.raw, self.schemas)[0], name)


def everything_in(topic: str, bootstrap: str, **kafka: Any) -> Iterator[Alert]:
    """Every record that is in a topic now; none where there is no such topic.

    Parameters
    ----------
    topic
        Its name.
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not answer.
    """
    if topic in topic_names(bootstrap, **kafka):
        yield from listen(topic, bootstrap, until_drained=True, **kafka)


def listen(
    topic: str,
    bootstrap: str = "localhost:9092",
    until_drained: bool = False,
    group: str | None = None,
    from_beginning: bool = True,
    schemas: SchemaSource | None = None,
    since: datetime | None = None,
    last: int | None = None,
    **kafka: Any,
) -> Iterator[Alert]:
    """The alerts of a topic, only those whose transaction was committed, in order within each partition.

    Parameters
    ----------
    topic
        A name, or a pattern when it starts with "^"; topics that appear later are noticed.
    bootstrap
        Of the Kafka broker, "host:port".
    until_drained
        End at what was there at the start; otherwise wait for more for ever.
    group
        A Kafka consumer group, which remembers how far it came: an alert counts as read when the loop asks
        for the next one. Without one nothing is remembered.
    from_beginning
        Without a remembered place, start with the oldest alert, else with what comes next.
    schemas
        Where the schemas of packets with Confluent framing are (`schemas.avro.framing.schema_source`).
    since, last
        Without a group: begin with what was written then, or so many alerts before the end.
    kafka
        librdkafka's own keys, such as **{"security.protocol": "SASL_SSL"}.

    Raises
    ------
    NoSuchTopic
        With near names.
    BrokerError
        When no broker answers or it refuses.
    """
    listener = Listener(topic, bootstrap, until_drained, group, from_beginning, schemas, since, last, **kafka)
    return _one_by_one(listener)


def _one_by_one(listener: Listener) -> Iterator[Alert]:
    with listener:
        for batch in listener.batches():
            for alert in batch:
                yield alert
                listener.has_read(alert)


class Listener:
    """What `listen` does, in batches: all the alerts that have arrived, as soon as one has.

    Offsets of a group move only by has_read().

    Parameters
    ----------
    topic
        Name of a topic, or a regular expression that begins with "^".
    bootstrap
        Address of the broker, host:port.
    until_drained
        End when everything that is there now has been read.
    group
        Consumer group that remembers what was read; None: none.
    from_beginning
        Begin with the oldest record, where no group remembers a place; else with new ones.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    since
        Without a group: only what was written then or later.
    last
        Without a group: begin so many alerts before the end.
    kafka
        librdkafka's own keys.

    Raises
    ------
    NoSuchTopic
        When there is no such topic, or with `until_drained` none that matches.
    BrokerError
        When the broker does not answer.
    """

    def __init__(
        self,
        topic: str,
        bootstrap: str,
        until_drained: bool = False,
        group: str | None = None,
        from_beginning: bool = True,
        schemas: SchemaSource | None = None,
        since: datetime | None = None,
        last: int | None = None,
        **kafka: Any,
    ) -> None:
        self.topic = topic
        self.bootstrap = bootstrap
        self.group = group
        self.kafka = kafka
        self.schemas = schemas
        topics = find_topics(bootstrap, topic, **kafka)
        if until_drained and not topics:
            raise NoSuchTopic(f"no topic at {bootstrap} matches {topic!r}")
        # The end of a partition is told by an empty answer, which the broker holds back half a second.
        draining = {"fetch.wait.max.ms": 10} if until_drained else {}
        self._consumer = Consumer(_settings(bootstrap, group, from_beginning) | draining | kafka)
        self._harmless = _SLOW if group else _SLOW | _NO_GROUP_NEEDED
        # None while a group has not yet said, or has to say anew, which partitions are ours.
        self._assigned: set[Place] | None = None
        self._ends: dict[Place, int] | None = None
        # Of records that came out of order the older ones are left out too.
        self._since = -1 if since is None else int(since.timestamp() * 1000)
        places = self._places(topics)
        ends: dict[Place, int] = {}
        if until_drained or not from_beginning or since or last:
            ends = committed_ends(bootstrap, places, **kafka)
        self._ends = ends if until_drained else None
        if group is not None:
            notices = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
            self._consumer.subscribe([topic], **notices)
        elif since is not None:
            self._assign(starts_since(self._consumer, ends, since))
        elif last is not None:
            self._assign(self._starts_of_last(ends, last))
        elif from_beginning:
            self._assign(dict.fromkeys(places, OFFSET_BEGINNING))
        else:
            self._assign(ends)
        self._lasting = NowAndThen(log)
        self._looked = time.monotonic()
        self._heard = time.monotonic()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the group and the broker; what has_read() was told is committed first."""
        self._consumer.close()

    def has_read(self, alert: Alert) -> None:
        """Remember that the group, if there is one, is past `alert`."""
        if self.group is None:
            return
        try:
            after = TopicPartition(alert.topic, alert.partition, alert.offset + 1)
            self._consumer.store_offsets(offsets=[after])
        except KafkaException as error:
            # Another member of the group has taken the partition over, and will read this one again.
            if error.args[0].code() != KafkaError._STATE:
                raise BrokerError(sentence(error.args[0])) from None

    def hold(self, topic: str, partition: int) -> None:
        """Read no more of a partition of ours until `go_on`. Other threads may ask too."""
        self._consumer.pause([TopicPartition(topic, partition)])

    def go_on(self, topic: str, partition: int) -> None:
        """Read a partition again, from where it was held."""
        self._consumer.resume([TopicPartition(topic, partition)])

    def batches(self) -> Iterator[list[Alert]]:
        """Non-empty batches; and, while nothing arrives, empty ones a few times a second."""
        drained: set[Place] = set()
        while self._ends is None or self._assigned is None or not self._assigned <= drained:
            alerts: list[Alert] = []
            for message in self._receive():
                place = (message.topic(), message.partition())
                ended = self._ends is not None and message.offset() >= self._ends.get(place, 0)
                if ended:
                    drained.add(place)
                if message.error() is None and not ended and message.timestamp()[1] >= self._since:
                    alerts.append(_alert(message, self.schemas))
            yield alerts
            if not alerts:
                self._look_again()

    def _receive(self) -> list[Message]:
        """Messages and ends of partitions; what librdkafka mends by itself is left out."""
        first = self._consumer.poll(_POLL)
        if first is None:
            return []
        self._heard = time.monotonic()
        # The rest is taken without waiting: an alert that has arrived is not held back for more.
        messages = [first, *self._consumer.consume(MOST_AT_ONCE - 1, timeout=0)]
        return [message for message in messages if self._is_news(message)]

    def _is_news(self, message: Message) -> bool:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.code() in _UNKNOWN_TOPIC:
            if self.topic.startswith("^"):
                return False
            raise NoSuchTopic(f"topic {message.topic() or self.topic!r} at {self.bootstrap} has been deleted")
        if is_not_let_in(error):
            raise unreachable(self.bootstrap, error, [error], self.kafka)
        if passes_by_itself(error) or error.code() in self._harmless:
            unasked = error.code() in _NO_GROUP_NEEDED  # who may not look for one reads all the same
            level = logging.DEBUG if unasked else logging.WARNING
            log.log(level, "listening to %s: %s", self.topic, sentence(error))
            return False
        raise BrokerError(f"cannot read {self.topic!r} at {self.bootstrap}: {sentence(error)}")

    def _look_again(self) -> None:
        """Notice topics and partitions that are new, and a broker that went away while draining."""
        now = time.monotonic()
        if self._ends is not None and now - self._heard > SILENCE:
            wait_for_broker(self.bootstrap, timeout=SILENCE, **self.kafka)
            self._heard = now
        if self.group is not None or self._ends is not None or now - self._looked < LOOK_AGAIN:
            return
        self._looked = now
        try:
            places = self._places(find_topics(self.bootstrap, self.topic, **self.kafka))
        except NoSuchTopic:
            raise
        except BrokerError as error:
            self._lasting.warn(f"listening to {self.topic}", error)
            return
        # What appears while we listen is new from its first record on.
        new = [place for place in places if place not in (self._assigned or ())]
        self._assign(dict.fromkeys(new, OFFSET_BEGINNING))

    def _places(self, topics: list[str]) -> list[Place]:
        """Every partition of some topics. Raises BrokerError."""
        try:
            known = self._consumer.list_topics(timeout=10).topics
        except KafkaException as error:  # a broker that has just begun may answer others, and not us yet
            raise BrokerError(f"the partitions are not known: {sentence(error.args[0])}") from None
        return [(name, number) for name in topics if name in known for number in known[name].partitions]

    def _starts_of_last(self, ends: Mapping[Place, int], last: int) -> dict[Place, int]:
        admin = admin_client(self.bootstrap, **self.kafka)
        settings = client_settings(self.bootstrap, **self.kafka)
        try:
            first = offsets(admin, [Partition(*place) for place in ends], OffsetSpec.earliest())
            beginnings: dict[Place, int] = dict(first.items())
            group = settings.get("sasl.username", "zads-listen")  # a user has a right to that one
            return starts_of_last(settings, group, beginnings, ends, last)
        except (KafkaException, Stalled) as error:
            raise BrokerError(f"cannot find the last records of {self.topic}: {words_of(error)}") from None

    def _assign(self, starts: Mapping[Place, int]) -> None:
        if starts:
            assigned = [TopicPartition(*place, start) for place, start in starts.items()]
            self._consumer.incremental_assign(assigned)
            self._assigned = (self._assigned or set()) | starts.keys()

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = {(partition.topic, partition.partition) for partition in partitions}

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = None


def record_at(
    topic: str, partition: int, offset: int, bootstrap: str = "localhost:9092", **kafka: Any
) -> Alert | None:
    """One record of a topic; None when it no longer exists.

    Parameters
    ----------
    topic
        Name of the topic.
    partition
        Number of the partition.
    offset
        Offset of the record.
    bootstrap
        Address of the broker, host:port.
    kafka
        librdkafka's own keys.

    Raises
    ------
    NoSuchTopic
        When there is no such topic.
    BrokerError
        When the broker does not answer.
    """
    find_topics(bootstrap, topic, **kafka)
    settings = _settings(bootstrap, None, True) | {"auto.offset.reset": "error"} | kafka
    consumer = Consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(SILENCE)
        if message is None or message.error() is not None or message.offset() != offset:
            return None
        return _alert(message)
    finally:
        consumer.close()


def _settings(bootstrap: str, group: str | None, from_beginning: bool) -> dict[str, Any]:
    if group is None:
        # No other reader waits for our partitions, so a reader may take any time over one alert.
        return consumer_settings(bootstrap, "zads-listen", **{"max.poll.interval.ms": 86_400_000})
    reset = "earliest" if from_beginning else "latest"
    return consumer_settings(bootstrap, group, **{"auto.offset.reset": reset, "enable.auto.commit": True})


def committed_ends(bootstrap: str, places: Iterable[Place], **kafka: Any) -> dict[Place, int]:
    """The last stable offset of each partition: every record below it is final.

    Parameters
    ----------
    bootstrap
        Address of the broker, host:port.
    places
        Topic and number of each partition.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When the broker does not say.
    """
    asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    if not asked:
        return {}
    # The client must outlive its futures, which would wait for ever.
    admin, deadline = admin_client(bootstrap, **kafka), time.monotonic() + _LEADER_SECONDS
    while True:
        futures = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=10)
        try:
            return {(p.topic, p.partition): future.result().offset for p, future in futures.items()}
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > deadline:
                raise BrokerError(f"cannot find the end of the topic: {sentence(error.args[0])}") from None
        time.sleep(_POLL)  # a topic that was just made


def _alert(message: Message, schemas: SchemaSource | None = None) -> Alert:
    kind, written = message.timestamp()
    return Alert(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        # A header of a foreign topic may be empty, repeated or no text at all: nothing to fail over.
        headers={name: (word or b"").decode(errors="replace") for name, word in message.headers() or ()},
        timestamp=None if kind == TIMESTAMP_NOT_AVAILABLE else written,
        raw=message.value() or b"",
        key=message.key(),
        schemas=schemas,
    )


def whole(text: str | None) -> int | None:
    """An integer header, None where it is missing or is none."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else None
