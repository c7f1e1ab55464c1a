"""Do the channels get slower while the archive follows on the same broker and machine?

    python -m benchmarks.archive_follow [--number 12000] [--runs 2]

The packets are on the broker before the clock starts. `zads run`, with every registered filter and two
workers, does them alone and beside a follower that begins with them at the same moment, so that both are as
busy as they can be. Runs alternate. Printed: alerts a second of the channels, the ratio, and how many records
the follower had read when the channels were done.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import tempfile
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

from archive.write.appender import Appender
from benchmarks.stage import fill, packets_of, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from commands.archive.command import NICENESS
from pipeline.channels.config import channel_set, read_config
from pipeline.clients.following.follow import Follower
from pipeline.clients.following.keeper import Followed

_TOPIC = "ztf_20231012_programid1"
_MOST_SLOWDOWN = 1 / 3


def follow(bootstrap: str, group: str, archive: str, up: Event, begin: Event, read: Any) -> None:
    """A process: the archive's follower, as `zads archive follow` runs it."""
    os.nice(NICENESS)
    follower = Follower(Appender(archive), _TOPIC, bootstrap, group)
    up.set()
    begin.wait()

    def note(followed: Followed) -> None:
        read.value = followed.read

    follower.run(until_drained=True, on_progress=note)


class Beside:
    """A follower that waits for its start."""

    def __init__(self, bootstrap: str, group: str, archive: Path) -> None:
        self._spawn = multiprocessing.get_context("spawn")
        self._up, self._begin = self._spawn.Event(), self._spawn.Event()
        self._read = self._spawn.Value("q", 0)
        arguments = (bootstrap, group, str(archive), self._up, self._begin, self._read)
        self._process = self._spawn.Process(target=follow, args=arguments)
        self._process.start()
        self._up.wait(60)

    def begin(self) -> None:
        self._begin.set()

    def read(self) -> int:
        """Records read so far; waits then until it has all of them."""
        read = int(self._read.value)
        self._process.join(300)
        if self._process.exitcode != 0:
            raise SystemExit(f"the follower ended with {self._process.exitcode}")
        return read


def one_run(bootstrap: str, name: str, number: int, archive: Path | None) -> float:
    """The channels' alerts/s, beside a follower if there is an archive."""
    beside = None if archive is None else Beside(bootstrap, name, archive)
    config = read_config(bootstrap_servers=bootstrap, group=f"channels-{name}", topics=_TOPIC)
    with local_cluster(2) as cluster:
        done, span = timed_run(
            config,
            channel_set(config),
            cluster.scheduler_address,
            feed=lambda stopped: beside.begin() if beside else None,
        )
    if done.records != number:
        raise SystemExit(f"the channels read {done.records:,} records, not {number:,}")
    rate = number / (span.last_commit - span.first_dispatch)
    told = f"; the follower had read {beside.read():,}" if beside else ""
    print(f"{name:10} {rate:7,.0f} alerts/s{told}", flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--alerts", type=Path, help="folder of packets")
    parser.add_argument("--number", type=int, default=12_000, help="alerts on the broker")
    parser.add_argument("--runs", type=int, default=2)
    given = parser.parse_args()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, what = packets_of(given.alerts)
    alone, beside = [], []
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        fill(broker.bootstrap_servers, _TOPIC, packets, given.number)
        print(f"{given.number:,} alerts made of {what}", flush=True)
        for run in range(1, given.runs + 1):
            alone.append(one_run(broker.bootstrap_servers, f"alone-{run}", given.number, None))
            archive = Path(folder, f"archive-{run}")
            beside.append(one_run(broker.bootstrap_servers, f"beside-{run}", given.number, archive))
    slower = 1 - median(beside) / median(alone)
    met = "met" if slower <= _MOST_SLOWDOWN else "MISSED"
    print(f"{met}: beside the archive the channels are {slower:.0%} slower (bar {_MOST_SLOWDOWN:.0%})")


if __name__ == "__main__":
    main()
