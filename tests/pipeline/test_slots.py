"""One transactional producer for many partitions: nothing comes twice, whoever stands still or dies."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker.client import BrokerError
from pipeline.broker.paced import Paced
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS
from pipeline.broker.reading.shared_ranges import SharedReader
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set
from pipeline.channels.gaps import APPLIED_TOPIC, GAPS_TOPIC
from pipeline.channels.groups import Delivering
from pipeline.channels.ledger import LEDGER_TOPIC
from pipeline.live import beside
from pipeline.live.beside import Place, left_open
from pipeline.live.fleet import slots as live_slots
from pipeline.live.fleet.slots import Slots, fence_slot
from pipeline.live.membership import Membership
from pipeline.worker import process as on_worker
from pipeline.worker.holding.lane import Lane, Moved
from pipeline.worker.holding.slot import Part, Slot, slot_name
from pipeline.worker.step import Step, ended_by, lanes
from pipeline.worker.work import Report, Work
from tests.pipeline.packets import packet
from tests.pipeline.topics import new_topic, values, write

SECONDS = 20.0


@contextmanager
def member(servers: str, group: str) -> Iterator[Membership]:
    """A coordinator's membership, as soon as it has its partitions."""
    one = Membership({"bootstrap.servers": servers}, group, "0", f"^{group}_")
    try:
        deadline = time.monotonic() + SECONDS
        while not one.poll():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield one
    finally:
        one.close()


class Ground:
    """A group of its own with two topics to read, of one partition each, and a channel's topic."""

    def __init__(self, broker: Broker) -> None:
        self.servers, self.group = broker.bootstrap_servers, f"s{uuid.uuid4().hex[:8]}"
        self.kafka = {SERVERS: self.servers}
        self.channel = new_topic(self.servers)
        self.places = [Partition(f"{self.group}_{number}", 0) for number in range(2)]
        ensure_topics(self.servers, [place.topic for place in self.places], partitions=1)
        for place in self.places:
            write(self.servers, place.topic, *(packet(number) for number in range(5)))

    def slot(self, number: int) -> Slot:
        """A worker's slot, taken."""
        slot = Slot({"bootstrap.servers": self.servers}, slot_name(self.group, "0", number))
        slot.take()
        return slot

    def part(self, place: Partition, word: bytes) -> Part:
        """Delivers one record for the five of a partition."""

        def send(paced: Paced) -> TopicPartition:
            paced.produce(topic=self.channel, value=word)
            return TopicPartition(*place, 5)

        return send

    def work(self, place: Partition, membership: object = b"", **more: Any) -> Work:
        """The five records of a partition."""
        work = Work(place, 0, 5, 1, True, "r", 1, self.group, membership, self.kafka, b"", "v")
        return replace(work, **more)

    @property
    def delivered(self) -> list[bytes]:
        return values(self.servers, self.channel)


@pytest.fixture
def ground(broker: Broker) -> Ground:
    return Ground(broker)


@pytest.mark.parametrize("fenced", [True, False])
def test_who_stood_still_in_a_transaction_commits_nothing_once_its_slot_is_fenced(
    ground: Ground, fenced: bool
) -> None:
    """Kafka alone takes both: the proof of membership is the coordinator's, which gave the work twice."""
    with member(ground.servers, ground.group) as one:
        still, other = ground.slot(0), ground.slot(1)
        parts = [ground.part(place, place.topic.encode()) for place in ground.places]

        def stands_still(paced: Paced) -> TopicPartition:
            position = parts[0](paced)
            paced.flush()  # its records are there, its offsets are not
            if fenced:
                assert fence_slot(ground.kafka, still.name) == ""
            other.commit(parts, one.metadata)
            return position

        with pytest.raises(KafkaException) if fenced else nullcontext():
            still.commit([stands_still, parts[1]], one.metadata)
        assert (still.open, other.open) == (not fenced, True)
    assert ground.delivered.count(parts_word(ground, 0)) == (1 if fenced else 2)
    assert ground.delivered.count(parts_word(ground, 1)) == (1 if fenced else 2)


def parts_word(ground: Ground, number: int) -> bytes:
    return ground.places[number].topic.encode()


def test_a_worker_of_the_coordinator_before_commits_nothing(ground: Ground) -> None:
    """A static member that is replaced: the generation is the same, the member is another."""
    with member(ground.servers, ground.group) as before:
        slot, proof = ground.slot(0), before.metadata
        slot.commit([ground.part(ground.places[0], b"of its time")], proof)
        with member(ground.servers, ground.group) as now:
            with pytest.raises(KafkaException):
                slot.commit([ground.part(ground.places[1], b"too late")], proof)
            ground.slot(1).commit([ground.part(ground.places[1], b"of the next")], now.metadata)
    assert ground.delivered == [b"of its time", b"of the next"]


