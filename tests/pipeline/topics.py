"""Reading and writing topics with nothing but confluent-kafka: what the tests compare zads with."""

from __future__ import annotations

import itertools
import time
import uuid
from contextlib import suppress
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from cluster.kafka.broker import Broker

_number = itertools.count(1)


def new_topic(bootstrap: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    """A topic of one's own on the broker that all tests share."""
    name = f"test-{uuid.uuid4().hex[:8]}-{next(_number)}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, partitions, config=config or {})])[name].result()
    return name


def recreate(bootstrap: str, topic: str, partitions: int = 1) -> None:
    """Delete a topic and make another of its name, as soon as Kafka lets one."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result()
    for _ in range(100):
        try:
            admin.create_topics([NewTopic(topic, partitions)])[topic].result()
            return
        except KafkaException:
            time.sleep(0.05)
    raise AssertionError(f"{topic} cannot be made again")


def cut_log(broker: Broker, topic: str, keep: int) -> None:
    """Kill the broker, leave only the first records of partition 0, start it: a log that was truncated."""
    broker.kill()
    (log,) = broker.home.rglob(f"{topic}-0/00000000000000000000.log")
    with log.open("r+b") as file:
        file.truncate(_end_of(log.read_bytes(), keep))
    broker.start()


def _end_of(log: bytes, keep: int) -> int:
    """Bytes of the batches with offsets below `keep`: each begins with its first offset and its length."""
    at = 0
    while at < len(log) and int.from_bytes(log[at : at + 8]) < keep:
        at += 12 + int.from_bytes(log[at + 8 : at + 12])
    return at


def limit(bootstrap: str, topic: str, most: int) -> None:
    """The largest record that a topic takes, in bytes."""
    entry = ConfigEntry("max.message.bytes", str(most), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def partitions(bootstrap: str, topic: str) -> int:
    """How many partitions a topic has."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return len(admin.list_topics(timeout=60).topics[topic].partitions)


def records(bootstrap: str, topic: str, **kafka: str) -> list[Message]:
    """Every committed record of a topic, in order of offset within each partition."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "oracle", "enable.partition.eof": True, **kafka}
    consumer = Consumer(settings)
    try:
        known = _topics_known_to(consumer)
        if topic not in known:
            return []
        left = set(known[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        found = []
        while left:
            message = consumer.poll(20)
            assert message is not None, f"{topic} did not end within 20 s"
            if message.error() is None:
                found.append(message)
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                left.discard(message.partition())
        return sorted(found, key=lambda message: (message.partition(), message.offset()))
    finally:
        consumer.close()


def _topics_known_to(consumer: Consumer) -> dict[str, Any]:
    """Asked twice: a connection that breaks fails what was asked over it."""
    with suppress(KafkaException):
        return consumer.list_topics(timeout=60).topics
    return consumer.list_topics(timeout=60).topics


def values(bootstrap: str, topic: str) -> list[bytes]:
    """The values of every committed record."""
    return [message.value() for message in records(bootstrap, topic)]


def write(bootstrap: str, topic: str, *messages: bytes, partition: int = 0, **more: Any) -> None:
    """Write records to one partition of a topic."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for message in messages:
        producer.produce(topic, message, partition=partition, **more)
    assert producer.flush(20) == 0


def until_settled(bootstrap: str, topic: str) -> None:
    """Wait until every transaction in partition 0 of a topic has its marker there.

    It is over for its producer before that, and until then nobody sees its records.
    """
    admin, place = AdminClient({"bootstrap.servers": bootstrap}), TopicPartition(topic, 0)

    def end(isolation: IsolationLevel) -> int:
        asked = admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=isolation)
        return int(asked[place].result(20).offset)

    deadline = time.monotonic() + 20
    while end(IsolationLevel.READ_COMMITTED) < end(IsolationLevel.READ_UNCOMMITTED):
        assert time.monotonic() < deadline, f"a transaction in {topic} does not end"
        time.sleep(0.01)


class Transactions:
    """A transactional producer to partition 0 of a topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self._producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": uuid.uuid4().hex})
        self._producer.init_transactions(20)

    def write(self, messages: list[bytes], commit: bool) -> None:
        """One transaction, committed or aborted."""
        self.leave_open(messages)
        if commit:
            self._producer.commit_transaction(20)
        else:
            self._producer.abort_transaction(20)

    def leave_open(self, messages: list[bytes], **more: Any) -> None:
        """A transaction that is neither committed nor aborted."""
        self._producer.begin_transaction()
        for message in messages:
            self._producer.produce(self.topic, message, partition=0, **more)
        self._producer.flush(20)

    def commit(self) -> None:
        self._producer.commit_transaction(20)

    def abort(self) -> None:
        self._producer.abort_transaction(20)


def move_group(servers: str, topic: str, offset: int, group: str = "zads") -> None:
    """Commit an offset of partition 0 by hand, as soon as the group is empty.

    A static member stays for its session after its process has ended.
    """
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    deadline = time.monotonic() + 60
    while True:
        try:
            consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
            break
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_MEMBER_ID or time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    consumer.close()
