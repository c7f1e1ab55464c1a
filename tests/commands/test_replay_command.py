"""`zads replay` as an operator calls it: what comes out where, and what it says when it cannot."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fastavro
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from archive.tables import store
from archive.write.ingest import ingest
from cluster.kafka.broker import Broker
from commands import replay as command
from commands.shared.options import counted, people
from filters import load
from pipeline.broker.client import BrokerError
from pipeline.broker.listen import listen
from pipeline.broker.topics import ensure_topics
from schemas.errors import ZadsError
from simulator import SimulatedAlert, simulate
from simulator.check.truth import truth_table
from tests.archive.helpers import write_packets
from tests.pipeline.night import expected

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alerts() -> tuple[SimulatedAlert, ...]:
    return tuple(simulate(300, 3, nights=2, stamps=False))


@pytest.fixture(scope="module")
def archive(alerts: tuple[SimulatedAlert, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay-command")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "ROW_GROUP_ROWS", 40)
        ingest(write_packets(folder / "in", [alert.packet for alert in alerts]), folder / "archive")
    return folder / "archive"


def run(archive: Path, *arguments: str, expect: int = 0) -> Result:
    """`zads replay` in this process."""
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, [*arguments, "--archive", str(archive)])
    assert result.exit_code == expect, (result.output, result.exception)
    return result


def test_a_filter_that_gives_up_is_said_and_fails(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['rb'])\n"
        "def mine(alerts):\n    raise ValueError('never')\n"
    )
    result = run(archive, f"{own}:mine", "--json", expect=1)
    told = json.loads(result.stdout)
    assert told["matches"] == []
    assert {row["alerts"] for row in told["nights"]} == {0}
    assert not any(row["complete"] for row in told["nights"])
    assert list(told["unjudged"].values()) == [told["alerts"]]
    assert "gave no answer for" in result.stderr
    assert "not judged are" in result.stderr


def test_the_same_error_is_said_once(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from zads import alert_filter\n\n@alert_filter(survey='ztf', reads=['rb'])\n"
        "def mine(alerts):\n    return {'near': alerts['distnr'] < 1}\n"
    )
    said = run(archive, f"{own}:mine", expect=1).stderr
    assert said.count("NotDeclared") == 1
    assert "mine raised on 2 whole batches: NotDeclared" in said


def error_of(archive: Path, *arguments: str) -> ZadsError:
    error = run(archive, *arguments, expect=1).exception
    assert isinstance(error, ZadsError)
    return error


def test_a_sweep_as_json(archive: Path, alerts: tuple[SimulatedAlert, ...]) -> None:
    result = run(archive, "real_bogus", "--param", "rb_min=0.5,0.9", "--json")
    told = json.loads(result.stdout)
    found = pd.DataFrame(told["matches"])
    for value in (0.5, 0.9):
        own = found[[one["rb_min"] == value for one in found["parameters"]]]
        assert sorted(own["candid"]) == sorted(expected("real_bogus", alerts, rb_min=value))
    assert set(found["version"]) == {load("real_bogus").version}
    assert told["complete"]
    assert "gained" in result.stderr


def test_a_sweep_of_an_own_filter_with_truth(
    archive: Path, alerts: tuple[SimulatedAlert, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for the classes before it replays; then all is said at 80 columns, and one picture drawn."""
    monkeypatch.setattr(people, "width", 80)
    truth, own, picture = tmp_path / "truth.parquet", tmp_path / "own.py", tmp_path / "new" / "sweep.png"
    pq.write_table(truth_table(alerts), truth)
    own.write_text(
        "from typing import Annotated\nfrom zads import alert_filter\n\n"
        "@alert_filter(survey='ztf', reads=['rb'])\n"
        "def fast_riser_of_mine(alerts, *, rb_min: Annotated[float, 'of 1'] = 0.5):\n"
        "    return {'real': alerts['rb'] >= rb_min}\n"
    )
    words = [f"{own}:fast_riser_of_mine", "--param", "rb_min=0.1,0.5,0.9", "--truth", str(truth)]
    words += ["--plots", str(picture), "--collaboration"]
    refused = run(archive, *words, expect=1)
    assert "which classes is fast_riser_of_mine for" in str(refused.exception)
    assert not refused.stderr, "before the replay"
    said = run(archive, *words, "--seeks", "SN Ia,SN II").stderr
    sought = [alert for alert in alerts if alert.truth["class"] in ("SN Ia", "SN II")]
    told = f"{len(sought)} alerts of {len({a.objectId for a in sought})} object"
    assert f"fast_riser_of_mine seeks SN Ia, SN II: {told}" in said
    assert said.count("rb_min=0.1: ") == 2, "each of the others against the first"
    assert "…" not in said
    assert [file.name for file in picture.parent.iterdir()] == ["sweep.png"]


