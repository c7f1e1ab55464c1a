"""Quotas hold for a user, however many clients, and for nobody else; how far a user has read is told."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from cluster.kafka.broker import Broker
from cluster.kafka.quotas import READ, WRITE, quotas_of, set_quotas
from pipeline.access.usage import Read, groups_of, topics_of
from pipeline.access.users import add_user, enforce_rights, known_user
from pipeline.broker.topics import ensure_topics
from tests.access.world import client

RECORD = b"x" * 50_000
WINDOW = 11.0
"""Seconds over which Kafka counts: so much of a quota may come at once."""
FETCH = 200_000
"""Bytes that a client of this test asks for at most."""


def heavy_topic(secured: Broker, records: int) -> str:
    """A public channel's topic with so many records."""
    topic = f"channel.heavy-{uuid.uuid4().hex[:8]}"
    kafka = secured.operator
    ensure_topics(kafka["bootstrap.servers"], [topic], partitions=1, **kafka)
    producer = Producer({**kafka, "linger.ms": 50})
    for _ in range(records):
        producer.produce(topic, RECORD, partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0
    return topic


def new_user(secured: Broker, who: str) -> tuple[str, dict[str, str]]:
    name = f"{who}-{uuid.uuid4().hex[:8]}"
    kafka = secured.operator
    return name, client(secured, name, add_user(name, "public", kafka["bootstrap.servers"], by="t", **kafka))


def reader(settings: dict[str, str], topic: str, group: str) -> Consumer:
    small = {"max.partition.fetch.bytes": FETCH, "fetch.max.bytes": FETCH, "enable.auto.commit": False}
    consumer = Consumer({**settings, **small, "group.id": group, "message.max.bytes": FETCH})
    consumer.assign([TopicPartition(topic, 0, 0)])
    return consumer


def read_for(seconds: float, readers: list[Consumer]) -> tuple[int, float]:
    """Bytes that the readers got together, and the seconds that it took."""
    began, got = time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds:
        for one in readers:
            message = one.poll(0.01)
            if message is not None and message.error() is None:
                got += len(message.value())
    return got, took


def test_a_quota_holds_for_all_clients_of_a_user_and_for_nobody_else(secured: Broker) -> None:
    rate, records = 200_000, 400
    topic = heavy_topic(secured, records)
    slow, settings = new_user(secured, "slow")
    _, others = new_user(secured, "free")
    enforce_rights(secured.operator["bootstrap.servers"], **secured.operator)
    set_quotas(slow, {READ: rate, WRITE: 1e6}, secured.operator)
    assert quotas_of(slow, secured.operator) == {READ: rate, WRITE: 1e6}
    readers = [reader(settings, topic, f"{slow}.{n}") for n in range(3)]
    got, took = read_for(4, readers)
    assert 0 < got <= rate * (took + WINDOW) + len(readers) * FETCH < records * len(RECORD) / 2
    free = reader(others, topic, "free")
    everything = 0
    while everything < records * len(RECORD):
        everything += read_for(0.2, [free])[0]
    set_quotas(slow, {READ: None}, secured.operator)
    assert quotas_of(slow, secured.operator) == {WRITE: 1e6}
    for one in (*readers, free):
        one.close()


def test_what_a_user_has_read_is_told(secured: Broker) -> None:
    topic = heavy_topic(secured, 10)
    name, settings = new_user(secured, "una")
    kafka = secured.operator
    enforce_rights(kafka["bootstrap.servers"], **kafka)
    consumer = reader(settings, topic, f"{name}.tonight")
    consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    consumer.close()
    user = known_user(name, kafka["bootstrap.servers"], **kafka)
    assert groups_of(user, kafka["bootstrap.servers"], **kafka) == [Read(f"{name}.tonight", topic, 7, 3)]
    assert topic in topics_of(user, kafka["bootstrap.servers"], **kafka)
    assert "zads.users" not in topics_of(user, kafka["bootstrap.servers"], **kafka)


@pytest.mark.soak
def test_one_megabyte_a_second(secured: Broker) -> None:
    topic = heavy_topic(secured, 4000)
    slow, settings = new_user(secured, "mega")
    enforce_rights(secured.operator["bootstrap.servers"], **secured.operator)
    set_quotas(slow, {READ: 1e6}, secured.operator)
    readers = [reader(settings, topic, f"{slow}.{n}") for n in range(3)]
    got, _ = read_for(60, readers)
    for one in readers:
        one.close()
    assert 50e6 <= got <= 75e6
