"""`zads archive follow`, killed as often as one likes: each record of the topics is one row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from archive.care.check import check
from archive.tables.faults import StoreAway
from archive.write.appender import Appender, Limits
from cluster.kafka.broker import Broker
from pipeline.broker.client import topic_names
from pipeline.broker.partition import Partition
from pipeline.clients.following import follow as follow_module
from pipeline.clients.following.follow import Follower
from pipeline.clients.following.keeper import Followed, Received, received_of
from pipeline.clients.following.position import Stand, stand_at
from pipeline.clients.following.sources import Sources
from pipeline.clients.missed import missed
from pipeline.clients.publish import publish_packets
from tests.archive.helpers import as_words, night, packets_in, records_in, rows_of
from tests.pipeline import topics

REPOSITORY = Path(__file__).resolve().parents[2]


class Following:
    """The command as an operator starts it."""

    def __init__(self, broker: Broker, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "zads", "archive", "follow", "--archive", str(folder / "archive")]
        command += ["--bootstrap", broker.bootstrap_servers, *arguments]
        environment = {**os.environ, "ZADS_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
        self.log = folder / "follow.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.05)


@contextmanager
def following(broker: Broker, folder: Path, *arguments: str) -> Iterator[Following]:
    process = Following(broker, folder, *arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def archived(folder: Path) -> int:
    if not DeltaTable.is_deltatable(f"{folder}/archive/ztf"):
        return 0
    return DeltaTable(f"{folder}/archive/ztf").count()


def nightly_topics(broker: Broker) -> list[str]:
    return [name for name in topic_names(broker.bootstrap_servers) if name.startswith("ztf_")]


def assert_each_record_once(broker: Broker, folder: Path) -> None:
    """The archive's sources against what a consumer of nothing but confluent-kafka reads."""
    records = [
        record for name in nightly_topics(broker) for record in topics.records(broker.bootstrap_servers, name)
    ]
    columns = ["_topic", "_partition", "_offset", "_key", "_timestamp"]
    rows = Counter(tuple(row.values()) for row in rows_of(folder / "archive", columns).to_pylist())
    rows += Counter(
        tuple(row.values()) for row in rows_of(folder / "archive", columns, "quarantine").to_pylist()
    )
    plain = Counter(
        (topic, part, offset, key, round(time.timestamp() * 1000))
        for topic, part, offset, key, time in rows.elements()
    )
    assert plain == Counter(
        (r.topic(), r.partition(), r.offset(), r.key(), r.timestamp()[1]) for r in records
    )


def some_before_others_after(event: Event, packets: list[bytes]) -> Iterator[bytes]:
    """The last hundred wait for an event, however slow the machine is."""
    yield from packets[:-100]
    assert event.wait(300)
    yield from packets[-100:]


def test_killed_twice_in_the_middle_of_a_night(own_broker: Broker, tmp_path: Path) -> None:
    packets = [alert.packet for alert in night(800, 13, 1)]
    bad = [b"hello", packets[0][:300], packets[0]]  # and one packet that comes again
    publish_packets(packets[:100], own_broker.bootstrap_servers, partitions=4)
    topics.write(own_broker.bootstrap_servers, nightly_topics(own_broker)[0], *bad, partition=2)
    kept = 101
    for portion in (packets[100:450], packets[450:]):
        killed = Event()
        with ThreadPoolExecutor(1) as thread, following(own_broker, tmp_path, "--seconds", "0.1") as process:
            process.until(lambda enough=kept: archived(tmp_path) == enough)
            alerts = some_before_others_after(killed, portion)
            publishing = thread.submit(publish_packets, alerts, own_broker.bootstrap_servers, rate=200)
            process.until(lambda enough=kept + 50: archived(tmp_path) >= enough)
            process.process.kill()
            killed.set()
        kept += len(portion)
        assert publishing.result().sent == len(portion)
    with following(own_broker, tmp_path, "--until-drained") as process:
        assert process.process.wait(120) == 0, process.log.read_text()
    assert_each_record_once(own_broker, tmp_path)
    again = [p for raw in [*packets, packets[0]] for p in records_in(raw)]
    assert as_words(packets_in(tmp_path / "archive")) == as_words(again)
    with following(own_broker, tmp_path, "--until-drained") as process:  # nothing is left to do
        assert process.process.wait(120) == 0, process.log.read_text()
    assert_each_record_once(own_broker, tmp_path)


