"""From packets on a broker to alerts in ten channels: zads, exactly once, beside two loops of plain Python.

The broker runs on this machine and holds the packets before the clock starts. Everything is up by then: for
zads the Dask cluster, from the first batch sent out to the last one committed; for the peers two processes
that hold their partitions. Those never wait; a worker of ours waits for the broker half of its time, so there
are three of them on the same cores. What it takes to come up is printed beside it. Runs alternate, so that
whatever else the machine does falls on all of them alike.

Example: `python -m benchmarks.end_to_end --number 4000 --runs 1`
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PROCESSES, Peer, Task
from benchmarks.rules import RULES, STRICT
from benchmarks.stage import (
    PARTITIONS,
    count,
    cpu_seconds,
    fill,
    make_targets,
    own_cpu_seconds,
    packets_of,
    remove,
    timed_run,
)
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from pipeline.channels.config import ChannelConfig, channel_set, read_config

WAYS = ("zads", "plain", "careful")
BARS = {"rate": 3000.0, "plain": 5.0, "careful": 3.0}
WORKERS = 3
_TOPIC = "ztf_20231012_programid1"
people = Console()


@dataclass
class Measured:
    """One run: alerts a second, wall seconds with coming up and going down, CPU µs an alert by process."""

    rate: float
    wall: float
    delivered: dict[str, int]
    cpu: dict[str, float]
    stages: dict[str, float] = field(default_factory=dict)


@dataclass
class Stage:
    """What the runs share."""

    broker: Broker
    number: int
    parameters: dict[str, dict[str, float]]
    settings: dict[str, Any]
    runs: Counter[str] = field(default_factory=Counter)

    def measure(self, way: str) -> Measured:
        """One run of `way` with a new group and new channel topics."""
        self.runs[way] += 1
        name = f"{way}-{self.runs[way]}"
        bootstrap, before = self.broker.bootstrap_servers, cpu_seconds(self.broker.pid)
        targets = {rule: f"channel.{rule}-{name}" for rule in RULES}
        began = time.monotonic()
        measured = self._zads(name) if way == "zads" else self._peer(way, name, targets)
        measured.wall = time.monotonic() - began
        measured.cpu["broker"] = self._micro(cpu_seconds(self.broker.pid) - before)
        measured.delivered = {rule: count(bootstrap, topic) for rule, topic in targets.items()}
        remove(bootstrap, targets.values())
        return measured

    def _zads(self, name: str) -> Measured:
        config = read_config(
            bootstrap_servers=self.broker.bootstrap_servers,
            group=name,
            topics=_TOPIC,
            channels={
                f"{rule}-{name}": ChannelConfig(filter=rule, parameters=dict(self.parameters.get(rule, {})))
                for rule in RULES
            },
            **self.settings,
        )
        channels = channel_set(config)
        with local_cluster(workers=WORKERS) as cluster:
            workers = [nanny.pid for nanny in cluster.workers.values()]
            before = [own_cpu_seconds(), *map(cpu_seconds, workers)]
            done, span = timed_run(config, channels, cluster.scheduler_address)
            after = [own_cpu_seconds(), *map(cpu_seconds, workers)]
        used = [now - then for now, then in zip(after, before, strict=True)]
        if done.records != self.number:
            raise SystemExit(f"zads read {done.records:,} records, not {self.number:,}")
        return Measured(
            rate=self.number / (span.last_commit - span.first_dispatch),
            wall=0.0,
            delivered={},
            cpu={"workers": self._micro(sum(used[1:])), "coordinator": self._micro(used[0])},
            stages={stage: self._micro(seconds) for stage, seconds in done.seconds.items()},
        )

    def _peer(self, way: str, name: str, targets: dict[str, str]) -> Measured:
        bootstrap = self.broker.bootstrap_servers
        make_targets(bootstrap, targets.values())
        task = Task(way, bootstrap, name, _TOPIC, targets, self.parameters)
        with Peer(task, PARTITIONS) as peer:
            began = peer.begin()
            ended, cpu = peer.finish()
        return Measured(self.number / (ended - began), 0.0, {}, {"workers": self._micro(cpu)})

    def _micro(self, seconds: float) -> float:
        """Microseconds an alert."""
        return seconds * 1e6 / self.number


def compare(stage: Stage, runs: int) -> dict[str, list[Measured]]:
    """`runs` runs of each way, alternating."""
    measured: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for run in range(1, runs + 1):
        for way in WAYS:
            found = stage.measure(way)
            measured[way].append(found)
            people.print(f"run {run} of {runs}, {way}: {found.rate:,.0f} alerts/s, {found.wall:.1f} s in all")
    return measured


def _rates_table(measured: dict[str, list[Measured]], number: int) -> Table:
    table = Table(
        title=f"{number:,} alerts through {len(RULES)} channels: {WORKERS} workers, {PROCESSES} processes"
    )
    for column in ("", "alerts/s min", "median", "max", "zads is faster by", "wall s, start included"):
        table.add_column(column, justify="left" if not column else "right")
    zads = median(run.rate for run in measured["zads"])
    for way, runs in measured.items():
        rates = [run.rate for run in runs]
        table.add_row(
            way,
            *(f"{rate:,.0f}" for rate in (min(rates), median(rates), max(rates))),
            "" if way == "zads" else f"{zads / median(rates):.1f} ×",
            f"{median(run.wall for run in runs):.1f}",
        )
    return table


def _cost_table(measured: dict[str, list[Measured]]) -> Table:
    """Where the time goes, medians over the runs."""
    table = Table(title="µs an alert (CPU: coming up included)")
    table.add_column("")
    table.add_column("CPU of whole processes", justify="left")
    table.add_column("the task's own clock, by stage", justify="left")
    for way, runs in measured.items():
        cpu = {name: median(run.cpu[name] for run in runs) for name in runs[0].cpu}
        stages = {name: median(run.stages[name] for run in runs) for name in runs[0].stages}
        table.add_row(way, _listed({**cpu, "sum": sum(cpu.values())}), _listed(stages))
    return table


def _listed(micros: dict[str, float]) -> str:
    return ", ".join(f"{name} {micro:.0f}" for name, micro in micros.items())


def _verdict(measured: dict[str, list[Measured]]) -> bool:
    """Prints what each way delivered and whether the bars are met; false when deliveries differ."""
    zads = median(run.rate for run in measured["zads"])
    for name, bar in BARS.items():
        value = zads if name == "rate" else zads / median(run.rate for run in measured[name])
        what = "alerts/s" if name == "rate" else f"times the {name} loop"
        people.print(f"{'met' if value >= bar else 'MISSED'}: {value:,.1f} {what} (bar {bar:,.0f})")
    deliveries = [run.delivered for runs in measured.values() for run in runs]
    agreed = all(delivered == deliveries[0] for delivered in deliveries)
    if agreed:
        total = sum(deliveries[0].values())
        people.print(f"every run delivered the same {total:,} alerts: {_counts(deliveries[0])}")
    else:
        for way, runs in measured.items():
            for run in runs:
                people.print(f"[red]deliveries differ[/]: {way} {_counts(run.delivered)}")
    return agreed


def _counts(delivered: dict[str, int]) -> str:
    return ", ".join(f"{name} {found:,}" for name, found in delivered.items())


def main(
    alerts: Annotated[
        Path | None, typer.Option(help="Folder of packets.", show_default="real ones, else simulated")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Alerts on the broker.")] = 30_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each way.")] = 5,
    messages: Annotated[
        int | None, typer.Option(min=1, help="Records a batch.", show_default="as configured")
    ] = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Every threshold at its default: five alerts in eight go out.")
    ] = False,
) -> None:
    """Alerts a second from the broker to ten channels, zads beside two loops of plain Python."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    settings = {"dispatch": {"messages": messages}} if messages else {}
    packets, described = packets_of(alerts)
    size = sum(map(len, packets)) / len(packets) / 1000
    with Broker() as broker:
        fill(broker.bootstrap_servers, _TOPIC, packets, number)
        people.print(
            f"{described}, {size:.0f} kB each, cycled, on {PARTITIONS} partitions of one broker here"
        )
        parameters = {} if defaults else STRICT
        measured = compare(Stage(broker, number, parameters, settings), runs)
    people.print(_rates_table(measured, number))
    people.print(_cost_table(measured))
    if not _verdict(measured):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
