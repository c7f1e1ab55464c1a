"""`zads run`: the live channels."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.markup import escape

from commands.shared.dask_cluster import dask_cluster
from commands.shared.logs import Form, LogFormat, log_in, say
from commands.shared.metrics import Health, MetricsPort, served
from commands.shared.options import (
    EXIT_INCOMPLETE,
    EXIT_STOPPED,
    Bootstrap,
    Channels,
    Config,
    Scheduler,
    counted,
    names_of,
    people,
    settings_of,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    channels: Channels = None,
    topics: Annotated[
        str | None, typer.Option("--topics", help="Topics to read: a name or a regular expression.")
    ] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="Deliver everything that is there now, then stop.")
    ] = False,
    scheduler: Scheduler = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Workers of the Dask cluster on this machine.")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Kafka consumer group.")] = None,
    replica: Annotated[
        str | None, typer.Option("--replica", help="Name of this replica, when several share the group.")
    ] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
    again: Annotated[
        bool, typer.Option("--again", help="Deliver even what another group has delivered to these channels.")
    ] = False,
    metrics_port: MetricsPort = None,
    plain: Annotated[bool, typer.Option("--plain", help="Log lines instead of the live view.")] = False,
    log_format: LogFormat = Form.text,
) -> None:
    """Run channels on the nightly topics, each alert delivered exactly once.

    Which: those of zads.toml (without any: all filters) and those that `zads channel enable` has enabled;
    a change of these by `zads channel` is effective at once, from one batch to the next.

    Goes on for ever: topics that appear later (tonight's) are picked up by themselves. Ctrl-C finishes
    what is in flight; once more leaves at once, and the next run does what was left.

    Example: `zads run --channels young_supernova,asteroid --until-drained`
    """
    from cluster.dask.ship import ship_code
    from commands.shared.view import EXIT_SUSPENDED, LiveView
    from pipeline.broker.client import patiently
    from pipeline.channels.changes import channels_now, channels_to_come
    from pipeline.live.run import run_live
    from pipeline.live.told.metrics import RunMetrics
    from pipeline.live.told.statistics import Statistics

    as_json = log_in(log_format)
    settings = settings_of(
        config,
        bootstrap_servers=bootstrap,
        topics=topics,
        group=group,
        replica=replica,
        dask__scheduler=scheduler,
        dask__workers=workers,
    )
    names = names_of(channels)
    chosen = patiently(partial(channels_now, settings, names), tell=lambda words: say(escape(words)))
    dask = settings.dask
    on_dask = dask_cluster(dask)
    metrics, health = RunMetrics(), Health()

    def show(statistics: Statistics) -> None:
        view.update(statistics)
        metrics.update(statistics)
        health.beat(ready=bool(statistics.workers and statistics.partitions))

    page = served(metrics_port, metrics, health)
    with LiveView(chosen, people, plain=plain, as_json=as_json) as view, page, on_dask as address:
        statistics = run_live(
            settings,
            chosen,
            address,
            until_drained=until_drained,
            on_progress=show,
            changes=channels_to_come(settings, names, chosen),
            again=again,
            ship=ship_code if dask.scheduler else None,
        )
    view.end(statistics)
    if statistics.suspended:
        raise typer.Exit(EXIT_SUSPENDED)
    if statistics.incomplete:
        raise typer.Exit(EXIT_INCOMPLETE)
    if until_drained and statistics.stopped:
        people.print(f"stopped with {counted(statistics.lag, 'record')} left: the next run does them")
        raise typer.Exit(EXIT_STOPPED)
