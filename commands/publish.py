"""`zads publish`: packets from disk into Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from commands.shared.options import EXIT_STOPPED, Bootstrap, Config, Schemas, counted, counting_bar, people

if TYPE_CHECKING:
    from pipeline.clients.publish import PublishSummary


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish")(publish)


def publish(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Packet files, folders of them, or nightly tarballs (.tar.gz)."),
    ],
    topic: Annotated[
        str | None,
        typer.Option(
            help="Publish everything here, unreadable packets too.", show_default="ztf_YYYYMMDD_programidN"
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Alerts a second.", show_default="as fast as possible")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of a topic that has to be created.")] = 8,
    schema_source: Schemas = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Publish alert packets to their survey's nightly topics, keyed by exposure.

    A packet whose night or programid cannot be read goes to the dead letters, with the reason; see
    `zads dead-letters list`. The packets' bytes are not changed. A second run sends everything again.

    Example: `zads publish ztf_public_20231012.tar.gz --rate 300`
    """
    from commands.shared.bootstrap import connection, schemas
    from pipeline.clients.publish import PublishSummary
    from pipeline.clients.publish import publish as send

    broker, kafka = connection(bootstrap, config)
    source = schemas(schema_source, config)
    summary = PublishSummary()
    with counting_bar() as bar:
        task = bar.add_task("publishing", total=1.0, counted="")

        def show(so_far: PublishSummary) -> None:
            nonlocal summary
            summary = so_far
            bar.update(task, completed=summary.done, counted=_counted(summary))

        try:
            summary = send(paths, broker, topic, rate, partitions, show, source, **kafka)
        except KeyboardInterrupt:
            bar.stop()
            _report(summary)
            people.print("stopped before the end: what was sent stays, a second run sends all of it again")
            raise typer.Exit(EXIT_STOPPED) from None
    _report(summary)
    if summary.damaged or (summary.refused and not summary.sent):
        raise typer.Exit(1)


def _counted(summary: PublishSummary) -> str:
    pace = summary.sent / summary.seconds if summary.seconds else 0.0
    return f"{counted(summary.sent, 'alert')}, {pace:,.0f}/s"


def _report(summary: PublishSummary) -> None:
    """What went where, what was refused and why."""
    people.print(
        f"sent {counted(summary.sent, 'alert')} of {counted(summary.objects, 'object')} "
        f"({summary.bytes / 1e6:,.1f} MB) in {summary.seconds:,.1f} s"
    )
    if summary.topics or summary.refused:
        table = Table("", "alerts", show_header=False, box=None)
        table.columns[1].justify = "right"
        for topic, alerts in sorted(summary.topics.items()):
            table.add_row(topic, f"{alerts:,}")
        for reason, packets in sorted(summary.refused.items()):
            table.add_row(f"[red]refused: {reason}[/red]", f"{packets:,}")
        people.print(table)
    if summary.refused:
        people.print("the refused packets are kept: `zads dead-letters list` shows them")
    for sentence in summary.damaged:
        people.print(f"[red]{sentence}[/red]", soft_wrap=True)
