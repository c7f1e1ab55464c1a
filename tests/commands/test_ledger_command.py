"""`zads ledger`: what became of a night, as a table, as JSON and as an exit code."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster.kafka.broker import Broker
from commands import application
from commands.status import EXIT_UNWELL
from pipeline.channels.config import RunConfig
from pipeline.clients.audit import audit
from pipeline.clients.ledger import entries, ledger
from tests.pipeline import packets as small
from tests.pipeline import topics
from tests.pipeline.night import expected, night, publish_packets, running

TOPIC = "ztf_20231012_programid1"


def zads(*arguments: str) -> Result:
    return CliRunner().invoke(application(), [*arguments])


def test_a_night_that_adds_up_until_somebody_writes_into_a_channel(
    own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, archive = own_broker.bootstrap_servers, str(tmp_path / "archive")
    some = night()[:200]
    packets = [alert.packet for alert in some]
    publish_packets([*packets, b"hello", packets[0][:300]], servers, topic=TOPIC, partitions=2)
    with running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    followed = zads("archive", "follow", "--archive", archive, "--until-drained", "--bootstrap", servers)
    assert followed.exit_code == 0, followed.output
    asked = ("ledger", "20231012", "--check", "--archive", archive, "--bootstrap", servers)
    shown = zads(*asked, "--sent", "202", "--sent", f"{TOPIC}=202")
    assert shown.exit_code == 0, shown.output
    assert "everything adds up" in shown.stdout
    found = json.loads(zads(*asked, "--json").stdout)
    assert found["balances"]
    assert found["archive"] == {TOPIC: {"kept": 200, "quarantined": 2}}
    source, channel = found["sources"][TOPIC]["source"], found["channels"]["real_bogus"]
    wanted = expected("real_bogus", some).total()
    public = sum(alert.programid == 1 for alert in some)
    assert source == {"received": 202, "judged": 200, "unreadable": 2, "unknown": 0, "lost": 0}
    assert channel == {
        "received": 202,
        "passed": wanted,
        "rejected": public - wanted,
        "not_for_it": 202 - public,
        "failed": 0,
        "gaps": 0,
        "delivered": wanted,
        "undeliverable": 0,
        "limited": 0,
        "bytes": sum(len(record.value()) for record in topics.records(servers, "channel.real_bogus")),
    }
    monkeypatch.setenv("ZADS_HOME", str(tmp_path / "empty"))
    without = zads("ledger", "--check", "--bootstrap", servers)
    assert without.exit_code == 0, without.output
    assert "everything adds up" in without.stdout
    monkeypatch.setenv("ZADS_HOME", str(tmp_path))  # whose archive is looked into by itself
    alone = zads("ledger", "--check", "--bootstrap", servers)
    assert "everything adds up, in the topics and in the archive" in alone.stdout
    while_a_run_goes_on(servers)
    where_each_is(servers, archive)
    short = zads("ledger", "--bootstrap", servers, "--sent", f"{TOPIC}={_tarball(tmp_path, packets)}")
    assert short.exit_code == EXIT_UNWELL
    words = f"the survey says that it has sent 200 to {TOPIC}, 202 records came"
    assert words in " ".join(short.stdout.split())
    topics.write(servers, "channel.real_bogus", packets[0], headers={"source": f"{TOPIC}/0/0"})
    topics.write(servers, TOPIC, packets[1])
    told = zads("ledger", "--check", "--bootstrap", servers)
    assert told.exit_code == EXIT_UNWELL
    words = f"{wanted} delivered by the ledger, {wanted + 1} are in its topic"
    assert f"channel real_bogus: {words}" in told.stdout
    assert json.loads(zads("ledger", "--bootstrap", servers, "--json").stdout)["waiting"] == {TOPIC: 1}
    missing = zads("ledger", "2020-01-01", "--bootstrap", servers)
    assert "the nights it has read last: 2023-10-12" in str(missing.exception)


def while_a_run_goes_on(servers: str) -> None:
    """The topic has what was delivered after the ledger was read; that is no fault, one too few is."""
    settings = RunConfig(bootstrap_servers=servers)
    found = entries(settings)
    for difference, problems in ((0, 0), (-1, 0), (1, 1)):
        told = ledger(settings, "2023-10-12", found)
        channels = told.sources[TOPIC].channels
        delivered = channels["real_bogus"].delivered + difference
        channels["real_bogus"] = channels["real_bogus"]._replace(delivered=delivered)
        assert len(audit(settings, told, found)) == problems, difference


def _tarball(folder: Path, packets: list[bytes]) -> Path:
    """A night as the survey keeps it."""
    with tarfile.open(folder / "night.tar.gz", "w:gz") as tar:
        for number, packet in enumerate(packets):
            entry = tarfile.TarInfo(f"{number}.avro")
            entry.size = len(packet)
            tar.addfile(entry, io.BytesIO(packet))
    return folder / "night.tar.gz"


def where_each_is(servers: str, archive: str) -> None:
    """`zads where`: one that was delivered, one that a cut has stopped, one that is nowhere."""
    places = {
        small.read(record.value())[0]["candid"]: f"{TOPIC}/{record.partition()}/{record.offset()}"
        for record in topics.records(servers, TOPIC)
        if len(record.value()) > 1000
    }
    passing = set(expected("real_bogus", night()[:200]))
    stopped = next(a.candid for a in night()[:200] if a.programid == 1 and a.candid not in passing)
    for candid, where in ((min(passing), archive), (stopped, "nowhere")):
        told = zads("where", str(candid), "--json", "--bootstrap", servers, "--archive", where)
        assert told.exit_code == 0, (told.output, told.exception)
        (way,) = json.loads(told.stdout)
        assert way["source"] == places[candid]
        steps = [step["what"] for step in way["steps"]]
        assert steps[0] == "came"
        assert ("delivered to channel.real_bogus" in steps) == (candid in passing)
        assert ("kept in the archive" in steps) == (where == archive)
        assert [step["when"] for step in way["steps"]] == sorted(step["when"] for step in way["steps"])
        why = way["kept_out"].get("channel.real_bogus")
        assert why == (None if candid in passing else ['its cut "real" stops it'])
        assert set(way["kept_out"]) <= {"channel.real_bogus"}, "the other channels have never run"
    shown = zads("where", str(stopped), "--bootstrap", servers, "--archive", archive).stdout
    assert 'not in channel.real_bogus: its cut "real" stops it' in shown
    what_became_of_it(servers, archive, min(passing), stopped)
    assert "no alert 1 in" in str(zads("where", "1", "--bootstrap", servers).exception)


def what_became_of_it(servers: str, archive: str, delivered: int, stopped: int) -> None:
    """`zads explain`: what was delivered is in the channel, whatever state the channel is in now."""
    there = ("--bootstrap", servers)
    paused = zads("channel", "pause", "real_bogus", *there)
    assert paused.exit_code == 0, (paused.output, paused.exception)
    words = ("explain", "channel.real_bogus")
    shown = zads(*words, str(delivered), "--archive", archive, *there).stdout
    assert "it is in channel.real_bogus: channel.real_bogus/0/" in shown
    assert "paused" not in shown
    (told,) = json.loads(zads(*words, str(stopped), "--archive", archive, "--json", *there).stdout)
    assert (told["delivered"], told["passes"]) == ([], False)
    again = zads("replay", "channel.real_bogus", "--archive", archive, *there)
    assert again.exit_code == 0, (again.output, again.exception)
