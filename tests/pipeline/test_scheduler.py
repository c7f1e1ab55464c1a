"""The scheduler alone: patience, room, order, retries, balance, without a broker, a worker or a clock.

A made-up broker (a length for each partition) and made-up workers; time passes only where a test says so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.kafka.broker import Broker
from pipeline.broker.client import topic_names
from pipeline.broker.partition import Partition
from pipeline.live.fleet.fleet import Fleet
from pipeline.live.recovery import Recovery
from pipeline.live.source import KafkaRanges, Progress
from pipeline.worker.holding.position import Standing
from pipeline.worker.work import Outcome, Report, Work
from tests.pipeline import topics

TOPIC = "t"
PATIENCE = 0.5  # s
LIMIT = 10  # offsets of a batch
STEP = 0.1  # s from one look to the next; looks at the ends are at most PATIENCE / 2 apart
PLACES = [Partition(TOPIC, number) for number in range(4)]


@dataclass
class MadeUp:
    """A member of a group in a broker that does not exist."""

    lengths: dict[Partition, int]
    done: dict[Partition, int] = field(default_factory=dict)
    unreadable: dict[Partition, str] = field(default_factory=dict)
    changed: bool = True

    def poll(self) -> set[Partition]:
        return set(self.lengths)

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(names, "id")

    def not_there(self, names: Iterable[str]) -> set[str]:
        return set(names) - self.topic_ids(names).keys()

    def committed(
        self, places: Iterable[Partition], ids: Mapping[str, str] | None = None
    ) -> dict[Partition, Standing]:
        return {place: Standing(self.done.get(place, 0)) for place in places}

    def ends(self, places: Iterable[Partition]) -> dict[Partition, int]:
        return {place: self.lengths[place] for place in places}

    def ask(self) -> None:
        pass

    def reconnect(self) -> None:
        raise AssertionError("nothing has failed")


class Stage:
    """A source on made-up ground; what goes out waits in `sent` until a test settles it."""

    def __init__(self, lengths: dict[Partition, int]) -> None:
        self.now, self.broker, self.room = 100.0, MadeUp(lengths), True
        self.recovery = Recovery(clock=lambda: self.now)
        self.sent: list[Work] = []
        self.handed: list[int] = []  # how many had been sent when what was ready was handed over
        self.times: list[float] = []
        self.source = KafkaRanges(
            self.broker,
            _work,
            lambda work: work,
            lambda place, low: self.recovery.limit(place, low, LIMIT),
            PATIENCE * 1000,
            lambda place, offsets: self.room,
            lambda: self.handed.append(len(self.sent)),
            clock=lambda: self.now,
        )
        self.source.sink(self._take)

    def _take(self, work: Work) -> None:
        self.sent.append(work)
        self.times.append(self.now)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            await self.source.look()
            self.now += STEP

    def settle(self, outcome: Outcome = "committed", **more: Any) -> Work:
        """Say of the work that was sent first what became of it."""
        work = self.sent.pop(0)
        report = Report(work, outcome, **more)
        if outcome == "committed":
            assert self.broker.done.get(work.partition, 0) == work.low, "out of order, or twice"
            self.broker.done[work.partition] = work.high
        self.source.settle(work, self.recovery.after(report))
        return work


def _work(place: Partition, low: int, high: int, flight: int) -> Work:
    return Work(place, low, high, 1, False, "r", flight, "g", b"", {}, b"", "v")


def test_a_small_batch_waits_for_as_long_as_patience_says_and_a_full_one_not() -> None:
    async def act() -> None:
        stage = Stage({PLACES[0]: 3, PLACES[1]: LIMIT})
        await stage.pass_time(STEP)
        assert [work.partition for work in stage.sent] == [PLACES[1]], "the full one goes at once"
        await stage.pass_time(PATIENCE - 2 * STEP)
        assert len(stage.sent) == 1, "the small one went too early"
        stage.broker.lengths[PLACES[0]] = 5
        await stage.pass_time(3 * STEP)
        assert [(work.partition, work.high) for work in stage.sent[1:]] == [(PLACES[0], 5)]

    asyncio.run(act())


def test_what_is_ready_at_one_look_is_handed_over_together_also_when_the_look_fails() -> None:
    async def act() -> None:
        stage = Stage(dict.fromkeys(PLACES, LIMIT))
        await stage.pass_time(STEP)
        assert stage.handed == [len(PLACES)]
        stage.sent.clear()
        stage = Stage(dict.fromkeys(PLACES, LIMIT))
        polls = iter([set(PLACES), set(PLACES)])
        stage.broker.poll = lambda: next(polls)  # of the second piece of work nobody answers
        with pytest.raises(RuntimeError):
            await stage.pass_time(STEP)
        assert stage.handed == [2]

    asyncio.run(act())


def test_what_finds_no_room_stays_and_grows_and_the_longest_waiting_goes_first() -> None:
    async def act() -> None:
        stage = Stage({PLACES[0]: 0, PLACES[1]: 2})
        stage.room = False
        await stage.pass_time(1.0)
        stage.broker.lengths |= {PLACES[0]: 4, PLACES[1]: 6}
        await stage.pass_time(2.0)
        assert not stage.sent
        stage.room = True
        await stage.pass_time(STEP)
        assert [(work.partition, work.low, work.high) for work in stage.sent] == [
            (PLACES[1], 0, 6),
            (PLACES[0], 0, 4),
        ]

    asyncio.run(act())


@pytest.mark.parametrize("partitions", [4, 320])
@pytest.mark.parametrize("takes", [0.01, 0.1, 8.0])
def test_asking_for_ends_leaves_time_for_the_rest_and_a_long_answer_is_soon_asked_for_again(
    takes: float, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many partitions make a look long; a broker that stood still makes one very long, and is back."""
    began: list[float] = []

    async def act() -> None:
        stage = Stage({Partition(TOPIC, number): 0 for number in range(partitions)})

        def ends(places: Iterable[Partition]) -> dict[Partition, int]:
            began.append(stage.now)
            stage.now += takes
            return {place: stage.broker.done.get(place, 0) + 3 for place in places}  # there is always more

        monkeypatch.setattr(stage.broker, "ends", ends)
        for _ in range(40):
            await stage.pass_time(STEP)
            while stage.sent:
                stage.settle()

    asyncio.run(act())
    pauses = [later - earlier for earlier, later in pairwise(began)]
    longest = max(0.1, 0.0015 * partitions)
    assert max(pauses) <= max(PATIENCE / 2, longest, takes) + 2 * STEP
    assert min(pauses) >= min(4 * takes, longest) - 1e-6


