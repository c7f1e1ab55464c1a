"""A disk is full for a while: who writes there waits, or ends, in a sentence; afterwards all is whole."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from cluster.kafka.broker import Broker
from tests.archive.helpers import rows_of
from tests.archive.test_follow import archived, following
from tests.pipeline.night import (
    assert_exactly_once,
    assert_the_ledger_adds_up,
    delivered,
    expected,
    night,
    publish_night,
    running,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

FULL_SECONDS = 30.0


class Disk:
    """A small file system at a folder."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self._ballast = folder, folder / "ballast"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount a file system (root)")

    def fill(self) -> None:
        """Take all that is left."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        ballast.write(b"0" * size)
                except OSError:
                    continue

    def empty(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    disk = Disk(folder, megabytes)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_of_the_archive(own_broker: Broker, tmp_path: Path) -> None:
    """It ends in a sentence, as a service it is started again, and goes on when there is room."""
    servers, alerts = own_broker.bootstrap_servers, night()
    publish_night(servers, alerts[:200])
    with small_disk(tmp_path / "archive", 64) as disk:
        with following(own_broker, tmp_path, "--seconds", "0.5") as archiver:
            archiver.until(lambda: archived(tmp_path) == 200)
            disk.fill()
            publish_night(servers, alerts[200:])
            assert archiver.process.wait(120) == 1, archiver.log.read_text()[-3000:]
        said = archiver.log.read_text()
        assert "the disk is full" in said
        assert "Traceback" not in said, said[-3000:]
        disk.empty()
        with following(own_broker, tmp_path, "--until-drained") as archiver:
            assert archiver.process.wait(120) == 0, archiver.log.read_text()[-3000:]
        rows = rows_of(tmp_path / "archive", ["_topic", "_partition", "_offset"]).to_pylist()
        assert len({tuple(row.values()) for row in rows}) == len(rows) == len(alerts)


def test_of_the_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka ends itself; everybody waits until an operator has made room and started it."""
    alerts = night()
    monkeypatch.setattr("cluster.kafka.preflight.check_disk", lambda *_: None)
    with small_disk(tmp_path / "broker", 300) as disk, Broker(home=disk.folder) as broker:
        servers = broker.bootstrap_servers
        publish_night(servers, alerts[:400])
        flags = ("--channels", "real_bogus", "--workers", "2")
        with running(servers, tmp_path, *flags) as run:
            run.until_in_its_middle()
            disk.fill()
            producer = Producer({"bootstrap.servers": servers, "message.timeout.ms": 5000})
            deadline = time.monotonic() + 60
            while broker.is_running() and time.monotonic() < deadline:
                producer.produce("filler", b"0" * 500_000)
                producer.flush(1)
            assert not broker.is_running(), "the disk was not full"
            time.sleep(FULL_SECONDS)
            assert run.process.poll() is None, run.text()[-3000:]
            disk.empty()
            broker.stop()
            broker.start()
            publish_night(servers, alerts[400:])
            wanted = expected("real_bogus")
            run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "everything", 180)
            run.process.send_signal(signal.SIGINT)
            assert run.wait(120) == 0, run.text()[-3000:]
            assert "Traceback" not in run.text(), run.text()[-3000:]
        assert_exactly_once(servers, ("real_bogus",))
        assert_the_ledger_adds_up(servers)


def test_of_the_workers(own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they note which filter runs."""
    servers, alerts = own_broker.bootstrap_servers, night()
    publish_night(servers, alerts[:400])
    with small_disk(tmp_path / "scratch", 16) as disk:
        monkeypatch.setenv("TMPDIR", str(disk.folder))
        flags = ("--channels", "real_bogus", "--workers", "2")
        with running(servers, tmp_path, *flags) as run:
            run.until_in_its_middle()
            disk.fill()
            publish_night(servers, alerts[400:])
            run.until(lambda: "No space left" in run.text(), "it is said", 60)
            time.sleep(FULL_SECONDS)
            assert run.process.poll() is None, run.text()[-3000:]
            disk.empty()
            wanted = expected("real_bogus")
            run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "everything", 120)
            run.process.send_signal(signal.SIGINT)
            assert run.wait(120) == 0, run.text()[-3000:]
            assert "Traceback" not in run.text(), run.text()[-3000:]
        assert_the_ledger_adds_up(servers)
