"""Batches that go to a worker together: each comes to what it comes to alone, and none pays for another."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from pipeline.broker.partition import Partition
from pipeline.broker.profile import SERVERS
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set
from pipeline.channels.gaps import open_gaps
from pipeline.live.fleet.bundle import died
from pipeline.live.fleet.fleet import Fleet, Process
from pipeline.live.fleet.slots import Slots, fence_slot
from pipeline.live.recovery import Recovery
from pipeline.worker.deliver import UNREADABLE, Outgoing
from pipeline.worker.judging.evaluate import Evaluator
from pipeline.worker.judging.verdicts import Refusal, Verdicts
from pipeline.worker.process import _halves
from pipeline.worker.work import Report, Work, again_together
from tests.pipeline import packets as small
from tests.pipeline.night import night

TOPIC = "mixed"
BAD = Path(__file__).with_name("bad_filters.py")
CHANNELS = {
    "real_bogus": ChannelConfig(topics=TOPIC),
    "two_detections_20min": ChannelConfig(topics=TOPIC),
    "team": ChannelConfig(filter="real_bogus", access="collaboration", topics=TOPIC),
    "raises": ChannelConfig(filter=f"{BAD}:raises_on_some", topics=TOPIC),
    "off": ChannelConfig(filter="real_bogus", topics=TOPIC),
}
FULL = 100
NUMBER = 150  # of packets


class NoGuard:
    """Lets every filter run for as long as it likes."""

    def running(self, channel: str, seconds: float) -> nullcontext[None]:
        return nullcontext()


@cache
def evaluator() -> Evaluator:
    return Evaluator(channel_set(RunConfig(channels=CHANNELS, topics=TOPIC)))


@cache
def packets() -> tuple[bytes, ...]:
    """Alerts, some of which a filter raises on, with packets in between that cannot be read."""
    special = [alert for alert in night() if alert.programid == 1 and alert.candid % 97 == 0]
    good = [alert.packet for alert in [*night()[:80], *special, *night()[80:NUMBER]]]
    good = good[: NUMBER - 3]
    return (*good[:50], b"hello", *good[50:100], good[0][:500], b"", *good[100:])


def verdicts(batches: Sequence[Sequence[bytes]], failing_alerts: int) -> list[Verdicts]:
    found = evaluator().evaluate(
        batches,
        TOPIC,
        NoGuard(),
        suspended={"off": "for a test"},
        filter_seconds=60,
        failing_alerts=failing_alerts,
    )
    for one in found:
        one.seconds.clear()
        one.filter_seconds.clear()
        one.refused.sort(key=lambda refusal: (refusal.index, refusal.channel))
    return found


def plain(one: Verdicts) -> dict[str, Any]:
    """With lists in place of arrays."""
    seen = [(names, packets.tolist()) for names, packets in one.seen if len(packets)]
    return {**vars(one), "seen": seen}


@settings(max_examples=25)
@given(st.lists(st.integers(0, NUMBER), max_size=5))
def test_each_batch_comes_to_what_it_comes_to_alone(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(packets())]
    batches = [packets()[start:stop] for start, stop in pairwise(ends)]
    together = verdicts(batches, failing_alerts=len(packets()))
    alone = [verdicts([batch], failing_alerts=len(packets()))[0] for batch in batches]
    assert [plain(one) for one in together] == [plain(one) for one in alone]
    assert sum(len(one.matches.get("team", ())) for one in together) > 100
    assert {refusal.channel for one in together for refusal in one.refused} == {"", "raises"}


def test_a_filter_that_fails_leaves_its_gap_in_each_batch() -> None:
    found = verdicts([packets()[:80], packets()[80:]], failing_alerts=0)
    assert [set(one.gaps) for one in found] == [{"off", "raises"}] * 2
    assert all("raises" not in one.matches and one.matches.get("team", ()) for one in found)


def test_what_a_filter_raised_says_in_which_line_of_its_file() -> None:
    code = BAD.read_text().splitlines()
    line = code.index('        raise ZeroDivisionError("this alert is special")') + 1
    words = f"ZeroDivisionError: this alert is special ({BAD.name}, line {line})"
    (found,) = verdicts([packets()], failing_alerts=len(packets()))
    assert {one.detail for one in found.refused if one.channel == "raises"} == {words}
    (found,) = verdicts([packets()], failing_alerts=0)
    assert [one.message for one in found.failures] == [words]


def test_a_packet_without_a_name_is_refused_alone_with_its_reason() -> None:
    nameless = [small.nameless(7, objectId=None), small.nameless(8, candid=None)]
    (alone,) = verdicts([[*packets()[:50], *nameless]], failing_alerts=60)
    (without,) = verdicts([packets()[:50]], failing_alerts=60)
    refused = {refusal.index: refusal.reason for refusal in alone.refused if not refusal.channel}
    assert refused[50] == refused[51] == "no-name"
    assert {match.candid for match in alone.matches.get("team", ()) if match.index < 50} == {
        match.candid for match in without.matches["team"]
    }
    assert all(match.candid is not None for match in alone.matches.get("team", ()))


def test_a_record_that_nobody_could_read_leaves_a_gap_in_each_channel() -> None:
    channels = evaluator().channels
    refused = [Refusal(0, "decode", UNREADABLE, "every worker that read it died")]
    outgoing = Outgoing(channels, TOPIC, Verdicts(refused=refused), [At(41)])
    outgoing.refused = refused
    gaps = outgoing._gaps([(Partition(TOPIC, 3), 40, 50)])
    readers = {channel.name for channel in channels.channels if channels.reads(channel, TOPIC)}
    assert {gap.channel for gap in gaps} == readers
    assert {(gap.partition, gap.low, gap.high) for gap in gaps} == {(3, 41, 42)}


def test_a_filter_that_keeps_memory_from_call_to_call_is_named() -> None:
    channels = {
        name: ChannelConfig(filter=f"{BAD}:{name}" if name == "hoards" else "real_bogus", topics=TOPIC)
        for name in ("hoards", "real_bogus")
    }
    hoarding = Evaluator(channel_set(RunConfig(channels=channels, topics=TOPIC)))
    hoarding.kept.most = 200_000_000
    failures = []
    for _ in range(40):
        (found,) = hoarding.evaluate(
            [packets()[:20]], TOPIC, NoGuard(), suspended={}, filter_seconds=60, failing_alerts=5
        )
        assert "real_bogus" not in found.gaps
        if found.failures:
            failures += found.failures
            break
    assert [failure.channel for failure in failures] == ["hoards"]
    assert "has kept" in failures[0].message


def hungry_beside_stacks() -> tuple[list[str], int, int]:
    """In a worker of 1 GiB whose threads' stacks alone take more: failed filters, matches, its pid."""
    threading.stack_size(8_000_000)
    waiting = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(150)]
    for thread in waiting:
        thread.start()
    threading.stack_size(0)
    channels = {
        name: ChannelConfig(filter=f"{BAD}:{name}" if name == "hungry" else "real_bogus", topics=TOPIC)
        for name in ("hungry", "real_bogus")
    }
    evaluator = Evaluator(channel_set(RunConfig(channels=channels, topics=TOPIC)))
    (found,) = evaluator.evaluate(
        [packets()[:20]], TOPIC, NoGuard(), suspended={}, filter_seconds=60, failing_alerts=5
    )
    return [one.channel for one in found.failures], len(found.matches["real_bogus"]), os.getpid()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts private memory")
