"""`zads status`: what Kafka says, as sentences and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from cluster.kafka.broker import Broker
from commands import application
from commands.status import EXIT_UNWELL
from tests.pipeline import topics
from tests.pipeline.night import night, publish_packets, running

TOPIC = "ztf_20231012_programid1"


def status(servers: str, *arguments: str) -> Result:
    return CliRunner().invoke(application(), ["status", "--bootstrap", servers, *arguments])


def test_a_night_from_well_to_unwell_and_back(own_broker: Broker, tmp_path: Path) -> None:
    servers = own_broker.bootstrap_servers
    told = status(servers)
    assert told.exit_code == 0, "nothing is there: nothing is wrong"
    assert "nobody runs for group zads: what comes from now on waits" in told.stdout
    assert "group zads-archive has never kept anything here" in told.stdout
    publish_packets([alert.packet for alert in night()[:100]], servers, topic=TOPIC, partitions=2)
    told = status(servers)
    assert told.exit_code == EXIT_UNWELL
    assert "nobody runs for group zads, and 100 records wait" in told.stdout
    with running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1", "--until-drained") as run:
        assert run.wait() == 0, run.text()
    told = status(servers)
    assert told.exit_code == 0, told.stdout
    assert "all is well" in told.stdout
    found = json.loads(status(servers, "--json").stdout)
    assert found["well"]
    assert {one["state"] for one in found["groups"][0]["partitions"]} == {"up to date"}

    topics.move_group(servers, TOPIC, 5_000)
    told = status(servers)
    assert told.exit_code == EXIT_UNWELL
    assert "beyond the end" in told.stdout
    topics.recreate(servers, TOPIC)
    assert status(servers).exit_code in (0, EXIT_UNWELL)
