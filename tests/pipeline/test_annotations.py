"""A channel's values inside its packets: a channel that reads it uses them, live and in replay alike."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import fastavro
import pytest

from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from filters import expression
from pipeline.channels.config import ChannelConfig, ConfigError, configured_channel
from pipeline.channels.definition import ChannelError, Definition
from pipeline.channels.registry import difference
from pipeline.clients.following.follow import Follower
from tests.pipeline.night import expected, night, publish_night, running
from tests.pipeline.topics import records

FILTER = """
from zads import alert_filter

@alert_filter(reads=["rb", "magpsf"], gives={"depth": "mag", "side": "text"})
def noted(alerts, *, rb_min: float = 0.5):
    "Real ones, with how far from magnitude 18 they are."
    side = alerts["magpsf"].map(lambda mag: "bright" if mag < 18 else "faint")
    return {"real": alerts["rb"] >= rb_min}, {"depth": alerts["magpsf"] - 18, "side": side}
"""
CHANNELS = """
[dispatch]
messages = 50
[channels.noted]
filter = "mine.py:noted"
annotate = true
values = ["fid"]
[channels.deep]
input = "noted"
where = "annotations.noted.depth > 1 and annotations.noted.fid == 1 and rb >= 0"
"""


@pytest.mark.timeout(300)
def test_a_channel_uses_what_another_has_noted(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    (tmp_path / "mine.py").write_text(FILTER)
    (tmp_path / "zads.toml").write_text(CHANNELS)
    publish_night(servers)
    with running(servers, tmp_path, "--workers", "2") as run:
        run.until(lambda: bool(records(servers, "channel.deep")), "an alert of the second channel")
        run.kill()
    with running(servers, tmp_path, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    noted = records(servers, "channel.noted")
    originals = {alert.candid: alert.packet for alert in night()}
    assert Counter(int(dict(r.headers())["candid"]) for r in noted) == expected("real_bogus", rb_min=0.5)
    for record in noted[:50]:
        packet, before = read(record.value()), read(originals[int(dict(record.headers())["candid"])])
        mag = before["candidate"]["magpsf"]
        assert packet.pop("annotations") == {
            "noted": {
                "fid": before["candidate"]["fid"],
                "depth": pytest.approx(mag - 18),
                "side": "bright" if mag < 18 else "faint",
            }
        }
        for history in ("prv_candidates", "fp_hists"):  # a public channel passes on their public rows
            del packet[history], before[history]
        assert repr(packet) == repr(before)
        assert json.loads(dict(record.headers())["values"])["depth"] == pytest.approx(mag - 18)
    wanted = Counter(
        packet["candid"]
        for packet in map(read, (record.value() for record in noted))
        if packet["candidate"]["magpsf"] - 18 > 1 and packet["candidate"]["fid"] == 1
    )
    deep = records(servers, "channel.deep")
    assert wanted
    assert Counter(int(dict(r.headers())["candid"]) for r in deep) == wanted
    Follower(Appenders(str(tmp_path / "archive")), "^channel.noted$", servers, "a").run(until_drained=True)
    second = expression("annotations.noted.depth > 1 and annotations.noted.fid == 1 and rb >= 0")
    for way in ("dataframe", "bag"):
        found = replay(second, Archive(tmp_path / "archive"), versions="all", way=way)  # type: ignore[arg-type]
        assert Counter(found.matches["candid"].tolist()) == wanted, way


def read(raw: bytes | None) -> dict:
    (record,) = fastavro.reader(io.BytesIO(raw or b""))
    assert isinstance(record, dict)
    return record


def test_a_name_that_avro_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="'a-b' cannot be the name of an Avro field"):
        configured_channel("a-b", ChannelConfig(filter="real_bogus", values=["rb"], annotate=True))
    with pytest.raises(ConfigError, match="no values to annotate"):
        configured_channel("ab", ChannelConfig(filter="real_bogus", annotate=True))


def test_a_registered_channel_without_values_cannot_annotate() -> None:
    plain = Definition(name="ab", filter="real_bogus")
    with pytest.raises(ChannelError, match=r"annotate: .*no values"):
        plain.with_changes(annotate=True)
    valued = Definition(name="ab", filter="rb > 0.9; score = rb").with_changes(annotate=True)
    assert valued.channel().annotate
    assert "annotate False → True" in difference(plain, valued)