def test_tonights_topic_is_picked_up(own_broker: Broker, tmp_path: Path) -> None:
    alerts = night(300, 14, 1)
    with following(own_broker, tmp_path, "--seconds", "1", "--survey", "ztf", "--plain") as process:
        process.until(lambda: DeltaTable.is_deltatable(f"{tmp_path}/archive/ztf"))  # it is up
        publish_packets([alert.packet for alert in alerts], own_broker.bootstrap_servers, partitions=2)
        process.until(lambda: archived(tmp_path) == len(alerts))
        process.process.terminate()
        assert process.process.wait(60) == 0, process.log.read_text()


def test_a_stop_keeps_what_was_read(broker: Broker, tmp_path: Path) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *(alert.packet for alert in night(100, 14, 1)))
    appender = Appender(str(tmp_path / "archive"), limits=Limits(seconds=600))
    follower = Follower(appender, topic, broker.bootstrap_servers, group=topic)

    def stop(followed: Followed) -> None:
        if followed.read == 100:
            follower.stop()

    follower.run(on_progress=stop)
    assert archived(tmp_path) == 100


class Away(Appender):
    """An archive whose store does not answer while `away`. gathered: what waits in memory then."""

    away, gathered, asked = True, 0, 0

    def append(self, app: str, records: Sequence[Received], next_position: int) -> None:
        super().append(app, records, next_position)
        if self.away:
            self.gathered = self._count

    def flush(self) -> dict[str, int] | None:
        self.asked += 1
        if self.away:
            raise StoreAway("s3://alerts: the store does not answer")
        return super().flush()


def test_an_archive_that_is_away_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    """Nothing is lost or kept twice, and what waits in memory does not grow with the outage."""
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers)
    packets = [alert.packet for alert in night(60, 14, 1)]
    appender = Away(str(tmp_path), limits=Limits(packets=1))
    follower = Follower(appender, topic, servers, group=topic)
    topics.write(servers, topic, *packets[:5])

    def under_way(followed: Followed) -> None:
        if appender.asked == 1 and followed.read < 60:
            topics.write(servers, topic, *packets[5:])
        appender.away = appender.asked < 4
        if appender.appended.kept == 60 or time.monotonic() > deadline:
            follower.stop()

    deadline = time.monotonic() + 60
    follower.run(on_progress=under_way)
    assert as_words(packets_in(tmp_path)) == as_words(p for raw in packets for p in records_in(raw))
    assert appender.asked >= 5
    assert appender.gathered <= 5, "it read on while nothing could be kept"


def test_a_topic_made_again_is_kept_from_its_beginning(broker: Broker, tmp_path: Path) -> None:
    """It has the name and the offsets of the one before: neither is a record kept twice, nor one missed."""
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers)
    packets = [alert.packet for alert in night(160, 14, 1)]
    topics.write(servers, topic, *packets[:60])
    follower = Follower(Appender(str(tmp_path), limits=Limits(seconds=0.1)), topic, servers, group=topic)
    made_again: list[int] = []

    def under_way(followed: Followed) -> None:
        if followed.read == 60 and not made_again:
            topics.recreate(servers, topic)
            topics.write(servers, topic, *packets[60:])
            made_again.append(followed.read)
        if followed.read >= 160 or time.monotonic() > deadline:
            follower.stop()

    deadline = time.monotonic() + 60
    followed = follower.run(on_progress=under_way)
    assert followed.made_again == [topic]
    words = as_words(packets_in(tmp_path))
    assert words == as_words(p for raw in packets for p in records_in(raw))


@pytest.mark.parametrize("takes_over", [False, True])
def test_two_who_both_think_the_partition_theirs(broker: Broker, tmp_path: Path, takes_over: bool) -> None:
    """A zombie: it reads on, outside the group; the one that comes second writes nothing twice."""
    packets = [alert.packet for alert in night(200, 15, 1)]
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *packets[:100])
    archive = str(tmp_path / "archive")

    def follower(group: str) -> tuple[Appender, Follower]:
        appender = Appender(archive, limits=Limits(seconds=0.05, packets=30))
        return appender, Follower(appender, topic, broker.bootstrap_servers, group=group)

    group = f"{topic}-group"
    _, first = follower(group)
    assert first.run(until_drained=True).read == 100
    topics.write(broker.bootstrap_servers, topic, *packets[100:])
    zombie, _ = follower(group)
    (source,) = first_sources(zombie, archive)
    assert stand_at(zombie.marks([source])[source]).offset == 100
    some = received(broker, topic)[100:150]
    stand = Stand(150, some[-1].epoch).position
    zombie.append(source, some, stand)
    _, second = follower(group)
    if takes_over:
        assert second.run(until_drained=True).read == 100
        assert zombie.flush() is None
    else:
        assert zombie.flush() == {source: stand}
        assert second.run(until_drained=True).read == 50
    assert sorted(rows_of(archive, ["_offset"])["_offset"].to_pylist()) == list(range(200))