def test_without_a_partition_it_is_found_out_whether_the_broker_answers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that has lost us, since we are not let in any more, is no quiet night."""
    asked: list[str] = []

    def refuses() -> None:
        asked.append("whether it answers")
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    async def act() -> None:
        stage = Stage({})
        monkeypatch.setattr(stage.broker, "ask", refuses)
        monkeypatch.setattr(stage.broker, "reconnect", lambda: asked.append("with the password of now"))
        await stage.pass_time(6.0)

    asyncio.run(act())
    assert asked == ["whether it answers", "with the password of now"]
    assert "the broker does not say" in caplog.text


def test_another_attempt_comes_after_a_pause_that_grows_and_has_an_end() -> None:
    async def act() -> None:
        stage = Stage({PLACES[0]: 1})
        pauses = []
        await stage.pass_time(1.0)
        for attempt in range(1, 9):
            assert stage.sent[0].attempt == attempt
            assert stage.sent[0].ask
            before = stage.now
            stage.settle("retry")
            while not stage.sent:
                await stage.pass_time(STEP)
            pauses.append(stage.times[-1] - before)
        assert pauses == sorted(pauses)
        assert pauses[0] < 0.5
        assert 4 < pauses[-1] < 6, "neither for ever nor at once"
        stage.settle()
        await stage.pass_time(1.0)
        assert not stage.sent

    asyncio.run(act())


def test_a_partition_that_was_lost_and_came_back_is_asked_for_its_offset() -> None:
    async def act() -> None:
        stage = Stage({PLACES[0]: 8})
        await stage.pass_time(1.0)
        late = stage.sent.pop()
        del stage.broker.lengths[PLACES[0]]
        stage.broker.changed = True
        await stage.pass_time(STEP)
        stage.broker.lengths[PLACES[0]], stage.broker.done[PLACES[0]] = 8, 5
        stage.broker.changed = True
        stage.source.settle(late, stage.recovery.after(Report(late, "committed")))  # nobody waits for it
        await stage.pass_time(1.0)
        assert [(work.low, work.high) for work in stage.sent] == [(5, 8)]

    asyncio.run(act())


def test_a_topic_that_comes_back_is_said_to_be_read_again_or_made_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its partitions may not be ours for a while; it may be another topic when they are again."""

    async def act() -> None:
        stage = Stage({PLACES[0]: 0})
        await stage.pass_time(1.0)
        known = stage.broker.topic_ids
        stage.broker.topic_ids = lambda names: {}
        await stage.pass_time(8.0)
        assert stage.source.set_aside == {PLACES[0]: "the topic was deleted"}
        stage.broker.topic_ids = known
        await stage.pass_time(8.0)
        assert not stage.source.set_aside
        assert f"read again: {PLACES[0]}" in caplog.messages
        stage.broker.poll, stage.broker.changed = set, True  # the group takes it away
        await stage.pass_time(1.0)
        stage.broker.poll, stage.broker.changed = lambda: {PLACES[0]}, True
        stage.broker.topic_ids = lambda names: dict.fromkeys(names, "another")
        await stage.pass_time(8.0)
        assert stage.source.made_again == {TOPIC: 0}
        words = f"topic {TOPIC} was deleted and made again: reading from its beginning"
        assert caplog.messages.count(words) == 1

    caplog.set_level("INFO")
    asyncio.run(act())


