"""Channels that judge whole exposures: complete however they are cut, each alert once, whatever dies."""

from __future__ import annotations

import io
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import TypedDict

import fastavro
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from confluent_kafka import Message, Producer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from commands import application
from commands.external.catalogues import add_catalogue
from commands.shared.as_ran import repeated
from filters import load
from filters.external.externals import Externals
from filters.sandbox.ladder import lacking
from pipeline.broker.client import admin_client
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics, topic_ids
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.definition import Definition
from pipeline.channels.gaps import EXPOSURES_TOPIC
from pipeline.channels.groups import Delivering, announce
from pipeline.channels.registry import write_registry
from pipeline.clients.exposures import in_open_exposures, judgement
from pipeline.clients.following.follow import Follower
from pipeline.clients.in_force import in_force
from pipeline.live.exposures.clock import BrokerClock
from pipeline.live.exposures.closings import Closing, closed_by, closing_of
from pipeline.live.exposures.gathering import Gathering, Key, Place
from simulator import simulate
from tests.pipeline import topics
from tests.pipeline.night import assert_the_ledger_adds_up, running
from tests.pipeline.topics import records

TOPIC = "ztf_20231012_programid1"
FILTER = """
from zads import alert_filter

@alert_filter(reads=["rb"], scope="exposure", gives={"size": ""})
def few(alerts, *, most: int = 10):
    "Of exposures with few alerts."
    size = alerts.groupby("exposure")["candid"].transform("size")
    return {"few": size <= most}, {"size": size}
"""
CHANNELS = """
[exposures]
grace_seconds = 2
[channels.few]
filter = "mine.py:few"
[channels.calm]
filter = "filters.exposures.crowded:no_crowd"
parameters = { usual = { by = "fid", 1 = 2, else = 2.0 }, factor = 5, least = 1 }
[channels.no_halo]
filter = "filters.exposures.bright_stars:no_star_artefact"
parameters = { halo = 3000, spike = 0 }
[channels.real_bogus]
"""
MOST = 10
HELD_SECONDS = 12

# What is complete, and what was judged: without Kafka.

logs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 300)), max_size=40)
ENDS = ("records", "clock", "death")
"""How a turn ends: as far as newer records tell, with the broker's clock far ahead, or with a death."""
steps = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.sampled_from(ENDS)), max_size=40)


TWO_LATE = ([(0, 0, 0)] * 3, [(0, 1, "clock"), (0, 2, "death")])
"""Two records come late at once, and the process ends between their judgements."""