def first_sources(appender: Appender, archive: str) -> list[str]:
    """The application ids that the log of the table holds."""
    lines = [
        line
        for file in Path(archive, "ztf/_delta_log").glob("*.json")
        for line in file.read_text().splitlines()
    ]
    return sorted({json.loads(line)["txn"]["appId"] for line in lines if '"txn"' in line})


def received(broker: Broker, topic: str) -> list:
    return [received_of(message) for message in topics.records(broker.bootstrap_servers, topic)]


def test_aborted_transactions_are_not_kept(broker: Broker, tmp_path: Path) -> None:
    packets = [alert.packet for alert in night(30, 16, 1)]
    topic = topics.new_topic(broker.bootstrap_servers)
    writer = topics.Transactions(broker.bootstrap_servers, topic)
    for start in range(0, 30, 10):
        writer.write(packets[start : start + 10], commit=start != 10)
    appender = Appender(str(tmp_path / "archive"))
    Follower(appender, topic, broker.bootstrap_servers, group=topic).run(until_drained=True)
    kept = [p for raw in [*packets[:10], *packets[20:]] for p in records_in(raw)]
    assert as_words(packets_in(tmp_path / "archive")) == as_words(kept)
    gaps = check(str(tmp_path / "archive")).gaps
    assert sum(gap.high - gap.low for gap in gaps) >= 10
    assert missed(gaps, broker.bootstrap_servers) == []


class _KnowsNoPartition(Follower):
    """The broker does not answer when it gets its partitions, as often as told."""

    unknown = 2

    def _take(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self.unknown:
            self.unknown -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        super()._take(consumer, partitions)


def test_a_broker_that_does_not_answer_in_a_rebalance_is_waited_for(broker: Broker, tmp_path: Path) -> None:
    packets, topic = [alert.packet for alert in night(30, 16, 1)], topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *packets)
    appender = Appender(str(tmp_path / "archive"))
    follower = _KnowsNoPartition(appender, topic, broker.bootstrap_servers, group=topic)
    follower.run(until_drained=True)
    assert follower.unknown == 0
    kept = [p for raw in packets for p in records_in(raw)]
    assert as_words(packets_in(tmp_path / "archive")) == as_words(kept)


