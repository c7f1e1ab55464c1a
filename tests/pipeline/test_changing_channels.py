"""Channels changed while a night streams: no restart, each record goes by the set in force at its offset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from archive.write.appenders import Appenders
from commands import application
from filters import load
from filters.external.externals import stored_columns, to_frame
from filters.tables import text_of
from pipeline.broker.client import topic_names
from pipeline.broker.listen import Alert, listen
from pipeline.channels.config import read_config
from pipeline.channels.definition import Definition, by_value
from pipeline.channels.gaps import APPLIED_TOPIC
from pipeline.channels.registry import read_registry, write_registry
from pipeline.clients.following.follow import Follower
from pipeline.worker.backfill import backfill, gaps_of
from schemas.packets.reader import PacketReader
from tests.pipeline import topics
from tests.pipeline.night import night, publish_night, running

Place = tuple[str, int, int]
THRESHOLDS = (0.3, "band:g=0.8,else=0.7")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "zads.toml").write_text("[dispatch]\nmessages = 40\n")
    return tmp_path


def write(servers: str, definition: Definition) -> Definition:
    return write_registry([definition], servers, who="a test")[0]


def delivered(servers: str, topic: str = "channel.bright") -> list[Alert]:
    if topic not in topic_names(servers):
        return []
    return list(listen(topic, servers, until_drained=True))


def candids_in(servers: str, topic: str) -> Counter[int]:
    return Counter(alert.candid for alert in delivered(servers, topic))


def sources(alerts: list[Alert]) -> Counter[Place]:
    split = [alert.headers["source"].rsplit("/", 2) for alert in alerts]
    return Counter((of, int(partition), int(offset)) for of, partition, offset in split)


@cache
def passing(rb_min: float | str) -> set[int]:
    chosen = load("real_bogus").using(rb_min=rb_min)
    packets = [alert.packet for alert in night() if alert.programid == 1]
    table = PacketReader(stored_columns(chosen.reads, public=True)).read(packets).table
    frame = to_frame(table, chosen.reads, public=True)
    return set(frame["candid"][chosen.passes(frame)].tolist())


Threshold = float | str | None
Applied = dict[tuple[str, int], list[tuple[int, Threshold]]]


def applied(servers: str) -> Applied:
    """For each partition, from which offset on which rb_min was in force (None: the channel was off)."""
    found: Applied = {}
    for message in topics.records(servers, APPLIED_TOPIC):
        told = json.loads(message.value())
        values = {c["name"]: threshold(c["parameters"]) for c in told["channels"]}
        place = (told["topic"], told["partition"])
        found.setdefault(place, []).append((told["offset"], values.get("bright")))
    return found


def threshold(parameters: dict[str, Any]) -> Threshold:
    """The value of rb_min, a table as its text."""
    found = parameters.get("rb_min", -1.0)
    return text_of(found) if isinstance(found, dict) else float(found)


def judged(servers: str) -> Iterator[tuple[Place, int, Threshold]]:
    """Every record: where it is, its candid, and the threshold in force at its offset."""
    for (topic, partition), changes in applied(servers).items():
        for message in topics.records(servers, topic):
            if message.partition() == partition:
                _, rb_min = [change for change in changes if change[0] <= message.offset()][-1]
                yield (topic, partition, message.offset()), candids()[message.value()], rb_min


def expected(servers: str) -> Counter[Place]:
    """Every record, judged by the threshold that zads.applied says was in force at its offset."""
    return Counter(
        place for place, candid, rb_min in judged(servers) if rb_min is not None and candid in passing(rb_min)
    )


@cache
def candids() -> dict[bytes, int]:
    return {alert.packet: alert.candid for alert in night()}


def test_a_threshold_changed_while_a_night_streams(own_broker, folder):
    servers = own_broker.bootstrap_servers
    first = Definition(name="bright", filter="real_bogus").with_changes(parameters={"rb_min": THRESHOLDS[0]})
    enabled = write(servers, write(servers, first).becoming("enabled"))
    publish_night(servers, night()[:300])
    with running(servers, folder, "--channels", "bright", "--workers", "2") as run:
        run.until(lambda: bool(delivered(servers)), "alerts by the first threshold")
        with ThreadPoolExecutor() as beside:  # this third of the night is judged by either
            publishing = beside.submit(publish_night, servers, night()[300:600])
            changed = write(servers, enabled.with_changes(parameters={"rb_min": THRESHOLDS[1]}))
            publishing.result()
        run.until(lambda: "channel bright: changed" in run.text(), "the change")
        publish_night(servers, night()[600:])
        run.workers()[0].kill()

        def second(alert: Alert) -> bool:
            return threshold(json.loads(alert.headers["parameters"])) == THRESHOLDS[1]

        run.until(lambda: any(second(alert) for alert in delivered(servers)), "one by the second threshold")
        run.kill()
    write(servers, changed.becoming("paused"))
    with running(servers, folder, "--channels", "bright", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert read_registry(servers)["bright"].state == "paused"
    thresholds = {rb_min for changes in applied(servers).values() for _, rb_min in changes}
    assert thresholds >= set(THRESHOLDS)
    wanted = expected(servers)
    assert wanted
    assert sources(delivered(servers)) == wanted
    again = repeated(servers, folder)
    assert again == wanted


def repeated(servers: str, folder: Path) -> Counter[Place]:
    """The records that a replay as the channel ran finds."""
    Follower(Appenders(str(folder / "archive")), "^ztf_.*", servers, "a").run(until_drained=True)
    told = ["--archive", str(folder / "archive"), "--bootstrap", servers, "--out", str(folder / "as_ran.csv")]
    done = CliRunner().invoke(application(), ["replay", "channel.bright", "--as-ran", *told])
    assert done.exit_code == 0, done.output
    assert "not in what follows" not in done.output
    matches = pd.read_csv(folder / "as_ran.csv")
    return Counter(zip(matches["_topic"], matches["_partition"], matches["_offset"], strict=True))


def test_a_flood_is_suspended_alone_and_nothing_of_it_is_lost(own_broker, folder):
    servers, every = own_broker.bootstrap_servers, Counter(passing(0.0))
    flood = Definition(name="flood", filter="real_bogus").with_changes(
        parameters={"rb_min": 0}, limits={"alerts_per_hour": 30}
    )
    written = write(servers, flood.becoming("enabled"))
    publish_night(servers, night()[:500])
    with running(servers, folder, "--channels", "flood,real_bogus", "--workers", "1") as run:
        run.until(lambda: "channel flood suspended: it delivered" in run.text(), "its suspension")
        first = {alert.candid for alert in night()[:500]}
        beside = Counter(passing(0.65) & first)
        run.until(lambda: candids_in(servers, "channel.real_bogus") == beside, "its neighbour's alerts")
        let_through = candids_in(servers, "channel.flood")
        assert 30 < let_through.total() < len(passing(0.0) & first)
        write(servers, written.with_changes(limits={"alerts_per_hour": 100_000}))
        run.until(lambda: "channel flood: changed" in run.text(), "its new limit")
        publish_night(servers, night()[500:])
        late = passing(0.0) - first
        run.until(lambda: late <= candids_in(servers, "channel.flood").keys(), "the rest of the night")
        run.process.terminate()
        assert run.wait(60) == 0, run.text()
    config = read_config(bootstrap_servers=servers)
    assert {gap.channel for gap in gaps_of(config)} == {"flood"}
    assert candids_in(servers, "channel.flood") != every
    assert not backfill(config, read_registry(servers)["flood"].channel()).left
    assert candids_in(servers, "channel.flood") == every
    assert candids_in(servers, "channel.real_bogus") == Counter(passing(0.65))


BROKEN = """
from filters import alert_filter