def test_memory_is_what_is_resident_and_a_filter_that_takes_too_much_is_named_at_once() -> None:
    with local_cluster(workers=1, memory="1GiB") as cluster, Client(cluster) as client:
        (pid,) = client.run(os.getpid).values()
        failed, matches, where = client.submit(hungry_beside_stacks, pure=False).result()
    assert failed == ["hungry"]
    assert matches > 0
    assert where == pid, "the worker had to be ended"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1)), min_size=1, max_size=12), st.integers(1, 40))
def test_a_gap_says_which_leader_wrote_the_last_of_its_records(
    steps: list[tuple[int, int]], high: int
) -> None:
    """Offsets have gaps, and epochs never fall."""
    offset, epoch, records = 0, 0, list[At]()
    for step, later in steps:
        offset, epoch = offset + step, epoch + later
        records.append(At(offset, epoch))
    wrote = [record.leader_epoch() for record in records if record.offset() < high]
    channels, caught = evaluator().channels, Caught()
    Outgoing(channels, TOPIC, Verdicts(gaps={"off": "for a test"}), records).produce(
        caught, (Partition(TOPIC, 3), 0, high)
    )
    (gap,) = open_gaps((record["key"], record["value"]) for record in caught.records)
    assert gap.epoch == (wrote[-1] if wrote else -1)


