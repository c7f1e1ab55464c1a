"""From the moment a packet is produced until a consumer of a channel holds it: zads beside the plain loop.

Packets come evenly, 300 a second, into a topic of eight partitions while ten channels run; one of them,
real_bogus with rb_min=0, passes nearly everything, and a consumer that sees committed messages only reads its
topic. The start is the record's own CreateTime, the end the consumer's clock on the same machine; the header
`source` says which record an alert was. Some alerts go through before the clock starts.

Example: `python -m benchmarks.latency --seconds 10`
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from confluent_kafka import Consumer, KafkaError, Message, Producer
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PROCESSES, Peer, Task
from benchmarks.rules import RULES
from benchmarks.stage import PARTITIONS, fill, make_targets, packets_of, timed_run
from cluster.dask.local import local_cluster
from cluster.kafka.broker import Broker
from pipeline.broker.client import consumer_settings, producer_settings
from pipeline.channels.config import ChannelConfig, channel_set, read_config

BARS = {50: 0.2, 99: 0.6}
WARM = 400  # alerts through everything before the clock starts
_REPLACED = "star_galaxy"  # by the channel that is watched, so that there are ten
_PATIENCE_SECONDS = 60.0
_context = multiprocessing.get_context("spawn")
people = Console()


@dataclass(frozen=True)
class Load:
    """What is sent: these packets over and over, `rate` a second for `seconds`, in turn to each partition.

    warm: alerts that are to be through before the clock starts.
    """

    packets: list[bytes]
    rate: float
    seconds: float
    partitions: int = PARTITIONS
    warm: int = WARM

    @property
    def alerts(self) -> int:
        """How many in all."""
        return round(self.rate * self.seconds)


class Wire:
    """Topics and the channel's topic that their alerts come out of, with what both ends share."""

    def __init__(self, bootstrap: str, topic: str, channel: str, more_topics: Sequence[str] = ()) -> None:
        self.bootstrap, self.topic, self.channel = bootstrap, topic, channel
        self.topics = [topic, *more_topics]
        self.arrived = _context.Value("i", 0)
        self.done = _context.Event()
        self.asked = _context.Event()
        self.sent: Any = _context.Queue()  # one dictionary: source -> CreateTime (s)
        self.received: Any = _context.Queue()  # whenever asked: one list of (source, time of arrival in s)


