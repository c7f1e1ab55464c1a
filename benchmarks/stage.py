"""What the benchmarks of the stream stand on: packets, topics filled with them, a timed run, counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from pipeline.broker.client import admin_client, consumer_settings, producer_settings
from pipeline.broker.partition import Partition
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import ChannelSet
from pipeline.channels.config import RunConfig
from pipeline.live.run import Feed, LiveRun
from pipeline.live.told.statistics import Statistics
from pipeline.worker.work import Report, Work
from schemas.packets.packet import read_packet
from simulator import simulate

REAL_PACKETS = Path(__file__).resolve().parents[2] / "shared" / "alerts" / "ztf_4.01"
PARTITIONS = 8
_SIMULATED, _SEED = 1000, 1
_LARGE = {"max.message.bytes": "10000000"}


def packets_of(folder: Path | None) -> tuple[list[bytes], str]:
    """The packets of a folder or, when there is none, public ones of the simulated sky; and what they are."""
    folder = folder or (REAL_PACKETS if REAL_PACKETS.is_dir() else None)
    if folder is not None:
        found = [path.read_bytes() for path in sorted(folder.rglob("*.avro"))]
        if not found:
            raise SystemExit(f"no *.avro packets in {folder}")
        return found, f"{len(found)} packets of {folder.name}"
    found = [alert.packet for alert in simulate(_SIMULATED, _SEED) if alert.programid == 1]
    found = [raw for raw in found if _history_is_public(raw)]
    return found, f"{len(found)} public packets of the simulated sky"


def _history_is_public(raw: bytes) -> bool:
    """Whether every row is public: taking others out is something that the peers do not do."""
    packet = read_packet(raw)[0]
    rows = [*(packet.get("prv_candidates") or []), *(packet.get("fp_hists") or [])]
    return all(row["programid"] == 1 for row in rows)


def fill(bootstrap: str, topic: str, packets: list[bytes], number: int, partitions: int = PARTITIONS) -> None:
    """Put `number` packets, cycled, evenly on the partitions of a new topic."""
    ensure_topics(bootstrap, [topic], partitions, _LARGE)
    producer = Producer(producer_settings(bootstrap))
    for index, packet in enumerate(islice(cycle(packets), number)):
        while len(producer) > 1000:
            producer.poll(0.01)
        # A partition gets whole rounds of the packets: dealt out one by one each would see a few only.
        producer.produce(topic, packet, partition=index // len(packets) % partitions)
    if producer.flush(60):
        raise SystemExit(f"the broker at {bootstrap} did not take the packets")


def make_targets(bootstrap: str, topics: Iterable[str]) -> None:
    """The topics that channels deliver to, as a live run makes them."""
    ensure_topics(bootstrap, list(topics), 1, _LARGE)


def remove(bootstrap: str, topics: Iterable[str]) -> None:
    """Delete topics, so that a long benchmark does not fill the disk."""
    admin = admin_client(bootstrap)  # alive until its futures are done
    for future in admin.delete_topics(list(topics)).values():
        future.result()


def count(bootstrap: str, topic: str) -> int:
    """The committed records of a topic of one partition, read one by one: offsets count markers too."""
    consumer = Consumer(consumer_settings(bootstrap, "benchmark-count"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = 0
    while True:
        for message in consumer.consume(500, 1.0):
            error = message.error()
            if error is None:
                found += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                consumer.close()
                return found
            else:
                raise KafkaException(error)


@dataclass(frozen=True)
class Span:
    """When (time.monotonic) a live run sent out its first batch, and when its last was committed."""

    first_dispatch: float
    last_commit: float


class TimedRun(LiveRun):
    """A live run that notes when work begins and ends, coming up and going down apart."""

    first_dispatch = 0.0
    last_commit = 0.0

    def _make_work(self, partition: Partition, low: int, high: int, flight: int) -> Work:
        self.first_dispatch = self.first_dispatch or time.monotonic()
        return super()._make_work(partition, low, high, flight)

    def settle(self, report: Report) -> None:
        super().settle(report)
        self.last_commit = time.monotonic()


def timed_run(
    config: RunConfig, channels: ChannelSet, scheduler: str, feed: Feed = lambda stopped: None
) -> tuple[Statistics, Span]:
    """`pipeline.live.run.run_live` of everything that is there when `feed` returns, and when it worked."""
    return asyncio.run(_timed(TimedRun(config, channels), scheduler, feed))


async def _timed(run: TimedRun, scheduler: str, feed: Feed) -> tuple[Statistics, Span]:
    statistics = await run.run(scheduler, feed, lambda _: None)
    return statistics, Span(run.first_dispatch, run.last_commit)


def cpu_seconds(pid: int | None) -> float:
    """The CPU seconds that a process has used, user and system; 0 for one that is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def own_cpu_seconds() -> float:
    """The CPU seconds that this process has used."""
    return time.process_time()
