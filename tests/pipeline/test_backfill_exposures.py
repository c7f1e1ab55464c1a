"""What a channel of whole exposures missed: delivered once, each alert judged beside whom it was to be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from cluster.kafka.broker import Broker
from filters import load
from pipeline.broker.client import admin_client, topic_names
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics, topic_ids
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.channels.gaps import EXPOSURES_SETTINGS, EXPOSURES_TOPIC, GAPS_SETTINGS, GAPS_TOPIC, gap_of
from pipeline.channels.ledger import LEDGER_SETTINGS, LEDGER_TOPIC
from pipeline.clients.backfill import backfill
from pipeline.live.exposures.closings import Closing
from pipeline.live.exposures.gathering import Key, Place
from pipeline.worker.backfill import gaps_of
from simulator import SimulatedAlert, simulate
from tests.pipeline import topics
from tests.pipeline.topics import records

FILTER = """
from zads import alert_filter

@alert_filter(reads=["rb"], scope="exposure", gives={"size": ""})
def few(alerts, *, most: int = 1000):
    size = alerts.groupby("exposure")["candid"].transform("size")
    return {"few": size <= most}, {"size": size}
"""


class Missed:
    """A topic with three exposures: one that a channel missed, one of which it missed what came late, and one
    that it has judged."""

    def __init__(self, servers: str, name: str, folder: Path) -> None:
        (folder / "mine.py").write_text(FILTER)
        self.channel = Channel(name, load(f"{folder / 'mine.py'}:few"))
        self.config, self.topic = RunConfig(bootstrap_servers=servers), topics.new_topic(servers, 2)
        by_pid: dict[int, list[SimulatedAlert]] = {}
        for alert in simulate(300, 4, stamps=False):
            if alert.programid == 1:
                by_pid.setdefault(alert.pid, []).append(alert)
        self.exposures = sorted(by_pid.values(), key=len)[-3:]
        self.places: dict[int, Place] = {}  # candid -> where it is
        for alert in sorted((one for some in self.exposures for one in some), key=lambda one: one.candid):
            number = alert.candid % 2
            self.places[alert.candid] = Place(
                number, sum(p.partition == number for p in self.places.values())
            )
            topics.write(servers, self.topic, alert.packet, partition=number)
        for topic, settings in (
            (EXPOSURES_TOPIC, EXPOSURES_SETTINGS),
            (GAPS_TOPIC, GAPS_SETTINGS),
            (LEDGER_TOPIC, LEDGER_SETTINGS),
        ):
            ensure_topics(servers, [topic], 1, settings)
        self.servers = servers
        (self._id,) = topic_ids(admin_client(servers), [self.topic]).values()

    def judged(self, alerts: list[SimulatedAlert], reason: str, missed: bool) -> None:
        """Write what a run writes of a judgement."""
        places = tuple(self.places[alert.candid] for alert in alerts)
        closing = Closing(Key(self.topic, "ztf", alerts[0].pid), places, reason, self._id)  # type: ignore[arg-type]
        told = closing.record(ChannelSet((self.channel,)))
        topics.write(self.servers, EXPOSURES_TOPIC, told["value"], key=told["key"].decode())
        for place in places if missed else ():
            source = Partition(self.topic, place.partition)
            gap = gap_of(self.channel, source, place.offset, place.offset + 1, "suspended", "gaps").record()
            topics.write(self.servers, GAPS_TOPIC, gap["value"], key=gap["key"].decode())

    def delivered(self) -> dict[int, int]:
        """candid -> the size of its exposure, as the filter saw it."""
        if self.channel.topic not in topic_names(self.servers):
            return {}
        headers = [dict(record.headers()) for record in records(self.servers, self.channel.topic)]
        assert max(Counter(one["candid"] for one in headers).values(), default=1) == 1, "delivered twice"
        return {int(one["candid"]): int(json.loads(one["values"])["size"]) for one in headers}


class Died(Exception):
    """In the middle of a backfill."""


def test_exposures_are_brought_together_once_also_after_a_death(broker: Broker, tmp_path: Path) -> None:
    night = Missed(broker.bootstrap_servers, "backfill_few", tmp_path)
    whole, late, other = night.exposures
    night.judged(late[:-2], "passed", missed=False)
    night.judged(other, "passed", missed=False)
    night.judged(whole, "clock", missed=True)
    night.judged([late[-2]], "late", missed=True)
    night.judged([late[-1]], "late", missed=True)

    def dies(done: int, total: int) -> None:
        raise Died

    with pytest.raises(Died):
        backfill(night.config, night.channel, dies)
    first = {alert.candid: len(whole) for alert in whole}
    assert night.delivered() == first
    done = backfill(night.config, night.channel)
    assert (done.gaps, done.left, done.records) == (2, 0, 2)
    wanted = {**first, late[-2].candid: len(late) - 1, late[-1].candid: len(late)}
    assert night.delivered() == wanted
    assert not gaps_of(night.config, night.channel.name)
    assert backfill(night.config, night.channel).gaps == 0
    assert night.delivered() == wanted


def test_what_was_never_judged_stays_open_and_is_said(broker: Broker, tmp_path: Path) -> None:
    night = Missed(broker.bootstrap_servers, "backfill_unjudged", tmp_path)
    gap = gap_of(night.channel, Partition(night.topic, 0), 0, 3, "it could not be loaded", "gaps").record()
    topics.write(night.servers, GAPS_TOPIC, gap["value"], key=gap["key"].decode())
    done = backfill(night.config, night.channel)
    assert (done.gaps, done.left) == (0, 1)
    assert "no judgement of these records is recorded" in done.unreadable[0]
    assert len(gaps_of(night.config, night.channel.name)) == 1
