"""The stream while strangers' filters attack it, beside the same stream with as many honest ones.

    python -m benchmarks.attack [--number 60000]

Rate: how fast everything that is there goes through five filters in process and five uploaded ones, in turn
all five honest and all five hostile (an endless loop, memory without end, an end of the process, a flood of
output, a fork in a loop): bar 10 % less. The hostile ones attack at their first batch, or, `later`, after
some batches of each of their processes, so that they pass each trial too. Beside the rate of all alerts
stands the rate for as long as one of the hostile channels is not suspended yet (the flood never is: it
answers in time), against the honest rate of as many alerts, and the seconds that are lost by then.

Wait: alerts at 300/s through a channel in process, without and with an uploaded one that loops without end:
how much longer the longest wait is: bar 1 s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from benchmarks.latency import Load, Watch, Wire
from benchmarks.rules import STRICT
from benchmarks.sandbox import text
from benchmarks.stage import TimedRun, fill, make_targets, packets_of, remove, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from filters.sandbox.question import Program
from filters.sandbox.uploaded import uploaded
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set, read_config
from pipeline.worker.work import Report

Attack = Literal["at once", "later"]

WORKERS = 2
RATE_BAR, WAIT_BAR = 0.9, 1.0
IN_PROCESS = ("star_galaxy", "pure", "young_supernova", "two_detections_30min", "stellar_outburst")
HOSTILE = {
    "loop": "while True: pass",
    "hoard": "kept = []\n    while True: kept.append(bytearray(10**7))",
    "end": "os._exit(0)",
    "flood": "for _ in range(100): print('x' * 10**6)\n    return {'real': alerts['rb'] > 0.9}",
    "fork": "while True: os.fork()",
}
_LATER = 3  # batches that a hostile filter judges well before it attacks, where it attacks later
_SOON = 14.0  # s: the stream has begun, and goes on for some seconds
people = Console()
app = typer.Typer(help=__doc__)


def theirs(body: str, after: int = 0) -> str:
    """The text of an uploaded filter that does this after so many batches."""
    head = "import os\nimport time\n\nfrom filters import alert_filter\n\nseen = []\n\n\n"
    well = f"seen.append(1)\n    if len(seen) <= {after}: return {{'real': alerts['rb'] > 0.9}}\n    "
    return f"{head}@alert_filter(reads=['rb'])\ndef f(alerts):\n    {well if after else ''}{body}\n"


def channel(owner: str, body: str, run: str = "", after: int = 0) -> Channel:
    """An uploaded one; without a body an honest one. run: part of the owner's name, whom nobody knows yet."""
    name, written = f"{owner}{run}", theirs(body, after)
    program = Program(name, written, "f.py", "f") if body else Program(name, text(), "h.py", "by_hand")
    return Channel(f"of-{owner}", uploaded(program))


def channels_of(config: RunConfig, attack: Attack | None, run: str) -> ChannelSet:
    """Five filters in process and five uploaded ones: hostile, or (None) honest."""
    after = _LATER if attack == "later" else 0
    five = tuple(channel(owner, body if attack else "", run, after) for owner, body in HOSTILE.items())
    chosen = channel_set(config)
    return replace(chosen, channels=(*chosen.channels, *five))


def config_of(servers: str, group: str, topic: str) -> RunConfig:
    """The filters in process."""
    five = {name: ChannelConfig(filter=name, parameters={**STRICT.get(name, {})}) for name in IN_PROCESS}
    return read_config(bootstrap_servers=servers, group=group, topics=f"^{topic}$", channels=five)


class Watched(TimedRun):
    """Notes when how many alerts had been committed, and when the last channel was suspended."""

    def __init__(self, config: RunConfig, channels: ChannelSet) -> None:
        super().__init__(config, channels)
        self.progress: list[tuple[float, int]] = []  # monotonic s, alerts committed by then
        self._until: int | None = None

    def settle(self, report: Report) -> None:
        """Note it too."""
        super().settle(report)
        done = self.statistics.records
        self.progress.append((time.monotonic(), done))
        if self._until is None and len(self._recovery.suspended) == len(HOSTILE) - 1:
            self._until = done

    @property
    def attacked(self) -> int:
        """Alerts committed when the last channel was suspended, or all."""
        return self._until or self.progress[-1][1]

    def seconds(self, alerts: int) -> float:
        """From the first batch until so many alerts were committed."""
        return next(when for when, done in self.progress if done >= alerts) - self.first_dispatch


