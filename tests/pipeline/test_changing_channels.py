"""Channels changed while a night streams: no restart, each record goes by the set in force at its offset."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import pytest

from filters import load
from pipeline.definitions import Definition
from pipeline.gaps import APPLIED_TOPIC
from pipeline.kafka import topic_names
from pipeline.listen import Alert, listen
from pipeline.registry import read_registry, write_registry
from schemas.frame import stored_columns, to_frame
from schemas.reader import PacketReader
from tests.pipeline import topics
from tests.pipeline.night import night, publish_night, running

Place = tuple[str, int, int]
THRESHOLDS = (0.3, 0.8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "zads.toml").write_text("[dispatch]\nmessages = 20\n")
    return tmp_path


def write(servers: str, definition: Definition) -> Definition:
    return write_registry([definition], servers, who="a test")[0]


def delivered(servers: str, topic: str = "channel.bright") -> list[Alert]:
    if topic not in topic_names(servers):
        return []
    return list(listen(topic, servers, until_drained=True))


def sources(alerts: list[Alert]) -> Counter[Place]:
    split = [alert.headers["source"].rsplit("/", 2) for alert in alerts]
    return Counter((of, int(partition), int(offset)) for of, partition, offset in split)


@cache
def passing(rb_min: float) -> set[int]:
    chosen = load("real_bogus").using(rb_min=rb_min)
    packets = [alert.packet for alert in night() if alert.programid == 1]
    table = PacketReader(stored_columns(chosen.reads, public=True)).read(packets).table
    frame = to_frame(table, chosen.reads, public=True)
    return set(frame["candid"][chosen.passes(frame)].tolist())


def in_force(servers: str) -> dict[tuple[str, int], list[tuple[int, float | None]]]:
    """For each partition, from which offset on which rb_min was in force (None: the channel was off)."""
    found: dict[tuple[str, int], list[tuple[int, float | None]]] = {}
    for message in topics.records(servers, APPLIED_TOPIC):
        told = json.loads(message.value())
        values = {c["name"]: c["parameters"]["rb_min"] for c in told["channels"]}
        place = (told["topic"], told["partition"])
        found.setdefault(place, []).append((told["offset"], values.get("bright")))
    return found


def expected(servers: str) -> Counter[Place]:
    """Every record, judged by the threshold that zads.applied says was in force at its offset."""
    wanted: Counter[Place] = Counter()
    for (topic, partition), changes in in_force(servers).items():
        for message in topics.records(servers, topic):
            if message.partition() != partition:
                continue
            _, rb_min = max(change for change in changes if change[0] <= message.offset())
            if rb_min is not None and candids()[message.value()] in passing(rb_min):
                wanted[topic, partition, message.offset()] += 1
    return wanted


@cache
def candids() -> dict[bytes, int]:
    return {alert.packet: alert.candid for alert in night()}


def test_a_threshold_changed_while_a_night_streams(own_broker, folder):
    servers = own_broker.bootstrap_servers
    first = Definition(name="bright", filter="real_bogus").with_changes(parameters={"rb_min": THRESHOLDS[0]})
    enabled = write(servers, write(servers, first).becoming("enabled"))
    publish_night(servers)
    with running(servers, folder, "--channels", "bright", "--workers", "2") as run:
        run.until(lambda: len(delivered(servers)) > 50, "fifty alerts by the first threshold")
        changed = write(servers, enabled.with_changes(parameters={"rb_min": THRESHOLDS[1]}))
        run.until(lambda: "channel bright: changed" in run.text(), "the change")
        run.workers()[0].kill()

        def second(alert: Alert) -> bool:
            return json.loads(alert.headers["parameters"])["rb_min"] == THRESHOLDS[1]

        run.until(lambda: any(second(alert) for alert in delivered(servers)), "one by the second threshold")
        run.kill()
    write(servers, changed.becoming("paused"))
    with running(servers, folder, "--channels", "bright", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert read_registry(servers)["bright"].state == "paused"
    thresholds = {rb_min for changes in in_force(servers).values() for _, rb_min in changes}
    assert thresholds >= set(THRESHOLDS)
    assert expected(servers)
    assert sources(delivered(servers)) == expected(servers)