def test_files_and_pictures_in_folders_that_are_new(
    archive: Path, alerts: tuple[SimulatedAlert, ...], tmp_path: Path
) -> None:
    out, plots = tmp_path / "new" / "matches.parquet", tmp_path / "pictures" / "of it"
    run(archive, "real_bogus", "--out", str(out), "--plots", str(plots))
    assert sorted(pd.read_parquet(out)["candid"]) == sorted(expected("real_bogus", alerts))
    assert json.loads(pq.read_schema(out).metadata[b"zads"])["complete"]
    pictures = [file.read_bytes() for file in plots.iterdir()]
    assert len(pictures) == 4  # nights, funnel, sky, examples
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_workers_find_what_threads_find(archive: Path, tmp_path: Path) -> None:
    found = []
    for workers in ("0", "2"):
        out = tmp_path / f"{workers}.parquet"
        run(archive, "pure_transient", "real_bogus", "--workers", workers, "--out", str(out))
        found.append(pd.read_parquet(out))
    assert len(found[0])
    pd.testing.assert_frame_equal(found[0], found[1])


def packets_of(raw: list[bytes]) -> list[dict[str, Any]]:
    return [packet for one in raw for packet in fastavro.reader(io.BytesIO(one))]


def test_to_a_topic_the_packets_that_pass(
    archive: Path, alerts: tuple[SimulatedAlert, ...], broker: Broker
) -> None:
    """Original packets, in order of time within each exposure's partition."""
    where = ("--bootstrap", broker.bootstrap_servers, "--to-topic", "replayed")
    result = run(archive, "real_bogus", *where, "--speed", "0", "--collaboration")
    heard = list(listen("replayed", broker.bootstrap_servers, until_drained=True))
    packets = {alert.candid: alert.packet for alert in alerts}
    wanted = [one for one in packets_of(list(packets.values())) if one["candidate"]["rb"] >= 0.65]
    assert 0 < len(wanted) < len(alerts)
    assert sorted(alert.candid for alert in heard) == sorted(one["candid"] for one in wanted)
    assert f"sent {len(wanted)} alerts to replayed" in result.stderr
    for alert in heard:
        assert packets_of([alert.raw]) == packets_of([packets[alert.candid]])
    for partition in {alert.partition for alert in heard}:
        times = [packets_of([a.raw])[0]["candidate"]["jd"] for a in heard if a.partition == partition]
        assert times == sorted(times)


def test_to_a_topic_everything_of_a_night_as_the_public_sees_it(
    archive: Path, alerts: tuple[SimulatedAlert, ...], broker: Broker
) -> None:
    run(archive, "--bootstrap", broker.bootstrap_servers, "--to-topic", "replayed_public", "--speed", "0")
    published = listen("replayed_public", broker.bootstrap_servers, until_drained=True)
    heard = packets_of([alert.raw for alert in published])
    assert sorted(one["candid"] for one in heard) == sorted(a.candid for a in alerts if a.programid == 1)
    past = [row["programid"] for one in heard for row in one["prv_candidates"] or []]
    assert set(past) == {1}