def rate(servers: str, packets: list[bytes], number: int, run: str, attack: Attack | None) -> Watched:
    """A run of everything that is there, on workers that have just come."""
    topic = f"attack-{run}"
    fill(servers, topic, packets, number)
    config = config_of(servers, topic, topic)
    watched = Watched(config, channels_of(config, attack, run))
    with local_cluster(workers=WORKERS) as cluster:
        asyncio.run(watched.run(cluster.scheduler_address, lambda _: None, lambda _: None))
    assert watched.progress[-1][1] == number
    remove(servers, [topic])
    return watched


def compare(honest: list[Watched], attacked: list[Watched], attack: Attack) -> None:
    """Print how the attacked runs do beside the honest ones, in the median."""
    number = honest[0].progress[-1][1]

    def median(seconds: Iterable[float]) -> float:
        return statistics.median(seconds)

    calm, busy = (median(run.seconds(number) for run in runs) for runs in (honest, attacked))
    word = "met" if calm / busy >= RATE_BAR else "MISSED"
    people.print(f"attacked {attack}: {number / calm:,.0f} alerts/s honest, {number / busy:,.0f}", end="")
    people.print(f" attacked: {calm / busy:.2f} x ({word})")
    lost = [
        (run.seconds(run.attacked), median(one.seconds(run.attacked) for one in honest)) for run in attacked
    ]
    while_it_lasts = median(one / other for other, one in lost)
    people.print(
        f"  until the last was suspended: {while_it_lasts:.2f} x, {median(a - b for a, b in lost):+.2f} s"
        f" (of {median(a for a, _ in lost):.1f} s)"
    )


def waits(servers: str, packets: list[bytes], hostile: bool) -> np.ndarray:
    """Seconds from production to a reader of the channel in process, of each alert."""
    topic = f"ztf_2023101{1 + hostile}_programid1"
    load = Load(packets, 300, 15)
    wire = Wire(servers, topic, f"channel.watched{int(hostile)}")
    make_targets(servers, [wire.channel])
    fill(servers, topic, packets, load.warm)
    watched = {f"watched{int(hostile)}": ChannelConfig(filter="real_bogus", parameters={"rb_min": 0})}
    config = read_config(bootstrap_servers=servers, group=topic, topics=f"^{topic}$", channels=watched)
    chosen = channel_set(config)
    late = time.time() + _SOON  # in the middle of what is timed
    body = f"while time.time() > {late}: pass\n    return {{'real': alerts['rb'] > 0.9}}"
    looping = (channel("loop", body if hostile else "", f"-{os.getpid()}"),)
    with local_cluster(workers=WORKERS) as cluster, Watch(wire) as watch:
        done, _ = timed_run(
            config,
            replace(chosen, channels=(*chosen.channels, *looping)),
            cluster.scheduler_address,
            feed=lambda _: watch.send(load),
        )
        assert bool(done.suspended) == hostile, "it has not looped"
        return watch.latencies()


@app.command()
def main(
    alerts: Annotated[Path | None, typer.Option(help="Folder of packets.")] = None,
    number: Annotated[int, typer.Option(min=1000, help="Alerts of each run.")] = 60_000,
    runs: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure and print."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, described = packets_of(alerts)
    people.print(f"{described}; {number:,} alerts, 8 partitions, {WORKERS} workers")
    with Broker() as broker:
        servers = broker.bootstrap_servers
        kinds: tuple[Attack | None, ...] = (None, "at once", "later")
        each: dict[Attack | None, list[Watched]] = {kind: [] for kind in kinds}
        for turn in range(runs):
            for kind in kinds[turn % 3 :] + kinds[: turn % 3]:
                run = f"{turn}-{kinds.index(kind)}-{os.getpid()}"
                each[kind].append(rate(servers, packets, number, run, kind))
        for kind, attacked in each.items():
            if kind is not None:
                compare(each[None], attacked, kind)
        calm, looped = (waits(servers, packets, hostile) for hostile in (False, True))
    longer = float(looped.max() - calm.max())
    word = "met" if longer < WAIT_BAR else "MISSED"
    people.print(f"longest wait {calm.max():.2f} s, beside an endless loop {looped.max():.2f} s", end="")
    people.print(f": {longer:.2f} s more ({word})")


if __name__ == "__main__":
    app()
