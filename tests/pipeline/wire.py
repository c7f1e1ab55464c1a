"""A TCP proxy before a broker that understands enough of Kafka's protocol to answer a Produce itself.

Clients connect to the proxy, which puts its own port into every address that the broker names. Requests and
answers go through as they are, except that a `Fault` may answer a Produce instead of the broker.

Source: the Kafka protocol guide, https://kafka.apache.org/protocol (Produce, api key 0, versions 3 to 12).
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pipeline.broker.partition import Partition

PRODUCE = 0
NOT_LEADER_OR_FOLLOWER = 6
DUPLICATE_SEQUENCE_NUMBER = 46
DUPLICATE_SEQUENCE_NUMBER = 46
_FLEXIBLE = 9  # the first version of Produce with compact lengths and tagged fields
_NO_TIME = struct.pack(">q", -1)


@dataclass(frozen=True)
class Produce:
    """One Produce request: which partitions it writes to. number: of its kind through this proxy, from 1."""

    version: int
    correlation: int
    partitions: tuple[Partition, ...]


@dataclass(frozen=True)
class Answer:
    """What a client is told instead of the broker's answer.

    code: called when the answer is due (it may wait) and gives the error code. written: whether the broker
    has the request all the same.
    """

    code: Callable[[], int]
    written: bool = False


Fault = Callable[[Produce], Answer | None]
"""What to do with a Produce: None passes it and its answer on."""


class FirstProduceRefused:
    """Answers the first Produce to each partition with NOT_LEADER_OR_FOLLOWER and passes what follows.

    The answer waits until the client has another request for the partition under way, or for `seconds`: a
    client that has several requests in flight then always has one behind the refused one.
    """

    def __init__(self, topic: str, seconds: float = 0.4) -> None:
        self.topic, self.refused = topic, 0
        self._seconds = seconds
        self._behind: dict[Partition, threading.Event] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Produce) -> Answer | None:
        (partition,) = request.partitions  # librdkafka has one partition in a request
        if partition.topic != self.topic:
            return None
        with self._lock:
            if partition in self._behind:
                self._behind[partition].set()
                return None
            behind = self._behind[partition] = threading.Event()
            self.refused += 1

        def answer() -> int:
            behind.wait(self._seconds)
            return NOT_LEADER_OR_FOLLOWER

        return Answer(answer)


class Wire:
    """A proxy before the broker at 127.0.0.1:`port`. Use as a context manager; `bootstrap` is its address."""

    def __init__(self, port: int, fault: Fault = lambda request: None) -> None:
        self.fault = fault
        self._broker = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._server]
        self.port: int = self._server.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
                self._sockets += [client, broker]
                answers: queue.SimpleQueue[Callable[[], bytes | None]] = queue.SimpleQueue()
                threading.Thread(target=self._requests, args=(client, broker, answers), daemon=True).start()
                threading.Thread(target=self._answers, args=(client, answers), daemon=True).start()

    def _requests(
        self,
        client: socket.socket,
        broker: socket.socket,
        answers: queue.SimpleQueue[Callable[[], bytes | None]],
    ) -> None:
        """Pass requests on; the answers are due in the order of the requests."""
        with contextlib.suppress(OSError):
            while (request := frame(client)) is not None:
                produce = _parsed(request) if request[:2] == b"\0\0" else None
                fault = self.fault(produce) if produce is not None else None
                if fault is None or fault.written:
                    broker.sendall(framed(request))
                if fault is None:
                    answers.put(lambda: self._readdressed(frame(broker)))
                else:
                    answers.put(partial(_instead, broker, produce, fault))
        answers.put(lambda: None)
        with contextlib.suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def _answers(self, client: socket.socket, answers: queue.SimpleQueue[Callable[[], bytes | None]]) -> None:
        with contextlib.suppress(OSError):
            while (answer := answers.get()()) is not None:
                client.sendall(framed(answer))
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _readdressed(self, answer: bytes | None) -> bytes | None:
        """The broker's address is a host followed by a port of four bytes."""
        theirs, ours = (b"127.0.0.1" + struct.pack(">i", port) for port in (self._broker, self.port))
        return None if answer is None else answer.replace(theirs, ours)


def _instead(broker: socket.socket, produce: Produce, fault: Answer) -> bytes:
    if fault.written:
        frame(broker)
    return _refusal(produce, fault.code())


def frame(sender: socket.socket) -> bytes | None:
    head = _exactly(sender, 4)
    return None if head is None else _exactly(sender, struct.unpack(">i", head)[0])


def _exactly(sender: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        received = sender.recv(min(size - len(parts), 1 << 20))
        if not received:
            return None
        parts += received
    return bytes(parts)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


class _Reader:
    """Kafka's types, one after another; flexible versions write lengths as varints, plus one."""

    def __init__(self, body: bytes, flexible: bool) -> None:
        self._body, self._at, self._flexible = body, 0, flexible

    def number(self, code: str) -> int:
        size = struct.calcsize(code)
        self._at += size
        return int(struct.unpack(code, self._body[self._at - size : self._at])[0])

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._body[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self, code: str = ">i") -> int:
        return self.varint() - 1 if self._flexible else self.number(code)

    def take(self, size: int) -> bytes:
        self._at += max(size, 0)
        return self._body[self._at - max(size, 0) : self._at]

    def tags(self) -> None:
        for _ in range(self.varint() if self._flexible else 0):
            self.varint()
            self.take(self.varint())


def _parsed(request: bytes) -> Produce:
    version = struct.unpack(">h", request[2:4])[0]
    correlation = struct.unpack(">i", request[4:8])[0]
    flexible = version >= _FLEXIBLE
    assert 3 <= version <= 12, f"Produce version {version} names topics otherwise"
    reader = _Reader(request[8:], flexible)
    reader.take(reader.number(">h"))  # the client's id has a plain length in every version
    reader.tags()
    reader.take(reader.length(">h"))  # transactional id
    reader.number(">h"), reader.number(">i")  # acks, timeout
    partitions = []
    for _ in range(reader.length()):
        topic = reader.take(reader.length(">h")).decode()
        for _ in range(reader.length()):
            partitions.append(Partition(topic, reader.number(">i")))
            reader.take(reader.length())  # records
            reader.tags()
        reader.tags()
    return Produce(version, correlation, tuple(partitions))


def _refusal(request: Produce, code: int) -> bytes:
    """The answer that says `code` of the request's one partition."""
    (partition,) = request.partitions
    flexible, name = request.version >= _FLEXIBLE, partition.topic.encode()
    many = (lambda n: bytes([n + 1])) if flexible else (lambda n: struct.pack(">i", n))
    tags = b"\0" if flexible else b""
    topic = (many(len(name)) if flexible else struct.pack(">h", len(name))) + name
    answer = struct.pack(">ih", partition.number, code) + struct.pack(">q", -1) + _NO_TIME
    answer += struct.pack(">q", -1) if request.version >= 5 else b""  # where the log starts
    if request.version >= 8:  # errors of single records, and words
        answer += many(0) + (b"\0" if flexible else struct.pack(">h", -1))
    body = many(1) + topic + many(1) + answer + tags + tags + struct.pack(">i", 0) + tags
    return struct.pack(">i", request.correlation) + tags + body
