"""Options that several commands share, and how `--param name=value` is read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig

_COMMAND: ContextVar[ExitStack | None] = ContextVar("command", default=None)
people = Console(stderr=True)
"""Messages for people; standard output is for pipes."""
_WIDE = 400


def paper(**settings: Any) -> Console:
    """Standard output for tables: in a pipe there is no terminal whose width they must fit.

    Parameters
    ----------
    settings
        Of the Console.
    """
    return Console(width=None if sys.stdout.isatty() else _WIDE, **settings)


EXIT_STOPPED = 130
"""Exit code of work that Ctrl-C ended before it was done, as a shell gives it."""
EXIT_INCOMPLETE = 4
"""Exit code when records were lost unread, or some partitions cannot be read."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file.", show_default="zads.toml of this folder, if any"),
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        "--bootstrap-servers",
        help="Kafka broker, host:port.",
        show_default="configured, else the broker that `zads broker start` started",
    ),
]
Archive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        envvar="ZADS_ARCHIVE",
        help="Folder or object-store address of the archive.",
        show_default="archive in ZADS_HOME",
    ),
]
Survey = Annotated[
    str | None,
    typer.Option("--survey", help="Only this survey's alerts: ztf, lsst.", show_default="every survey's"),
]
Schemas = Annotated[
    str | None,
    typer.Option(
        "--schemas", help="Registry URL, survey or folder with the schemas of Confluent-framed packets."
    ),
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Address of an existing Dask scheduler, tcp://host:port.")
]
Channels = Annotated[
    str | None,
    typer.Option("--channels", help="Channels or filters to run, separated by commas.", show_default="all"),
]


def counting_bar() -> Progress:
    """A bar for long work whose tasks have a field `counted`: what has been done, in words."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=people, transient=True)


def archive_at(named: str | None) -> str:
    """The address of the archive that `--archive` or ZADS_ARCHIVE names, else that of this machine."""
    from cluster.home import zads_home

    return named or str(zads_home() / "archive")


def iso_night(night: str) -> str:
    """Both ways to write a date, 2023-10-12 and 20231012, as "2023-10-12"."""
    try:
        return f"{datetime.strptime(night.replace('-', ''), '%Y%m%d'):%Y-%m-%d}"
    except ValueError:
        raise typer.BadParameter(f"{night!r} is no date: write 2023-10-12") from None


def counted(number: int, what: str) -> str:
    """ "1 alert", "2,000 alerts", "0 matches"."""
    more = "es" if what.endswith("ch") else "s"
    return f"{number:,} {what}{more * (number != 1)}"


def names_of(listed: str | None) -> list[str] | None:
    """ "a,b" as ["a", "b"]; None as None."""
    return None if listed is None else [name.strip() for name in listed.split(",") if name.strip()]


def given(**flags: Any) -> dict[str, Any]:
    """Flags as nested settings, less those not given: `dask__workers=3` is {"dask": {"workers": 3}}."""
    settings: dict[str, Any] = {}
    for key, value in flags.items():
        if value is None:
            continue
        *tables, last = key.split("__")
        table = settings
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value
    return settings


def settings_of(config: Path | None, **flags: Any) -> RunConfig:
    """The configuration; without a broker in it, with the one that runs here.

    Catalogues and lists are looked for in its folder from now on.
    """
    from commands.shared.bootstrap import default_bootstrap
    from pipeline.broker.profile import SERVERS, profile
    from pipeline.channels.config import read_config

    named = flags.pop("bootstrap_servers", None) or profile().get(SERVERS)
    settings = read_config(config, **given(bootstrap_servers=named, **flags))
    if "bootstrap_servers" not in settings.model_fields_set:
        settings.bootstrap_servers = default_bootstrap()
    look_for_lists_in(settings.external)
    return settings


def look_for_lists_in(folder: str) -> None:
    """Until the command ends, catalogues and lists are looked for here, wherever no folder is named.

    folder: "" for the usual one.
    """
    command = _COMMAND.get()
    if folder and command is not None:
        from filters.external.store import kept_in

        command.enter_context(kept_in(folder))


@contextmanager
def command_at_work() -> Iterator[None]:
    """While a command runs: what is opened for all of it is closed at its end."""
    with ExitStack() as stack:
        token = _COMMAND.set(stack)
        try:
            yield
        finally:
            _COMMAND.reset(token)
