"""Many channels and many partitions: what a channel costs, what a reader waits for, what is idle, what dies.

`cost`: CPU an alert of 25, 300 and 1,000 channels with distinct parameters, at equal deliveries: 25 of them
deliver what the 25 do, the others judge every alert and pass none.

`crowd`: 300 channels on 5 topics of 64 partitions each, 300 alerts a second, each of them delivered at most
twice: seconds from production to a consumer that reads committed messages; the CPU of the coordinator and the
workers while nothing comes; and the longest that a reader waits when a worker is killed or stands still.

Example: `python -m benchmarks.channels cost --number 4000`
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from distributed import LocalCluster
from rich.console import Console
from rich.table import Table

from benchmarks.latency import Load, Watch, Wire
from benchmarks.stage import TimedRun, cpu_seconds, fill, make_targets, packets_of, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from pipeline.channels.config import ChannelConfig, channel_set, read_config

COUNTS = (25, 300, 1000)
BARS = {"cost": 3.0, "p50": 0.5, "p99": 2.0, "coordinator": 5.0, "worker": 3.0, "wait": 10.0}
TOPICS = [f"ztf_202310{day}_programid1" for day in range(11, 16)]
WORKERS = 2
_WARM = 640
_IDLE_SECONDS = 20.0
_STRUCK_AFTER_SECONDS = 3.0
_FROZEN_SECONDS = 30.0
people = Console()
app = typer.Typer(help=__doc__, no_args_is_help=True)
Packets = Annotated[
    Path | None, typer.Option(help="Folder of packets.", show_default="real ones, else simulated")
]


def chosen(number: int) -> dict[str, ChannelConfig]:
    """`number` channels of five kinds, no two alike; all but the first 25 pass nothing."""
    return {f"c{index:04d}-of-{number}": _channel(index) for index in range(number)}


def _channel(index: int) -> ChannelConfig:
    kind, little = index % 5, index * 1e-6
    none = index >= COUNTS[0]
    if kind == 0:
        return ChannelConfig(filter="star_galaxy", parameters={"radius": 1e-9 + little if none else 1.5})
    if kind == 1:
        return ChannelConfig(filter="pure", parameters={"fwhm_max": little - 1 if none else 5 + little})
    if kind == 2:
        return ChannelConfig(filter="two_detections_30min", parameters={"gap": 1e6 * none + 30 + index})
    if kind == 3:
        return ChannelConfig(filter="stellar_outburst", parameters={"sigmas": 1e9 * none + 5 + little})
    return ChannelConfig(where=f"rb > {2 * none + 0.9 + little:.7f} and magpsf < {15 + little:.7f}")


@app.command()
def cost(
    alerts: Packets = None,
    number: Annotated[int, typer.Option(min=100, help="Alerts of each run.")] = 4000,
) -> None:
    """CPU an alert of 25, 300 and 1,000 channels."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, described = packets_of(alerts)
    people.print(f"{described}; one broker, 8 partitions, {WORKERS} workers")
    table = Table(title="CPU µs of the workers an alert, and of it by stage (wall clock)")
    names = ("workers", "decode", "filter", "publish")
    for column in ("channels", *names):
        table.add_column(column, justify="right")
    workers = {}
    with Broker() as broker:
        for count in COUNTS:
            measured = _cost_of(broker.bootstrap_servers, packets, count, number)
            workers[count] = measured["workers"]
            table.add_row(str(count), *(f"{measured[name]:,.0f}" for name in names))
    people.print(table)
    _verdict("1,000 channels cost so many times 25", workers[1000] / workers[25], "cost", "")


def _cost_of(bootstrap: str, packets: list[bytes], count: int, number: int) -> dict[str, float]:
    """Of the alerts that come when everything has been loaded and used."""
    topic = f"cost-{count}"
    fill(bootstrap, topic, packets, _WARM)
    config = read_config(
        bootstrap_servers=bootstrap, group=topic, topics=f"^{topic}$", channels=chosen(count)
    )
    run = TimedRun(config, channel_set(config))
    with local_cluster(workers=WORKERS) as cluster:
        before: dict[str, float] = {}

        def feed(_: object) -> None:
            while run.statistics.records < _WARM:
                time.sleep(0.1)
            before.update(run.statistics.seconds, workers=sum(map(cpu_seconds, _pids(cluster))))
            fill(bootstrap, topic, packets, number)

        done = asyncio.run(run.run(cluster.scheduler_address, feed, lambda _: None))
        after = {**done.seconds, "workers": sum(map(cpu_seconds, _pids(cluster)))}
    return {name: 1e6 * (seconds - before.get(name, 0.0)) / number for name, seconds in after.items()}


@dataclass
class Phase:
    """What happened to the readers while something was done. seconds: of each alert."""

    name: str
    seconds: np.ndarray


@dataclass
class Crowd:
    """What a crowd of channels and partitions has shown."""

    phases: list[Phase] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)  # process -> % of a core
    idle: dict[str, float] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)


