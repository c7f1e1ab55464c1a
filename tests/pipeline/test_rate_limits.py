"""Limits live: the alerts that go through are those of a plain reading of the records, killed or not."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pandas as pd
import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from filters import load
from filters.limits import Limits, Passing, let_through
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import Channel
from pipeline.channels.config import ChannelConfig, ConfigError, RunConfig, channel_set
from pipeline.channels.inputs import InputError
from pipeline.channels.limits import MOST_THROTTLED
from pipeline.clients.following.follow import Follower
from pipeline.worker.holding.remembered import Admission, Changes, PartitionMemory
from simulator import simulate
from tests.pipeline.night import read_candid, running
from tests.pipeline.topics import records

TOPIC = "ztf_20231012_programid1"
CHANNELS = """
[dispatch]
messages = 10
[channels.all]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
[channels.sampled]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
limits = { sample = 0.25 }
[channels.throttled]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
limits = { throttle_per_hour = 20, throttle_burst = 4 }
[channels.first]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
input = "all"
limits = { once = true }
[channels.again]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
input = "all"
limits = { once = true, again_days = 1.5 }
[channels.alarming]
filter = "real_bogus"
parameters = { rb_min = 0.3 }
limits = { alarm_per_hour = 10 }
"""
LIMITS = {
    "sampled": Limits(sample=0.25),
    "throttled": Limits(throttle_per_hour=20, throttle_burst=4),
    "first": Limits(once=True),
    "again": Limits(once=True, again_days=1.5),
}
Place = tuple[int, int]


def publish(servers: str, start: int, stop: int) -> None:
    """Three nights over two partitions; a record a minute in each, as their timestamps say."""
    producer = Producer({"bootstrap.servers": servers})
    alerts = sorted(simulate(360, seed=5, nights=3, stamps=False), key=lambda alert: alert.jd)
    for number, alert in list(enumerate(alerts))[start:stop]:
        when = 1_700_000_000_000 + 60_000 * (number // 2)
        producer.produce(TOPIC, alert.packet, partition=number % 2, timestamp=when)
    assert producer.flush(30) == 0


def header(record: Message, name: str) -> str:
    return dict(record.headers())[name].decode()


def source(record: Message) -> Place:
    _, partition, offset = header(record, "source").split("/")
    return int(partition), int(offset)


def delivered(servers: str, channel: str) -> Counter[Place]:
    """Where the channel's alerts came from in the nights' topic."""
    found = records(servers, f"channel.{channel}")
    if channel in ("first", "again"):  # they name records of channel.all
        of_all = {record.offset(): source(record) for record in records(servers, "channel.all")}
        return Counter(of_all[source(record)[1]] for record in found)
    return Counter(map(source, found))


@pytest.mark.timeout(300)
def test_limits_are_kept_through_a_kill_and_are_those_of_a_replay(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    ensure_topics(servers, [TOPIC], 2, {"retention.ms": "-1"})  # the timestamps are of long ago
    (tmp_path / "zads.toml").write_text(CHANNELS)
    publish(servers, 0, 120)
    arguments = ("--topics", TOPIC, "--workers", "2")
    with running(servers, tmp_path, *arguments, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    publish(servers, 120, 360)
    before = len(records(servers, "channel.all"))
    with running(servers, tmp_path, *arguments) as run:
        run.until(lambda: len(records(servers, "channel.all")) > before, "alerts of the second part")
        run.kill()
    with running(servers, tmp_path, *arguments, "--until-drained") as run:
        assert run.wait() == 0, run.text()
        assert "more than 10 alerts within an hour" in (tmp_path / "run.log").read_text()
    passing = delivered(servers, "all")
    assert len(passing) > 100
    assert delivered(servers, "alarming") == passing
    taken = records(servers, TOPIC)
    for channel, slowly in (("sampled", sampled), ("throttled", throttled)):
        expected = Counter(slowly([record for record in taken if place(record) in passing]))
        assert 5 < len(expected) < len(passing)
        assert delivered(servers, channel) == expected, channel
    for channel, again in (("first", None), ("again", 1.5)):
        expected = Counter(once(records(servers, "channel.all"), taken, again))
        assert delivered(servers, channel) == expected, channel
    assert_replay_agrees(servers, tmp_path / "archive")


def place(record: Message) -> Place:
    return record.partition(), record.offset()


def sampled(taken: list[Message]) -> list[Place]:
    """By the channel's hash, which needs no order."""

    def share(record: Message) -> float:
        told = hashlib.sha256(f"sampled/{read_candid(record.value())}".encode()).hexdigest()
        return int(told[:16], 16) / 16**16

    return [place(record) for record in taken if share(record) < 0.25]


def throttled(taken: list[Message]) -> list[Place]:
    """A bucket of 4 tokens for each partition, a token every three minutes."""
    through = []
    for number in (0, 1):
        tokens, last = 4.0, 0
        for record in taken:
            if record.partition() == number:
                now = record.timestamp()[1]
                tokens = min(4.0, tokens + (now - last) / 180_000)
                last = now
                if tokens >= 1 - 1e-9:
                    tokens -= 1
                    through.append(place(record))
    return through


