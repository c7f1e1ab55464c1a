"""`zads status`: is tonight all right?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from commands.shared.options import Bootstrap, Config, Json, paper, settings_of
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.clients.status import GroupStatus, Status

EXIT_UNWELL = 5
"""Something needs a person."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="A record may wait so long, in seconds.")
    ] = 60.0,
    group: Annotated[str | None, typer.Option("--group", help="Kafka consumer group.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell whether all is well: where the channels and the archive stand, what waits, what is missing.

    From any machine that reaches the broker, also when nothing runs. Exit code 0: all is well; 5: something
    needs a person, and each such thing is a sentence.

    Example: `zads status`
    """
    from pipeline.clients.status import status as ask

    settings = settings_of(config, bootstrap_servers=bootstrap, group=group)
    found = ask(settings, [settings.group, "zads-archive"], patience)
    if as_json:
        print(to_json(_plain(found), indent=2))
    else:
        _show(found)
    if found.problems:
        raise typer.Exit(EXIT_UNWELL)


def _plain(found: Status) -> dict[str, Any]:
    return {"well": not found.problems, **asdict(found)}


def _show(found: Status) -> None:
    console = paper()
    for group in found.groups:
        console.print(f"group {group.group}: {group.members} running, lag {group.lag:,}", _age(group.age))
        console.print(_topics(group))
    console.print(f"{found.dead_letters:,} dead letters, {found.gaps.total():,} open gaps")
    for problem in found.problems:
        console.print(f"[bold red]{problem}[/]", soft_wrap=True)
    for note in found.notes:
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
    if not found.problems:
        console.print("[green]all is well[/]")


def _topics(group: GroupStatus) -> Table:
    """A row a topic."""
    table = Table(box=None, pad_edge=False)
    for title in ("topic", "partitions", "lag", "waits for", "state"):
        table.add_column(title, justify="left" if title in ("topic", "state") else "right")
    by_topic = defaultdict(list)
    for one in group.partitions:
        by_topic[one.partition.topic].append(one)
    for topic, some in sorted(by_topic.items()):
        states = sorted({one.state for one in some})
        ages = [one.age for one in some if one.age is not None]
        lag = sum(one.lag for one in some)
        table.add_row(topic, f"{len(some)}", f"{lag:,}", _age(max(ages, default=None)), ", ".join(states))
    return table


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.0f} s"
