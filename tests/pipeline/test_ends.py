"""How far partitions reach, asked in one call; what is told is compared with what AdminClient tells."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from hypothesis import given
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics
from pipeline.live.ends import Ends
from pipeline.live.membership import Membership
from tests.pipeline.topics import Transactions, recreate

SECONDS = 25.0


def told_by_admin(servers: str, places: Sequence[Partition]) -> dict[Partition, int]:
    """The last stable offset of each, asked for one by one."""
    asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
    admin = AdminClient({"bootstrap.servers": servers})  # must outlive its futures
    answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    return {Partition(tp.topic, tp.partition): answer.result().offset for tp, answer in answers.items()}


class _Answered:
    """What an AdminClient gives in answer."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def result(self) -> _Answered:
        return self


class _Gone:
    """An AdminClient whose broker went away: librdkafka reports success, and some offsets are none."""

    def __init__(self, told: Mapping[Partition, int]) -> None:
        self._told = told

    def list_offsets(self, asked: Iterable[TopicPartition], **_: object) -> dict[TopicPartition, _Answered]:
        return {tp: _Answered(self._told[Partition(tp.topic, tp.partition)]) for tp in asked}


@given(st.dictionaries(st.integers(0, 5), st.sampled_from([-1001, -1, 0, 7]), min_size=1))
def test_an_offset_below_0_is_no_answer(offsets: dict[int, int]) -> None:
    """It was taken for an end, and a group for being beyond it."""
    told = {Partition("t", number): offset for number, offset in offsets.items()}
    member = Membership.__new__(Membership)
    member._admin, member.unreadable = _Gone(told), {}
    good = {place: offset for place, offset in told.items() if offset >= 0}
    if good:
        assert member._offsets(list(told), OffsetSpec.latest()) == good
        assert member.unreadable.keys() == told.keys() - good.keys()
    else:
        with pytest.raises(KafkaException):
            member._offsets(list(told), OffsetSpec.latest())


def test_all_ends_are_told_at_once_and_else_nothing_for_a_while(broker: Broker) -> None:
    """An open transaction ends a partition; a topic that is made again is not taken for the one before."""
    servers, name, now = broker.bootstrap_servers, f"e{uuid.uuid4().hex[:8]}", [0.0]
    topics = [f"{name}_1", f"{name}_2"]
    ensure_topics(servers, topics, partitions=3)
    places = [Partition(topic, number) for topic in topics for number in range(3)]
    done, under_way = Transactions(servers, topics[0]), Transactions(servers, topics[1])
    done.leave_open([b"one", b"two"])
    done.commit()
    under_way.leave_open([b"three"])
    ends = Ends({"bootstrap.servers": servers}, name, clock=lambda: now[0])

    def agree() -> bool:
        found = ends.of(places)
        now[0] += 31.0  # so the next question is asked, whatever became of this one
        return found is not None and found == told_by_admin(servers, places)

    wait_until(agree)
    assert max(told_by_admin(servers, places).values()) >= 2
    under_way.commit()
    wait_until(agree)
    recreate(servers, topics[0], partitions=2)
    wait_until(lambda: ends.of(places) is None)  # of what is gone nothing is told ...
    now[0] += 1.0
    assert (
        ends.of([places[-1]]) is None
    )  # ... nor of the others, for a while: somebody else says what is wrong
    places.remove(Partition(topics[0], 2))
    wait_until(agree)
    assert told_by_admin(servers, places)[Partition(topics[0], 0)] == 0
    ends.close()


def test_a_client_that_is_left_while_another_thread_asks_ends_no_process(broker: Broker) -> None:
    """confluent-kafka frees a client that is closed, whoever is in it."""
    servers, name = broker.bootstrap_servers, f"e{uuid.uuid4().hex[:8]}"
    ensure_topics(servers, [name], partitions=16)
    places, now, asked = [Partition(name, number) for number in range(16)], [0.0], 0
    ends, stop = Ends({"bootstrap.servers": servers}, name, clock=lambda: now[0]), threading.Event()

    def leave_it() -> None:
        while not stop.wait(0.01):
            ends.forget()
            now[0] += 31.0

    beside = threading.Thread(target=leave_it)
    beside.start()
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        asked += ends.of(places) is not None
    stop.set()
    beside.join()
    ends.close()
    assert asked


def wait_until(true: Callable[[], bool]) -> None:
    """Return when it is; fails after a while."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