class Caught:
    """All that would be written to Kafka."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def produce(self, **record: Any) -> None:
        self.records.append(record)


class At:
    """As much of a message as says where it was."""

    def __init__(self, offset: int, epoch: int = 0) -> None:
        self._offset, self._epoch = offset, epoch

    def leader_epoch(self) -> int:
        return self._epoch

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset


def work(number: int, span: int = 10, topic: str = TOPIC, **more: object) -> Work:
    return Work(
        Partition(topic, number), 0, span, 1, False, "r", 1, "g", b"", {}, channels=b"", version="v", **more
    )


def count(works: Sequence[Work]) -> list[Report]:
    """Says how many there were."""
    return [Report(one, "committed", message=str(len(works))) for one in works]


def slowly(works: Sequence[Work]) -> list[Report]:
    time.sleep(1)
    return count(works)


def die(works: Sequence[Work]) -> list[Report]:
    os._exit(1)


@pytest.fixture(scope="module")
def one_worker() -> LocalCluster:
    with local_cluster(workers=1) as cluster:
        yield cluster


def on(cluster: LocalCluster, act: Callable[[Fleet], Awaitable[object]]) -> None:
    async def main() -> None:
        address = cluster.scheduler_address
        async with Client(address, asynchronous=True) as client, Fleet(client, 60, 2, FULL) as fleet:
            async with asyncio.timeout(90):
                await act(fleet)

    asyncio.run(main())


async def done(fleet: Fleet, works: Sequence[Work], function: Process = count) -> list[Report]:
    """The reports on work that comes at one time."""
    reports = [await fleet.take(function, one) for one in works]
    fleet.hand_over()
    return await asyncio.gather(*reports)


def test_kin_go_together_and_others_apart(one_worker: LocalCluster) -> None:
    async def act(fleet: Fleet) -> None:
        again = replace(work(5), ask=True, attempt=2)
        of_before = replace(work(6), membership=b"of another generation of the group")
        works = [work(0), work(1), work(2, topic="other"), work(3, suspended={"x": "y"}), again, work(4)]
        works.append(of_before)
        reports = await done(fleet, works)
        assert [report.work for report in reports] == works
        assert [report.message for report in reports] == ["4", "4", "4", "1", "1", "4", "1"]
        reports = await done(fleet, [work(n, span=60) for n in range(3)])
        assert [report.message for report in reports] == ["1", "1", "1"]  # two would be more than full

    on(one_worker, act)


def test_work_that_keeps_coming_goes_together_until_it_is_handed_over(one_worker: LocalCluster) -> None:
    async def act(fleet: Fleet) -> None:
        reports = []
        for number in range(4):
            reports.append(await fleet.take(count, replace(work(number), run="another")))
            await asyncio.sleep(0.2)
        assert not any(report.done() for report in reports)
        fleet.hand_over()
        assert [report.message for report in await asyncio.gather(*reports)] == ["4"] * 4

    on(one_worker, act)


def test_small_work_waits_for_a_busy_worker_and_full_work_is_at_hand(one_worker: LocalCluster) -> None:
    async def act(fleet: Fleet) -> None:
        small, full = (Partition(TOPIC, 8), 10), (Partition(TOPIC, 9), FULL)
        assert fleet.has_room(*small)
        running = [await fleet.take(slowly, work(0))]
        assert fleet.has_room(*small)  # beside the one that has not left yet
        fleet.hand_over()
        assert not fleet.has_room(*small)
        assert fleet.has_room(*full)
        running.append(await fleet.take(slowly, work(1, span=FULL)))
        fleet.hand_over()
        assert not fleet.has_room(*full)
        await asyncio.gather(*running)
        assert fleet.has_room(*small)

    on(one_worker, act)


@given(st.integers(2, 40), st.data())
def test_what_cannot_be_committed_together_is_tried_in_halves_until_the_bad_one_is_alone(
    number: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, number - 1))
    recovery, committed, alone = Recovery(), set[int](), set[int]()
    waiting, fails = [[work(n) for n in range(number)]], 0
    while waiting:
        bundle = waiting.pop()
        numbers = {one.partition.number for one in bundle}
        if bad not in numbers or len(bundle) == 1:
            (committed if bad not in numbers else alone).update(numbers)
            continue
        fails += 1
        reports = [
            Report(one, "together", party=half) for one, half in zip(bundle, _halves(bundle), strict=True)
        ]
        again = [recovery.after(report).work for report in reports]
        assert all(one.attempt == two.attempt + 1 for one, two in zip(again, bundle, strict=True))
        kin = {one.kin for one in again}
        waiting += [[one] for one in again if one.kin is None]
        waiting += [[one for one in again if one.kin == this] for this in kin - {None}]
    assert alone == {bad}
    assert committed == set(range(number)) - alone
    assert fails <= math.ceil(math.log2(number))


@pytest.mark.parametrize("number", [1, 2, 3, 20, 160])
def test_what_was_with_a_worker_that_died_is_done_again_together_then_in_parties_then_alone(
    number: int,
) -> None:
    """The first alone at once, since a note says what was running for it."""
    recovery, bundles = Recovery(), [[work(n) for n in range(number)]]
    tasks = []  # of each attempt: how many pieces of work each of them has
    for _ in range(4):
        again = [recovery.after(one).work for some in bundles for one in died(some, "it ended")]
        bundles = [[one] for one in again if one.kin is None]
        bundles += [[one for one in again if one.kin == kin] for kin in {one.kin for one in again} - {None}]
        tasks.append(sorted(map(len, bundles)))
        assert sum(tasks[-1]) == number
    together, in_parties, *alone = tasks
    assert together == sorted([1, number - 1] if number > 2 else [1] * number)
    assert number < 20 or len(in_parties) == 2 + 8
    assert max(in_parties) <= max(2, math.ceil((number - 2) / 8))
    assert alone == [[1] * number] * 2


@pytest.mark.parametrize("number", [1, 2, 160])
def test_work_that_could_not_be_begun_goes_together_again_however_often(number: int) -> None:
    """A worker without a slot is no fault of the work: alone, 160 partitions would wait for 160 tasks."""
    recovery, bundle = Recovery(), [work(n) for n in range(number)]
    for attempt in range(2, 9):
        again = [recovery.after(report) for report in again_together(bundle, "no slot")]
        bundle = [one.work for one in again]
        assert len({one.seconds for one in again}) == 1
        assert {one.attempt for one in bundle} == {attempt}
        kin = {one.kin for one in bundle}
        assert len(kin) == 1
        assert (None in kin) == (number == 1)


class Numbers:
    """Announces nothing."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def take(self) -> int:
        return next(self._numbers)

    def done(self, number: int) -> None:
        pass