@pytest.mark.parametrize("fate", ["deleted", "made again", "another's", "away for a moment", "denied"])
@settings(max_examples=10, deadline=None)
@given(unread=st.lists(st.integers(0, 9), min_size=1, max_size=4), looks=st.integers(0, 3))
def test_what_a_topic_had_unread_when_it_was_deleted_is_counted_once(
    fate: str, unread: list[int], looks: int
) -> None:
    """The group may take its partitions away before we see why."""
    ids = {"deleted": {}, "made again": {TOPIC: "another"}, "another's": {TOPIC: "id"}}

    async def act() -> None:
        stage = Stage(dict(zip(PLACES, unread, strict=False)))
        stage.room = False
        await stage.pass_time(1.0)
        known = stage.broker.topic_ids
        stage.broker.topic_ids = lambda names: ids.get(fate, {})
        await stage.pass_time(looks * STEP)
        stage.broker.poll, stage.broker.changed = set, True
        if fate == "denied":
            stage.broker.not_there = lambda names: set()
        if fate == "away for a moment":
            answers: list[dict[str, str]] = [{}]
            stage.broker.topic_ids = lambda names: answers.pop() if answers else known(names)
        await stage.pass_time(20.0)
        source = stage.source
        lost = {TOPIC: sum(unread)} if sum(unread) else {}
        assert source.deleted == (lost if fate == "deleted" else {})
        gaps = {(one.partition.number, one.high - one.low) for one in source.unread}
        assert gaps == {
            (n, more) for n, more in enumerate(unread) if more and fate in ("deleted", "made again")
        }
        assert {t: n for t, n in source.made_again.items() if n} == (lost if fate == "made again" else {})

    asyncio.run(act())


@pytest.mark.parametrize("ours", [True, False])
def test_a_run_that_is_to_drain_ends_although_a_topic_was_deleted(ours: bool) -> None:
    """Also one that another replica was to read."""

    async def act() -> None:
        stage = Stage({PLACES[0]: 5} if ours else {Partition("other", 0): 0})
        stage.room = False
        await stage.pass_time(1.0)
        stage.broker.committed = lambda places, ids=None: {}
        drained = asyncio.create_task(stage.source.reach({PLACES[0]: 5}))
        await stage.pass_time(10.0)
        assert not drained.done()
        stage.broker.topic_ids = lambda names: {name: "id" for name in names if name != TOPIC}
        if ours:
            stage.broker.poll, stage.broker.changed = set, True
        await stage.pass_time(10.0)
        await asyncio.wait_for(drained, 1)
        assert stage.source.deleted == ({TOPIC: 5} if ours else {})

    asyncio.run(act())


def test_what_waits_is_not_0_while_kafka_must_be_asked_where_the_group_stands() -> None:
    """A broker that is away must not look like a night that is done."""

    async def act() -> None:
        assert Progress().is_unknown
        stage = Stage({PLACES[0]: 8, PLACES[1]: 0})
        await stage.pass_time(1.0)
        progress = stage.source.progress
        assert not progress[PLACES[0]].is_unknown
        stage.settle("stale")
        assert progress[PLACES[0]].next is None
        assert (progress[PLACES[0]].lag, progress[PLACES[0]].is_unknown) == (8, False)

    asyncio.run(act())


