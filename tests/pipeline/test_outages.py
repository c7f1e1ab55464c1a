"""What goes on for ever does so through an outage, says that it waits, and is whole afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cluster.kafka.broker import Broker
from tests.archive.helpers import rows_of
from tests.archive.test_follow import archived, following
from tests.pipeline.night import delivered, expected, night, publish_night, running


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_quota_that_no_batch_fits_is_halved_down_to(own_broker: Broker, tmp_path: Path) -> None:
    """Without that the same batch would be tried for ever: its transaction ends before it is written."""
    servers, some = own_broker.bootstrap_servers, night()[:500]
    publish_night(servers, some, partitions=1)
    (tmp_path / "zads.toml").write_text(
        "[channels.every]\nfilter = 'real_bogus'\nparameters = {rb_min = 0.0}\n"
    )
    wanted = expected("real_bogus", some, rb_min=0.0)
    size = sum(len(alert.packet) for alert in some if alert.candid in wanted)
    alter = ["--bootstrap-server", servers, "--alter", "--entity-type", "clients", "--entity-name", "zads"]
    rate = f"producer_byte_rate={size // 60}"  # a minute for all; a round may take 20 s
    own_broker.tool("kafka.admin.ConfigCommand", [*alter, "--add-config", rate])
    with running(servers, tmp_path, "--workers", "1", "--until-drained") as run:
        assert run.wait(360) == 0, run.text()[-3000:]
        assert "too much" in run.text()
    assert delivered(servers, "channel.every") == wanted


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_the_broker_is_away_for_longer_than_any_patience(own_broker: Broker, tmp_path: Path) -> None:
    """A minute: more than every time limit of a client on the way."""
    servers, first, second = own_broker.bootstrap_servers, night()[:300], night()[300:600]
    publish_night(servers, first)
    with (
        following(own_broker, tmp_path, "--seconds", "1") as archiver,
        running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1") as run,
    ):
        run.until_in_its_middle()
        archiver.until(lambda: archived(tmp_path) == 300)
        own_broker.stop()
        time.sleep(60)
        assert archiver.process.poll() is None, archiver.log.read_text()[-3000:]
        assert run.process.poll() is None, run.text()[-3000:]
        own_broker.start()
        publish_night(servers, second)
        wanted = expected("real_bogus", night()[:600])
        run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "everything", seconds=90)
        archiver.until(lambda: archived(tmp_path) == 600, seconds=90)
        assert "waiting for the broker" in archiver.log.read_text()
    rows = rows_of(tmp_path / "archive", ["_topic", "_partition", "_offset"]).to_pylist()
    assert len({tuple(row.values()) for row in rows}) == len(rows) == 600
