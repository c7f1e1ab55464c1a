"""`zads archive`: keep every packet, and maintain the archive."""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from commands.archive import care as archive_care
from commands.shared.dask_cluster import asked_for, dask_cluster
from commands.shared.logs import EveryMinute, Form, LogFormat, log_for_people, log_in, say
from commands.shared.metrics import Health, MetricsPort, served
from commands.shared.options import (
    EXIT_INCOMPLETE,
    Archive,
    Bootstrap,
    Config,
    Scheduler,
    Schemas,
    Survey,
    archive_at,
    counted,
    counting_bar,
    people,
    settings_of,
)
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from archive.write.ingest import Summary
    from pipeline.clients.ranked import Filled
    from pipeline.clients.ranked_nights import RankedNights

app = typer.Typer(
    help="Keep every packet in the archive, and look after it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
# The alerts of the present night come first: the archiver uses the CPU that is left.
NICENESS = 19
_PATIENCE = 60.0  # seconds for a schema id that the registry does not have yet


def register(main: typer.Typer) -> None:
    """Add the group."""
    archive_care.register(app)
    main.add_typer(app, name="archive")


@app.command("ingest")
def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Packet files, folders of them, or nightly tarballs (.tar.gz).")
    ],
    archive: Archive = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Workers of a Dask cluster on this machine; 0: threads of one process.")
    ] = 0,
    scheduler: Scheduler = None,
    survey: Survey = None,
    schema_source: Schemas = None,
    config: Config = None,
) -> None:
    """Keep the packets of files, folders and nightly tarballs, each once.

    A second run, or one that goes on where another was broken off, skips what is there already. What cannot
    be kept is quarantined with its reason; see `zads archive quarantine`. With --workers or --scheduler each
    tarball is a worker's share.

    Example: `zads archive ingest ztf_public_20231012.tar.gz --archive /data/alerts`
    """
    from archive.write.ingest import ingest as keep
    from commands.shared.bootstrap import schemas

    address, source = archive_at(archive), schemas(schema_source, config)
    with ExitStack() as stack:
        client = _client(stack, config, scheduler, workers)
        bar = stack.enter_context(counting_bar())
        task = bar.add_task("archiving", total=1.0, counted="")

        def show(so_far: Summary) -> None:
            bar.update(task, completed=so_far.done, counted=_counted(so_far))

        summary = keep([path.absolute() for path in paths], address, survey, client, source, show)
    _report(summary, address)
    if summary.damaged:
        raise typer.Exit(1)


def _client(stack: ExitStack, config: Path | None, scheduler: str | None, workers: int) -> Any:
    """A client of the cluster that was asked for, None for none."""
    if not scheduler and not workers:
        return None
    from distributed import Client

    return stack.enter_context(
        Client(stack.enter_context(dask_cluster(asked_for(config, scheduler, workers))))
    )


def _counted(summary: Summary) -> str:
    pace = summary.packets / summary.seconds if summary.seconds else 0.0
    return f"{summary.kept:,} kept, {summary.skipped:,} known, {pace:,.0f}/s"


def _report(summary: Summary, address: str) -> None:
    """The summary: what was kept where, what was not and why."""
    people.print(
        f"kept {counted(summary.kept, 'alert')} in {address}: {summary.stored_bytes / 1e6:,.1f} MB in "
        f"{counted(summary.files, 'file')}, from {summary.raw_bytes / 1e6:,.1f} MB, in"
        f" {summary.seconds:,.1f} s",
        soft_wrap=True,
    )
    if summary.skipped:
        people.print(f"skipped {counted(summary.skipped, 'packet')} that were there already")
    table = Table("", "alerts", show_header=False, box=None)
    table.columns[1].justify = "right"
    for night, alerts in sorted(summary.nights.items()):
        table.add_row(night, f"{alerts:,}")
    for reason, packets in sorted(summary.quarantined.items()):
        table.add_row(f"[red]quarantined: {reason}[/red]", f"{packets:,}")
    if summary.quarantined_before:
        table.add_row("in quarantine already", f"{summary.quarantined_before:,}")
    people.print(table)
    for sentence in summary.damaged:
        people.print(f"[red]{sentence}[/red]", soft_wrap=True)


