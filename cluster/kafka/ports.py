"""Ports of this machine: which are free, and who has one."""

from __future__ import annotations

import contextlib
import random
import socket
import time

import psutil

from cluster.errors import ClusterError

# Below the range from which systems hand out ports to outgoing connections (32768 on Linux, 49152 else):
# what is free here when we look is still free when the JVM has started.
SEARCHED = range(20000, 32000)
TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def becomes_free(port: int, seconds: float) -> bool:
    """Whether a server can listen at `port`, now or soon: a killed process frees the port when it is gone."""
    deadline = time.monotonic() + seconds
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return free


def answers(port: int) -> bool:
    """Whether somebody accepts connections on 127.0.0.1 at `port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    """A free port, chosen at random, so that two processes rarely choose the same one at the same time."""
    for _ in range(TRIES):
        port = random.choice(SEARCHED)
        if is_free(port):
            return port
    raise ClusterError(
        f"No free port found between {SEARCHED.start} and {SEARCHED.stop}; name one with --port."
    )


def holder(port: int) -> str:
    """Who listens at `port`, for a message to people; empty when the system does not tell."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listening and connection.pid:
                return f"{psutil.Process(connection.pid).name()}, process {connection.pid}"
    return ""
