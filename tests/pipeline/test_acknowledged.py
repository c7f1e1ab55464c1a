"""What a broker has acknowledged is there, also when it refuses the first request to a partition.

A proxy answers each partition's first Produce with NOT_LEADER_OR_FOLLOWER and passes the next, as it goes
on topics that were just made, or made anew. With a second request in flight behind the first an idempotent
producer takes the first for delivered, and its records are lost.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker.client import client_settings, producer_settings
from pipeline.broker.paced import NotTaken, Paced, paced_settings
from pipeline.broker.partition import partition_of
from pipeline.clients.publish import NotDelivered, publish_packets
from tests.pipeline import packets, topics
from tests.pipeline.wire import DUPLICATE_SEQUENCE_NUMBER, Answer, FirstProduceRefused, Produce, Wire

# librdkafka counts messages in flight: a request of fewer than five lets another go behind it.
FEW = {"batch.num.messages": 2, "linger.ms": 0}


def test_the_proxy_makes_a_plain_idempotent_producer_lose_acknowledged_records(broker: Broker) -> None:
    """The fault itself: without it the other tests would prove nothing."""
    topic = topics.new_topic(broker.bootstrap_servers)
    offsets: list[int | None] = []
    with Wire(broker.port, FirstProduceRefused(topic)) as wire:
        producer = Producer(producer_settings(wire.bootstrap, **FEW))
        for number in range(20):
            producer.produce(
                topic, b"%d" % number, on_delivery=lambda error, message: offsets.append(message.offset())
            )
        producer.flush(20)
    assert len(offsets) == 20, "all are acknowledged"
    assert len(topics.values(broker.bootstrap_servers, topic)) < 20, "and not all are there"


def test_publish_loses_nothing(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers, partitions=4)
    raw = [packets.packet(n, pid=n % 16) for n in range(200)]
    with Wire(broker.port, refused := FirstProduceRefused(topic)) as wire:
        summary = publish_packets(raw, wire.bootstrap, topic, **FEW)
    assert refused.refused == 4
    assert summary.sent == 200
    assert Counter(topics.values(broker.bootstrap_servers, topic)) == Counter(raw)


def test_a_transaction_loses_nothing(broker: Broker) -> None:
    """As a lane writes, and with a pause under way that would make librdkafka send what it has."""
    names = [topics.new_topic(broker.bootstrap_servers) for _ in range(3)]
    faults = [FirstProduceRefused(name) for name in names]

    def fault(request: Produce) -> Answer | None:
        return next((answer for each in faults if (answer := each(request)) is not None), None)

    with Wire(broker.port, fault) as wire:
        producer = transactional(wire.bootstrap)
        for _ in range(2):
            producer.begin_transaction()
            paced = Paced(producer)
            for number in range(10):
                for name in names:
                    paced.produce(topic=name, value=b"%d" % number)
                time.sleep(0.3 if number == 2 else 0)
                producer.poll(0)
            paced.flush()
            producer.commit_transaction(20)
    for name in names:
        assert topics.values(broker.bootstrap_servers, name) == [b"%d" % n for n in range(10)] * 2


def transactional(bootstrap: str) -> Producer:
    settings = paced_settings(client_settings(bootstrap, **FEW)) | {"transactional.id": uuid.uuid4().hex}
    producer = Producer(settings)
    producer.init_transactions(20)
    return producer


class Once:
    """Tells the client of one Produce that it was there before: acknowledged, without an offset."""

    def __init__(self, topic: str, written: bool, number: int) -> None:
        self._topic, self._written, self._left, self.done = topic, written, number, False

    def __call__(self, request: Produce) -> Answer | None:
        self._left -= request.partitions[0].topic == self._topic
        if self.done or self._left:
            return None
        self.done = True
        return Answer(lambda: DUPLICATE_SEQUENCE_NUMBER, self._written)


@pytest.mark.parametrize("written", [True, False])
def test_publish_looks_whether_a_record_without_an_offset_is_there(broker: Broker, written: bool) -> None:
    """Neither is one that is there sent again, nor one that is not there counted as sent."""
    topic = topics.new_topic(broker.bootstrap_servers)
    raw = [packets.packet(n % 40) for n in range(120)]  # each thrice: those before and after look the same
    with Wire(broker.port, once := Once(topic, written, 2 if written else 1)) as wire:
        summary = publish_packets(raw, wire.bootstrap, topic, rate=400)
    assert once.done
    assert summary.sent == 120
    assert Counter(topics.values(broker.bootstrap_servers, topic)) == Counter(raw)


@pytest.mark.parametrize("written", [True, False])
def test_a_transaction_with_a_record_without_an_offset_is_not_committed(
    broker: Broker, written: bool
) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    with Wire(broker.port, Once(topic, written, 1)) as wire:
        producer = transactional(wire.bootstrap)
        producer.begin_transaction()
        paced = Paced(producer)
        paced.produce(topic=topic, value=b"perhaps")
        with pytest.raises(NotTaken) as raised:
            paced.flush()
        assert raised.value.topic == topic
        producer.abort_transaction(20)
    assert topics.values(broker.bootstrap_servers, topic) == []


def test_publish_says_when_its_topic_was_made_anew(broker: Broker) -> None:
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers)

    def packets_and_a_mishap():
        yield from (packets.packet(n) for n in range(300))
        topics.recreate(servers, topic)
        yield from (packets.packet(n) for n in range(300, 600))

    with pytest.raises(NotDelivered, match=f"{topic}.* it was made again"):
        publish_packets(packets_and_a_mishap(), servers, topic)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(1, 50))
def test_a_key_belongs_to_the_partition_that_java_clients_choose(keys: list[bytes], partitions: int) -> None:
    assert all(0 <= partition_of(key, partitions) < partitions for key in keys)


def test_a_key_goes_where_librdkafka_puts_it(broker: Broker) -> None:
    topic = topics.new_topic(broker.bootstrap_servers, partitions=7)
    keys = [b"x" * n + b"%d" % n for n in range(100)] + [b"\xff\x80\x01" * 5]
    settings = {"bootstrap.servers": broker.bootstrap_servers, "partitioner": "murmur2_random"}
    producer = Producer(settings)
    for key in keys:
        producer.produce(topic, b"", key)
    producer.flush(20)
    chosen = {
        message.key(): message.partition() for message in topics.records(broker.bootstrap_servers, topic)
    }
    assert chosen == {key: partition_of(key, 7) for key in keys}
