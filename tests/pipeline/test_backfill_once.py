"""What a channel missed that delivers an object once: made up for beside a run that goes on, still once."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fastavro
import pytest

from cluster.kafka.broker import Broker
from pipeline.broker.client import topic_names
from pipeline.broker.listen import listen
from pipeline.channels.config import RunConfig, read_config
from pipeline.channels.definition import Definition, by_value
from pipeline.channels.registry import read_registry, write_registry
from pipeline.clients.backfill import backfill
from pipeline.clients.publish import publish_packets
from pipeline.worker.backfill import gaps_of
from simulator import simulate
from tests.pipeline.night import running
from tests.pipeline.topics import records

TOPIC = "oncefilltest_20231012"
CONFIG = f"""
group = "oncefill"
topics = "{TOPIC}"
[dispatch]
messages = 10
[channels.oncefill_all]
filter = "real_bogus"
parameters = {{ rb_min = 0.3 }}
"""
BROKEN = """
from filters import alert_filter


@alert_filter(survey="ztf", reads=["rb"])
def mine(alerts):
    if len(alerts):
        raise ValueError("a mistake of mine")
    return {"good": alerts["rb"] >= 0.5}
"""
MENDED = BROKEN.replace("if len(alerts):", "if False:")
NAMES = "oncefill_all,oncefill_first"


def user_filter(folder: Path, text: str) -> dict[str, str]:
    (folder / "mine.py").write_text(text)
    return by_value(f"{folder / 'mine.py'}:mine")


def objects(servers: str, channel: str) -> Counter[str]:
    if f"channel.{channel}" not in topic_names(servers):
        return Counter()
    return Counter(str(one.objectId) for one in listen(f"channel.{channel}", servers, until_drained=True))


@pytest.mark.timeout(200)
def test_each_object_comes_once_although_a_run_goes_on(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    (tmp_path / "zads.toml").write_text(CONFIG)
    alerts = sorted(simulate(480, seed=5, nights=3, stamps=False), key=lambda alert: alert.jd)
    packets = [alert.packet for alert in alerts if alert.programid == 1]
    broken = Definition(
        name="oncefill_first", input="oncefill_all", limits={"once": True}, **user_filter(tmp_path, BROKEN)
    )
    (written,) = write_registry([broken.completed().becoming("enabled")], servers, who="a test")
    publish_packets(packets[:200], servers, topic=TOPIC, partitions=2)
    with running(servers, tmp_path, "--channels", NAMES, "--workers", "1") as run:
        run.until(lambda: "channel oncefill_first suspended" in run.text(), "its suspension")
        config = read_config(tmp_path / "zads.toml", bootstrap_servers=servers)
        passing = sum(rb_of(packet) >= 0.3 for packet in packets[:200])
        run.until(lambda: all_missed(config, passing), "the end of what it misses")
        (paused,) = write_registry([written.becoming("paused")], servers, who="a test")
        mended = paused.with_changes(**user_filter(tmp_path, MENDED)).becoming("enabled")
        write_registry([mended], servers, who="a test")
        run.until(lambda: "channel oncefill_first: on" in run.text(), "its return")
        with ThreadPoolExecutor() as beside:
            publishing = beside.submit(publish_packets, packets[200:], servers, topic=TOPIC)
            done = backfill(config, read_registry(servers)["oncefill_first"].channel())
            publishing.result()
        assert (done.left, bool(done.gaps)) == (0, True)
        run.process.terminate()
        assert run.wait(60) in (0, 3), run.text()
    with running(servers, tmp_path, "--channels", NAMES, "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert not gaps_of(config, "oncefill_first")
    found = objects(servers, "oncefill_first")
    assert set(found.values()) == {1}
    good = {alert.objectId for alert in alerts if alert.programid == 1 and rb_of(alert.packet) >= 0.5}
    assert set(found) == good


def all_missed(config: RunConfig, passing: int) -> bool:
    """Whether the gaps reach to the end of what the other channel delivers of the first part."""
    came = records(config.bootstrap_servers, "channel.oncefill_all")
    gaps = gaps_of(config, "oncefill_first")
    return len(came) == passing and max((gap.high for gap in gaps), default=0) > (came[-1].offset() or 0)


def rb_of(packet: bytes) -> float:
    return float(next(iter(fastavro.reader(io.BytesIO(packet))))["candidate"]["rb"])