def test_a_partition_without_a_leader_makes_no_other_wait(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what was kept before it must be known how far it reaches; of one that does not say so, later."""
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers, partitions=3)
    packets, archive = [alert.packet for alert in night(60, 16, 1)], str(tmp_path / "archive")
    asks, kept_meanwhile = Sources._reach, list[Counter]()

    def write(some: Sequence[bytes]) -> None:
        for number in range(3):
            topics.write(servers, topic, *some[number::3], partition=number)

    def follow() -> Followed:
        appender = Appender(archive, limits=Limits(seconds=0.05))
        return Follower(appender, topic, servers, group=topic).run(until_drained=True)

    def kept() -> Counter:
        return Counter(rows_of(archive, ["_partition"])["_partition"].to_pylist())

    def reach(sources: Sources, partitions: list[Partition]) -> dict[Partition, Any]:
        found = asks(sources, partitions)
        if len(kept_meanwhile) < 3 and (bad := Partition(topic, 1)) in found:
            kept_meanwhile.append(kept())
            found[bad] = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
        return found

    write(packets[:30])
    assert follow().read == 30
    write(packets[30:])
    monkeypatch.setattr(Sources, "_reach", reach)
    monkeypatch.setattr(follow_module, "_ASIDE_SECONDS", 2.0)
    followed = follow()
    assert kept_meanwhile[-1] == Counter({0: 20, 1: 10, 2: 20}), "the others were kept"
    assert kept() == Counter({0: 20, 1: 20, 2: 20})
    assert (followed.read, followed.aside) == (30, {})
    assert f"such as {topic}/1: " in caplog.text
    assert f"read again: {topic}/1" in caplog.text


def test_a_record_that_was_missed_is_found(broker: Broker, tmp_path: Path) -> None:
    topic = topics.new_topic(broker.bootstrap_servers)
    topics.write(broker.bootstrap_servers, topic, *(alert.packet for alert in night(30, 16, 1)))
    records = received(broker, topic)
    appender = Appender(str(tmp_path))
    appender.marks(["a"])
    appender.append("a", [*records[:10], *records[12:]], 30)
    appender.flush()
    gaps = check(str(tmp_path)).gaps
    assert missed(gaps, broker.bootstrap_servers) == [(topic, 0, 10), (topic, 0, 11)]


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("more", [30, 5])
def test_a_log_that_was_cut_is_kept_from_there(
    own_broker: Broker, tmp_path: Path, away: bool, more: int
) -> None:
    """Another leader has fewer records, and others under the offsets that were kept; some of them or none
    lie past where the archive stands."""
    servers, topic = own_broker.bootstrap_servers, topics.new_topic(own_broker.bootstrap_servers)
    packets = [alert.packet for alert in night(60, 16, 1)]
    before, after = [b"unreadable", *packets[:19]], [*packets[20 : 20 + more], b"unreadable too"]
    for packet in before:
        topics.write(servers, topic, packet)  # a batch each
    appender = Appender(str(tmp_path), limits=Limits(seconds=0.1))

    def follower() -> Follower:
        return Follower(appender, topic, servers, group=topic)

    running = follower()

    def under_way(_: Followed) -> None:
        if appender.appended.kept == 19 and not cut:
            cut.append(running.stop() if away else change_the_log())
        if appender.appended.kept == 19 + more or time.monotonic() > deadline:
            running.stop()

    def change_the_log() -> None:
        topics.cut_log(own_broker, topic, 10)
        for packet in after:
            topics.write(servers, topic, packet)

    cut: list[None] = []
    deadline = time.monotonic() + 90
    followed = running.run(on_progress=under_way)
    if away:
        change_the_log()
        followed = follower().run(until_drained=True)
    assert "cut at offset 10" in followed.lost[f"{topic}/0"]
    kept = [p for raw in [*packets[:19], *after[:-1]] for p in records_in(raw)]
    assert as_words(packets_in(tmp_path)) == as_words(kept)
    assert appender.appended.quarantined == 2
    assert check(str(tmp_path)).sound
    again = follower().run(until_drained=True)
    assert (again.read, again.lost) == (0, {})


def test_what_retention_takes_under_an_archiver_is_said(broker: Broker, tmp_path: Path) -> None:
    """It waits for its store meanwhile; what it had read is kept, and it goes on with what is there."""
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers)
    packets = [alert.packet for alert in night(60, 14, 1)]
    appender = Away(str(tmp_path), limits=Limits(packets=1))
    follower = Follower(appender, topic, servers, group=topic)
    topics.write(servers, topic, *packets[:5])

    def under_way(_: Followed) -> None:
        if appender.asked == 1 and appender.away:
            topics.write(servers, topic, *packets[5:])
            admin = AdminClient({"bootstrap.servers": servers})
            for future in admin.delete_records([TopicPartition(topic, 0, 40)]).values():
                future.result()
            appender.away = False
        if appender.appended.kept == 25 or time.monotonic() > deadline:
            follower.stop()

    deadline = time.monotonic() + 60
    followed = follower.run(on_progress=under_way)
    assert followed.lost == {f"{topic}/0": "offsets 5 to 39 were deleted before they were kept"}
    kept = [p for raw in [*packets[:5], *packets[40:]] for p in records_in(raw)]
    assert as_words(packets_in(tmp_path)) == as_words(kept)


stands = st.builds(Stand, st.integers(0, 2**43), st.integers(-1, 2**18))


@given(stands, stands)
def test_a_position_never_falls_along_a_log(one: Stand, other: Stand) -> None:
    assert stand_at(one.position) == one
    assert (one.position < other.position) == ((one.epoch, one.offset) < (other.epoch, other.offset))
    assert max(one.position, other.position) < 2**63, "Delta takes no more"