def _ranked_nights(config: Path | None, bootstrap: str | None) -> RankedNights | None:
    """What fills the ranked channels; None where there are none. Packets are kept whatever is wrong there."""
    from pipeline.clients.ranked_nights import RankedNights

    def told(done: Filled) -> None:
        alerts = counted(len(done.candids), "alert")
        say(f"ranked channel {done.channel}, night {done.night}: {alerts} delivered", channel=done.channel)

    try:
        settings = settings_of(config, bootstrap_servers=bootstrap)
    except ZadsError as error:
        say(f"[bold red]ranked channels are not filled[/]: {error}")
        return None
    return RankedNights(settings, told) if settings.ranked else None


@app.command("follow")
def follow(
    archive: Archive = None,
    topics: Annotated[
        str | None, typer.Option("--topics", help="Topics to read: a name or a regular expression.")
    ] = None,
    group: Annotated[str, typer.Option("--group", help="Kafka consumer group.")] = "zads-archive",
    replica: Annotated[
        str, typer.Option("--replica", help="Name of this replica, when several share the group.")
    ] = "0",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="Write after this time at the latest, s.")
    ] = 20.0,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="Keep everything that is there now, then stop.")
    ] = False,
    survey: Survey = None,
    metrics_port: MetricsPort = None,
    plain: Annotated[bool, typer.Option("--plain", help="Log lines only, no line of status.")] = False,
    log_format: LogFormat = Form.text,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Keep every record of the surveys' topics as it arrives, each exactly once.

    Goes on for ever, as a consumer group of its own. How far it is stands in the archive itself: killed at
    any moment, the next run goes on from there. Ctrl-C writes what was read and ends.

    It also fills the ranked channels of the configuration, each night once, as soon as the night is closed.

    Example: `zads archive follow --archive /data/alerts`
    """
    from archive.write.appender import Appender, Limits
    from archive.write.appenders import Appenders
    from commands.archive.metrics import FollowMetrics
    from commands.shared.bootstrap import connection, schemas
    from pipeline.clients.following.follow import Follower, stopped_by_signals
    from pipeline.clients.following.keeper import Followed
    from schemas.surveys.registry import topics_pattern

    os.nice(NICENESS)
    as_json = log_in(log_format)
    if not as_json:
        log_for_people(people)
    broker, kafka = connection(bootstrap, config)
    address = archive_at(archive)
    source, limits = schemas(None, config, _PATIENCE), Limits(seconds=seconds)
    appender = Appender(address, survey, source, limits) if survey else Appenders(address, source, limits)
    pattern = topics or topics_pattern(None if survey is None else [survey])
    follower = Follower(appender, pattern, broker, group, replica, **kafka)

    def told(followed: Followed) -> str:
        kept = appender.appended
        return f"{followed.read:,} read, {kept.kept:,} kept, {kept.quarantined:,} quarantined"

    def figures(followed: Followed) -> dict[str, Any]:
        return {"archive": str(address), "read": followed.read, **vars(appender.appended)}

    metrics, health, minutely = FollowMetrics(), Health(), EveryMinute()

    def show(followed: Followed) -> None:
        words = f"archive {address}: {told(followed)}"
        if status is not None:
            status.update(words)
        else:
            minutely.say("progress" if as_json else words, **figures(followed))
        metrics.update(followed, appender.appended)
        health.beat(ready=bool(followed.partitions))

    page, ranked = served(metrics_port, metrics, health), _ranked_nights(config, bootstrap)
    beside = nullcontext() if ranked is None or until_drained else ranked
    with (
        beside,
        nullcontext() if plain or as_json else people.status(f"following {broker} into {address}") as status,
        stopped_by_signals(follower),
        page,
    ):
        followed = follower.run(until_drained, show)
    words = f"archive {address}: {told(followed)}, {appender.appended.commits:,} commits"
    say("ended" if as_json else words, **figures(followed))
    for topic in followed.made_again:
        say(f"topic {topic} was made again and kept from its beginning", topic=topic)
    if ranked is not None and until_drained:
        ranked.look()
    for partition, why in sorted(followed.lost.items()):
        say(f"[bold red]{partition}[/]: {why}")
    for partition, why in sorted(followed.aside.items()):
        say(f"[bold red]{partition} could not be read[/]: {why}")
    if followed.lost or followed.aside:
        raise typer.Exit(EXIT_INCOMPLETE)