@settings(max_examples=200)
@given(logs, steps)
@example(*TWO_LATE)
def test_each_record_is_judged_once_and_beside_its_exposure(
    log: list[tuple[int, int, int]], turns: list[tuple[int, int, str]]
) -> None:
    """Three partitions are read in turns; now and then everything but what is committed is lost."""
    grace, topic = 50, "t"
    partitions: dict[int, list[tuple[Key, int]]] = {n: [] for n in range(3)}
    for number, exposure, time_ in log:
        partitions[number].append((Key(topic, "ztf", exposure), time_))
    kept: list[bytes] = []  # the topic of closings
    committed = {Partition(topic, n): 0 for n in range(3)}
    judged: list[Place] = []

    def begun() -> tuple[Gathering, dict[int, int]]:
        gathering = Gathering(closed_by(kept, {topic: "id"}), grace)
        for partition, offset in committed.items():
            gathering.begin(partition, offset)
        return gathering, {p.number: offset for p, offset in committed.items()}

    def say(key: Key, places: list[Place], reason: str) -> None:
        kept.append(told(Closing(key, tuple(places), reason, "id")))  # type: ignore[arg-type]
        judged.extend(places)

    def take(number: int, count: int) -> None:
        for offset in range(at[number], min(at[number] + count, len(partitions[number]))):
            key, time_ = partitions[number][offset]
            newest[number] = max(newest[number], time_)
            gathering.reaches(Partition(topic, number), offset + 1)
            at[number] = offset + 1
            place = Place(number, offset)
            what = gathering.seen(key, place, time_)
            assert (what == "judged") == (place in judged)
            if what == "late":
                assert any(closing_of(value).key == key for value in kept)
                late.append((key, place))

    def judge_late(most: int) -> None:
        """Each in a transaction of its own; whatever ends us in between."""
        for key, place in late[:most]:
            positions = gathering.positions(late=[(key, place)])
            say(key, [place], "late")
            gathering.judged(key, [place])
            commit(positions)
        late.clear()

    def commit(positions: dict[Partition, int]) -> None:
        committed.update(positions)
        below = {Place(p.number, o) for p, end in positions.items() for o in range(end)}
        assert below <= set(judged), "committed only what was judged"

    def close(times: dict[Partition, int]) -> None:
        due = gathering.due(times)
        positions = gathering.positions(without=due)
        for key in due:
            members = gathering.members(key)
            seen = {Place(n, o) for n in range(3) for o in range(at[n]) if partitions[n][o][0] == key}
            assert set(members) == seen, "all that had been read of it"
            say(key, members, "passed")
            gathering.close(key)
        commit(positions)

    newest = dict.fromkeys(range(3), -1)
    late: list[tuple[Key, Place]] = []
    gathering, at = begun()
    for number, count, end in turns:
        take(number, count)
        judge_late(count // 2 if end == "death" else len(late))
        if end == "death":
            newest = dict.fromkeys(range(3), -1)
            gathering, at = begun()
        else:
            clock = 10_000 if end == "clock" else -1
            close({Partition(topic, n): max(newest[n], clock) for n in range(3)})
    for number in range(3):
        take(number, 1000)
        judge_late(len(late))
    close({Partition(topic, n): 10_000 for n in range(3)})
    assert Counter(judged) == Counter(Place(n, o) for n in range(3) for o in range(len(partitions[n])))
    assert committed == {Partition(topic, n): len(partitions[n]) for n in range(3)}


def told(closing: Closing) -> bytes:
    """As it stands in the topic."""
    return bytes(closing.record(ChannelSet(()))["value"])


def test_the_brokers_clock_goes_on_by_itself_until_it_is_asked_again() -> None:
    passed = [5.0]
    clock = BrokerClock(lambda: passed[0])
    assert clock.due
    clock.heard(1_000_000)
    passed[0] += 2.5
    assert (clock.now, clock.due) == (1_002_500, False)
    passed[0] += 60
    assert clock.due
    clock.heard(900_000)  # somebody has set it
    assert (clock.now, clock.due) == (900_000, False)


def test_what_was_judged_together_and_what_waits_is_told(broker: Broker) -> None:
    servers, topic = broker.bootstrap_servers, topics.new_topic(broker.bootstrap_servers, 2)
    config = RunConfig(bootstrap_servers=servers, group=f"g-{topic}")
    ensure_topics(servers, [EXPOSURES_TOPIC], 1)
    for partition in (0, 1):
        topics.write(servers, topic, *[b"alert"] * 5, partition=partition)
    announce(Delivering(config.group, "0", ("few",), topic), servers)
    assert in_open_exposures(config, [topic]) == {}, "no channel of the group judges whole exposures"
    announce(Delivering(config.group, "1", ("few",), topic, whole=(f"^{topic}$",)), servers)
    assert in_open_exposures(config, [topic, "channel.few"]) == {topic: 10}
    (topic_id,) = topic_ids(admin_client(servers), [topic]).values()
    key, first, late = Key(topic, "ztf", 7), (Place(0, 1), Place(1, 2)), (Place(0, 4),)
    for closing in (Closing(key, first, "passed", topic_id), Closing(key, late, "late", topic_id)):
        topics.write(servers, EXPOSURES_TOPIC, told(closing), key=str(key))
    assert in_open_exposures(config, [topic]) == {topic: 7}
    judged = judgement(config, topic, Place(1, 2))
    assert judged is not None
    assert (judged.places, judged.late) == (first, False)
    judged = judgement(config, topic, Place(0, 4))
    assert judged is not None
    assert (judged.places, judged.late) == ((*first, *late), True)
    assert judgement(config, topic, Place(0, 0)) is None
    announce(Delivering(config.group, "0", ("few",), topic), servers)
    assert in_open_exposures(config, [topic]) == {}, "the newest word of the group counts"


# Live.


class Packet(TypedDict):
    """One alert of the night."""

    raw: bytes
    candid: int
    pid: int
    place: tuple[float, float]


def night() -> list[Packet]:
    """Public packets with their exposure, in a wild order."""
    alerts = [alert for alert in simulate(400, seed=7, stamps=False) if alert.programid == 1]
    found: list[Packet] = []
    for alert in alerts:
        told = next(iter(fastavro.reader(io.BytesIO(alert.packet))))["candidate"]
        place = told["ra"], told["dec"]
        found.append({"raw": alert.packet, "candid": alert.candid, "pid": told["pid"], "place": place})
    random.Random(3).shuffle(found)
    return found


def publish(servers: str, packets: list[Packet], held: int | None = None) -> None:
    """Over three partitions in turn; those of the exposure `held` into the first, as if they came later."""
    producer, now = Producer({"bootstrap.servers": servers}), int(time.time() * 1000)
    for number, packet in enumerate(packets):
        waits = packet["pid"] == held
        when = now + waits * HELD_SECONDS * 1000
        producer.produce(TOPIC, packet["raw"], partition=0 if waits else number % 3, timestamp=when)
    assert producer.flush(30) == 0


def delivered(servers: str, channel: str = "few") -> Counter[int]:
    return Counter(candid_of(record) for record in records(servers, f"channel.{channel}"))


def candid_of(record: Message) -> int:
    return int(dict(record.headers())["candid"])


def size_of(record: Message) -> int:
    return int(json.loads(dict(record.headers())["values"])["size"])


@pytest.mark.timeout(300)
def test_exposures_are_whole_live_through_a_kill_and_late_records_change_nothing(
    own_broker: Broker, tmp_path: Path
) -> None:
    servers = own_broker.bootstrap_servers
    ensure_topics(servers, [TOPIC], 3)
    (tmp_path / "mine.py").write_text(FILTER)
    (tmp_path / "zads.toml").write_text(CHANNELS)
    packets = night()
    sizes = Counter(packet["pid"] for packet in packets)
    held = next(pid for pid, size in sorted(sizes.items()) if size == MOST)
    after = {pid for pid, size in sizes.items() if size not in (MOST - 1, MOST, MOST + 1)}
    early = sizes.keys() - after
    # Of some exposures one alert comes late: of one that is then too large, too.
    some = [
        pid
        for size in (MOST - 1, MOST, MOST + 1)
        for pid in [pid for pid in sorted(early - {held}) if sizes[pid] == size][:2]
    ]
    last_of = {packet["pid"]: packet["candid"] for packet in packets}
    late = [p for p in packets if p["pid"] in some and p["candid"] == last_of[p["pid"]]]
    assert {sizes[pid] for pid in some} == {MOST - 1, MOST, MOST + 1}
    first = [p for p in packets if p["pid"] in early and p not in late]
    first.sort(key=lambda p: p["pid"] != held)  # the lowest offsets wait longest
    star = next(p["place"] for p in packets if p["pid"] == max(after, key=lambda pid: sizes[pid]))
    stars = pd.DataFrame([star], columns=["ra", "dec"]).assign(mag=10.0)
    add_catalogue(stars, "bright", 3000, root=tmp_path / "home" / "external")
    uploaded = [] if lacking() else [upload(servers)]
    publish(servers, first, held)
    with running(servers, tmp_path, "--topics", TOPIC, "--workers", "1") as run:
        run.until(lambda: set(some) <= closed(servers), "the exposures that late alerts are of", 180)
        run.kill()
    publish(servers, [*late, *(p for p in packets if p["pid"] in after)])
    with running(servers, tmp_path, "--topics", TOPIC, "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
        assert "exposures closed" in run.text()
    assert closed_as(servers, "late") == Counter(p["pid"] for p in late)
    expected = {
        p["candid"]: size
        for p in packets
        for size in [sizes[p["pid"]] - (p["pid"] in some and p not in late)]
        if size <= MOST
    }
    found = records(servers, "channel.few")
    assert Counter(map(candid_of, found)) == Counter(expected.keys())
    assert {candid_of(record): size_of(record) for record in found} == expected
    assert delivered(servers, "calm") == delivered(servers)  # at most 5 times the usual 2
    for name in uploaded:  # in the sandbox
        assert delivered(servers, name) == delivered(servers)
    whole = [p for p in packets if p["pid"] not in some]
    in_halo = beside(star, whole)
    assert in_halo
    assert {p["candid"] for p in whole} - delivered(servers, "no_halo").keys() == in_halo
    assert_the_ledger_adds_up(servers)
    assert_why_an_alert_of_a_large_exposure_is_not_there(servers, tmp_path, packets, sizes)
    assert_replay_differs_only_where_something_was_late(servers, tmp_path / "archive", packets, set(some))


def upload(servers: str) -> str:
    """A channel with the same filter, as a text of a user's that nobody has approved; its name."""
    one = Definition(name="ann.few", owner="ann", filter="mine.py:few", source=FILTER).completed()
    write_registry([one.becoming("enabled")], servers, who="a test")
    return one.name


def beside(star: tuple[float, float], packets: list[Packet]) -> set[int]:
    """The candids of three or more alerts of one exposure within 3,000 arcsec of a star."""
    places = SkyCoord([p["place"] for p in packets], unit="deg")
    near = (places.separation(SkyCoord(*star, unit="deg")).arcsec <= 3000).tolist()
    pids = [p["pid"] for p, is_near in zip(packets, near, strict=True) if is_near]
    many = {pid for pid, count in Counter(pids).items() if count >= 3}
    return {p["candid"] for p, is_near in zip(packets, near, strict=True) if is_near and p["pid"] in many}


def assert_why_an_alert_of_a_large_exposure_is_not_there(
    servers: str, folder: Path, packets: list[Packet], sizes: Counter[int]
) -> None:
    large = next(p for p in packets if sizes[p["pid"]] > MOST + 1)
    (way,) = json.loads(zads(folder, "where", str(large["candid"]), "--json", "--bootstrap", servers))
    others = sizes[large["pid"]] - 1
    assert way["kept_out"]["channel.few"] == [
        f'its cut "few" stops it beside {others} records of its exposure'
    ]
    told = json.loads(zads(folder, "ledger", "--json", "--bootstrap", servers))
    assert told["in_open_exposures"][TOPIC] == 0
    assert told["channels"]["few"]["received"] == len(packets)


def zads(folder: Path, *arguments: str) -> str:
    """What a command prints, in the folder of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ZADS_HOME", str(folder / "home"))  # where the run has the catalogue
        return CliRunner().invoke(application(), [*arguments]).stdout


def closed(servers: str) -> set[int]:
    """The exposures of which zads.exposures says that they were judged."""
    return set(closed_as(servers, "passed", "clock"))


def closed_as(servers: str, *reasons: str) -> Counter[int]:
    """Records judged for these reasons, by exposure."""
    found: Counter[int] = Counter()
    for record in records(servers, "zads.exposures"):
        said = json.loads(record.value() or b"null")
        if said and said["reason"] in reasons:
            found[said["exposure"]] += sum(map(len, said["offsets"].values()))
    return found


def assert_explained_as_it_was_judged(
    servers: str, folder: Path, packets: list[Packet], differing: set[int]
) -> None:
    """Of an exposure that was too large only in the end: beside those that were judged with it."""
    candid = min(differing & set(delivered(servers)))
    (pid,) = {p["pid"] for p in packets if p["candid"] == candid}
    words = ("explain", "channel.few", str(candid), "--json", "--archive", str(folder))
    (told,) = json.loads(zads(folder.parent, *words, "--bootstrap", servers))
    assert told["passes"]
    assert told["exposure"] | {"where": ""} == {"exposure": pid, "members": MOST, "where": "", "missing": ""}
    assert told["exposure"]["where"].startswith("the stream")
    whole = json.loads(zads(folder.parent, "explain", "mine.py:few", *words[2:]))
    assert [(one["passes"], one["exposure"]["members"]) for one in whole] == [(False, MOST + 1)]


def assert_replay_differs_only_where_something_was_late(
    servers: str, folder: Path, packets: list[Packet], late: set[int]
) -> None:
    """It sees each exposure as a whole."""
    Follower(Appenders(str(folder)), f"^{TOPIC}$", servers, "archive").run(until_drained=True)
    few = load(f"{folder.parent / 'mine.py'}:few")
    again = replay(few, Archive(folder), versions="all").matches
    sizes = Counter(p["pid"] for p in packets)
    whole = {p["candid"]: sizes[p["pid"]] for p in packets if sizes[p["pid"]] <= MOST}
    assert dict(zip(again["candid"], again["size"], strict=True)) == whole
    differing = set(delivered(servers)) ^ set(whole)
    assert differing
    assert_explained_as_it_was_judged(servers, folder, packets, differing)
    assert {p["pid"] for p in packets if p["candid"] in differing} <= late
    told = in_force(RunConfig(bootstrap_servers=servers), "few")
    ran = repeated(Channel("few", few), told, Archive(folder), Externals(), None)
    sizes_then = {candid_of(record): size_of(record) for record in records(servers, "channel.few")}
    assert dict(zip(ran["candid"], ran["size"], strict=True)) == sizes_then
    assert len(ran) == len(sizes_then)