@alert_filter(survey="ztf", reads=["rb"])
def mine(alerts):
    if len(alerts):  # without alerts it runs: the registry tries that before it takes a filter
        raise ValueError("a mistake of mine")
    return {"good": alerts["rb"] >= 0.8}
"""
MENDED = BROKEN.replace("if len(alerts):", "if False:")


def user_filter(folder: Path, text: str) -> dict[str, str]:
    (folder / "mine.py").write_text(text)
    return by_value(f"{folder / 'mine.py'}:mine")


def test_a_filter_mended_under_way_runs_again_and_backfill_makes_up_for_it(own_broker, folder):
    servers = own_broker.bootstrap_servers
    broken = Definition(name="bright", **user_filter(folder, BROKEN)).completed().becoming("enabled")
    written = write(servers, broken)
    publish_night(servers, night()[:500])
    with running(servers, folder, "--channels", "bright", "--workers", "1") as run:
        run.until(lambda: "channel bright suspended" in run.text(), "its suspension")
        paused = write(servers, written.becoming("paused"))
        run.until(lambda: "channel bright: off" in run.text(), "its pause")
        mended = paused.with_changes(**user_filter(folder, MENDED)).becoming("enabled")
        write(servers, mended)
        run.until(lambda: "channel bright: on" in run.text(), "its return")
        publish_night(servers, night()[500:])
        late = {alert.candid for alert in night()[500:]} & passing(0.8)
        run.until(lambda: late <= {alert.candid for alert in delivered(servers)}, "the rest of the night")
        run.process.terminate()
        assert run.wait(60) in (0, 3), run.text()
    before = sources(delivered(servers))
    config = read_config(bootstrap_servers=servers)
    missed = sum(gap.high - gap.low for gap in gaps_of(config, "bright"))
    assert missed
    done = backfill(config, read_registry(servers)["bright"].channel())
    assert done.gaps
    assert not done.left
    after = sources(delivered(servers))
    assert max(after.values()) == 1, "delivered twice"
    assert before < after
    wanted = [place for place, candid, on in judged(servers) if on is not None and candid in passing(0.8)]
    assert after == Counter(wanted)
