"""The coordinator's place in the consumer group, on a real broker."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import NewPartitions
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker import members
from pipeline.broker.client import SESSION_SECONDS, admin_client, instance_of
from pipeline.broker.members import (
    SETTLED_SECONDS,
    Described,
    Member,
    Takeover,
    called_back,
    described,
    leave,
    replicas,
)
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics
from pipeline.channels.config import RunConfig
from pipeline.live.membership import Membership, ReplacedError
from tests.pipeline.topics import Transactions

SECONDS = 25.0


@contextmanager
def member(servers: str, name: str) -> Iterator[Membership]:
    """One that reads the topics whose names begin with `name`; a member of the group of that name."""
    one = Membership({"bootstrap.servers": servers}, name, "0", f"^{name}_")
    try:
        yield one
    finally:
        one.close()


def topics_of(one: Membership, wanted: set[str]) -> set[str]:
    """The topics of its partitions, as soon as they are those wanted, or after a while."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = {partition.topic for partition in one.poll()}
        if found == wanted:
            break
        time.sleep(0.05)
    return found


def test_a_quick_restart_notices_topics_and_partitions_that_came_just_before(broker: Broker) -> None:
    """Kafka gives a static member its old partitions back without asking which topics there are now."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    early, late = f"{name}_1", f"{name}_2"
    ensure_topics(servers, [early], partitions=2)
    with member(servers, name) as first:
        assert topics_of(first, {early}) == {early}
        ensure_topics(servers, [late], partitions=2)
        admin = admin_client(servers)
        admin.create_partitions([NewPartitions(early, 4)])[early].result()
        with member(servers, name) as second:  # the first, not polled any more, is as good as killed
            assert topics_of(second, {early, late}) == {early, late}
            deadline = time.monotonic() + SECONDS
            while len(second.poll()) < 6 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(second.poll()) == 6, "the partitions that were added"
            with pytest.raises(ReplacedError):
                topics_of(first, {late})


def test_a_member_that_was_fenced_by_nobody_who_lives_joins_again(broker: Broker) -> None:
    """As after a request to join that a frozen broker answered late."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    topic = f"{name}_1"
    ensure_topics(servers, [topic], partitions=1)
    with member(servers, name) as one:
        assert topics_of(one, {topic}) == {topic}
        same = {"group.id": name, "group.instance.id": f"{name}-0", "session.timeout.ms": 1_000}
        phantom = Consumer({"bootstrap.servers": servers, **same, "heartbeat.interval.ms": 300})
        phantom.subscribe([topic])
        deadline = time.monotonic() + SECONDS
        while one.poll() and time.monotonic() < deadline:
            phantom.poll(0.1)
        phantom.close()
        assert not one.poll(), "it was not fenced"
        assert topics_of(one, {topic}) == {topic}


