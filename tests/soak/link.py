"""A TCP proxy whose links can fail: bytes come late, get lost in one way or both, or connections break."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import psutil

from tests.pipeline.wire import frame, framed

_AT_ONCE = 1 << 18
_LOOK_SECONDS = 0.05
_BROKEN = struct.pack("ii", 1, 0)  # close with a reset


@dataclass(frozen=True)
class Failure:
    """requests, answers: whether these get through. seconds: how late they come. of: the processes whose
    connections have it, None for all."""

    requests: bool = True
    answers: bool = True
    seconds: float = 0.0
    of: frozenset[int] | None = None


WELL = Failure()
FAILURES = {
    "nothing gets through": Failure(requests=False, answers=False),
    "requests are lost": Failure(requests=False),
    "answers are lost": Failure(answers=False),
    "all comes late": Failure(seconds=0.3),
}


class Ports:
    """The local ports of some processes. It takes long to find out who has one: only when asked."""

    def __init__(self, pids: Collection[int]) -> None:
        self._pids = pids
        self._known: dict[int, bool] = {}

    def __contains__(self, port: int) -> bool:
        if port not in self._known:
            self._known[port] = any(port in _ports_of(pid) for pid in self._pids)
        return self._known[port]


class Link:
    """A proxy before 127.0.0.1:`port`. Use as a context manager; `bootstrap` is its address.

    kafka: it is a broker, which tells clients its own address: there the proxy puts its own instead.
    patience: for so long a client waits for the other side to be there, s.
    """

    def __init__(self, port: int, kafka: bool = True, patience: float = 0.0) -> None:
        self._there, self._kafka, self._patience = port, kafka, patience
        self._server = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port: int = self._server.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._failure, self._concerned = WELL, Ports([])
        self._pairs: list[tuple[socket.socket, socket.socket, int]] = []

    def __enter__(self) -> Link:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.fail(WELL)
        self.reset()

    def fail(self, failure: Failure) -> None:
        """From now on, for connections that are there and that come; what was held back then goes on."""
        self._concerned = Ports(failure.of or ())
        self._failure = failure

    def reset(self, of: Collection[int] | None = None) -> None:
        """Break every connection, or those of some processes."""
        (there, self._pairs), theirs = (self._pairs, []), Ports(of or ())
        for client, server, port in there:
            if of is not None and port not in theirs:
                self._pairs.append((client, server, port))
                continue
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _BROKEN)
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, (_, port) = self._server.accept()
                threading.Thread(target=self._connect, args=(client, port), daemon=True).start()

    def _connect(self, client: socket.socket, port: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                server = socket.create_connection(("127.0.0.1", self._there))
                break
            except OSError:
                if time.monotonic() > deadline:
                    client.close()
                    return
                time.sleep(_LOOK_SECONDS)
        self._pairs.append((client, server, port))
        requests = partial(self._pump, client, server, port, "requests", _some)
        answers = partial(self._pump, server, client, port, "answers", self._answer if self._kafka else _some)
        for pump in (requests, answers):
            threading.Thread(target=pump, daemon=True).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        port: int,
        way: str,
        read: Callable[[socket.socket], bytes | None],
    ) -> None:
        with contextlib.suppress(OSError):
            while (data := read(source)) is not None:
                self._let_through(port, way)
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _let_through(self, port: int, way: str) -> None:
        """Wait for as long as the failure of now wants."""
        arrived = time.monotonic()
        while self._failure is not WELL and (self._failure.of is None or port in self._concerned):
            failure = self._failure
            if getattr(failure, way) and time.monotonic() - arrived >= failure.seconds:
                return
            time.sleep(_LOOK_SECONDS if not getattr(failure, way) else failure.seconds)

    def _answer(self, server: socket.socket) -> bytes | None:
        """The broker's address is a host followed by a port of four bytes."""
        answer = frame(server)
        theirs, ours = (b"127.0.0.1" + struct.pack(">i", port) for port in (self._there, self.port))
        return None if answer is None else framed(answer.replace(theirs, ours))


def _some(source: socket.socket) -> bytes | None:
    return source.recv(_AT_ONCE) or None


def _ports_of(pid: int) -> set[int]:
    """The local ports that a process has."""
    try:
        return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp4") if one.laddr}
    except psutil.Error:  # it has ended
        return set()