@pytest.mark.parametrize("end", ["committed", "aborted", "fenced"])
def test_who_takes_a_partition_waits_for_offsets_that_are_pending(ground: Ground, end: str) -> None:
    place, name = ground.places[0], slot_name(ground.group, "0", 0)
    holder = Producer({"bootstrap.servers": ground.servers, "transactional.id": name})
    holder.init_transactions(SECONDS)
    with member(ground.servers, ground.group) as one, ThreadPoolExecutor() as beside_it:
        holder.begin_transaction()
        holder.send_offsets_to_transaction([TopicPartition(*place, 5)], one.metadata, SECONDS)
        work = ground.work(place, one.metadata)
        lane, reader = Lane(work), SharedReader(work.client, work.group)
        taking = beside_it.submit(lane.take, ground.work(place, one.metadata), lambda: reader.told(place))
        with pytest.raises(TimeoutError):
            taking.result(1.0)
        if end == "fenced":
            assert fence_slot(ground.kafka, name) == ""
        else:
            (holder.commit_transaction if end == "committed" else holder.abort_transaction)(SECONDS)
        if end == "committed":
            with pytest.raises(Moved) as moved:
                taking.result(SECONDS)
            assert moved.value.stood.offset == 5
        else:
            taking.result(SECONDS)
            assert lane.committed == 0
        lane.abandon()


CHANNELS = {"slots_all": ChannelConfig(filter="real_bogus", parameters={"rb_min": 0})}