def test_whoever_leaves_a_group_is_not_held_up(caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a rebalance librdkafka may never come back; and a callback may fail."""

    class Stuck:
        def close(self) -> None:
            threading.Event().wait()

    class Failing:
        def close(self) -> None:
            raise OSError("the disk is full")

    assert not leave(Stuck(), seconds=0.1)
    assert leave(Failing())
    assert "leaving the group: the disk is full" in caplog.text


def test_who_is_let_go_of_serves_no_rebalance(broker: Broker) -> None:
    """librdkafka may never come back from one that waits then, and nobody else in the process runs."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    topic = f"{name}_1"
    ensure_topics(servers, [topic], partitions=1)
    one = Membership({"bootstrap.servers": servers}, name, "0", f"^{name}_")
    asks, deadline = {"bootstrap.servers": servers}, time.monotonic() + 60
    while replicas(asks, name) != ["0"]:  # it has joined by itself; its partition waits to be taken
        assert time.monotonic() < deadline, "it does not join"
        time.sleep(0.1)
    time.sleep(1.0)
    one.changed = False
    one.close()
    assert not one.changed, "a callback came"
    with member(servers, name) as again:  # and another has its place at once
        assert topics_of(again, {topic}) == {topic}


def test_a_topic_is_read_by_its_name_alone(broker: Broker) -> None:
    """librdkafka takes fewer regular expressions than Python does."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    ensure_topics(servers, [name, f"{name}_2"], partitions=1)
    one = Membership({"bootstrap.servers": servers}, name, "0", RunConfig(topics=name).topics)
    try:
        assert topics_of(one, {name}) == {name}
    finally:
        one.close()


def test_the_end_of_a_topic_is_known_when_its_transactions_are_over(broker: Broker) -> None:
    """Until then its last stable offset is before records that may still come: a run would miss them."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    topic = f"{name}_1"
    ensure_topics(servers, [topic], partitions=1)
    writer = Transactions(servers, topic)
    writer.leave_open([b"one", b"two"])
    with member(servers, name) as one, ThreadPoolExecutor() as beside:
        place = Partition(topic, 0)
        assert one.ends([place]) == {place: 0}
        end = beside.submit(one.settled_ends, [place], lambda: False)
        with pytest.raises(TimeoutError):
            end.result(1.0)
        writer.commit()
        assert end.result(SECONDS)[place] >= 2


def test_a_transaction_that_a_dead_worker_left_open_holds_nobody_up(broker: Broker) -> None:
    """Its offsets are pending: the old ones are told, the worker that comes next fences and asks again."""
    servers, name = broker.bootstrap_servers, f"m{uuid.uuid4().hex[:8]}"
    topic = f"{name}_1"
    ensure_topics(servers, [topic], partitions=1)
    dead = Producer({"bootstrap.servers": servers, "transactional.id": name})
    dead.init_transactions(SECONDS)
    outsider = Consumer({"bootstrap.servers": servers, "group.id": name})
    for offset in (5, 8):
        dead.begin_transaction()
        position = TopicPartition(topic, 0, offset)
        dead.send_offsets_to_transaction([position], outsider.consumer_group_metadata(), SECONDS)
        if offset == 5:
            dead.commit_transaction(SECONDS)
    outsider.close()
    with member(servers, name) as one:
        assert topics_of(one, {topic}) == {topic}
        assert one.committed([Partition(topic, 0)])[Partition(topic, 0)].offset == 5


AWAY = ConsumerGroupState.UNKNOWN


class Group:
    """What a broker would tell of a group, second by second: (state, the id of the member of that name)."""

    def __init__(self, told: Sequence[tuple[ConsumerGroupState, str]]) -> None:
        self.now, self._told = 0.0, list(told)

    def clock(self) -> float:
        return self.now

    def describe(self, group: str) -> Described:
        state, one = self._told[min(int(self.now), len(self._told) - 1)]
        if state is AWAY:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return Described(state, (Member(one, instance_of(group, "0")),) if one else ())


STATES = [
    ConsumerGroupState.PREPARING_REBALANCING,
    ConsumerGroupState.COMPLETING_REBALANCING,
    ConsumerGroupState.STABLE,
]
SETTLED = int(SETTLED_SECONDS)


def verdict(told: Sequence[tuple[ConsumerGroupState, str]], step: float = 0.25) -> tuple[bool | None, float]:
    """What a member that was fenced finds, and when."""
    group = Group(told)
    fenced = Takeover("g", "0", group.clock)
    while group.now < 200:
        if (found := fenced.look(group.describe)) is not None:
            return found, group.now
        group.now += step
    return None, group.now


@settings(deadline=None)
@given(
    joining=st.lists(st.tuples(st.sampled_from(STATES[:2]), st.sampled_from(["a", "b"])), max_size=60),
    broken=st.lists(st.integers(0, int(SESSION_SECONDS)), max_size=4),
    lives=st.booleans(),
)
def test_only_a_member_that_outlives_a_session_has_taken_over(
    joining: list[tuple[ConsumerGroupState, str]], broken: list[int], lives: bool
) -> None:
    """However long the group needs, and however often its broker comes back and begins a session anew."""
    stable = ConsumerGroupState.STABLE
    told = list(joining)
    for seconds in broken:  # of a member that a request to join left behind: each broker begins its session
        told += [(AWAY, ""), *[(stable, "left behind")] * seconds]
    told += [(stable, "another" if lives else "")] * (2 * SETTLED)
    found, at = verdict(told)
    assert found is lives
    assert at <= len(told)


@pytest.mark.parametrize("state", STATES[:2])
def test_who_has_our_place_is_not_known_before_the_group_has_settled(state: ConsumerGroupState) -> None:
    assert verdict([(state, "a")] * 100) == (None, 200)


@pytest.mark.parametrize("through", [called_back, lambda function: function])
def test_an_error_of_the_client_arrives_whole_out_of_a_callback(
    broker: Broker, through: Callable[..., Any]
) -> None:
    """If this fails for a bare function, confluent-kafka has been mended, and `called_back` can go."""
    if through is not called_back and sys.gettrace() is not None:
        pytest.skip("who traces what is run, as coverage does, mends the error on its way")
    name = f"m{uuid.uuid4().hex[:8]}"
    ensure_topics(broker.bootstrap_servers, [name], partitions=1)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": name})
    consumer.subscribe(
        [name], on_assign=through(lambda one, _: one.get_watermark_offsets(TopicPartition(name, 7), 10))
    )
    deadline, caught = time.monotonic() + 60, []
    try:
        while not caught and time.monotonic() < deadline:
            try:
                consumer.poll(0.2)
            except KafkaException as error:
                caught.append(type(error))
            except:  # noqa: E722 (nothing else catches it)
                caught.append(sys.exc_info()[0])
    finally:
        consumer.close()
    assert caught == [KafkaException if through is called_back else KafkaError]


ASKING = """
import sys
import time
from confluent_kafka import KafkaException
from pipeline.broker.members import described

print("begun", flush=True)
sys.stdin.readline()
try:
    described({"bootstrap.servers": sys.argv[1]}, "g", 1.0)
except KafkaException:
    print("no answer", flush=True)
time.sleep(4)
"""


def test_a_question_about_a_group_that_is_left_open_ends_no_process(own_broker: Broker) -> None:
    """librdkafka may abort a process whose client has asked in vain, when the broker is back."""
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKING, own_broker.bootstrap_servers],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout is not None
    assert asking.stdin is not None
    assert asking.stdout.readline() == "begun\n"
    frozen = psutil.Process(own_broker.pid)
    frozen.suspend()
    try:
        print(file=asking.stdin, flush=True)
        assert asking.stdout.readline() == "no answer\n"
    finally:
        frozen.resume()
    _, errors = asking.communicate(timeout=60)
    assert asking.returncode == 0, errors


@pytest.mark.parametrize("asks", ["import os; os.abort()", "pass", "import time; time.sleep(60)"])
def test_who_asks_for_us_may_end_in_any_way(asks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker is not blamed, and nothing but a KafkaException comes out."""
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _, **kwargs: run([sys.executable, "-c", asks], **kwargs))
    monkeypatch.setattr(members, "_BEGIN_SECONDS", 1.0)
    with pytest.raises(KafkaException):
        described({"bootstrap.servers": "127.0.0.1:1"}, "g", 0.5)
