"""The stream while strangers' filters attack it, beside the same stream with as many honest ones.

    python -m benchmarks.attack [--number 60000]

Rate: how fast everything that is there goes through five filters in process and five uploaded ones, in turn
all five honest and all five hostile (an endless loop, memory without end, an end of the process, a flood of
output, a fork in a loop): bar 10 % less. Wait: alerts at 300/s through a channel in process, without and
with an uploaded one that loops without end: how much longer the longest wait is: bar 1 s.
"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.latency import Load, Watch, Wire
from benchmarks.rules import STRICT
from benchmarks.sandbox import text
from benchmarks.stage import fill, make_targets, packets_of, remove, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from filters.sandbox.keeper import Program
from filters.sandbox.uploaded import uploaded
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.channels.config import ChannelConfig, RunConfig, channel_set, read_config

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
_SOON = 14.0  # s: the stream has begun, and goes on for some seconds
people = Console()
app = typer.Typer(help=__doc__)


def theirs(body: str) -> str:
    """The text of an uploaded filter."""
    head = "import os\nimport time\n\nfrom filters import alert_filter\n\n\n"
    return f"{head}@alert_filter(reads=['rb'])\ndef f(alerts):\n    {body}\n"


def channel(owner: str, body: str) -> Channel:
    """An uploaded one; without a body an honest one."""
    program = Program(owner, theirs(body), "f.py", "f") if body else Program(owner, text(), "h.py", "by_hand")
    return Channel(f"of-{owner}", uploaded(program))


def channels_of(config: RunConfig, hostile: bool) -> ChannelSet:
    """Five filters in process and five uploaded ones."""
    five = tuple(channel(owner, body if hostile else "") for owner, body in HOSTILE.items())
    chosen = channel_set(config)
    return replace(chosen, channels=(*chosen.channels, *five))


def config_of(servers: str, group: str, topic: str) -> RunConfig:
    """The filters in process."""
    five = {name: ChannelConfig(filter=name, parameters={**STRICT.get(name, {})}) for name in IN_PROCESS}
    return read_config(bootstrap_servers=servers, group=group, topics=f"^{topic}$", channels=five)


def rate(servers: str, packets: list[bytes], number: int, run: int, hostile: bool) -> float:
    """Alerts/s from the first batch to the last commit, on workers that have just come."""
    topic = f"attack-{run}-{int(hostile)}"
    fill(servers, topic, packets, number)
    config = config_of(servers, topic, topic)
    with local_cluster(workers=WORKERS) as cluster:
        done, span = timed_run(config, channels_of(config, hostile), cluster.scheduler_address)
    assert done.records == number
    remove(servers, [topic])
    return number / (span.last_commit - span.first_dispatch)


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
    looping = (channel("loop", body if hostile else ""),)
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
        both = [
            [rate(servers, packets, number, run, hostile) for hostile in (False, True)] for run in range(runs)
        ]
        honest, attacked = (statistics.median(column) for column in zip(*both, strict=True))
        word = "met" if attacked >= RATE_BAR * honest else "MISSED"
        people.print(
            f"honest {honest:,.0f} alerts/s, attacked {attacked:,.0f}: {attacked / honest:.2f} x ({word})"
        )
        calm, looped = (waits(servers, packets, hostile) for hostile in (False, True))
    longer = float(looped.max() - calm.max())
    word = "met" if longer < WAIT_BAR else "MISSED"
    people.print(f"longest wait {calm.max():.2f} s, beside an endless loop {looped.max():.2f} s", end="")
    people.print(f": {longer:.2f} s more ({word})")


if __name__ == "__main__":
    app()
