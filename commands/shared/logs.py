"""How a command that goes on for long says what happens: words for people, or JSON lines for programs."""

from __future__ import annotations

import logging
import os
import time
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from commands.shared.options import people

log = logging.getLogger("zads")
# librdkafka says so of each first transaction, and then succeeds.
_HARMLESS = (": retrying",)
_MINUTE = 60.0


class Form(StrEnum):
    """Of the log lines."""

    text = "text"
    json = "json"


LogFormat = Annotated[
    Form,
    typer.Option(
        "--log-format",
        envvar="ZADS_LOG_FORMAT",
        help="Log lines for people, or JSON: one object a line, with topic, partition, offset, candid.",
    ),
]


def log_in(form: Form) -> bool:
    """Log in this form, here and in the processes that are started; whether that is JSON."""
    from pipeline.broker.logs import VARIABLE, log_as_json

    os.environ[VARIABLE] = form.value
    if form is Form.json:
        log_as_json(logging.INFO)
    return form is Form.json


def log_for_people(console: Console) -> None:
    """Log from now on for people: in colours on a terminal, else one line each with its time in UTC, for a
    file or a service's journal.

    console: the terminal, or what stands in its place.
    """
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s", "%H:%M:%S"))
    else:
        handler = logging.StreamHandler(console.file)
        lines = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        lines.converter = time.gmtime
        handler.setFormatter(lines)
    handler.addFilter(lambda record: not record.getMessage().endswith(_HARMLESS))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def say(words: str, **fields: Any) -> None:
    """Tell people, or write a JSON line with these fields beside the words."""
    from pipeline.broker.logs import about, wanted

    if wanted():
        log.info("%s", Text.from_markup(words).plain, extra=about(**fields))
    else:
        people.print(words, soft_wrap=True)


class EveryMinute:
    """Says how far something has come, where no terminal shows it: once a minute, while that changes."""

    def __init__(self) -> None:
        self._last: object = None
        self._at = -_MINUTE

    def say(self, words: str, **fields: Any) -> None:
        """As `say`, unless it was said within the last minute, or was said before.

        Parameters
        ----------
        words
            How far it has come.
        fields
            Of a JSON line.
        """
        now = time.monotonic()
        if (words, fields) != self._last and now - self._at >= _MINUTE:
            self._last, self._at = (words, fields), now
            say(words, **fields)


def said_in_json(error: Exception, words: str) -> bool:
    """Write why the command ends as a JSON line, where that is the form; whether it was.

    Parameters
    ----------
    error
        What ended it; its `hint`, if it has one, says what to do.
    words
        A sentence; "" for a bug, whose traceback is told.
    """
    from pipeline.broker.logs import about, wanted

    if wanted():
        hint, trace = getattr(error, "hint", None), None if words else error
        log.error("%s", words or repr(error), exc_info=trace, extra=about(hint=hint))
    return wanted()
