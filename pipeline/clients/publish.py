"""Alert packets into Kafka, each to its survey's nightly topic."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.broker.nightly import Published, Sorter, Unplaced
from pipeline.broker.sender import Delivery, NotDelivered, Outgoing
from schemas.avro.framing import SchemaSource
from schemas.packets.files import PacketFile, PacketFiles

# Packets are decoded in batches: a batch costs about 0.8 ms whatever it holds.
_BATCH_PACKETS = 250
_BATCH_BYTES = 32_000_000
_BATCH_SECONDS = 0.1


@dataclass
class PublishSummary:
    """What became of the packets; while publishing goes on, so far.

    sent: alerts that the broker has acknowledged; objects: distinct objectIds; topics: alerts by topic;
    refused: packets by reason, each now a dead letter; damaged: a sentence for each tarball that ended
    early; bytes: of the sent alerts; seconds: of wall clock; done: fraction of the input read, 0 to 1.
    """

    sent: int = 0
    objects: int = 0
    topics: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0
    done: float = 0.0


Progress = Callable[[PublishSummary], None]


def publish(
    paths: str | Path | Sequence[str | Path],
    bootstrap: str = "localhost:9092",
    topic: str | None = None,
    rate: float | None = None,
    partitions: int = 8,
    progress: Progress | None = None,
    schemas: SchemaSource | None = None,
    **kafka: Any,
) -> PublishSummary:
    """Publish the packets in files, folders and nightly tarballs.

    Alerts are keyed by their exposure (`pid`). A packet's bytes are never changed; a file with several alerts
    is split into one packet for each.

    Parameters
    ----------
    paths
        Files, folders (recursively) and nightly tarballs (streamed); one or several.
    bootstrap
        Of the Kafka broker, "host:port".
    topic
        For all alerts; where left out each goes to its survey's own topic (`ztf_YYYYMMDD_programidN`), and
        one whose topic cannot be told to the dead letters, with the reason and the file's name.
    rate
        alerts/s; as fast as possible where left out.
    partitions
        Of the topics that are created.
    progress
        Is told after each batch how far it is.
    schemas
        Where the schemas of packets with Confluent framing are.
    kafka
        librdkafka's own keys, such as **{"security.protocol": "SASL_SSL"}.

    Returns
    -------
    PublishSummary
        What became of the packets.

    Raises
    ------
    NoSuchPackets
        For a path that is not there.
    BrokerError
        When no broker answers.
    NotDelivered
        When the broker stops taking alerts.
    """
    files = PacketFiles([paths] if isinstance(paths, (str, Path)) else paths)
    with _Publisher(bootstrap, topic, rate, partitions, Sorter(schemas), kafka) as publisher:
        summary = publisher.summary
        for batch in _batches(files, rate):
            publisher.send(batch)
            summary.damaged = files.damaged
            summary.done = files.read_bytes / max(files.total_bytes, 1)
            if progress is not None:
                progress(summary)
    summary.damaged = files.damaged
    return summary


def publish_packets(
    packets: Iterable[bytes],
    bootstrap: str = "localhost:9092",
    topic: str | None = None,
    rate: float | None = None,
    partitions: int = 8,
    progress: Progress | None = None,
    schemas: SchemaSource | None = None,
    **kafka: Any,
) -> PublishSummary:
    """Like `publish`, for packets in memory.

    Parameters
    ----------
    packets
        A list, or a generator of any length.
    bootstrap
        Address of the broker, host:port.
    topic
        The topic of all packets; None: each survey's own.
    rate
        Most alerts a second; None: no limit.
    partitions
        Partitions of topics that are created.
    progress
        Called with the summary so far after each batch.
    schemas
        Where the schemas of packets with Confluent framing are looked up.
    kafka
        librdkafka's own keys.

    Raises
    ------
    BrokerError
        When no broker answers.
    NotDelivered
        When the broker does not take an alert.
    """
    with _Publisher(bootstrap, topic, rate, partitions, Sorter(schemas), kafka) as publisher:
        for batch in _batches((PacketFile("", raw) for raw in packets), rate):
            publisher.send(batch)
            if progress is not None:
                progress(publisher.summary)
    return publisher.summary


def _batches(files: Iterable[PacketFile], rate: float | None) -> Iterator[list[PacketFile]]:
    """Bounded in number, bytes and time, so that neither memory nor a slow source's alerts pile up."""
    most = _BATCH_PACKETS if rate is None else max(1, min(_BATCH_PACKETS, int(rate * _BATCH_SECONDS)))
    batch: list[PacketFile] = []
    size, due = 0, time.monotonic() + _BATCH_SECONDS
    for file in files:
        batch.append(file)
        size += len(file.raw)
        if len(batch) >= most or size >= _BATCH_BYTES or time.monotonic() > due:
            yield batch
            batch, size, due = [], 0, time.monotonic() + _BATCH_SECONDS
    if batch:
        yield batch


class _Publisher:
    """Sends each packet to its topic, or to the dead letters; `__exit__` waits for the broker."""

    def __init__(
        self,
        bootstrap: str,
        topic: str | None,
        rate: float | None,
        partitions: int,
        sorter: Sorter,
        kafka: dict[str, Any],
    ) -> None:
        self._topic, self._sorter = topic, sorter
        self._began = time.monotonic()
        self._delivery = Delivery(bootstrap, partitions, rate, kafka)
        self.summary = PublishSummary()

    def __enter__(self) -> _Publisher:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, NotDelivered):
            self._delivery.give_up()
        elif error is not None:
            self._delivery.finish_soon()
        else:
            self._delivery.finish()
        self._note_progress()

    def send(self, files: Sequence[PacketFile]) -> None:
        """Hand one batch over. Raises NotDelivered as soon as an alert is known not to have been taken."""
        for file, found in zip(files, self._sorter.sort([file.raw for file in files]), strict=True):
            if isinstance(found, list):
                for packet in found:
                    self._place(file, packet)
            elif self._topic is not None:
                self._delivery.send(Outgoing(self._topic, None, file.raw, file.name))
            else:
                self._delivery.refuse(Outgoing("", None, file.raw, file.name), found.reason, str(found))
        self._delivery.settle()
        self._note_progress()

    def _place(self, file: PacketFile, packet: Published) -> None:
        alert = Outgoing("", packet.key, packet.raw, file.name, packet.candid, packet.objectId)
        try:
            topic = self._topic or packet.topic
        except Unplaced as error:
            self._delivery.refuse(alert, error.reason, str(error))
        else:
            self._delivery.send(replace(alert, topic=topic))

    def _note_progress(self) -> None:
        taken = self._delivery
        self.summary.sent, self.summary.bytes = taken.topics.total(), taken.bytes
        self.summary.topics, self.summary.refused = taken.topics, taken.refused
        self.summary.objects = len(taken.objects)
        self.summary.seconds = time.monotonic() - self._began
