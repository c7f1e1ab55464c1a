"""The web page of a long-lived command: /metrics for Prometheus, /live and /ready for who watches over it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ZadsError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector, CollectorRegistry

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=0, help="Serve /metrics, /live and /ready on this port.", show_default="none"
    ),
]
STILL_SECONDS = 60.0
"""A command that has not gone round its loop for so long is not alive."""


class Health:
    """Whether a command goes on (`live`), and whether it does its work (`ready`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self.ready = False

    def beat(self, ready: bool) -> None:
        """Say that the loop goes round."""
        self._seen, self.ready = self._clock(), ready

    @property
    def live(self) -> bool:
        return self._clock() - self._seen < STILL_SECONDS


@contextmanager
def served(port: int | None, collector: Collector, health: Health) -> Iterator[int | None]:
    """Serve the page meanwhile, from a thread of its own; gives the port, None without one.

    Parameters
    ----------
    port
        Of all interfaces; 0: any that is free; None: no page.
    collector
        Of the command's own metrics.
    health
        Told by the command, asked by the page.

    Raises
    ------
    ZadsError
        When the port is another's.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector

    if port is None:
        yield None
        return
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    try:
        server = ThreadingHTTPServer(("", port), _handler(registry, health))
    except OSError as error:
        raise ZadsError(f"cannot serve metrics on port {port}: {error.strerror}") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _handler(registry: CollectorRegistry, health: Health) -> type[BaseHTTPRequestHandler]:
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path in ("/live", "/ready"):
                well = health.live and (self.path == "/live" or health.ready)
                self._answer(200 if well else 503, b"yes\n" if well else b"no\n", "text/plain")
            else:
                self._answer(404, b"/metrics, /live or /ready\n", "text/plain")

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A scrape is no news."""

    return Handler