class Watch:
    """Sends a load down a wire and times it. A context manager: within, the receiver reads."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self._so_far = wire, 0
        self._receiver = _context.Process(target=_receive, args=(wire,), daemon=True)

    def __enter__(self) -> Watch:
        self._receiver.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._receiver.kill()
        self._receiver.join()

    def send(self, load: Load) -> None:
        """Send everything, from a process of its own, and wait until it has arrived."""
        sender: SpawnProcess = _context.Process(target=_send, args=(self._wire, load), daemon=True)
        sender.start()
        self._sent: dict[str, float] = self._wire.sent.get(timeout=load.seconds + 3 * _PATIENCE_SECONDS)
        sender.join()
        self._so_far += len(self._sent)
        _wait_for(self._wire, load.warm + self._so_far)

    @property
    def offered_seconds(self) -> float:
        """From the first alert offered to the last: longer than asked for when the broker is slow."""
        return max(self._sent.values()) - min(self._sent.values())

    def so_far(self) -> np.ndarray:
        """Seconds from production to arrival of the last load; more may be sent afterwards.

        Raises RuntimeError if an alert came twice.
        """
        self._wire.asked.set()
        received = [(source, at) for source, at in self._wire.received.get() if source in self._sent]
        if len(received) != len({source for source, _ in received}):
            raise RuntimeError(f"alerts came twice into {self._wire.channel}")
        return np.array([at - self._sent[source] for source, at in received])

    def latencies(self) -> np.ndarray:
        """As `so_far`, when nothing more is sent."""
        found = self.so_far()
        self._wire.done.set()
        return found


def _send(wire: Wire, load: Load) -> None:
    """Wait until the first alerts are through, then produce at the rate."""
    producer = Producer(producer_settings(wire.bootstrap))
    sent: dict[str, float] = {}

    def note(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise RuntimeError(f"the broker did not take a packet: {error}")
        sent[_place(message)] = message.timestamp()[1] / 1000

    _wait_for(wire, load.warm)
    time.sleep(1)
    began = time.monotonic()
    for number, packet in enumerate(islice(cycle(load.packets), load.alerts)):
        while (early := began + number / load.rate - time.monotonic()) > 0:
            producer.poll(early)  # returns at each delivery report
        topic, partition = wire.topics[number % len(wire.topics)], number // len(wire.topics)
        while not _taken(producer, topic, packet, partition % load.partitions, note):
            producer.poll(0.01)
    producer.flush(_PATIENCE_SECONDS)
    wire.sent.put(sent)


def _taken(producer: Producer, topic: str, packet: bytes, partition: int, note: Any) -> bool:
    """Whether the producer had room for the packet."""
    try:
        producer.produce(topic, packet, partition=partition, on_delivery=note)
    except BufferError:
        return False
    return True


def _receive(wire: Wire) -> None:
    """Read the channel until told to stop."""
    consumer = Consumer(consumer_settings(wire.bootstrap, f"reader-of-{wire.channel}"))
    consumer.subscribe([wire.channel])
    received: list[tuple[str, float]] = []
    while not wire.done.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            received.append((dict(message.headers())["source"].decode(), time.time()))
            wire.arrived.value = len(received)
        if wire.asked.is_set():
            wire.asked.clear()
            wire.received.put(received)
    consumer.close()


def _wait_for(wire: Wire, alerts: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while wire.arrived.value < alerts:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{wire.arrived.value} of {alerts} alerts arrived in {wire.channel}")
        time.sleep(0.05)


def _place(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def zads(bootstrap: str, load: Load) -> np.ndarray:
    """The latencies of a live run with ten channels on two workers."""
    wire = Wire(bootstrap, "ztf_20231012_programid1", "channel.watched")
    prepare(wire, load)
    chosen = {name: ChannelConfig(filter=name) for name in RULES if name != _REPLACED}
    chosen["watched"] = ChannelConfig(filter="real_bogus", parameters={"rb_min": 0})
    config = read_config(bootstrap_servers=bootstrap, group="zads", topics=wire.topic, channels=chosen)
    with local_cluster(workers=PROCESSES) as cluster, Watch(wire) as watch:
        address = cluster.scheduler_address
        timed_run(config, channel_set(config), address, feed=lambda stopped: watch.send(load))
        return watch.latencies()


def plain(bootstrap: str, load: Load) -> np.ndarray:
    """The latencies of the plain loop in two processes, with the same ten rules."""
    wire = Wire(bootstrap, "plain_in", "plain_watched")
    prepare(wire, load)
    targets = {name: f"plain_{name}" for name in RULES if name != _REPLACED} | {"real": wire.channel}
    make_targets(bootstrap, targets.values())
    with (
        Watch(wire) as watch,
        Peer(Task("plain", bootstrap, "plain", wire.topic, targets), PARTITIONS) as peer,
    ):
        peer.begin()
        watch.send(load)
        peer.finish()
        return watch.latencies()


def prepare(wire: Wire, load: Load) -> None:
    """The topics at both ends, and the alerts that go through before the clock starts, in each partition."""
    make_targets(wire.bootstrap, [wire.channel])
    few = load.packets[: max(1, load.warm // load.partitions)]
    fill(wire.bootstrap, wire.topic, few, load.warm, load.partitions)


def table_of(latencies: dict[str, np.ndarray], rate: float) -> Table:
    """The percentiles of each way, in seconds."""
    table = Table(title=f"Seconds from produce to a read_committed consumer, {rate:g} alerts/s")
    for column in ("", "alerts", "p50", "p90", "p99", "max"):
        table.add_column(column, justify="right" if column else "left")
    for way, seconds in latencies.items():
        points = [f"{np.percentile(seconds, p):.3f}" for p in (50, 90, 99, 100)]
        table.add_row(way, f"{len(seconds):,}", *points)
    return table


def main(
    alerts: Annotated[
        Path | None, typer.Option(help="Folder of packets.", show_default="real ones, else simulated")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Alerts a second.")] = 300,
    seconds: Annotated[float, typer.Option(min=1, help="How long each way is measured.")] = 30,
) -> None:
    """Seconds from a packet on the broker to its alert at a consumer, zads beside the plain loop."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    packets, described = packets_of(alerts)
    load = Load(packets, rate, seconds)
    people.print(
        f"{described}; one broker, {PARTITIONS} partitions, ten channels, {PROCESSES} processes each"
    )
    with Broker() as broker:
        latencies = {way.__name__: way(broker.bootstrap_servers, load) for way in (zads, plain)}
    people.print(table_of(latencies, rate))
    for percent, bar in BARS.items():
        value = float(np.percentile(latencies["zads"], percent))
        people.print(f"{'met' if value < bar else 'MISSED'}: {percent} % within {value:.3f} s (bar {bar} s)")


if __name__ == "__main__":
    typer.run(main)
