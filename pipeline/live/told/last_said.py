"""What a run has said last: warnings, errors, and what changed in its channels."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.channels.state import Change

_MOST = 12
_LONGEST = 300  # characters
_OURS = "pipeline"
_CHANGES = ("pipeline.live.in_force.external", "pipeline.live.told.lasting")
"""Loggers whose lines at INFO are news too. What changes in channels stands in their registry."""


class LastSaid(logging.Handler):
    """Keeps the last lines; of what is said again and again the newest. A context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[tuple[str, Any], Change] = {}

    def __enter__(self) -> LastSaid:
        logging.getLogger(_OURS).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_OURS).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line that is news."""
        if record.levelno < logging.WARNING and not record.name.startswith(_CHANGES):
            return
        first = record.args[0] if isinstance(record.args, tuple) and record.args else None
        key = (str(record.msg), str(first))
        self._lines.pop(key, None)
        self._lines[key] = Change(at=record.created, words=record.getMessage()[:_LONGEST])
        while len(self._lines) > _MOST:
            del self._lines[next(iter(self._lines))]

    @property
    def changes(self) -> tuple[Change, ...]:
        """The oldest first."""
        return tuple(self._lines.copy().values())