def test_a_partition_that_cannot_be_committed_takes_no_other_with_it(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input is deleted after its records were read: Kafka never takes its offset."""
    good, gone = ground.places
    channels = channel_set(RunConfig(channels=CHANNELS, topics=f"^{ground.group}_"))
    channel = f"channel.{ground.group}"
    channels = ChannelSet(tuple(replace(c, name=ground.group) for c in channels.channels))
    ensure_topics(ground.servers, [channel, APPLIED_TOPIC, GAPS_TOPIC, LEDGER_TOPIC], partitions=1)
    judge, deleted = on_worker._judge, []

    def judge_and_delete(*arguments: Any) -> None:
        judge(*arguments)
        if not deleted:
            deleted.append(gone.topic)
            admin = AdminClient({"bootstrap.servers": ground.servers})
            admin.delete_topics([gone.topic])[gone.topic].result()

    monkeypatch.setattr(on_worker, "_judge", judge_and_delete)
    with member(ground.servers, ground.group) as one:
        shipped = {"channels": channels.to_bytes(), "version": channels.version}
        works = [ground.work(place, one.metadata, **shipped) for place in (good, gone)]
        reports = do(ground, works, 0)
        assert {report.outcome for report in reports} == {"together"}
        assert values(ground.servers, channel) == []
        again = [replace(work, attempt=2) for work in works]
        alone = [do(ground, [work], 2 + number) for number, work in enumerate(again)]
        assert [report.outcome for (report,) in alone] == ["committed", "input"]
    assert len(values(ground.servers, channel)) == 5


def do(ground: Ground, works: list[Work], number: int) -> list[Report]:
    """What a worker says of them; its slot is opened for them, and fenced as its reports ask for."""
    name = slot_name(ground.group, "0", number)
    assert on_worker.open_slot(ground.kafka, name) == ""
    reports = on_worker.process(works, name)
    if any(report.open for report in reports):
        assert fence_slot(ground.kafka, name) == ""
    return reports


def test_work_for_a_slot_that_is_not_open_is_not_done(ground: Ground) -> None:
    """A worker that was started again, or whose slot has failed, never opens one by itself."""
    (report,) = on_worker.process([ground.work(ground.places[0])], slot_name(ground.group, "0", 7))
    assert (report.outcome, report.open) == ("retry", True)


class World:
    """zads.groups, workers and coordinators without a broker: who has opened and fenced which slot."""

    def __init__(self) -> None:
        self.announced: dict[str, Delivering] = {}
        self.opened: list[str] = []
        self.fenced: set[str] = set()
        self.answers = self.can_announce = True

    def announce(self, mine: Delivering, bootstrap: str, **kafka: Any) -> None:
        if not self.can_announce:
            raise BrokerError("away")
        self.announced[mine.replica] = mine

    def fence_slots(self, kafka: object, names: set[str]) -> set[str]:
        self.fenced |= names
        return set()

    def fence_slot(self, kafka: object, name: str) -> str:
        self.fenced.add(name)
        return ""

    async def open(self, address: str, function: object, kafka: object, name: str) -> str:
        """A worker opens a slot; where it does not answer it may have done so all the same."""
        known = [slot_name(one.group, one.replica, n) for one in self.announced.values() for n in one.slots]
        assert name in known, "used before it was announced"
        assert name not in self.opened, "used twice"
        assert name not in self.fenced
        self.opened.append(name)
        return "" if self.answers else "it does not answer"


acts = st.lists(
    st.tuples(
        st.sampled_from(["work", "work", "lost", "no answer", "not announced", "change", "start again"]),
        st.sampled_from("abc"),
        st.sampled_from("01"),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(acts)
def test_no_slot_has_two_workers_and_none_is_used_before_it_is_announced(
    todo: list[tuple[str, str, str]],
) -> None:
    """Two replicas with three workers each, which come and go, and coordinators that are killed."""
    world = World()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "announce", world.announce)
        patch.setattr(beside, "groups", lambda *_, **__: list(world.announced.values()))
        patch.setattr(beside, "topic_names", lambda *_, **__: [])
        patch.setattr(beside, "_replicas", lambda config: ["0", "1"])
        patch.setattr(beside, "fence_slots", world.fence_slots)
        patch.setattr(live_slots, "fence_slot", world.fence_slot)

        def start(replica: str) -> tuple[Place, Slots]:
            place = Place(RunConfig(replica=replica, group="g"))
            place.announce(ChannelSet(()), again=False)
            return place, Slots({}, "g", replica, place)

        async def act() -> None:
            runs = {replica: start(replica) for replica in "01"}
            held: dict[tuple[str, str], str] = {}  # replica and worker -> the slot that it works with
            for what, worker, replica in todo:
                place, slots = runs[replica]
                world.answers, world.can_announce = what != "no answer", what != "not announced"
                key = replica, worker
                if what == "change":
                    place.change(ChannelSet(()))
                elif what == "lost" and key in held:
                    await slots.retire(worker, name := held.pop(key))
                    assert name in world.fenced, "its work may go to others before it is fenced"
                elif what == "start again":
                    world.can_announce = True
                    left = {held.pop(one) for one in list(held) if one[0] == replica}
                    runs[replica] = start(replica)
                    assert left <= world.fenced, "what the coordinator before has left is not fenced"
                elif what in ("work", "no answer", "not announced"):
                    name, why = await slots.of(worker, world.open)
                    assert bool(name) != bool(why)
                    if name:
                        held[key] = name
                assert len(set(held.values())) == len(held), "two workers have one slot"
                assert not set(held.values()) & world.fenced, "one that works was fenced"

        asyncio.run(act())


def test_what_is_left_open_is_ours_of_before_and_of_replicas_that_do_not_run() -> None:
    mine = Delivering("g", "0", (), "^ztf_")
    known = [
        replace(mine, slots=(3, 4)),
        replace(mine, replica="1", slots=(1,)),
        replace(mine, replica="2", slots=(2,)),
        replace(mine, group="h", slots=(9,)),
    ]
    wanted = {("0", 3), ("0", 4), ("2", 2)}
    assert left_open(mine, known, ["0", "1"]) == {slot_name("g", *one) for one in wanted}


@pytest.mark.parametrize(
    ("code", "kept"), [(KafkaError._TIMED_OUT, False), (KafkaError.MSG_SIZE_TOO_LARGE, True)]
)
def test_a_slot_whose_records_were_not_taken_in_time_is_left_to_be_fenced(
    ground: Ground, code: int, kept: bool
) -> None:
    """Its password may have been rotated: of a slot made anew the broker sees the present one."""
    place, slot = ground.places[0], ground.slot(0)

    def fails(paced: Paced) -> TopicPartition:
        ground.part(place, b"of an aborted transaction")(paced)
        raise KafkaException(KafkaError(code))

    with member(ground.servers, ground.group) as one:
        with pytest.raises(KafkaException):
            slot.commit([fails], one.metadata)
        assert slot.open is kept
        if kept:
            slot.commit([ground.part(place, b"of the next")], one.metadata)
    assert ground.delivered == ([b"of the next"] if kept else [])


@pytest.mark.parametrize(
    "error", [KafkaException(KafkaError(KafkaError._TIMED_OUT)), ValueError("not Kafka's")]
)
def test_a_reader_that_was_not_let_in_is_made_anew(ground: Ground, error: Exception) -> None:
    """By the next bundle, with what our profile has then; the partitions that stand go on in the old way."""
    work = ground.work(ground.places[0])
    before = lanes.for_work(work)
    reader = lanes._reader(work)
    failed = Step(ground.work(ground.places[1]))
    failed.stage = "read"
    ended_by(failed, error)
    work = replace(work, ask=False)
    lanes.begin_bundle([work])
    assert (lanes._reader(work) is reader) == isinstance(error, ValueError)
    assert lanes.for_work(work) is before
    assert [len(found) for found in lanes.read([work]).values()] == [5]
    lanes.drop(work)