def test_the_pace_is_that_of_the_night_times_the_speed(tmp_path: Path, broker: Broker) -> None:
    """Two exposures: between the brokers' times of their packets lies what lay between them, by the speed."""
    night = simulate(300, 3, stamps=False)
    by_time = {packets_of([a.packet])[0]["candidate"]["jd"]: a.packet for a in night}
    first, last = min(by_time), max(by_time)
    ingest(write_packets(tmp_path / "in", [by_time[last], by_time[first]]), tmp_path / "archive")
    apart = (last - first) * 86_400
    speed = apart / 2  # two seconds between them
    where = ("--bootstrap", broker.bootstrap_servers, "--to-topic", "replayed_pace", "--collaboration")
    run(tmp_path / "archive", *where, "--speed", str(speed))
    heard = sorted(listen("replayed_pace", broker.bootstrap_servers, until_drained=True), key=_when)
    assert packets_of([a.raw for a in heard]) == packets_of([by_time[first], by_time[last]])
    assert (_when(heard[1]) - _when(heard[0])) * speed >= 0.9 * apart  # never early


def _when(alert: Any) -> float:
    return float(alert.timestamp)


def test_ctrl_c_keeps_what_was_found(archive: Path, tmp_path: Path) -> None:
    """The signal comes while the first alerts are asked; the command ends by itself, with code 130."""
    (tmp_path / "slow.py").write_text(SLOW)
    ready, out = tmp_path / "asked", tmp_path / "matches.parquet"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "zads",
            "replay",
            "slow.py:slow",
            "--out",
            str(out),
            "--archive",
            str(archive),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "ASKED": str(ready)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(1.0)  # of the two seconds that each part takes: the first are under way by then
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "ended early" in said
    told = json.loads(pq.read_schema(out).metadata[b"zads"])
    assert not told["complete"]
    assert pq.read_table(out).num_rows == told["alerts"] > 0, "what was asked by then is lost"
    assert "Traceback" not in said


SLOW = '''
import os, time
from pathlib import Path
from zads import alert_filter

@alert_filter(survey="ztf", reads=["rb"])
def slow(alerts):
    """Everything, in its own time."""
    if len(alerts):
        with Path(os.environ["ASKED"]).open("ab"):
            time.sleep(2)
    return {"all": alerts["rb"] == alerts["rb"]}
'''


def test_ctrl_c_while_publishing_says_how_many_went_out(archive: Path, broker: Broker) -> None:
    """At a thousandth of the night's pace the next exposure is due after hours."""
    where = broker.bootstrap_servers
    main = threading.main_thread().ident

    def interrupt() -> None:
        next(iter(listen("replayed_early", where)))
        time.sleep(1.0)  # what goes out with it has been counted by then
        signal.pthread_kill(main or 0, signal.SIGINT)

    ensure_topics(where, ["replayed_early"])
    threading.Thread(target=interrupt, daemon=True).start()
    result = run(
        archive, "--bootstrap", where, "--to-topic", "replayed_early", "--speed", "0.001", expect=130
    )
    sent = len(list(listen("replayed_early", where, until_drained=True)))
    assert f"ended early: {counted(sent, 'alert')} sent to replayed_early" in result.stderr


def test_what_is_wrong_is_told_before_anything_is_read(archive: Path, tmp_path: Path) -> None:
    assert "no archive" in str(error_of(tmp_path / "none", "real_bogus"))
    missing = error_of(archive, "real_bogus", "--nights", "1999-01-01")
    assert "none of the nights 1999-01-01" in str(missing)
    assert "2025-10-11 to 2025-10-12" in str(missing.hint)
    assert "did you mean 'real_bogus'" in str(error_of(archive, "real_bogous"))
    assert "did you mean 'rb_min'" in str(error_of(archive, "real_bogus", "--param", "rbmin=0.5"))
    assert "it is a folder" in str(error_of(archive, "real_bogus", "--out", str(tmp_path)))
    (tmp_path / "file").touch()
    assert "cannot write" in str(error_of(archive, "real_bogus", "--out", str(tmp_path / "file" / "x")))
    nobody = run(archive, "real_bogus", "--to-topic", "t", "--bootstrap", "127.0.0.1:9", expect=1)
    assert isinstance(nobody.exception, BrokerError)
    assert "passed" not in nobody.stderr, "the broker is asked before the archive"
    assert "want a filter" in run(archive, "--to-topic", "t", "--json", expect=2).stderr
