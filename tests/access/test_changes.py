"""Owners change channels in the middle of a running night: each alert goes by what was in force then."""

from __future__ import annotations

import io
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import fastavro
import pytest
from confluent_kafka import KafkaException

from pipeline.access.requests import Answer
from pipeline.channels.gaps import APPLIED_TOPIC
from pipeline.channels.registry import read_registry, write_registry
from pipeline.clients.publish import publish_packets
from tests.access.seat import Seat
from tests.access.world import World
from tests.pipeline.night import night, running
from tests.pipeline.topics import records

WHERE = "rb > {rb_min: 0.97} and magpsf < {faintest: 18.5}"
Place = tuple[str, int, int]


class Cut(NamedTuple):
    """The values of the expression above."""

    rb_min: float
    faintest: float


FIRST, SECOND = Cut(0.97, 18.5), Cut(0.0, 30.0)
"""Few alerts, and all: one record to and fro in an offset would be seen."""


@cache
def candidate(packet: bytes) -> dict[str, float]:
    """The part of a packet that the expression reads, by fastavro alone."""
    return next(iter(fastavro.reader(io.BytesIO(packet))))["candidate"]


def passes(packet: bytes, cut: Cut | None) -> bool:
    """Whether a public channel with these values delivers the packet; None: it is off."""
    seen = candidate(packet)
    if cut is None or seen["programid"] != 1:
        return False
    return seen["rb"] > cut.rb_min and seen["magpsf"] < cut.faintest


@contextmanager
def publishing(world: World) -> Iterator[None]:
    """The night comes in, a piece at a time, again and again."""
    over = threading.Event()
    packets = [alert.packet for alert in night()]

    def publish() -> None:
        for start in itertools.cycle(range(0, len(packets), 40)):
            if over.wait(0.5):
                return
            piece = packets[start : start + 40]
            publish_packets(piece, world.broker.bootstrap_servers, partitions=3, **world.settings["pipe"])

    beside = threading.Thread(target=publish)
    beside.start()
    try:
        yield
    finally:
        over.set()
        beside.join()


class Applied:
    """What zads.applied says of a channel: from which offset of a partition on which values.

    None: it was off.
    """

    def __init__(self, world: World, name: str) -> None:
        self.of: dict[tuple[str, int], list[tuple[int, Cut | None]]] = {}
        for message in records(topic=APPLIED_TOPIC, **world.operator()):
            told = json.loads(message.value())
            values = {channel["name"]: channel["parameters"] for channel in told["channels"]}
            now = Cut(**values[name]) if name in values else None
            self.of.setdefault((told["topic"], told["partition"]), []).append((told["offset"], now))

    def at(self, place: Place) -> Cut | None:
        """The values in force for a record."""
        return [cut for offset, cut in self.of[place[:2]] if offset <= place[2]][-1]

    @property
    def now(self) -> set[Cut | None]:
        """The values in force where each partition stands."""
        return {changes[-1][1] for changes in self.of.values()}

    @property
    def course(self) -> set[tuple[Cut | None, ...]]:
        """How the values followed each other in the partitions."""
        every = ([cut for _, cut in changes] for changes in self.of.values())
        return {tuple(cut for cut, _ in itertools.groupby(one)) for one in every}


def wanted(world: World, name: str) -> Counter[Place]:
    """Every record of the sources, judged by what zads.applied says was in force at its offset."""
    found: Counter[Place] = Counter()
    applied = Applied(world, name)
    for topic in {topic for topic, _ in applied.of}:
        for record in records(topic=topic, **world.operator()):
            place = (topic, record.partition(), record.offset())
            found[place] += passes(record.value(), applied.at(place))
    return +found


def delivered(world: World, name: str) -> Counter[Place]:
    """The places that the alerts of a channel came from."""
    found = []
    for record in records(topic=f"channel.{name}", **world.operator()):
        topic, partition, offset = dict(record.headers())["source"].decode().rsplit("/", 2)
        found.append((topic, int(partition), int(offset)))
    return Counter(found)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_owner_changes_a_channel_in_the_middle_of_a_night(world: World, tmp_path: Path) -> None:
    """On, changed and off while alerts come; a neighbour is not touched, whoever asks for it."""
    mine, theirs = f"{world.user('ann')}.live", f"{world.user('ben')}.theirs"
    for who, channel in (("ann", "live"), ("ben", "theirs")):
        assert world.ask(who, action="create", channel=channel, where=WHERE).done
    allow_many(world, mine)
    assert world.ask("ben", action="enable", channel="theirs").done
    pipe = ("--as", str(world.folder / "pipe.ini"), "--channels", f"{mine},{theirs}", "--workers", "2")
    with running(world.broker.bootstrap_servers, tmp_path, *pipe) as run:
        with publishing(world):

            def reached(cut: Cut | None) -> None:
                run.until(lambda: Applied(world, mine).now == {cut}, f"{cut} in each partition")

            reached(None)
            world.zads("ann", "channel", "enable", "live")
            reached(FIRST)
            world.zads("ann", "channel", "set", "live", *(f"{n}={v}" for n, v in SECOND._asdict().items()))
            reached(SECOND)
            forge(world, theirs)
            world.zads("ann", "channel", "pause", "live")
            reached(None)
        for name in (mine, theirs):
            whole = wanted(world, name)
            run.until(lambda n=name, w=whole: delivered(world, n) == w, f"all that {name} is to have", 120)
    applied = Applied(world, mine)
    assert applied.course == {(None, FIRST, SECOND, None)}
    assert Applied(world, theirs).course == {(FIRST,)}
    by_cut = Counter(applied.at(place) for place in delivered(world, mine))
    assert by_cut.keys() == {FIRST, SECOND}


def allow_many(world: World, name: str) -> None:
    """An operator lets a channel deliver more alerts an hour than its owner could."""
    servers = world.broker.operator["bootstrap.servers"]
    more = read_registry(**world.operator())[name].with_changes(limits={"alerts_per_hour": 100_000})
    write_registry([more], servers, who="an operator", **world.broker.operator)


def forge(world: World, theirs: str) -> None:
    """ann asks for ben's channel, and writes where only ben may: refused, and both are recorded."""
    ann, ben = world.user("ann"), world.user("ben")
    before = read_registry(**world.operator())[theirs]
    for action in ("pause", "set", "retire"):
        answer = world.ask("ann", action=action, channel=theirs, parameters={"rb_min": 0.1})
        assert (answer.done, "not yours" in answer.text) == (False, True)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        Seat(world.settings["ann"]).write(f"zads.requests.{ben}")
    assert read_registry(**world.operator())[theirs] == before
    assert f"user {ann}, pause of '{theirs}': refused" in (world.folder / "serve.log").read_text()
    answers = [
        Answer.model_validate_json(one.value())
        for one in records(topic=f"zads.answers.{ann}", **world.operator())
    ]
    assert sum("not yours" in one.text for one in answers) == 3
    refused = (world.broker.home / "kafka" / "refused.log").read_text().splitlines()
    denied = f"Principal = User:{ann} is Denied operation"
    assert any(denied in line and f"zads.requests.{ben}" in line for line in refused)
