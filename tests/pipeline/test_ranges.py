"""Ranges of offsets over a log with holes: committed, aborted and marker records."""

import itertools

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.client import client_settings
from pipeline.broker.listen import listen
from pipeline.broker.partition import Partition
from pipeline.broker.reading.ranges import AHEAD, RangeReader, ahead_of
from tests.pipeline.topics import new_topic

KEPT = (True, False, True, True, False, False, True)


@pytest.fixture(scope="module")
def log(broker):
    """A topic of small transactions, some aborted; the records that a plain read_committed consumer sees."""
    kafka = client_settings(broker.bootstrap_servers)
    topic = new_topic(broker.bootstrap_servers)  # a worker that takes tests from another makes this anew
    producer = Producer({**kafka, "transactional.id": topic})
    producer.init_transactions(30)
    for number, kept in enumerate(KEPT):
        producer.begin_transaction()
        for record in range(3):
            producer.produce(topic, f"{number}.{record}".encode())
        producer.flush()
        (producer.commit_transaction if kept else producer.abort_transaction)()
    seen = {alert.offset: alert.raw for alert in listen(topic, broker.bootstrap_servers, until_drained=True)}
    end = 4 * len(KEPT)  # three records and a marker a transaction
    return kafka, Partition(topic, 0), seen, end


def test_every_way_to_cut_gives_the_same_records(log):
    kafka, partition, seen, end = log
    assert len(seen) == 3 * sum(KEPT)
    for step in (1, 2, 3, 5, 7, end):
        reader = RangeReader(kafka, "ranges", partition)
        edges = [*range(0, end, step), end]
        for low, high in itertools.pairwise(edges):
            got = {record.offset(): record.value() for record in reader.read(low, high)}
            assert got == {offset: raw for offset, raw in seen.items() if low <= offset < high}, (low, high)
        reader.close()


class Counted:
    """A consumer that counts how often it is sent elsewhere."""

    def __init__(self, consumer):
        self._consumer, self.assigned = consumer, 0

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def assign(self, places):
        self.assigned += 1
        self._consumer.assign(places)


def test_records_here_and_there_are_read_without_being_sought(log):
    """Each search at the end of a topic waits for the fetch that is under way there, up to two seconds."""
    kafka, partition, seen, _ = log
    for step in (1, 2, 3):
        reader = RangeReader(kafka, "ranges", partition)
        reader.consumer = counted = Counted(reader.consumer)
        for offset in list(seen)[::step]:
            assert [record.value() for record in reader.read(offset, offset + 1)] == [seen[offset]]
        assert counted.assigned == 1
        reader.close()


def test_a_range_can_be_read_again_and_out_of_order(log):
    kafka, partition, seen, end = log
    reader = RangeReader(kafka, "ranges", partition)
    for low, high in [(0, end), (8, 12), (0, 4), (8, 12), (end - 1, end), (0, end)]:
        got = {record.offset(): record.value() for record in reader.read(low, high)}
        assert got == {offset: raw for offset, raw in seen.items() if low <= offset < high}
    reader.close()


@given(st.integers(0, 1000), st.integers(1 << 26, 1 << 33))
def test_many_readers_share_the_memory_for_what_they_read_ahead(readers: int, budget: int) -> None:
    each = [ahead_of(held, budget) for held in range(readers)]
    assert all(1 << 20 <= ahead <= AHEAD for ahead in each)
    assert each == sorted(each, reverse=True), "the more there are, the less for the next"
    assert sum(each) <= 7 * budget + (readers << 20)
    assert budget < 8 * AHEAD or set(each[:8]) <= {AHEAD}
