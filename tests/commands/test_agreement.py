"""Live = replay, shown by `zads demo`: the comparison itself, with a record missing on one side."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Producer
from rich.console import Console

from archive.read.archive import Archive
from archive.replay.replay import replay
from cluster.kafka.broker import Broker
from commands.demo.agreement import Agreement, agreement_table, agreements, archive_topics
from filters import load
from pipeline.broker.client import producer_settings
from pipeline.broker.topics import ensure_topics
from pipeline.channels.channel import Channel, ChannelSet
from pipeline.clients.publish import publish_packets
from simulator import simulate

NIGHT = "agreement_night"


@pytest.fixture(scope="module")
def folder(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a night that was published."""
    packets = [alert.packet for alert in simulate(200, 4, stamps=False)]
    publish_packets(packets, broker.bootstrap_servers, topic=NIGHT, partitions=2)
    folder = tmp_path_factory.mktemp("agreement") / "archive"
    assert archive_topics(broker.bootstrap_servers, f"^{NIGHT}$", folder) == len(packets)
    return folder


def passing(folder: Path) -> list[str]:
    """The source records that real_bogus lets through, as the header `source` has them."""
    rows = replay("real_bogus", Archive(folder), versions="all").matches
    places = zip(rows["_topic"], rows["_partition"], rows["_offset"], strict=True)
    return [f"{topic}/{partition}/{offset}" for topic, partition, offset in places]


def compared(broker: Broker, folder: Path, name: str, sources: list[str]) -> Agreement:
    """A channel that has delivered these records, beside its replay."""
    channel = Channel(name, load("real_bogus"))
    ensure_topics(broker.bootstrap_servers, [channel.topic])
    producer = Producer(producer_settings(broker.bootstrap_servers))
    for source in sources:
        producer.produce(channel.topic, b"", headers={"source": source})
    producer.flush()
    [found] = agreements(broker.bootstrap_servers, ChannelSet((channel,)), folder)
    return found


def test_the_same_on_both_sides(broker: Broker, folder: Path) -> None:
    every = passing(folder)
    assert every
    assert compared(broker, folder, "same", every) == Agreement("same", len(every), len(every), 0)


@pytest.mark.parametrize(
    ("name", "live", "differing"),
    [
        ("missing", lambda every: every[1:], 1),
        ("nothing_live", lambda every: [], None),
        ("twice", lambda every: [*every, every[0]], 1),
        ("too_many", lambda every: [*every, f"{NIGHT}/0/999999"], 1),
        ("another_instead", lambda every: [*every[1:], f"{NIGHT}/0/999999"], 2),
    ],
)
def test_a_record_on_one_side_only_counts(
    broker: Broker, folder: Path, name: str, live: object, differing: int | None
) -> None:
    every = passing(folder)
    delivered = live(every)  # type: ignore[operator]
    found = compared(broker, folder, name, delivered)
    assert (found.live, found.replayed) == (len(delivered), len(every))
    assert found.differing == (len(every) if differing is None else differing)
    console = Console(width=100)
    with console.capture() as said:
        console.print(agreement_table([found]))
    assert f"{found.differing:,} differ" in said.get()