@app.command()
def crowd(
    alerts: Packets = None,
    rate: Annotated[float, typer.Option(min=1, help="Alerts a second.")] = 300,
    seconds: Annotated[float, typer.Option(min=1, help="How long each phase is.")] = 20,
    channels: Annotated[int, typer.Option(min=2)] = 300,
    partitions: Annotated[int, typer.Option(min=1, help="Of each of the five topics.")] = 64,
) -> None:
    """Latency, idle CPU, and the wait after a death, with many channels and partitions."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, described = packets_of(alerts)
    people.print(
        f"{described}; {len(TOPICS)} topics of {partitions} partitions, {channels} channels,"
        f" {rate:g} alerts/s, {WORKERS} workers"
    )
    load = Load(packets, rate, seconds, partitions, warm=_WARM)
    with Broker() as broker:
        _show(_crowd(broker.bootstrap_servers, load, channels))


def _crowd(bootstrap: str, load: Load, channels: int) -> Crowd:
    wire = Wire(bootstrap, TOPICS[0], "channel.watched", TOPICS[1:])
    make_targets(bootstrap, [wire.channel])
    warm = load.warm // len(TOPICS)
    few = load.packets[: max(1, warm // load.partitions)]  # so each partition gets some
    for topic in TOPICS:
        fill(bootstrap, topic, few, warm, load.partitions)
    quiet = {f"c{index:04d}": _channel(index) for index in range(COUNTS[0], COUNTS[0] + channels - 1)}
    watched = {"watched": ChannelConfig(filter="real_bogus", parameters={"rb_min": 0})}
    pattern = "^ztf_2023101[1-5]_programid1$"
    config = read_config(bootstrap_servers=bootstrap, group="crowd", topics=pattern, channels=watched | quiet)
    found = Crowd()
    with local_cluster(workers=WORKERS) as cluster, Watch(wire) as watch:

        def feed(_: object) -> None:
            found.busy = _shares(cluster, lambda: watch.send(load))
            found.phases.append(Phase("nothing", watch.so_far()))
            _look(found, cluster)
            time.sleep(2.0)
            found.idle = _shares(cluster, lambda: time.sleep(_IDLE_SECONDS))
            for name, strike in STRIKES.items():
                threading.Timer(1.0 + _STRUCK_AFTER_SECONDS, strike, [cluster]).start()
                watch.send(load)
                found.phases.append(Phase(name, watch.so_far()))

        timed_run(config, channel_set(config), cluster.scheduler_address, feed=feed)
    return found


def _pids(cluster: LocalCluster) -> list[int]:
    return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]


def _look(found: Crowd, cluster: LocalCluster) -> None:
    for name, pid in _processes(cluster).items():
        process = psutil.Process(pid)
        found.threads[name], found.handles[name] = process.num_threads(), process.num_fds()


def _processes(cluster: LocalCluster) -> dict[str, int]:
    return {"coordinator": os.getpid()} | {f"worker {n}": pid for n, pid in enumerate(_pids(cluster))}


def _shares(cluster: LocalCluster, act: Callable[[], None]) -> dict[str, float]:
    """Each process's share of a core while something is done, %."""
    before, began = {name: cpu_seconds(pid) for name, pid in _processes(cluster).items()}, time.monotonic()
    act()
    seconds = time.monotonic() - began
    after = {name: cpu_seconds(pid) for name, pid in _processes(cluster).items()}
    return {name: 100 * (after[name] - before[name]) / seconds for name in before}


def _kill(cluster: LocalCluster) -> None:
    os.kill(_pids(cluster)[0], signal.SIGKILL)


def _freeze(cluster: LocalCluster) -> None:
    pid = _pids(cluster)[0]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(_FROZEN_SECONDS)
    with suppress(ProcessLookupError):  # everything is over
        os.kill(pid, signal.SIGCONT)


STRIKES = {"a worker killed": _kill, "a worker frozen": _freeze}


def _show(found: Crowd) -> None:
    table = Table(title="Seconds from produce to a read_committed consumer")
    for column in ("", "alerts", "p50", "p90", "p99", "max"):
        table.add_column(column, justify="right" if column else "left")
    for phase in found.phases:
        points = [f"{np.percentile(phase.seconds, p):.3f}" for p in (50, 90, 99, 100)]
        table.add_row(phase.name, f"{len(phase.seconds):,}", *points)
    people.print(table)
    table = Table(title="Processes")
    for column in ("% of a core", "busy", "idle", "threads", "handles"):
        table.add_column(column, justify="right" if column else "left")
    for name, percent in found.idle.items():
        busy = f"{found.busy[name]:.0f}"
        table.add_row(name, busy, f"{percent:.1f}", str(found.threads[name]), str(found.handles[name]))
    people.print(table)
    quiet, *struck = found.phases
    _verdict("half of the alerts within", float(np.percentile(quiet.seconds, 50)), "p50", " s")
    _verdict("99 % of the alerts within", float(np.percentile(quiet.seconds, 99)), "p99", " s")
    for phase in struck:
        _verdict(f"{phase.name}: the longest wait", float(phase.seconds.max()), "wait", " s")
    for name, percent in found.idle.items():
        _verdict(f"idle {name}", percent, name.split()[0], " %")


def _verdict(what: str, value: float, bar: str, unit: str) -> None:
    word = "met" if value < BARS[bar] else "MISSED"
    people.print(f"{word}: {what} {value:.3g}{unit} (bar {BARS[bar]:g}{unit})")


if __name__ == "__main__":
    app()