def test_a_worker_asks_where_the_group_stands_unless_the_last_report_says_it() -> None:
    """What the coordinator has heard of Kafka may be older than what is pending there."""

    async def act() -> None:
        stage = Stage({PLACES[0]: 5})
        await stage.pass_time(1.0)
        asked = []
        for outcome in ("committed", "committed", "stale", "committed", "retry", "moved", "committed"):
            asked.append(stage.sent[0].ask)
            more = {"offset": stage.sent[0].low} if outcome == "moved" else {}
            stage.settle(outcome, **more)
            stage.broker.lengths[PLACES[0]] += 1
            await stage.pass_time(1.0)
        stage.broker.changed = True  # another generation, with the same partitions
        stage.settle()
        stage.broker.lengths[PLACES[0]] += 1
        await stage.pass_time(STEP)
        stage.source._membership.changed = True
        await stage.pass_time(1.0)
        asked.append(stage.sent[0].ask)
        assert asked == [True, False, False, True, False, True, False, True]

    asyncio.run(act())


def test_a_partition_that_is_lost_while_work_goes_out_gets_none_of_the_next_generation() -> None:
    """Kafka takes an offset of any partition from who is a member of the present generation."""

    async def act() -> None:
        stage = Stage(dict.fromkeys(PLACES[:2], LIMIT))
        poll = stage.broker.poll

        def poll_and_lose() -> set[Partition]:
            if stage.sent and stage.broker.lengths.pop(PLACES[1], None):
                stage.broker.changed = True
            return poll()

        stage.broker.poll = poll_and_lose  # type: ignore[method-assign]
        await stage.source.look()
        assert [work.partition for work in stage.sent] == PLACES[:1]

    asyncio.run(act())


acts = st.lists(
    st.tuples(
        st.sampled_from(["grow", "committed", "retry", "died", "stale", "too much", "wait"]),
        st.integers(0, 3),
        st.integers(1, 25),
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(acts)
def test_whatever_happens_each_offset_is_done_once_in_order_and_all_are(
    todo: list[tuple[str, int, int]],
) -> None:
    async def act() -> None:
        stage = Stage(dict.fromkeys(PLACES, 0))
        for what, number, amount in todo:
            if what == "grow":
                stage.broker.lengths[PLACES[number]] += amount
            elif what != "wait" and stage.sent:
                stage.settle(what)  # type: ignore[arg-type]
            await stage.pass_time(amount * STEP)
            in_flight = [work.partition for work in stage.sent]
            assert len(in_flight) == len(set(in_flight)), "two batches of one partition at a time"
            assert all(0 < work.high - work.low <= LIMIT for work in stage.sent)
        reached = asyncio.create_task(stage.source.reach(dict(stage.broker.lengths)))
        for _ in range(2000):
            await stage.pass_time(STEP)
            while stage.sent:
                stage.settle()
            if reached.done():
                break
        assert reached.done(), "it never ends"
        assert {p: stage.broker.done.get(p, 0) for p in PLACES} == stage.broker.lengths
        await reached

    asyncio.run(act())


class Scheduler:
    """As much of a Dask client as says which workers there are."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.heard: dict[str, float] = {}
        self.scheduler, self.status = self, "running"

    async def identity(self, n_workers: int) -> dict[str, Any]:
        return {
            "id": "one",
            "workers": {
                address: {"nthreads": 1, "metrics": {}, "last_seen": self.heard.get(address, 0.0)}
                for address in sorted(self.there)
            },
        }


class Answers(Scheduler):
    """Answers when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.asked, self.answer = {"a"}, asyncio.Event(), asyncio.Event()
        self.answer.set()

    async def identity(self, n_workers: int) -> dict[str, Any]:
        self.asked.set()
        await self.answer.wait()
        return await super().identity(n_workers)

    async def close(self, timeout: float) -> None:
        pass


@pytest.mark.timeout(60)
def test_a_fleet_is_left_although_the_scheduler_answers_in_that_very_moment() -> None:
    """A run that had nothing more to do stayed for ever, once in some hundred times."""

    async def act() -> None:
        scheduler = Answers()
        async with asyncio.timeout(30), Fleet(scheduler, 60, 2, LIMIT):
            scheduler.asked.clear()
            scheduler.answer.clear()
            await scheduler.asked.wait()
            scheduler.answer.set()

    asyncio.run(act())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=5), st.integers(1, 20))
