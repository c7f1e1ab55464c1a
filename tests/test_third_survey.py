"""A survey that nothing here knows goes through everything: what is a survey's own is in its room only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.care.check import check
from archive.read.archive import Archive
from archive.replay.replay import replay
from archive.write.appenders import Appenders
from cluster.kafka.broker import Broker
from commands.listen.digest import Digester
from filters import load
from pipeline.broker.listen import listen
from pipeline.clients.following.follow import Follower
from pipeline.clients.publish import publish_packets
from schemas.avro.rewrite import rewrite
from schemas.errors import NotPublic
from schemas.packets.packet import read_packet
from schemas.pictures.figure import show
from schemas.surveys.registry import SURVEYS, register
from tests import skywatch
from tests.pipeline.night import REPOSITORY, night, running

FILTERS = '''
from zads import alert_filter

@alert_filter(survey="skywatch", reads=["goodness", "positive", "brightness"])
def good(alerts, *, goodness_min=0.5):
    """Good, brighter than before, measured."""
    return {
        "good": alerts["goodness"] >= goodness_min,
        "positive": alerts["positive"],
        "measured": alerts["brightness"].notna(),
    }

@alert_filter(survey=["ztf", "lsst", "skywatch"], reads=["mag", "positive", "band", "night"])
def bright(alerts, *, mag_max=17.0):
    """Bright in r, whoever has seen it."""
    return {"bright": alerts["mag"] <= mag_max, "positive": alerts["positive"], "r": alerts["band"] == "r"}
'''
PACKETS = [skywatch.packet(number) for number in range(120)]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known here, and in every process that is started."""
    monkeypatch.setenv("ZADS_SURVEYS", "tests.skywatch")
    monkeypatch.setitem(SURVEYS, "skywatch", skywatch.SURVEY)
    register(skywatch.SURVEY)


@pytest.fixture
def filter_file(tmp_path: Path) -> Path:
    file = tmp_path / "sky.py"
    file.write_text(FILTERS)
    return file


@pytest.fixture
def servers() -> Iterator[str]:
    with Broker() as broker:
        yield broker.bootstrap_servers


def expected(access: str) -> set[int]:
    """What `good` passes, by plain Python."""
    found = set()
    for raw in PACKETS:
        packet = read_packet(raw)[0]
        source = packet["source"]
        public = source["owner"] == skywatch.OURS or access == "collaboration"
        if public and source["goodness"] >= 0.5 and source["sign"] > 0 and source["brightness"] is not None:
            found.add(packet["eventNumber"])
    return found


def test_through_publish_live_archive_and_replay(servers: str, tmp_path: Path, filter_file: Path) -> None:
    sent = publish_packets([*PACKETS, *(alert.packet for alert in night(200))], servers, partitions=2)
    assert sent.topics["skywatch.events"] == len(PACKETS)
    tables = [
        f'[channels.{access}_{name}]\nfilter = "{filter_file}:{name}"\naccess = "{access}"'
        for access in ("public", "collaboration")
        for name in ("good", "bright")
    ]
    (tmp_path / "zads.toml").write_text("\n".join(tables))
    with running(servers, tmp_path, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    live = {
        access: {a.candid for a in listen(f"{prefix}.{access}_good", servers, until_drained=True)}
        for access, prefix in (("public", "channel"), ("collaboration", "collab"))
    }
    assert live == {access: expected(access) for access in live}
    assert len(live["public"]) < len(live["collaboration"])

    Follower(Appenders(str(tmp_path / "archive")), r"^(skywatch|ztf).*", servers, "third").run(True)
    part = Archive(tmp_path / "archive", "skywatch")
    assert part.nights()["rows"].sum() == len(PACKETS)
    assert check(str(tmp_path / "archive"), "skywatch").sound
    for access in live:
        found = replay(str(filter_file) + ":good", part, public=access == "public", versions="all")
        assert set(found.matches["candid"]) == live[access]
        assert {"owner"} <= set(found.matches)
        assert "programid" not in found.matches
    both = {
        survey: {
            (a.topic, a.offset)
            for a in listen("collab.collaboration_bright", servers, until_drained=True)
            if (a.headers["source"].startswith("skywatch")) == (survey == "skywatch")
        }
        for survey in ("ztf", "skywatch")
    }
    for survey, alerts in both.items():
        again = replay(
            str(filter_file) + ":bright", Archive(tmp_path / "archive", survey), public=False, versions="all"
        )
        assert len(again.matches) == len(alerts) > 0

    raw = part.packet(10**15 + 3)
    assert read_packet(raw) == read_packet(PACKETS[3])
    curve = part.light_curve("S-3")
    assert len(curve) == len({read_packet(p)[0]["source"]["frameNumber"] for p in PACKETS[3::5]})
    assert set(curve["kind"]) == {"alert"}
    heard = list(listen("channel.public_good", servers, until_drained=True))
    assert {alert.headers["owner"] for alert in heard} == {"7"}
    (line,) = Digester().digest(heard[:1])
    bands = {"red": "r", "blue": "g"}
    assert (line["survey"], line["band"]) == (
        "skywatch",
        bands.get(_filter(heard[0].raw)),
    )


def _filter(raw: bytes) -> str:
    return str(read_packet(raw)[0]["source"]["filterName"])


def test_explain_and_pictures(tmp_path: Path, filter_file: Path) -> None:
    file = tmp_path / "one.avro"
    file.write_bytes(PACKETS[7])
    command = [sys.executable, "-m", "zads", "explain", f"{filter_file}:good", str(file), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (told,) = json.loads(done.stdout)
    assert (told["candid"], told["objectId"], told["passes"]) == (10**15 + 7, "S-2", True)
    figure = show(PACKETS[7])
    assert "S-2" in figure.axes[0].get_title(loc="left")


def test_one_packet_is_judged_like_a_batch(filter_file: Path) -> None:
    good = load(f"{filter_file}:good")
    passed = {read_packet(raw)[0]["eventNumber"] for raw in PACKETS if good.one(read_packet(raw)[0])}
    assert passed == expected("collaboration")


def test_what_is_public_is_said_by_its_room() -> None:
    assert rewrite(PACKETS[0], public_only=True) == PACKETS[0]
    with pytest.raises(NotPublic, match="owner is 8, not 7"):
        rewrite(PACKETS[2], public_only=True)
