"""What several tests of the cluster room do with a broker, through confluent-kafka alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE_S = 60.0


def create_topic(bootstrap: str, topic: str) -> None:
    """Create a topic of one partition."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE_S)


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Produce and wait until the broker has them."""
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 16_000_000})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(PATIENCE_S) == 0


def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    """The first `count` values of a topic."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": f"read-{time.time_ns()}",
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    messages = consumer.consume(count, PATIENCE_S)
    consumer.close()
    return [message.value() for message in messages]


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within a generous time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
