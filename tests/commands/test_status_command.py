"""`zads status`: what Kafka says, as sentences and an exit code."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cluster.kafka.broker import Broker
from commands import application
from commands.status import EXIT_UNWELL
from tests.pipeline import topics
from tests.pipeline.night import delivered, expected, night, publish_packets, running

TOPIC = "ztf_20231012_programid1"


def status(servers: str, *arguments: str) -> Result:
    return CliRunner().invoke(application(), ["status", "--bootstrap", servers, *arguments])


def test_what_only_a_run_knows_is_told_from_elsewhere(own_broker: Broker, tmp_path: Path) -> None:
    """Its pace and its channels while it runs; a worker that stands still; that it was killed."""
    servers = own_broker.bootstrap_servers
    some = [alert.packet for alert in night()[:200]]
    publish_packets(some, servers, topic=TOPIC, partitions=2)
    wanted = expected("real_bogus", night()[:200])
    with running(servers, tmp_path, "--channels", "real_bogus", "--workers", "1") as run:
        run.until_in_its_middle()
        run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "all of them")
        run.until(lambda: told_of_run(servers)["alerts"] == 200, "the run says so", 30)
        told = told_of_run(servers)
        assert told["channels"]["real_bogus"]["delivered"] == wanted.total()
        assert (told["workers"], told["partitions"], told["ended"]) == (1, 2, "")
        assert told["half_within"] <= told["most_within"]
        screen = status(servers)
        assert screen.exit_code == 0, screen.stdout
        assert "200 alerts judged" in screen.stdout
        (worker,) = run.workers()
        worker.suspend()
        publish_packets(some, servers, topic=TOPIC, partitions=2)
        run.until(lambda: bool(told_of_run(servers)["stuck"]), "a partition is stuck", 40)
        screen = status(servers, "--patience", "5")
        assert screen.exit_code == EXIT_UNWELL
        assert re.search(r"partitions? (in flight|waiting|retrying) for \d+ s", screen.stdout), screen.stdout
        worker.resume()
        run.until(lambda: not told_of_run(servers)["stuck"], "it goes on", 60)
        run.kill()
    deadline = time.monotonic() + 60  # the broker keeps its place until its session ends
    while "gone without a word" not in (screen := status(servers)).stdout:
        assert time.monotonic() < deadline, screen.stdout
    assert screen.exit_code == EXIT_UNWELL


def told_of_run(servers: str) -> dict[str, Any]:
    """What replica 0 has said last."""
    return next(iter(json.loads(status(servers, "--json").stdout)["runs"]), EMPTY)


EMPTY: dict[str, Any] = {"alerts": 0, "stuck": []}


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
