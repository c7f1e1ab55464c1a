"""The command line: one file a command group, put together here.

Standard output is for what a pipe wants; what people read on the way goes to standard error.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer

_COMMANDS = (
    "commands.demo.command",
    "commands.run",
    "commands.simulate.command",
    "commands.score.command",
    "commands.publish",
    "commands.listen.command",
    "commands.dead_letters",
    "commands.filters",
    "commands.explain",
    "commands.channel.command",
    "commands.archive.command",
    "commands.catalogue.command",
    "commands.replay",
    "commands.graph.command",
    "commands.broker",
)
"""A module for each command or group of commands; each has `register(app)`."""


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
    for name in _COMMANDS:
        importlib.import_module(name).register(app)
    return app


def main() -> None:
    """Run the command line; errors of our own are one sentence and exit code 1."""
    try:
        application()()
    except Exception as error:
        if not _is_ours(error):
            raise
        hint = getattr(error, "hint", None)
        print(f"zads: {error}" + (f"\n      {hint}" if hint else ""), file=sys.stderr)
        sys.exit(1)


def _is_ours(error: Any) -> bool:
    from cluster.errors import ClusterError
    from schemas.errors import ZadsError

    return isinstance(error, (ZadsError, ClusterError))
