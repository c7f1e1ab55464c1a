"""A link fails for longer than any patience of Kafka's clients or Dask's; all is whole afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from cluster.kafka.broker import Broker
from cluster.kafka.ports import free_port
from tests.pipeline.night import (
    Run,
    assert_the_ledger_adds_up,
    delivered,
    expected,
    night,
    publish_night,
    running,
)
from tests.pipeline.test_many_machines import cluster_at
from tests.soak.link import FAILURES, WELL, Link

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

BROKEN = "the connection breaks"
HOWS = [*FAILURES, BROKEN]
AWAY_SECONDS = 25.0
ENOUGH_SECONDS = 180.0
_SMALL = "[dispatch]\nmessages = 6\n"


def strike(link: Link, how: str, pids: frozenset[int] | None) -> None:
    """Have a link fail, and heal it after a while; a connection breaks again and again meanwhile."""
    if how != BROKEN:
        link.fail(replace(FAILURES[how], of=pids))
    deadline = time.monotonic() + AWAY_SECONDS
    while time.monotonic() < deadline:
        if how == BROKEN:
            link.reset(pids)
        time.sleep(2.0)
    link.fail(WELL)


def assert_whole(servers: str, run: Run) -> None:
    """Everything is delivered, once; nobody is blamed, nothing was said as a traceback."""
    wanted = expected("real_bogus")
    run.until(lambda: delivered(servers, "channel.real_bogus") == wanted, "everything", ENOUGH_SECONDS)
    run.process.send_signal(signal.SIGINT)
    assert run.wait(120) == 0, run.text()[-5000:]
    assert "Traceback" not in run.text(), run.text()[-5000:]
    assert_the_ledger_adds_up(servers)


WHOSE: dict[str, Callable[[Run], frozenset[int] | None]] = {
    "the coordinator": lambda run: frozenset([run.process.pid]),
    "a worker": lambda run: frozenset([run.workers()[0].pid]),
    "everybody": lambda run: None,
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("whose", WHOSE)
def test_to_the_broker(own_broker: Broker, tmp_path: Path, whose: str, how: str) -> None:
    servers, alerts = own_broker.bootstrap_servers, night()
    publish_night(servers, alerts[:400])
    (tmp_path / "zads.toml").write_text(_SMALL)
    flags = ("--channels", "real_bogus", "--workers", "2")
    with Link(own_broker.port) as link, running(link.bootstrap, tmp_path, *flags) as run:
        run.bootstrap = servers
        run.until_in_its_middle()
        pids = WHOSE[whose](run)
        publish_night(servers, alerts[400:700])
        strike(link, how, pids)
        publish_night(servers, alerts[700:])
        assert_whole(servers, run)


@pytest.mark.parametrize(
    ("whose", "how"),
    [
        *(("the coordinator", how) for how in HOWS),
        *(("a worker", how) for how in FAILURES),  # Dask's worker ends when its connection breaks
    ],
)
def test_to_the_scheduler(own_broker: Broker, tmp_path: Path, whose: str, how: str) -> None:
    servers, alerts, port = own_broker.bootstrap_servers, night(), free_port()
    publish_night(servers, alerts[:400])
    (tmp_path / "zads.toml").write_text(_SMALL)
    address = f"tcp://127.0.0.1:{port}"
    with (
        Link(port, kafka=False, patience=30.0) as link,
        cluster_at(port, tmp_path, link.port if whose == "a worker" else None),
    ):
        with Client(address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        through = f"tcp://{link.bootstrap}" if whose == "the coordinator" else address
        flags = ("--channels", "real_bogus", "--scheduler", through)
        with running(servers, tmp_path, *flags) as run:
            run.until_in_its_middle()
            publish_night(servers, alerts[400:700])
            strike(link, how, None)
            publish_night(servers, alerts[700:])
            assert_whole(servers, run)
