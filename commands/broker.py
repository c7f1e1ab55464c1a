"""`zads broker`: a Kafka broker on this machine that stays after the command ends."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cluster.errors import ClusterError
from cluster.home import zads_home
from cluster.kafka.broker import Status, log_tail, start_detached, status, stop_detached
from cluster.kafka.node import Secured
from cluster.kafka.state import Folder

people = Console(stderr=True, soft_wrap=True, highlight=False)
FOLLOW_EVERY_S = 0.3

app = typer.Typer(
    no_args_is_help=True,
    help="Run Apache Kafka on this machine: no Docker, no root, no installed Java.",
    epilog="Example: zads broker start; zads publish alerts/ --bootstrap $(zads broker status)",
)

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the broker's data and state.", show_default="ZADS_HOME or ~/.zads"),
]


def _say(message: str) -> None:
    people.print(message, markup=False)


def _fail(message: object) -> typer.Exit:
    people.print(f"[red]✗[/red] {message}", markup=True)
    return typer.Exit(1)


def _where(now: Status) -> str:
    whose = "owned by another process" if now.owned else "detached"
    whose += ", secured" if now.secured else ""
    return f"Kafka {now.version}, process {now.pid}, {whose}, data in {Folder.below(now.home).data}"


@app.command(epilog="Example: zads broker start --port 9192")
def start(
    home: Home = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port on 127.0.0.1.", show_default="that of the last start, 9092, or a free one"),
    ] = None,
    java: Annotated[
        str | None,
        typer.Option(help="Another Java: a program or a Java home.", show_default="the one zads brings"),
    ] = None,
    secure: Annotated[
        bool,
        typer.Option("--secure", help="TLS, users with passwords, nothing allowed by default; it stays so."),
    ] = False,
    host: Annotated[
        str,
        typer.Option(help="Secured: the name under which other machines know this one.", metavar="NAME"),
    ] = "",
    certificates: Annotated[
        Path | None,
        typer.Option(
            help="Secured: folder with ca.pem, broker.pem and operator.pem.",
            show_default="made here, with a CA of their own",
            file_okay=False,
            exists=True,
        ),
    ] = None,
) -> None:
    """Start the broker and return when it serves; prints its address. Running already is fine.

    With --secure it makes the certificates and the operator's profile: `zads user add NAME --as operator`.
    """
    if (host or certificates) and not secure:
        raise _fail("--host and --certificates are of a secured broker: give --secure too.")
    try:
        before = status(home)
        wanted = Secured(certificates, host) if secure else None
        now = start_detached(home, port, java, secured=wanted, say=_say)
    except ClusterError as error:
        raise _fail(error) from error
    _say(f"{'Running already' if before.running else 'Started'}: {_where(now)}")
    print(now.bootstrap_servers)


@app.command(epilog="Example: zads broker stop")
def stop(home: Home = None) -> None:
    """Stop the broker in order; its data and its port stay for the next start."""
    try:
        stopped = stop_detached(home)
    except ClusterError as error:
        raise _fail(error) from error
    _say("Stopped." if stopped else "No broker was running.")


@app.command("status", epilog="Example: kcat -L -b $(zads broker status)")
def show_status(home: Home = None) -> None:
    """Print the running broker's address (exit 0), or say that none runs (exit 1)."""
    now = status(home)
    if not now.running:
        raise _fail(f"No broker runs in {now.home}: start one with `zads broker start`.")
    _say(_where(now))
    print(now.bootstrap_servers)


@app.command(epilog="Example: zads broker logs -n 100 --follow")
def logs(
    home: Home = None,
    n: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
) -> None:
    """Print the last lines of the broker's log."""
    home = home or zads_home()
    path = Folder.below(home).log
    if not path.exists():
        raise _fail(f"No broker has run in {home}: there is no {path}.")
    for line in log_tail(home, n):
        print(line)
    if follow:
        try:
            _follow(path)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


def _follow(path: Path) -> None:
    """Print what is added to a log, also when a new file replaces it."""
    log = path.open(errors="replace")
    log.seek(0, 2)
    while True:
        added = log.read()
        if added:
            print(added, end="", flush=True)
        elif path.exists() and path.stat().st_ino != _inode(log.fileno()):
            log.close()
            log = path.open(errors="replace")
        else:
            time.sleep(FOLLOW_EVERY_S)


def _inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


def register(parent: typer.Typer) -> None:
    """Add `zads broker`."""
    parent.add_typer(app, name="broker")
