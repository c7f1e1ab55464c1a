"""The command line: one file a command group, put together here.

Standard output is for what a pipe wants; messages for people go to standard error.
"""

from __future__ import annotations

import codecs
import errno
import faulthandler
import importlib
import io
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from commands.shared.as_user import add_as_user
from commands.shared.bootstrap import unchecked_settings
from commands.shared.logs import said_in_json
from commands.shared.options import command_at_work, look_for_lists_in
from schemas.errors import ZadsError

_COMMANDS = (
    "commands.demo.command",
    "commands.run",
    "commands.status",
    "commands.ledger",
    "commands.simulate.command",
    "commands.score.command",
    "commands.publish",
    "commands.listen.command",
    "commands.dead_letters",
    "commands.filters",
    "commands.filter.command",
    "commands.columns",
    "commands.explain",
    "commands.where",
    "commands.objects",
    "commands.channel.command",
    "commands.archive.command",
    "commands.external.catalogue",
    "commands.external.watchlist",
    "commands.external.model",
    "commands.external.region",
    "commands.external.skymaps",
    "commands.replay",
    "commands.graph.command",
    "commands.broker",
    "commands.user.command",
    "commands.serve.command",
    "commands.scan",
    "commands.sandbox",
)
"""A module for each command or group of commands; each has `register(app)`."""


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"zads {version('zads')}")
        raise typer.Exit


def application() -> typer.Typer:
    """The whole command line as one typer application."""
    app = typer.Typer(
        name="zads",
        help="Alerts of sky surveys through Kafka, Python filters on Dask, and out again, each exactly once.",
        epilog="Begin with `zads demo`. Every command has its own --help with an example.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_first)
    for name in _COMMANDS:
        importlib.import_module(name).register(app)
    add_as_user(app)
    return app


def _first(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Alerts of sky surveys through Kafka, Python filters on Dask, and out again, each exactly once."""
    context.with_resource(command_at_work())
    if "ZADS_EXTERNAL" not in os.environ:
        look_for_lists_in(_configured_folder())


def _configured_folder() -> str:
    """Of catalogues and lists, by zads.toml of this folder; who needs it tells what is wrong with that."""
    with suppress(ZadsError, OSError, ValueError):
        return str(unchecked_settings(None).get("external", ""))
    return ""


def main() -> None:
    """Run the command line; errors of our own are one sentence and exit code 1."""
    _print_anywhere()
    with suppress(OSError):  # no file to write to
        faulthandler.enable()  # what a C library ends says where it was: librdkafka has aborted a coordinator
    try:
        application()()
    except Exception as error:
        said = _sentence(error)
        if said_in_json(error, said):
            sys.exit(1)
        if not said:
            raise
        hint = getattr(error, "hint", None)
        print(f"zads: {said}" + (f"\n      {hint}" if hint else ""), file=sys.stderr)
        sys.exit(1)


_IN_ASCII = {
    "✓": "+",
    "✗": "x",
    "─": "-",
    "│": "|",
    "▾": "v",
    "▼": "v",
    "►": ">",
    "→": "->",
    "←": "<-",
    "–": "-",
    "−": "-",
    "·": ".",
    "…": "...",
    "″": '"',
    "′": "'",
    "±": "+-",
    "×": "x",
    "µ": "u",
    "≥": ">=",
    "≤": "<=",
    "⇄": "<->",
}


def _print_anywhere() -> None:
    """Letters that the encoding of a terminal or pipe does not have are replaced by ASCII."""
    codecs.register_error("zads", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="zads")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    words = (_IN_ASCII.get(c, "+" if "\u2500" <= c <= "\u257f" else "?") for c in letters)
    return "".join(words), error.end


_OF_THE_MACHINE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no right to use it",
    errno.EPERM: "no right to do it",
    errno.EMFILE: "too many open files: raise `ulimit -n`",
}


def _sentence(error: Exception) -> str:
    """What to say of an error of ours, of Kafka or of the machine; "" for a bug: it needs its traceback."""
    from cluster.errors import ClusterError

    if isinstance(error, (ZadsError, ClusterError)):
        return str(error)
    if type(error).__name__ == "KafkaException" and error.args:
        reason = error.args[0]
        return f"Kafka refused: {reason.str().strip().rstrip('.')} ({reason.name()})"
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return f"{error.filename or 'writing'}: {_OF_THE_MACHINE[error.errno]}"
    return _of_an_object_store(error)


def _of_an_object_store(error: Exception) -> str:
    """Only what reads or writes an archive has deltalake loaded."""
    if "deltalake" not in sys.modules:
        return ""
    from archive.tables.faults import store_fault

    return str(store_fault(error) or "")
