"""How it is logged what happens: JSON lines for programs, and what lasts once a minute."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pipeline.broker.partition import Partition

STILL_SO_SECONDS, SLOW_SECONDS = 60.0, 30.0
VARIABLE = "ZADS_LOG_FORMAT"
"""Environment variable: "json" for JSON; children inherit it."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the fields of what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_places(record.args if isinstance(record.args, tuple) else ()),
            **getattr(record, "about", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class NowAndThen:
    """Warns of what lasts: at once, and again once a minute for as long as it is so.

    Parameters
    ----------
    log
        Where to.
    clock
        Seconds, from any beginning.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._said: dict[str, float] = {}

    def warn(self, what: str, why: object, of: dict[str, Any] | None = None) -> None:
        """Warn, unless that was done within the minute.

        Parameters
        ----------
        what
            The same words for as long as it is the same.
        why
            The reason, which may change.
        of
            What it is about, for programs (see `about`).
        """
        now = self._clock()
        if now - self._said.get(what, -STILL_SO_SECONDS) >= STILL_SO_SECONDS:
            self._said[what] = now
            self._log.warning("%s: %s", what, why, extra=of)


@contextmanager
def told_while_slow(log: logging.Logger, what: str, seconds: float = SLOW_SECONDS) -> Iterator[None]:
    """Within, warn of a call that does not come back: after half a minute, and then once a minute.

    A library may try again by itself for minutes, and says nothing meanwhile.

    Parameters
    ----------
    log
        Where to.
    what
        What is waited for, in words.
    seconds
        After which it is slow.
    """
    done, began = threading.Event(), time.monotonic()

    def tell() -> None:
        pause = seconds
        while not done.wait(pause):
            log.warning("%s: for %.0f s", what, time.monotonic() - began)
            pause = STILL_SO_SECONDS

    threading.Thread(target=tell, name="slow", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def about(place: Partition | None = None, **fields: Any) -> dict[str, Any]:
    """What a line is about, as the `extra` of a logging call.

    Parameters
    ----------
    place
        A partition: the fields `topic` and `partition`.
    fields
        Others, such as offset and candid; those that are None are left out.
    """
    told = {} if place is None else _places([place])
    return {"about": told | {name: value for name, value in fields.items() if value is not None}}


def _places(values: Iterable[object]) -> dict[str, Any]:
    """The fields of the first partition among the values."""
    place = next((value for value in values if isinstance(value, Partition)), None)
    return {} if place is None else {"topic": place.topic, "partition": place.number}


def wanted() -> bool:
    """Whether this process is to log as JSON."""
    return os.environ.get(VARIABLE) == "json"


def log_as_json(level: int) -> None:
    """Log to standard error as JSON from now on, in place of what there was."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
