"""What a run stands on changes under it: its password, its machine's clock, a registry that is away."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from cluster.kafka.broker import Broker
from cluster.kafka.node import Secured
from cluster.kafka.security import write_profile
from pipeline.access.users import add_user, rotate_password
from pipeline.clients.publish import publish_packets
from tests import rubin
from tests.access.world import client
from tests.archive.test_follow import archived, following
from tests.pipeline.night import (
    REPOSITORY,
    assert_the_ledger_adds_up,
    delivered,
    expected,
    night,
    publish_night,
    running,
)
from tests.pipeline.topics import records
from tests.test_rubin import synthetic

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

AWAY_SECONDS = float(os.environ.get("ZADS_AWAY_SECONDS", "70"))
MOST_LINES = 12
AFTER_SECONDS = 30.0
"""By then each connection has had to show its password anew."""
SITE = """
import time
from pathlib import Path

_real = time.time


def _shifted():
    try:
        return _real() + float(Path({file!r}).read_text())
    except (OSError, ValueError):
        return _real()


time.time = _shifted
"""


def test_the_password_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its profile has the new one: run and archiver go on without being started again."""
    alerts = night()
    with Broker(secured=Secured()) as broker:
        servers, kafka = broker.bootstrap_servers, broker.operator
        operators = kafka["bootstrap.servers"]
        mine, theirs = tmp_path / "pipeline.ini", tmp_path / "operator.ini"
        write_profile(theirs, kafka)
        password = add_user("service", "pipeline", operators, by="a test", **kafka)
        write_profile(mine, client(broker, "service", password))
        monkeypatch.setenv("ZADS_PROFILE", str(theirs))

        def publish(start: int, stop: int) -> None:
            publish_packets([alert.packet for alert in alerts[start:stop]], operators, partitions=2)

        publish(0, 300)
        flags = ("--channels", "real_bogus", "--workers", "2", "--as", str(mine))
        with (
            running(servers, tmp_path, *flags) as run,
            following(broker, tmp_path, "--seconds", "1", "--as", str(mine)) as archiver,
        ):
            run.bootstrap = operators
            run.until_in_its_middle()
            archiver.until(lambda: archived(tmp_path) == 300)
            new = rotate_password("service", operators, **kafka)
            write_profile(mine, client(broker, "service", new))
            time.sleep(AFTER_SECONDS)
            publish(300, 1000)
            wanted = expected("real_bogus")
            run.until(lambda: delivered(operators, "channel.real_bogus") == wanted, "everything", 180)
            archiver.until(lambda: archived(tmp_path) == 1000, 180)
            run.process.send_signal(signal.SIGINT)
            assert run.wait(120) == 0, run.text()[-3000:]
            for text in (run.text(), archiver.log.read_text()):
                assert "Traceback" not in text, text[-3000:]


def test_the_schema_registry_is_away(own_broker: Broker, tmp_path: Path) -> None:
    """For longer than a minute: it is said, not too often, nothing is refused, and then all goes on."""
    servers = own_broker.bootstrap_servers
    packets = synthetic()
    with rubin.registry() as registry:
        config = f"schemas = '{registry.url}'\n[channels.every]\nwhere = 'reliability > 0.5'\n"
        (tmp_path / "zads.toml").write_text(config)
        registry.status = 503
        source = FolderOfVersions()
        publish_packets(packets, servers, partitions=2, schemas=source)
        with (
            running(servers, tmp_path, "--workers", "2") as run,
            following(own_broker, tmp_path, "--seconds", "1") as archiver,
        ):
            run.until(lambda: len(registry.asked) > 10, "the registry to be asked")
            time.sleep(AWAY_SECONDS)
            assert run.process.poll() is None, run.text()[-3000:]
            assert archiver.process.poll() is None, archiver.log.read_text()[-3000:]
            registry.status = 200
            run.until(
                lambda: len(records(servers, "channel.every")) == len(packets), "everything", seconds=120
            )
            archiver.until(lambda: _kept(tmp_path) == len(packets), 120)
            run.process.send_signal(signal.SIGINT)
            assert run.wait(120) == 0, run.text()[-3000:]
            assert not records(servers, "zads.dead-letters")
            for text in (run.text(), archiver.log.read_text()):
                words = " ".join(text.split())
                assert "Traceback" not in words, text[-3000:]
                assert 1 <= words.count("the schema registry") <= MOST_LINES, text[-3000:]


class FolderOfVersions:
    """The schemas by themselves: whoever publishes knows them."""

    def schema(self, number: int) -> Any:
        return rubin.schema_of(f"{number // 100}.{number % 100}")


def _kept(folder: Path) -> int:
    table = f"{folder}/archive/lsst"
    return DeltaTable(table).count() if DeltaTable.is_deltatable(table) else 0


def test_the_clock_jumps(own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour to and fro, for every Python process of run and archiver."""
    servers, alerts, shift = own_broker.bootstrap_servers, night(), tmp_path / "shift"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(file=str(shift)))
    for module in ("tests.pipeline.night", "tests.archive.test_follow"):
        monkeypatch.setattr(f"{module}.REPOSITORY", f"{site}{os.pathsep}{REPOSITORY}")
    publish_night(servers, alerts[:200])
    flags = ("--channels", "real_bogus", "--workers", "2")
    with (
        running(servers, tmp_path, *flags) as run,
        following(own_broker, tmp_path, "--seconds", "1") as archiver,
    ):
        run.until_in_its_middle()
        for number, seconds in enumerate((3600, -3600, 1e6, 0)):
            shift.write_text(str(seconds))
            publish_night(servers, alerts[200 * (number + 1) : 200 * (number + 2)])
            time.sleep(8.0)
        wanted = expected("real_bogus")
        run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "everything", 120)
        archiver.until(lambda: archived(tmp_path) == 1000, 120)
        run.process.send_signal(signal.SIGINT)
        assert run.wait(120) == 0, run.text()[-3000:]
        for text in (run.text(), archiver.log.read_text()):
            assert "Traceback" not in text, text[-3000:]
    assert_the_ledger_adds_up(servers)
