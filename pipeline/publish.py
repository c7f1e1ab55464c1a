"""Alert packets into Kafka, each to its survey's nightly topic."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.dead_letters import TOPIC as DEAD_LETTERS
from pipeline.dead_letters import dead_letter_record
from pipeline.kafka import (
    MESSAGE_MAX_BYTES,
    SIZED,
    BrokerError,
    ensure_topics,
    producer_settings,
    sentence,
    wait_for_broker,
)
from pipeline.nightly import Published, Sorter, Unplaced
from pipeline.packet_files import PacketFile, PacketFiles
from schemas.errors import PacketError
from schemas.framing import SchemaSource

# Packets are decoded in batches: a batch costs about 0.8 ms whatever it holds.
_BATCH_PACKETS = 250
_BATCH_BYTES = 32_000_000
_BATCH_SECONDS = 0.1
_INTERRUPTED_SECONDS = 10.0
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


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


class NotDelivered(BrokerError):
    """The broker did not take an alert; `summary` says what it had taken until then."""

    def __init__(self, message: str, summary: PublishSummary) -> None:
        super().__init__(message)
        self.summary = summary


def publish(
    paths: Sequence[str | Path],
    bootstrap: str = "localhost:9092",
    topic: str | None = None,
    rate: float | None = None,
    partitions: int = 8,
    progress: Progress | None = None,
    schemas: SchemaSource | None = None,
    **kafka: Any,
) -> PublishSummary:
    """Publish the packets in files, folders (recursively) and nightly tarballs (streamed).

    Each alert goes to its survey's nightly topic, `ztf_YYYYMMDD_programidN`, unless `topic` is given, and
    is keyed by its exposure (`pid`). Topics are created with `partitions` partitions. A packet whose
    topic cannot be told goes to the dead letters with the reason and the file's name; with `topic`
    nothing is refused, and a packet's bytes are never changed. A file with several alerts is split into
    one packet for each. rate: alerts/s, as fast as possible without. kafka: librdkafka's own keys.

    Raises NoSuchPackets for a path that is not there, BrokerError when no broker answers and its kin
    NotDelivered when one stops taking alerts.
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
    """Like `publish`, for packets in memory: a list, or a generator of any length."""
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
    """An idempotent producer with its counts. Leaving it waits until the broker has taken everything."""

    def __init__(
        self,
        bootstrap: str,
        topic: str | None,
        rate: float | None,
        partitions: int,
        sorter: Sorter,
        kafka: dict[str, Any],
    ) -> None:
        self._bootstrap, self._topic, self._partitions, self._kafka = bootstrap, topic, partitions, kafka
        self._sorter = sorter
        self._pace = None if rate is None else _Pace(rate)
        self._topics: set[str] = set()
        self._objects: set[str] = set()
        self._failure: str | None = None
        self._oversize: list[tuple[PacketFile, Published | None, KafkaError]] = []
        self._began = time.monotonic()
        self.summary = PublishSummary()
        wait_for_broker(bootstrap, **kafka)
        self._producer = Producer(producer_settings(bootstrap, **kafka))

    def __enter__(self) -> _Publisher:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, NotDelivered):
            self._producer.purge()
            self._producer.flush(1)
        elif error is not None:
            # Interrupted: what was handed over still goes out, if it can be done soon.
            self._producer.flush(_INTERRUPTED_SECONDS)
        else:
            self._producer.flush()
            self._note_progress()
            self._producer.flush()
            self._fail_loudly()

    def send(self, files: Sequence[PacketFile]) -> None:
        """Hand one batch over. Raises NotDelivered as soon as an alert is known not to have been taken."""
        for file, found in zip(files, self._sorter.sort([file.raw for file in files]), strict=True):
            if isinstance(found, list):
                for packet in found:
                    self._place(file, packet)
            elif self._topic is not None:
                self._produce(file, self._topic, file.raw, None, None)
            else:
                self._refuse(file, found)
        self._note_progress()

    def _place(self, file: PacketFile, packet: Published) -> None:
        try:
            topic = self._topic or packet.topic
        except Unplaced as error:
            self._refuse(PacketFile(file.name, packet.raw), error, packet)
        else:
            self._produce(file, topic, packet.raw, packet.key, packet)

    def _produce(
        self, file: PacketFile, topic: str, raw: bytes, key: bytes | None, packet: Published | None
    ) -> None:
        if self._pace is not None:
            self._pace.wait(self._producer)
        self._ensure(topic, self._partitions)
        delivered = partial(self._delivered, PacketFile(file.name, raw), packet)
        try:
            self._hand_over(topic=topic, key=key, value=raw, on_delivery=delivered)
        except KafkaException as error:
            if error.args[0].code() not in _TOO_LARGE:
                raise NotDelivered(sentence(error.args[0]), self.summary) from None
            self._oversize.append((file, packet, error.args[0]))

    def _hand_over(self, **message: Any) -> None:
        """Produce, waiting while the client's queue is full: that bounds the memory."""
        while True:
            try:
                self._producer.produce(**message)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.1)
                self._fail_loudly()

    def _delivered(
        self, file: PacketFile, packet: Published | None, error: KafkaError | None, message: Message
    ) -> None:
        if error is None:
            self.summary.sent += 1
            self.summary.bytes += len(file.raw)
            self.summary.topics[message.topic()] += 1
            if packet is not None and packet.objectId is not None:
                self._objects.add(packet.objectId)
        elif error.code() in _TOO_LARGE:
            self._oversize.append((file, packet, error))
        elif self._failure is None:
            self._failure = f"{message.topic()} at {self._bootstrap} did not take an alert: {sentence(error)}"

    def _refuse(
        self,
        file: PacketFile,
        error: PacketError | Unplaced,
        packet: Published | None = None,
        largest: int = MESSAGE_MAX_BYTES,
    ) -> None:
        self.summary.refused[error.reason] += 1
        self._ensure(DEAD_LETTERS, 1)
        record = dead_letter_record(
            stage="publish",
            reason=error.reason,
            detail=str(error),
            value=file.raw,
            file=file.name or None,
            candid=packet and packet.candid,
            objectId=packet and packet.objectId,
            largest=largest,
        )
        self._hand_over(**record, on_delivery=self._dead_lettered)

    def _refuse_oversize(self) -> None:
        """What the broker, or the client before it, found too large becomes a dead letter by reference."""
        while self._oversize:
            file, packet, error = self._oversize.pop()
            refusal = Unplaced("oversize", f"{len(file.raw):,} bytes: {sentence(error)}")
            self._refuse(file, refusal, packet, largest=0)

    def _dead_lettered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"{message.topic()} did not take a dead letter: {sentence(error)}"

    def _ensure(self, topic: str, partitions: int) -> None:
        if topic not in self._topics:
            ensure_topics(self._bootstrap, [topic], partitions, SIZED, **self._kafka)
            self._topics.add(topic)

    def _note_progress(self) -> None:
        self._refuse_oversize()
        self.summary.objects = len(self._objects)
        self.summary.seconds = time.monotonic() - self._began
        self._fail_loudly()

    def _fail_loudly(self) -> None:
        if self._failure is not None:
            taken = f"{self.summary.sent:,} alerts had been taken"
            raise NotDelivered(f"{self._failure} ({taken})", self.summary)


class _Pace:
    """Alerts evenly spaced in time."""

    def __init__(self, rate: float) -> None:
        self._step = 1.0 / rate
        self._next = time.monotonic()

    def wait(self, producer: Producer) -> None:
        """Return when the next alert is due; time lost by a slow source is not made up for in a burst."""
        while (left := self._next - time.monotonic()) > 0:
            producer.poll(left)
        self._next = max(self._next, time.monotonic() - 1.0) + self._step