def test_partitions_are_spread_evenly_and_move_only_where_they_must(
    changes: list[set[str]], number: int
) -> None:
    """Workers come and go; each partition always has one that is there."""
    scheduler = Scheduler()

    async def act() -> None:
        fleet = Fleet(scheduler, 60, 2, LIMIT)
        for there in changes:
            scheduler.there = there
            await fleet.look()
            settled = [homes(fleet, number) for _ in range(3)][-1]
            assert set(settled) <= there
            assert homes(fleet, number) == settled, "they move without need"
            loads = [settled.count(address) for address in there]
            assert max(loads) - min(loads) <= 1, "not balanced"

    asyncio.run(act())


class SlotsThat:
    """Open the slot of a worker when a test lets them."""

    def __init__(self) -> None:
        self.let, self.asked = dict[str, str](), Counter[str]()

    async def of(self, address: str, call: object) -> tuple[str, str]:
        self.asked[address] += 1
        while address not in self.let:
            await asyncio.sleep(0)
        why = self.let[address]
        return ("", why) if why else (f"slot of {address}", "")


def test_a_worker_gets_partitions_when_it_has_its_slot_and_others_do_its_part_until_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was killed comes back within seconds: what it was given at once waited until it had loaded."""
    monkeypatch.setattr("pipeline.live.fleet.fleet._ANSWER_SECONDS", 0.01)
    scheduler, slots = Scheduler(), SlotsThat()

    async def look(fleet: Fleet, there: str, wanted: str) -> None:
        """Look until the partitions are where they are wanted, and then stay there."""
        scheduler.there, stays = set(there), 0
        async with asyncio.timeout(30):
            while stays < 5:
                scheduler.heard = {address: scheduler.heard.get(address, 0) + 1 for address in there}
                await fleet.look()
                await asyncio.sleep(0.005)
                stays = stays + 1 if set(homes(fleet, 4)) == set(wanted) else 0

    async def act() -> None:
        fleet = Fleet(scheduler, 60, 2, LIMIT, slots=slots)
        await look(fleet, "ab", wanted="ab")  # nobody is ready: somebody has to have them
        slots.let["a"] = ""
        await look(fleet, "ab", wanted="a")
        slots.let["b"] = "no broker answers"
        await look(fleet, "ab", wanted="a")
        assert "a worker cannot begin, the others do its work: worker b: no broker answers" in caplog.text
        slots.let["b"] = ""
        await look(fleet, "ab", wanted="ab")  # who could not have one is asked again
        assert slots.asked["a"] == 1
        del slots.let["a"]
        await look(fleet, "b", wanted="b")
        await look(fleet, "ab", wanted="b")  # one that comes back begins anew
        slots.let["a"] = ""
        await look(fleet, "ab", wanted="ab")

    asyncio.run(act())


def test_a_worker_that_stands_still_has_no_partition_until_it_is_heard_of_again() -> None:
    """And where nobody is heard of, or a clock jumps, nothing moves."""
    scheduler = Scheduler()
    scheduler.there = {"a", "b"}

    async def look(fleet: Fleet, looks: int, *heard: str, ahead: float = 0.0) -> set[str]:
        for number in range(looks):
            scheduler.heard |= dict.fromkeys(heard, ahead + number)
            await fleet.look()
        return set(homes(fleet, 4))

    async def act() -> None:
        fleet = Fleet(scheduler, 60, 2, LIMIT)
        assert await look(fleet, 50, "a", "b") == {"a", "b"}
        assert await look(fleet, 5, "a", ahead=3600.0) == {"a", "b"}, "the scheduler's clock has jumped"
        assert await look(fleet, 50, "a") == {"a"}
        assert await look(fleet, 1, "b", ahead=99.0) == {"a", "b"}
        assert await look(fleet, 50) == {"a", "b"}, "it is the scheduler that stands still"

    asyncio.run(act())


def homes(fleet: Fleet, number: int) -> list[str]:
    """The worker of each partition, in the order in which the source would ask."""
    return [fleet.home(Partition(TOPIC, n)) for n in range(number)]


def test_kafkas_own_topics_are_nobodys(broker: Broker) -> None:
    servers = broker.bootstrap_servers
    topic = topics.new_topic(servers)
    consumer = Consumer({"bootstrap.servers": servers, "group.id": topic})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    assert "__consumer_offsets" in consumer.list_topics(timeout=10).topics
    consumer.close()
    listed = topic_names(servers)
    assert topic in listed
    assert not [name for name in listed if name.startswith("__")]
    assert "__consumer_offsets" not in topic_names(servers, "^.*offsets")