def once(of_all: list[Message], taken: list[Message], again: float | None) -> list[Place]:
    """An object's first alert in the channel that is read, and again after a while."""
    packets = {place(record): record.value() for record in taken}
    last: dict[str, float] = {}
    through = []
    for record in of_all:
        name, jd = header(record, "objectId"), jd_of(packets[source(record)])
        if name not in last or (again is not None and jd - last[name] >= again):
            last[name] = jd
            through.append(source(record))
    return through


def jd_of(packet: bytes) -> float:
    return next(iter(fastavro.reader(io.BytesIO(packet))))["candidate"]["jd"]


def assert_replay_agrees(servers: str, folder: Path) -> None:
    """A sample and a throttle exactly; once by time, which differs from live where order did."""
    appenders = Appenders(str(folder))
    Follower(appenders, f"^{TOPIC}$", servers, "archive").run(until_drained=True)
    found = replay("real_bogus", Archive(folder), parameters={"rb_min": 0.3}, versions="all")
    for channel in ("sampled", "throttled"):
        rows = found.limited(LIMITS[channel], channel)
        places = zip(rows["_partition"].tolist(), rows["_offset"].tolist(), strict=True)
        assert Counter(places) == delivered(servers, channel), channel
    for channel in ("first", "again"):
        rows = found.limited(LIMITS[channel], channel)
        slowly = list(once_by_time(found.of(), LIMITS[channel].again_days))
        assert rows["candid"].tolist() == [candid for candid in found.of()["candid"] if candid in slowly]
    objects = {header(record, "objectId") for record in records(servers, "channel.first")}
    assert objects == set(found.of()["objectId"])


def once_by_time(matches: pd.DataFrame, again: float | None) -> Iterator[int]:
    last: dict[str, float] = {}
    for row in matches.sort_values("jd").itertuples():
        if row.objectId not in last or (again is not None and row.jd - last[row.objectId] >= again):
            last[row.objectId] = row.jd
            yield row.candid


alerts = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 7_200), st.booleans()), max_size=40
)


@given(alerts)
def test_a_run_that_dies_anywhere_has_forgotten_nothing(found: list[tuple[str, int, bool]]) -> None:
    """Each alert is a batch; after some of them another worker takes the partition."""
    channel = Channel("c", load("real_bogus"), limits=Limits(once=True, again_days=0.03, throttle_per_hour=9))
    ones = [Passing(n, name, s * 1_000_000, s / 86_400) for n, (name, s, _) in enumerate(found)]
    kept: dict[str, float] = {}  # the topic zads.once

    def objects(name: str) -> dict[str, float]:
        return dict(kept)

    memory, through = PartitionMemory("", objects), []
    for one, (_, _, dies) in zip(ones, found, strict=True):
        admission = Admission(memory)
        changed = admission.admits(channel, one)
        through.append(changed is not None)
        admission.delivered(channel, changed or {})
        text = memory.text_with(admission.changes)
        kept.update((record["key"].decode()[2:], float(record["value"])) for record in admission.records())
        memory.learn(admission.changes)
        if dies:
            memory = PartitionMemory(text, objects)
    assert through == let_through(channel.limits.of("c"), ones)


def test_the_numbers_of_many_channels_fit_into_a_commit() -> None:
    far = 2_000_000_000 * 1_000_000  # microseconds: the year 2033
    changes: Changes = {f"c{n}": {"throttle 1 1": far + n} for n in range(MOST_THROTTLED)}
    memory = PartitionMemory("", lambda name: {})
    text = memory.text_with(changes)
    assert len(text) < 4_000
    again = PartitionMemory(text, lambda name: {})
    assert [again.get(f"c{n}", "throttle 1 1") for n in range(MOST_THROTTLED)] == [
        far + n for n in range(MOST_THROTTLED)
    ]
    one = ChannelConfig(filter="real_bogus", limits=Limits(throttle_per_hour=1))
    config = RunConfig(channels={f"c{n}": one for n in range(MOST_THROTTLED + 1)})
    with pytest.raises(ConfigError, match="181 channels are throttled"):
        channel_set(config)


def test_a_channel_of_exposures_has_no_order_of_alerts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from zads import alert_filter\n\n"
        "@alert_filter(reads=['rb'], scope='exposure')\n"
        "def whole(alerts):\n"
        "    return {'real': alerts['rb'] > 0.5}\n"
    )
    one = ChannelConfig(filter=f"{tmp_path / 'mine.py'}:whole", limits=Limits(throttle_per_hour=1))
    with pytest.raises(ConfigError, match="channel whole judges whole exposures"):
        channel_set(RunConfig(channels={"whole": one}))


def test_once_needs_one_order() -> None:
    config = RunConfig(channels={"c": ChannelConfig(filter="real_bogus", limits=Limits(once=True))})
    with pytest.raises(InputError, match="must come in one order"):
        channel_set(config)
