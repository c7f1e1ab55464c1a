"""What a run and an archiver stand on is away for ten minutes: both wait, say so, and then all is whole.

ZADS_AWAY_SECONDS chooses another time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client

from cluster.kafka.broker import Broker
from cluster.kafka.ports import free_port
from tests.archive.helpers import rows_of
from tests.archive.test_follow import Following, following
from tests.pipeline.night import (
    Run,
    assert_exactly_once,
    assert_the_ledger_adds_up,
    delivered,
    expected,
    night,
    publish_night,
    running,
)
from tests.pipeline.test_many_machines import cluster_at
from tests.soak.object_store import BUCKET, ObjectStore

AWAY_SECONDS = float(os.environ.get("ZADS_AWAY_SECONDS", "600"))
_AFTER_SECONDS = 300.0
pytestmark = [pytest.mark.soak, pytest.mark.timeout(AWAY_SECONDS + 1200)]


class World:
    """A broker, an object store, a Dask scheduler with a worker, a run on them, an archiver."""

    def __init__(self, broker: Broker, folder: Path, stack: ExitStack) -> None:
        self.broker, self.folder, self.servers = broker, folder, broker.bootstrap_servers
        self.archive = f"s3://{BUCKET}/archive"
        self.store = stack.enter_context(ObjectStore(folder / "store"))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in self.store.environment.items():
            patch.setenv(name, value)
        self.port = free_port()
        self.cluster = ExitStack()
        stack.callback(self.cluster.close)
        self.start_cluster()
        (folder / "zads.toml").write_text("[dispatch]\nmessages = 6\n")
        flags = ("--channels", "real_bogus", "--scheduler", f"tcp://127.0.0.1:{self.port}")
        self.run: Run = stack.enter_context(running(self.servers, folder, *flags))
        keeps = ("--archive", self.archive, "--seconds", "1")
        self.archiver: Following = stack.enter_context(following(broker, folder, *keeps))

    def start_cluster(self) -> None:
        self.cluster.enter_context(cluster_at(self.port, self.folder, None))
        with Client(f"tcp://127.0.0.1:{self.port}", timeout=30, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)

    def kept(self) -> list[tuple[object, ...]]:
        """The records in the archive."""
        try:
            rows = rows_of(self.archive, ["_topic", "_partition", "_offset"]).to_pylist()
        except Exception:  # not there yet
            return []
        return [tuple(row.values()) for row in rows]


@contextmanager
def without_broker(world: World) -> Iterator[None]:
    world.broker.stop()
    yield
    world.broker.start()


@contextmanager
def without_scheduler(world: World) -> Iterator[None]:
    world.cluster.close()
    yield
    world.start_cluster()


@contextmanager
def without_store(world: World) -> Iterator[None]:
    world.store.stop()
    yield
    world.store.start()


AWAY: dict[str, tuple[Callable[[World], object], tuple[str, ...]]] = {
    "broker": (without_broker, ("run", "archiver")),
    "scheduler": (without_scheduler, ("run",)),
    "store": (without_store, ("archiver",)),
}
"""What is away -> how, and who says that it waits."""


@pytest.mark.parametrize("what", AWAY)
def test_away(own_broker: Broker, tmp_path: Path, what: str) -> None:
    alerts = night()
    publish_night(own_broker.bootstrap_servers, alerts[:400])
    with ExitStack() as stack:
        world = World(own_broker, tmp_path, stack)
        world.run.until_in_its_middle()
        world.archiver.until(lambda: len(world.kept()) >= 50, 120)
        how, who = AWAY[what]
        texts = {"run": world.run.text, "archiver": world.archiver.log.read_text}
        before = {one: len(texts[one]()) for one in who}
        with how(world):  # type: ignore[attr-defined]
            if what != "broker":
                publish_night(world.servers, alerts[400:])
            until = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < until:
                assert world.run.process.poll() is None, world.run.text()[-3000:]
                assert world.archiver.process.poll() is None, texts["archiver"]()[-3000:]
                time.sleep(1.0)
            for one in who:
                assert_said_so(texts[one]()[before[one] :])
        if what == "broker":
            publish_night(world.servers, alerts[400:])
        wanted = expected("real_bogus")
        enough = lambda: delivered(world.servers, "channel.real_bogus") == wanted  # noqa: E731
        world.run.until(enough, "everything", _AFTER_SECONDS)
        world.archiver.until(lambda: len(world.kept()) >= len(alerts), _AFTER_SECONDS)
        for process in (world.run.process, world.archiver.process):
            process.send_signal(signal.SIGINT)
        assert world.run.wait(120) == 0, world.run.text()[-3000:]
        assert world.archiver.process.wait(120) == 0, texts["archiver"]()[-3000:]
        for text in texts.values():
            assert "Traceback" not in text(), text()[-3000:]
        assert len(set(world.kept())) == len(world.kept()) == len(alerts)
        assert_exactly_once(world.servers, ("real_bogus",))
        assert_the_ledger_adds_up(world.servers)


def assert_said_so(text: str) -> None:
    """About once a minute, in lines that a person can still read."""
    lines = [line for line in text.splitlines() if " WARNING " in line or " ERROR " in line]
    least = max(1, int(AWAY_SECONDS // 60) - 1)
    assert least <= len(lines), f"{len(lines)} lines in {AWAY_SECONDS:.0f} s\n{text[-3000:]}"
    assert len(lines) <= 10 * (least + 1), f"{len(lines)} lines in {AWAY_SECONDS:.0f} s\n{text[-3000:]}"
