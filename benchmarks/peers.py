"""What zads is measured beside: consume, decode, ask each rule, produce, in two processes of one group.

plain: the loop that everybody writes first, fastavro.reader on each packet.
careful: the schema parsed once for each container header, the body read no further than the rules look.
rubin: fastavro.schemaless_reader with the schema of the id that stands before each packet.

Neither promises exactly once: offsets are committed now and then, messages go out when they go out.
"""

from __future__ import annotations

import io
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from benchmarks.rules import LAST_FIELD_READ, RULES, Packet
from schemas.surveys.lsst.versions import numbered

PROCESSES = 2
_SYNC = 16
_START_SECONDS = 60.0
_LONGEST_SECONDS = 600.0

Decode = Callable[[bytes], Packet]
Rules = dict[str, Callable[[Packet], bool]]


def plain(raw: bytes) -> Packet:
    """The packet of a container file, as in fastavro's documentation."""
    return next(fastavro.reader(io.BytesIO(raw)))


class Careful:
    """Decodes container files of one uncompressed record whose headers were seen before."""

    def __init__(self) -> None:
        self._known: list[tuple[bytes, Any]] = []

    def __call__(self, raw: bytes) -> Packet:
        for header, schema in self._known:
            if raw.startswith(header):
                at = _after_long(raw, _after_long(raw, len(header) + _SYNC))  # records in the block, bytes
                body = io.BytesIO(raw)
                body.seek(at)
                return fastavro.schemaless_reader(body, schema, None)
        self._known.append(_header(raw))
        return self(raw)


def _after_long(raw: bytes, at: int) -> int:
    """Where the value after a variable-length number starts."""
    while raw[at] & 0x80:
        at += 1
    return at + 1


def _header(raw: bytes) -> tuple[bytes, Any]:
    """The container header, which the sync marker follows, and the schema cut after what the rules read."""
    start = io.BytesIO(raw)
    schema: Any = fastavro.reader(start).writer_schema
    names = [field["name"] for field in schema["fields"]]
    fields = schema["fields"][: names.index(LAST_FIELD_READ) + 1]
    header = raw[: start.tell() - _SYNC]
    return header, fastavro.parse_schema({"type": "record", "name": "alert", "fields": fields})


def rubin(raw: bytes) -> Packet:
    """The packet behind Confluent's five bytes."""
    packet: Any = fastavro.schemaless_reader(
        io.BytesIO(raw[5:]), _of_id(int.from_bytes(raw[1:5], "big")), None
    )
    return packet


@cache
def _of_id(number: int) -> Any:
    schema: Any = numbered(number)
    return fastavro.parse_schema(schema)


DECODERS: dict[str, Callable[[], Decode]] = {
    "plain": lambda: plain,
    "careful": Careful,
    "rubin": lambda: rubin,
}


def real(packet: Packet) -> bool:
    """Passes nearly everything: the latency benchmark's channel."""
    rb = packet["candidate"]["rb"]
    return rb is not None and rb >= 0


def everything(packet: Packet) -> bool:
    """Passes all: the burst benchmark's channel."""
    return True


@dataclass(frozen=True)
class Task:
    """What the processes of a peer do. targets: rule -> topic of its alerts; parameters: of some rules."""

    decoder: str
    bootstrap: str
    group: str
    topic: str
    targets: dict[str, str]
    parameters: dict[str, dict[str, float]] = field(default_factory=dict)


class Gate:
    """Starts and ends the processes together: all hold their share before any of them begins."""

    def __init__(self, context: SpawnContext) -> None:
        self.held = context.Array("i", PROCESSES)
        self.open = context.Event()
        self.last = context.Event()  # nothing more will come: end at the ends of the partitions
        self.done = context.Barrier(PROCESSES)  # who left the group earlier would make it rebalance


class Peer:
    """A peer at work. Use as a context manager: within, its processes hold their partitions and wait."""

    def __init__(self, task: Task, partitions: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._gate, self._partitions = Gate(context), partitions
        self._results: Any = context.Queue()
        self._processes: list[SpawnProcess] = [
            context.Process(target=_work, args=(task, number, self._gate, self._results), daemon=True)
            for number in range(PROCESSES)
        ]

    def __enter__(self) -> Peer:
        for process in self._processes:
            process.start()
        deadline = time.monotonic() + _START_SECONDS
        while sum(self._gate.held[:]) != self._partitions or not all(self._gate.held[:]):
            if time.monotonic() > deadline or not all(p.is_alive() for p in self._processes):
                raise RuntimeError(
                    f"a peer's processes hold {self._gate.held[:]} partitions of {self._partitions}"
                )
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if error is not None:
                process.kill()
            process.join()

    def begin(self) -> float:
        """Open the gate; returns the time (time.monotonic)."""
        began = time.monotonic()
        self._gate.open.set()
        return began

    def finish(self) -> tuple[float, float]:
        """When everything was delivered (time.monotonic), and the CPU seconds of both since they began."""
        self._gate.last.set()
        results = [self._results.get(timeout=_LONGEST_SECONDS) for _ in self._processes]
        return max(ended for ended, _ in results), sum(cpu for _, cpu in results)


def _work(task: Task, number: int, gate: Gate, results: Any) -> None:
    every = RULES | {"real": real, "everything": everything}
    rules: Rules = {name: partial(every[name], **task.parameters.get(name, {})) for name in task.targets}
    decode = DECODERS[task.decoder]()
    consumer, producer = _clients(task)
    _take_share(consumer, task.topic, number, gate)
    began = time.process_time()
    left = set(range(gate.held[number]))
    at_end: set[int] = set()
    while not (gate.last.is_set() and len(at_end) == len(left)):
        message = consumer.poll(0.05)
        if message is None:
            producer.poll(0)
        elif message.error() is not None:
            at_end.add(_end_of(message))
        else:
            at_end.discard(message.partition())
            _deliver(producer, rules, task.targets, decode(message.value()), message)
    producer.flush()
    results.put((time.monotonic(), time.process_time() - began))
    gate.done.wait()
    consumer.close()


def _clients(task: Task) -> tuple[Consumer, Producer]:
    servers = {"bootstrap.servers": task.bootstrap}
    reading = {"group.id": task.group, "auto.offset.reset": "earliest", "enable.partition.eof": True}
    quick = {"fetch.queue.backoff.ms": 10}  # or a reader whose queue was full once sleeps for a second
    return Consumer({**servers, **reading, **quick}), Producer(servers)


def _take_share(consumer: Consumer, topic: str, number: int, gate: Gate) -> None:
    """Join the group, say how many partitions are ours now, and wait for the gate to open."""

    def hold(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.pause(partitions)
        gate.held[number] = len(partitions)

    consumer.subscribe([topic], on_assign=hold)
    while not gate.open.is_set():
        consumer.poll(0.01)
    consumer.resume(consumer.assignment())


def _end_of(message: Message) -> int:
    """The partition whose end was reached; raises KafkaException for any other event."""
    error = message.error()
    if error is None or error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    partition = message.partition()
    assert partition is not None
    return partition


def _deliver(
    producer: Producer, rules: Rules, targets: dict[str, str], packet: Packet, message: Message
) -> None:
    source = f"{message.topic()}/{message.partition()}/{message.offset()}".encode()
    for name, rule in rules.items():
        if rule(packet):
            producer.produce(targets[name], message.value(), message.key(), headers=[("source", source)])
    producer.poll(0)
