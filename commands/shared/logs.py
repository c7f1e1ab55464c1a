"""How a command that goes on for long says what happens: words for people, or JSON lines for programs."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from commands.shared.options import people

log = logging.getLogger("zads")


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


def say(words: str, **fields: Any) -> None:
    """Tell people, or write a JSON line with these fields beside the words."""
    from pipeline.broker.logs import about, wanted

    if wanted():
        log.info("%s", Text.from_markup(words).plain, extra=about(**fields))
    else:
        people.print(words, soft_wrap=True)


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
