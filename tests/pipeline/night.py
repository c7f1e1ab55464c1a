"""A simulated night on a broker, `zads run` as a process of its own, and what its channels must hold."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import fastavro
import psutil

from filters import load
from filters.external.externals import stored_columns, to_frame
from pipeline.broker.client import topic_names
from pipeline.broker.listen import listen
from pipeline.channels.config import RunConfig
from pipeline.clients.ledger import entries, ledger, nights_of
from pipeline.clients.publish import publish_packets
from schemas.packets.reader import PacketReader
from simulator import SimulatedAlert, simulate
from tests.pipeline.topics import records

REPOSITORY = Path(__file__).resolve().parents[2]
CHANNELS = ("real_bogus", "pure_transient", "two_detections_20min", "solar_system")


@cache
def night(alerts: int = 1000, seed: int = 7) -> tuple[SimulatedAlert, ...]:
    """The alerts of one simulated night, without stamps: they are not what is tested here."""
    return tuple(simulate(alerts, seed, stamps=False))


def publish_night(
    bootstrap: str, alerts: tuple[SimulatedAlert, ...] | None = None, partitions: int = 4
) -> None:
    """Put the night on the broker, into the survey's topics."""
    publish_packets([alert.packet for alert in alerts or night()], bootstrap, partitions=partitions)


def expected(
    name: str, alerts: tuple[SimulatedAlert, ...] | None = None, **parameters: object
) -> Counter[int]:
    """The candids that a public channel of this filter must deliver: the filter applied to the packets."""
    chosen = load(name).using(**parameters)
    packets = [alert.packet for alert in alerts or night() if alert.programid == 1]
    table = PacketReader(stored_columns(chosen.reads, public=True)).read(packets).table
    frame = to_frame(table, chosen.reads, public=True)
    return Counter(frame["candid"][chosen.passes(frame)].tolist())


def delivered(bootstrap: str, topic: str) -> Counter[int]:
    """How often each candid is in the topic, as a consumer that reads committed messages sees it."""
    return Counter(alert.candid for alert in listen(topic, bootstrap, until_drained=True))


def assert_exactly_once(bootstrap: str, names: tuple[str, ...] = CHANNELS) -> None:
    for name in names:
        assert expected(name), f"{name} finds nothing in this night: the test would prove nothing"
        assert delivered(bootstrap, f"channel.{name}") == expected(name), name


def assert_the_ledger_adds_up(bootstrap: str) -> None:
    """Each record stands in it once, and its counts are what any consumer finds in the topics."""
    config = RunConfig(bootstrap_servers=bootstrap)
    found = entries(config)
    received: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for night_ in nights_of(found):
        told = ledger(config, night_, found)
        assert not told.problems
        received.update({topic: page.source.received for topic, page in told.sources.items()})
        sent.update({name: counts.delivered for name, counts in told.channels.items()})
    assert received
    assert received == {topic: len(records(bootstrap, topic)) for topic in received}
    assert sent == {name: len(records(bootstrap, f"channel.{name}")) for name in sent}


class Run:
    """`zads run` as an operator starts it."""

    def __init__(self, bootstrap: str, folder: Path, *arguments: str) -> None:
        self.bootstrap = bootstrap
        self.log = folder / "run.log"
        command = [sys.executable, "-m", "zads", "run", "--plain", "--bootstrap", bootstrap, *arguments]
        environment = {**os.environ, "ZADS_HOME": str(folder / "home"), "PYTHONPATH": str(REPOSITORY)}
        environment["PYTHONFAULTHANDLER"] = "1"  # then SIGABRT tells where each thread is
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
            )

    def wait(self, seconds: float = 300) -> int:
        """The exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(20)
            raise AssertionError(f"`zads run` did not end in {seconds} s:\n{self.text()[-30000:]}") from None

    def text(self) -> str:
        return self.log.read_text()

    def workers(self) -> list[psutil.Process]:
        """The Dask workers' processes."""
        return [
            worker
            for child in psutil.Process(self.process.pid).children()
            if "multiprocessing.forkserver" in " ".join(_command(child))
            for worker in child.children()
        ]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait for something to happen while the run goes on, and say what did not.

        To look takes CPU time from what is looked at: half of the time at most.
        """
        deadline, looked = time.monotonic() + seconds, time.monotonic()
        while not condition():
            took = time.monotonic() - looked
            assert self.process.poll() is None, f"the run ended before: {what}\n{self.text()[-5000:]}"
            assert time.monotonic() < deadline, f"after {seconds} s still not: {what}\n{self.text()[-5000:]}"
            time.sleep(min(max(0.1, took), 2.0))
            looked = time.monotonic()

    def until_in_its_middle(self) -> None:
        """Wait until its first alerts have been delivered."""
        self.until(lambda: "channel.real_bogus" in topic_names(self.bootstrap), "a channel's topic")
        self.until(lambda: bool(delivered(self.bootstrap, "channel.real_bogus")), "a delivery")

    def kill(self) -> None:
        """kill -9 of the coordinator alone."""
        self.process.kill()
        self.process.wait()


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running(bootstrap: str, folder: Path, *arguments: str) -> Iterator[Run]:
    """A run that does not outlive the test."""
    run = Run(bootstrap, folder, *arguments)
    try:
        yield run
    finally:
        for process in [*_family(run.process.pid)]:
            process.kill()
        run.process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    return [*parent.children(recursive=True), parent]


def read_candid(raw: bytes) -> int:
    """The candid in a packet, by fastavro alone."""
    return next(iter(fastavro.reader(io.BytesIO(raw))))["candid"]