def slot_of(works: Sequence[Work], slot: str) -> list[Report]:
    """Says which slot the worker is to use; dies of work that is named so."""
    if works[0].run == "dies":
        os._exit(1)
    return [Report(one, "committed", message=slot) for one in works]


def test_the_slot_of_work_that_did_not_come_back_is_fenced_before_anybody_may_have_the_work(
    broker: Broker, one_worker: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    fenced: list[str] = []

    def fence(kafka: Mapping[str, Any], name: str) -> str:
        time.sleep(1.0)
        fenced.append(name)
        return fence_slot(kafka, name)

    monkeypatch.setattr("pipeline.live.fleet.slots.fence_slot", fence)

    async def act(fleet: Fleet) -> None:
        fleet._slots = Slots({SERVERS: broker.bootstrap_servers}, f"g{os.getpid()}", "0", Numbers())
        reports = await done(fleet, [work(n) for n in range(3)], slot_of)
        (name,) = {report.message for report in reports}
        assert not fenced, "who answers is not fenced"
        dying = [replace(work(n), run="dies") for n in range(3)]
        reports = await done(fleet, dying, slot_of)
        assert {report.outcome for report in reports} == {"died"}
        assert fenced == [name]
        for flight in range(2, 100):  # until the nanny has brought another worker
            (report,) = await done(fleet, [replace(work(0), flight=flight)], slot_of)
            if report.outcome == "committed":
                assert report.message != name
                return
            await asyncio.sleep(0.2)
        raise AssertionError("no worker came back")

    on(one_worker, act)


def test_all_that_were_with_a_worker_that_died_are_told(one_worker: LocalCluster) -> None:
    async def act(fleet: Fleet) -> None:
        reports = await done(fleet, [work(n) for n in range(3)], die)
        assert {report.outcome for report in reports} == {"died"}
        for flight in range(2, 100):  # until the nanny has brought another worker
            works = [replace(work(n), flight=flight) for n in range(3)]
            reports = await done(fleet, works)
            if {report.outcome for report in reports} == {"committed"}:
                return
            await asyncio.sleep(0.2)
        raise AssertionError("no worker came back")

    on(one_worker, act)
