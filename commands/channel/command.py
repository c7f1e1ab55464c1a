"""`zads channel`: the channel registry; what channels missed, and its delivery afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from commands.channel import apply as channel_apply
from commands.channel import approve as channel_approve
from commands.channel import clone as channel_clone
from commands.channel import diff as channel_diff
from commands.channel import edit as channel_edit
from commands.channel import rank as channel_rank
from commands.channel import share as channel_share
from commands.channel import show as channel_show
from commands.channel import usual as channel_usual
from commands.shared.options import Bootstrap, Config, counted, paper, people, settings_of

if TYPE_CHECKING:
    from pipeline.channels.gaps import Gap


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Channels: make them, try them on past nights, change them while alerts flow.",
    )
    channel_show.register(group)
    channel_edit.register(group)
    channel_clone.register(group)
    channel_diff.register(group)
    channel_apply.register(group)
    channel_approve.register(group)
    channel_share.register(group)
    channel_rank.register(group)
    channel_usual.register(group)
    group.command("gaps")(gaps)
    group.command("backfill")(backfill)
    app.add_typer(group, name="channel")


def gaps(
    each: Annotated[bool, typer.Option("--each", help="Every gap with its offsets.")] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """List what suspended channels have missed and not been given since, by channel and reason.

    As a user: your channels, with how many records each has missed.

    Example: `zads channel gaps`
    """
    from commands.channel.ask import asked
    from pipeline.worker.backfill import gaps_of

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "list"):
        return
    found = gaps_of(settings)
    if found:
        paper(markup=False).print(_each(found) if each else _by_reason(found))
    else:
        people.print("no channel has missed anything")


def _each(found: Sequence[Gap]) -> Table:
    table = Table("channel", "topic", "partition", "from offset", "to", "reason", box=None)
    for gap in found:
        table.add_row(gap.channel, gap.topic, str(gap.partition), str(gap.low), str(gap.high), gap.reason)
    return table


def _by_reason(found: Sequence[Gap]) -> Table:
    """Offsets include markers of transactions: so many records at most."""
    table = Table("channel", "topic", "partitions", "offsets", "reason", box=None)
    alike: dict[tuple[str, str, str], list[Gap]] = {}
    for gap in found:
        alike.setdefault((gap.channel, gap.topic, gap.reason), []).append(gap)
    for (channel, topic, reason), gaps in alike.items():
        places, offsets = {gap.partition for gap in gaps}, sum(gap.high - gap.low for gap in gaps)
        table.add_row(channel, topic, str(len(places)), f"{offsets:,}", reason)
    return table


def backfill(
    name: Annotated[str, typer.Argument(help="Name of the channel.")],
    give_up: Annotated[
        bool,
        typer.Option("--give-up", help="Close the gaps whose records are gone for ever, and say which."),
    ] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Deliver what a channel missed while it was suspended, each alert exactly once.

    Mend the filter first: the one that is configured now is run.

    Example: `zads channel backfill young_supernova`
    """
    from pipeline.channels.changes import known_definition
    from pipeline.clients.backfill import backfill as fill
    from pipeline.clients.given_up import give_up as close_what_is_gone
    from pipeline.worker.backfill import gaps_of

    settings = settings_of(config, bootstrap_servers=bootstrap)
    channel = known_definition(settings, channel_show.registry_of(settings), name).channel()
    with Progress(console=people) as progress:
        task = progress.add_task(f"{channel.topic}", total=None)
        done = fill(settings, channel, lambda n, total: progress.update(task, completed=n, total=total))
    people.print(
        f"{counted(done.gaps, 'gap')} filled: {counted(done.records, 'record')} read,"
        f" {counted(done.alerts, 'alert')} of"
        f" {counted(len(done.objects), 'object')} delivered to {channel.topic}"
    )
    for failure in done.failures:
        people.print(f"still fails: {escape(failure.message)}", soft_wrap=True)
        if failure.traceback:
            people.print(failure.traceback, style="dim", markup=False, highlight=False)
    for why in done.unreadable:
        people.print(f"cannot be read: {why}", soft_wrap=True)
    left = done.left
    if left and give_up:
        for told in close_what_is_gone(settings, channel):
            people.print(f"given up: {told}", soft_wrap=True)
        left = len(gaps_of(settings, name))
    if left:
        gone = bool(done.unreadable) and not give_up
        hint = "; --give-up closes those whose records are gone for ever" if gone else ""
        people.print(f"{counted(left, 'gap')} left open, see `zads channel gaps`{hint}", soft_wrap=True)
        raise typer.Exit(1)
