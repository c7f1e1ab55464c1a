"""`zads replay`: filters on nights of the archive, with the code that runs live."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from commands.dask_cluster import dask_cluster
from commands.filters import Json
from commands.options import Archive, Bootstrap, Config, Scheduler, archive_at, counting_bar, people

if TYPE_CHECKING:
    from archive.replay import Progress as SoFar
    from archive.results import Replay

_EXAMPLES = 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILTER...", help="Names, path/to/file.py:function or package.module:function."
        ),
    ] = None,
    archive: Archive = None,
    nights: Annotated[
        str | None, typer.Option(help="2023-10-12, or 2023-10-12..2023-10-14.", show_default="all")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="name=value, or filter.name=value; name=0.5,0.6,0.7 tries each. Repeatable."),
    ] = None,
    cone: Annotated[
        str | None,
        typer.Option(help='Only this part of the sky: "ra dec radius", as in "10.5 -3 1deg".'),
    ] = None,
    collaboration: Annotated[
        bool, typer.Option("--collaboration", help="All alerts and history rows, not the public ones only.")
    ] = False,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Every record as it came, not one alert a candid.")
    ] = False,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the matches to this Parquet file, the summary with them.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for pictures: nights, funnels, sky, examples.")
    ] = None,
    to_topic: Annotated[
        str | None,
        typer.Option(help="Publish the packets that pass (without FILTER: all) here, in order of time."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0.0, help="With --to-topic: times the pace of the night; 0: at once."),
    ] = 1.0,
    workers: Annotated[
        int, typer.Option(min=0, help="Workers of a Dask cluster on this machine; 0: threads of one process.")
    ] = 0,
    scheduler: Scheduler = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Run filters over past nights, as the live stream would have: matches, funnel, alerts a night.

    Several filters and values are tried in one pass. Ctrl-C ends it early, with what was found by then.

    Example: `zads replay young_supernova --nights 2023-10-12..2023-10-14 --param rb_min=0.5,0.65,0.8`
    """
    from commands.bootstrap import connection
    from pipeline.rehearse import rehearse

    found: Replay | None = None
    versions = "all" if all_versions else "newest"
    chosen = {"nights": nights, "cone": _cone(cone), "versions": versions, "public": not collaboration}
    where = archive_at(archive)
    if filters:
        on_dask = dask_cluster(scheduler, workers) if scheduler or workers else nullcontext()
        with on_dask as cluster:
            found = _replayed(filters, where, sweeps(param or []), cluster, chosen)
        _report(found)
        if as_json:
            print(found.to_json())
        if out is not None:
            found.to_parquet(out)
            people.print(f"{len(found.matches):,} matches in {out}", soft_wrap=True)
        if plots is not None:
            from archive.plots import save_plots

            people.print(f"{len(save_plots(found, plots))} pictures in {plots}", soft_wrap=True)
    elif not to_topic:
        raise typer.BadParameter("name a filter (`zads filters` lists them), or a topic with --to-topic")
    if to_topic and (found is None or found.complete):
        broker, kafka = connection(bootstrap, config)
        sent = _rehearse(found, where, chosen, partial(rehearse, bootstrap=broker, **kafka), to_topic, speed)
        people.print(f"sent {sent:,} alerts to {to_topic}")
    if found is not None and not found.complete:
        raise typer.Exit(130)


def sweeps(given: list[str]) -> dict[str, Any]:
    """["gap=20", "rb_min=0.5,0.6"] as {"gap": "20", "rb_min": ["0.5", "0.6"]}. Raises BadParameter."""
    from commands.explain import parameters

    values = parameters(given)
    return {
        name: [v.strip() for v in text.split(",")] if "," in text else text for name, text in values.items()
    }


def _cone(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    words = tuple(given.replace(",", " ").split(maxsplit=2))
    if len(words) != 3:
        raise typer.BadParameter(f'{given!r}: write --cone "ra dec radius", as in "10.5 -3 1arcmin"')
    return words


def _replayed(
    filters: list[str], where: str, values: dict[str, Any], cluster: Any, chosen: dict[str, Any]
) -> Replay:
    from archive.replay import replay as run

    with counting_bar() as bar:
        task = bar.add_task("replaying", total=None, counted="")

        def show(so_far: SoFar) -> None:
            pace = so_far.alerts / so_far.seconds if so_far.seconds else 0.0
            words = f"{so_far.matches:,} matches, {pace:,.0f} alerts/s"
            bar.update(task, completed=so_far.alerts, total=so_far.of, counted=words)

        return run(filters, where, parameters=values, cluster=cluster, on_progress=show, **chosen)


def _report(found: Replay) -> None:
    """What people read: each filter's funnel over all nights, alerts a night, what a sweep changes."""
    pace = found.alerts / found.seconds if found.seconds else 0.0
    nights = len(found.sums)
    people.print(
        f"{found.alerts:,} alerts of {nights} night{'s' * (nights != 1)} in {found.seconds:,.1f} s "
        f"({pace:,.0f} alerts/s), {found.tally} read"
    )
    if not found.complete:
        people.print("[yellow]ended early: what follows is of the alerts read until then[/]")
    people.print(_table(found))
    for number in range(1, len(found.filters)):
        if found.filters[number].name == found.filters[0].name:
            people.print(f"[dim]{escape(str(found.compare(0, number)))}[/]")
    if len(found.filters) == 1:
        people.print(_funnel(found))
    for failure in found.failures.head(_EXAMPLES).to_dict("records"):
        people.print(f"[red]{escape(str(failure['filter']))} raised: {escape(str(failure['error']))}[/]")


def _table(found: Replay) -> Table:
    table = Table("filter", "passed", "alerts a night", "objects a night", "µs an alert", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    costs = found.costs()["microseconds"]
    for number, (label, rows) in enumerate(found.nights().groupby("filter", sort=False)):
        spread = f"{rows['alerts'].min():,} to {rows['alerts'].max():,}"
        objects = f"{rows['objects'].min():,} to {rows['objects'].max():,}"
        total = f"{rows['alerts'].sum():,}"
        table.add_row(escape(str(label)), total, spread, objects, f"{costs[number]:.1f}")
    return table


def _funnel(found: Replay) -> Table:
    table = Table("cut", "alerts left", box=None)
    table.columns[1].justify = "right"
    for cut, alerts in found.funnel(0).groupby("cut", sort=False)["alerts"].sum().items():
        table.add_row(escape(str(cut)), f"{alerts:,}")
    return table


def _rehearse(
    found: Replay | None,
    where: str,
    chosen: dict[str, Any],
    send: Callable[..., int],
    topic: str,
    speed: float,
) -> int:
    """Send the packets that pass, or all of them; returns how many."""
    from archive.reading import Archive as Reader
    from archive.stream import in_time_order

    wanted = None if found is None else found.matches
    packets = in_time_order(Reader(where), wanted=wanted, **chosen)
    with counting_bar() as bar:
        total = None if wanted is None else wanted["candid"].nunique()
        task = bar.add_task("publishing", total=total, counted="")

        def show(sent: int) -> None:
            bar.update(task, completed=sent, counted=f"{sent:,} alerts")

        return send(packets, topic=topic, speed=speed or None, progress=show)
