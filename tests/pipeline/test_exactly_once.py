"""Each passing alert is in its channel exactly once, whatever is killed in the middle of a run."""

import io
import json
import os
import re
import signal
import time

import fastavro
import psutil
import pytest

from pipeline.broker.dead_letters import dead_letters
from pipeline.broker.listen import listen
from schemas.avro.framing import FolderSource
from tests.pipeline import night as nights
from tests.pipeline.night import assert_exactly_once, assert_the_ledger_adds_up, publish_night, running

SLOWLY = ("--channels", ",".join(nights.CHANNELS), "--workers", "2")
SMALL_BATCHES = "[dispatch]\nmessages = 6\n"


@pytest.fixture
def folder(tmp_path):
    """Where a run goes on for long enough to be disturbed in its middle."""
    (tmp_path / "zads.toml").write_text(SMALL_BATCHES)
    return tmp_path


def test_a_quiet_night(own_broker, tmp_path):
    publish_night(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, tmp_path, *SLOWLY, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert_exactly_once(own_broker.bootstrap_servers)
    assert_headers_say_who_chose_the_alert_and_where_it_came_from(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, tmp_path, *SLOWLY, "--until-drained") as run:
        assert run.wait() == 0, run.text()  # nothing is left to do
    assert_exactly_once(own_broker.bootstrap_servers)


def assert_headers_say_who_chose_the_alert_and_where_it_came_from(servers):
    alert = next(listen("channel.real_bogus", servers, until_drained=True))
    assert alert.headers["objectId"] == alert.packet()["objectId"]
    assert alert.headers["programid"] == "1"
    assert alert.headers["filter"] == "real_bogus"
    assert json.loads(alert.headers["parameters"]) == {"rb_min": 0.65}
    topic, partition, offset = alert.headers["source"].split("/")
    sources = {(a.topic, a.partition, a.offset): a.raw for a in listen(topic, servers, True)}
    assert nights.read_candid(sources[topic, int(partition), int(offset)]) == alert.candid


def test_workers_killed(own_broker, folder):
    publish_night(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, folder, *SLOWLY, "--until-drained") as run:
        run.until_in_its_middle()
        killed = run.workers()
        assert len(killed) == 2
        for worker in killed:
            worker.kill()
        assert run.wait() == 0, run.text()
    assert_exactly_once(own_broker.bootstrap_servers)
    assert_the_ledger_adds_up(own_broker.bootstrap_servers)


@pytest.mark.soak
def test_a_worker_stands_still_for_good(own_broker, tmp_path):
    """Long before its batch is late: others do its work."""
    (tmp_path / "zads.toml").write_text(SMALL_BATCHES + "[limits]\nbatch_seconds = 3600\n")
    publish_night(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, tmp_path, *SLOWLY, "--until-drained") as run:
        run.until_in_its_middle()
        run.workers()[0].suspend()
        assert run.wait() == 0, run.text()
        assert "is not heard of any more" in " ".join(run.text().split())
    assert_exactly_once(own_broker.bootstrap_servers)
    assert_the_ledger_adds_up(own_broker.bootstrap_servers)


@pytest.mark.soak
def test_coordinator_killed(own_broker, folder):
    publish_night(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, folder, *SLOWLY) as run:
        run.until_in_its_middle()
        workers = run.workers()
        run.kill()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive, "workers outlived their coordinator"
    with running(own_broker.bootstrap_servers, folder, *SLOWLY, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert_exactly_once(own_broker.bootstrap_servers)
    assert_the_ledger_adds_up(own_broker.bootstrap_servers)


@pytest.mark.parametrize("how", ["restart", pytest.param("kill", marks=pytest.mark.soak)])
def test_broker_restarted(own_broker, folder, how):
    publish_night(own_broker.bootstrap_servers)
    with running(own_broker.bootstrap_servers, folder, *SLOWLY, "--until-drained") as run:
        run.until_in_its_middle()
        if how == "kill":
            own_broker.kill()
        else:
            own_broker.stop()
        time.sleep(1.0)
        own_broker.start()
        assert run.wait() == 0, run.text()
    assert_exactly_once(own_broker.bootstrap_servers)
    assert_the_ledger_adds_up(own_broker.bootstrap_servers)


def test_a_run_that_begins_while_the_broker_is_away_waits_for_it(own_broker, folder):
    """Both are started when a machine begins; and a broker that restarts is back within seconds.

    Here it stands still instead: how long it takes to start depends on the machine.
    """
    early = nights.night()[:200]
    publish_night(own_broker.bootstrap_servers, early)
    os.kill(own_broker.pid, signal.SIGSTOP)
    with running(own_broker.bootstrap_servers, folder, "--channels", "real_bogus", "--until-drained") as run:
        run.until(lambda: "asking again" in run.text(), "it says that it waits")
        os.kill(own_broker.pid, signal.SIGCONT)
        assert run.wait() == 0, run.text()
    assert nights.delivered(own_broker.bootstrap_servers, "channel.real_bogus") == nights.expected(
        "real_bogus", early
    )


def test_tonights_topic_is_picked_up_and_a_stop_is_graceful(own_broker, folder):
    early, late = nights.night()[:400], nights.night()[400:]
    publish_night(own_broker.bootstrap_servers, early)
    with running(own_broker.bootstrap_servers, folder, *SLOWLY) as run:
        run.until_in_its_middle()
        publish_night(own_broker.bootstrap_servers, late)
        tomorrow = [alert.packet for alert in nights.night(50, seed=3)]
        nights.publish_packets(tomorrow, own_broker.bootstrap_servers, topic="ztf_20991231_programid1")

        def everything() -> bool:
            got = nights.delivered(own_broker.bootstrap_servers, "channel.real_bogus")
            return (
                set(nights.expected("real_bogus", nights.night(50, seed=3))) <= got.keys()
                and set(nights.expected("real_bogus")) <= got.keys()
            )

        run.until(everything, "both nights delivered")
        os.killpg(run.process.pid, signal.SIGINT)  # Ctrl-C: every process of the terminal gets it
        assert run.wait(60) == 0, run.text()
        assert "handed back" not in run.text()


def test_malformed_packets_are_dead_letters_and_their_neighbours_are_delivered(own_broker, tmp_path):
    good = [alert.packet for alert in nights.night()[:300]]
    bad = {"truncated": good[0][: len(good[0]) // 2], "not-avro": b"hello", "empty": b""}
    mixed = [*good[:100], *bad.values(), *good[100:]]
    nights.publish_packets(mixed, own_broker.bootstrap_servers, topic="ztf_20231012_programid1", partitions=1)
    with running(own_broker.bootstrap_servers, tmp_path, *SLOWLY, "--until-drained") as run:
        assert run.wait() == 0, run.text()
    letters = list(dead_letters(own_broker.bootstrap_servers))
    assert sorted(letter.value for letter in letters) == sorted(bad.values())
    assert all(letter.reason and letter.detail and letter.offset is not None for letter in letters)
    got = nights.delivered(own_broker.bootstrap_servers, "channel.real_bogus")
    assert got == nights.expected("real_bogus", nights.night()[:300])


def test_nothing_that_is_not_public_reaches_a_public_channel(own_broker, tmp_path):
    alerts = nights.night()
    private = {alert.candid for alert in alerts if alert.programid != 1}
    assert private
    original = {alert.candid: alert.packet for alert in alerts}
    public = [alert.candid for alert in alerts if alert.programid == 1]
    for candid in public[:60:3]:
        original[candid] = with_a_field_nobody_listed(original[candid])
    stuck = set(public[1:10:3])
    for candid in stuck:
        original[candid] = with_a_field_nobody_listed(original[candid], within="cutoutScience")
    everything = list(original.values())  # a topic that nobody named for a program
    nights.publish_packets(everything, own_broker.bootstrap_servers, topic="mixed")
    (tmp_path / "zads.toml").write_text(
        '[channels.everybody]\nfilter = "real_bogus"\nparameters = {rb_min = 0.0}\n'
        + '[channels.team]\nfilter = "real_bogus"\nparameters = {rb_min = 0.0}\naccess = "collaboration"\n'
    )
    with running(own_broker.bootstrap_servers, tmp_path, "--topics", "^mixed$", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    assert "public alerts went out without fp_hists2" in run.text()
    seen = list(listen("channel.everybody", own_broker.bootstrap_servers, until_drained=True))
    assert {alert.candid for alert in seen} == set(public) - stuck
    letters = list(dead_letters(own_broker.bootstrap_servers))
    assert {letter.candid for letter in letters} == stuck
    assert {(letter.channel, letter.reason) for letter in letters} == {("everybody", "unsupported-schema")}
    counted = re.search(r"channel[.]everybody +([\d,]+)", run.text())
    assert counted, run.text()
    assert counted[1] == f"{len(public) - len(stuck):,}"
    shortened = 0
    for alert in seen:
        packet = alert.packet()
        assert packet["candidate"]["programid"] == 1
        assert "fp_hists2" not in packet
        rows = [*(packet["prv_candidates"] or []), *(packet["fp_hists"] or [])]
        assert {row["programid"] for row in rows} <= {1}
        shortened += alert.raw != original[alert.candid]
    assert shortened, "no packet had a private history row: the test would prove nothing"
    team = list(listen("collab.team", own_broker.bootstrap_servers, until_drained=True))
    assert {alert.candid: alert.raw for alert in team} == original


def with_a_field_nobody_listed(raw, within=""):
    """The packet with new rows that belong to a collaboration, as forced photometry once came.

    Within a stamp, whose type the other stamps share, the field cannot be taken out.
    """
    reader = fastavro.reader(io.BytesIO(raw))
    fields = [{"name": "programid", "type": "int"}, {"name": "forcediffimflux", "type": "float"}]
    rows = {"type": "array", "items": {"type": "record", "name": "fp_hist2", "fields": fields}}
    schema = json.loads(json.dumps(reader.writer_schema))
    record = next(reader)
    inside = schema
    if within:
        (stamp,) = [field["type"] for field in schema["fields"] if field["name"] == within]
        (inside,) = [branch for branch in stamp if branch != "null"]
    else:
        record["fp_hists2"] = [{"programid": 2, "forcediffimflux": 17.0}]
    inside["fields"].append({"name": "fp_hists2", "type": rows})
    out = io.BytesIO()
    fastavro.writer(out, schema, [record])
    return out.getvalue()


def test_packets_that_only_name_their_schema_lose_fields_too(own_broker, tmp_path):
    """Confluent framing: the schema of what is left is made from the one that the packet names."""
    alerts = [alert for alert in nights.night()[:300] if alert.programid == 1]
    schema = fastavro.reader(io.BytesIO(alerts[0].packet)).writer_schema
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "7.avsc").write_text(json.dumps(schema))
    packets = []
    for alert in alerts:
        reader = fastavro.reader(io.BytesIO(alert.packet))
        if reader.writer_schema == schema:
            body = io.BytesIO()
            fastavro.schemaless_writer(body, schema, next(reader))
            packets.append(b"\0" + (7).to_bytes(4, "big") + body.getvalue())
    nights.publish_packets(
        packets, own_broker.bootstrap_servers, topic="framed", schemas=FolderSource(tmp_path / "schemas")
    )
    (tmp_path / "zads.toml").write_text(
        f'schemas = "{tmp_path / "schemas"}"\n[channels.thin]\nfilter = "real_bogus"\n'
        'parameters = {rb_min = 0.0}\ndrop = ["cutoutScience", "prv_candidates"]\n'
    )
    with running(own_broker.bootstrap_servers, tmp_path, "--topics", "^framed$", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    seen = [
        alert.packet() for alert in listen("channel.thin", own_broker.bootstrap_servers, until_drained=True)
    ]
    assert len(seen) == len(packets) > 50
    assert all("cutoutScience" not in packet and "prv_candidates" not in packet for packet in seen)
    assert {packet["candid"] for packet in seen} <= {alert.candid for alert in alerts}
