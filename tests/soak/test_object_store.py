"""The archive in an object store: as in a folder, and what is said and done when the store fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from archive.replay.replay import replay
from cluster.kafka.broker import Broker
from tests.archive.helpers import rows_of, write_packets
from tests.archive.test_follow import following
from tests.pipeline.night import REPOSITORY, night, publish_night
from tests.soak.link import FAILURES, WELL, Link
from tests.soak.object_store import BUCKET, ObjectStore

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

HERE = f"s3://{BUCKET}/nothing-yet"
AWAY_SECONDS = 70.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    folder = tmp_path_factory.mktemp("store")
    with ObjectStore(folder / "data") as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Of an archive for one test."""
    return f"s3://{BUCKET}/{tmp_path.name}"


def zads(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zads", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
    )


def test_as_in_a_folder(store: ObjectStore, tmp_path: Path, address: str) -> None:
    """The same rows and matches, by every command."""
    folder = write_packets(tmp_path / "packets", [alert.packet for alert in night()[:200]])
    for archive in (address, str(tmp_path / "archive")):
        for half in (1, 2):
            some = [str(path) for path in sorted(folder.iterdir()) if path.stat().st_ino % 2 == half % 2]
            if some:
                assert zads("archive", "ingest", *some, "--archive", archive).returncode == 0
        for command in ("check", "optimize", "info"):
            done = zads("archive", command, "--archive", archive)
            assert done.returncode == 0, done.stderr
        done = zads("archive", "vacuum", "--hours", "0", "--force", "--archive", archive)
        assert done.returncode == 0, done.stderr
    there, here = (
        replay("real_bogus", archive).matches["candid"] for archive in (address, str(tmp_path / "archive"))
    )
    assert len(here) > 10
    assert sorted(there) == sorted(here)


@pytest.mark.parametrize(
    ("archive", "environment", "said"),
    [
        (HERE, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the store does not let us in"),
        (HERE, {"AWS_ACCESS_KEY_ID": "nobody"}, "the store does not let us in"),
        (HERE, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the store does not answer"),
        ("s3://nobodys/archive", {}, "no such bucket"),
    ],
    ids=["secret", "key", "nobody there", "bucket"],
)
def test_what_is_wrong_is_one_sentence(
    store: ObjectStore, archive: str, environment: dict[str, str], said: str
) -> None:
    done = zads("archive", "info", "--archive", archive, **environment)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2, done.stderr


@pytest.mark.parametrize("how", ["it is killed", *FAILURES])
def test_it_fails_for_a_while(
    own_broker: Broker, store: ObjectStore, tmp_path: Path, address: str, how: str
) -> None:
    """The archiver waits, says so, and then each record is there once."""
    servers, alerts = own_broker.bootstrap_servers, night()
    publish_night(servers, alerts[:300])
    with Link(store.port, kafka=False) as link, pytest.MonkeyPatch.context() as through:
        for name, value in store.environment_at(link.port).items():
            through.setenv(name, value)
        with following(own_broker, tmp_path, "--archive", address, "--seconds", "1") as archiver:
            archiver.until(lambda: kept(address) >= 100, 120)
            if how == "it is killed":
                store.stop()
            else:
                link.fail(FAILURES[how])
            publish_night(servers, alerts[300:])
            time.sleep(AWAY_SECONDS)
            assert archiver.process.poll() is None, archiver.log.read_text()[-3000:]
            if how == "it is killed":
                store.start()
            link.fail(WELL)
            archiver.until(lambda: kept(address) >= len(alerts), 240)
            archiver.process.terminate()
            assert archiver.process.wait(60) == 0, archiver.log.read_text()[-3000:]
    said = archiver.log.read_text()
    assert "Traceback" not in said, said[-3000:]
    if how != "all comes late":
        assert "does not answer" in " ".join(said.split()), said[-3000:]
    rows = rows_of(address, ["_topic", "_partition", "_offset"]).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == len(rows) == len(alerts)


def kept(address: str) -> int:
    try:
        return rows_of(address, ["_offset"]).num_rows
    except Exception:  # not there yet, or away
        return 0
