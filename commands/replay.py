"""`zads replay`: filters on nights of the archive, with the code that runs live."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.shared.dask_cluster import asked_for, dask_cluster
from commands.shared.options import (
    EXIT_STOPPED,
    Archive,
    Bootstrap,
    Config,
    Json,
    Scheduler,
    Survey,
    archive_at,
    counted,
    counting_bar,
    names_of,
    people,
)
from commands.shared.replayed import report
from schemas.errors import ZadsError

if TYPE_CHECKING:
    import pandas as pd

    from archive.read.archive import Archive as Reader
    from archive.read.cones import Cone
    from archive.replay.replay import Progress as SoFar
    from archive.replay.results import Replay
    from filters import Filter

_PICTURES = (".png", ".pdf", ".svg")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILTER...",
            help="Names, path/to/file.py:function, package.module:function, an exported channel (.json), or a"
            " channel: channel.NAME.",
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
    survey: Survey = None,
    cone: Annotated[
        str | None,
        typer.Option(help='Only this part of the sky: "10.5 -3 1deg", or "12:34:56 -01:23:45 30arcsec".'),
    ] = None,
    collaboration: Annotated[
        bool, typer.Option("--collaboration", help="All alerts and history rows, not the public ones only.")
    ] = False,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Every record as it came, not one alert a candid.")
    ] = False,
    as_ran: Annotated[
        bool,
        typer.Option(
            "--as-ran",
            help="Of channel.NAME: each record by the parameters that were in force at its offset.",
        ),
    ] = False,
    values: Annotated[
        str | None,
        typer.Option(help="More columns for the matches, separated by commas: watch.name,watch.sep."),
    ] = None,
    as_json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the matches to this file: .vot, .ecsv, .csv, .fits, .parquet or .json."),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures: nights, funnels, sky, examples, sweep. A .png, .pdf or .svg file: only"
            " the sweep."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Truth table of `zads simulate`: completeness and purity too."
        ),
    ] = None,
    seeks: Annotated[
        str | None, typer.Option(help="With --truth: classes it is for, separated by commas.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how many alerts, bytes and seconds it would take.")
    ] = False,
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
    _say_what_is_missing(filters, param, as_json, out, plots, to_topic)
    parameters, on_sky = sweeps(param or []), _cone(cone)
    versions = "all" if all_versions else "newest"
    chosen = {"nights": nights, "cone": on_sky, "versions": versions, "public": not collaboration}
    # A replay may take an hour: errors that would prevent writing its result are raised before it.
    from commands.shared.exported import filter_named

    named = [filter_named(name, config, bootstrap) for name in filters or ()]
    where = _part(archive_at(archive), survey, named)
    _require_nights(where, nights)
    _make_room(out, plots)
    if as_ran:
        _as_ran(filters or [], where, nights, out, config, bootstrap)
        return
    send = _sender(to_topic, speed, bootstrap, config)
    known, wanted = _truth(truth, named, seeks)
    found: Replay | None = None
    if dry_run:
        _say_estimate(named, where, parameters, chosen)
        return
    if filters:
        asked = scheduler or workers
        on_dask = dask_cluster(asked_for(config, scheduler, workers)) if asked else nullcontext()
        with on_dask as cluster:
            found = _replayed(named, where, parameters, cluster, chosen | {"values": names_of(values) or ()})
        report(found, known, wanted)
        _put_away(found, as_json, out, plots, known if found.complete else None, wanted)
        if not found.complete:
            raise typer.Exit(EXIT_STOPPED)
        if any(found.unjudged):
            raise typer.Exit(1)
    if send is not None:
        _rehearse(found, where, chosen, send, str(to_topic))


def _say_what_is_missing(
    filters: list[str] | None,
    param: list[str] | None,
    as_json: bool,
    out: Path | None,
    plots: Path | None,
    to_topic: str | None,
) -> None:
    if filters:
        return
    if not to_topic:
        raise typer.BadParameter("name a filter (`zads filters` lists them), or a topic with --to-topic")
    if param or as_json or out or plots:
        raise typer.BadParameter("--param, --json, --out and --plots want a filter: name one")


def _part(address: str, survey: str | None, chosen: list[Filter]) -> Reader:
    """The survey's part of the archive that the filters are for. Raises ZadsError when it is not clear."""
    from archive.read.archive import Archive as Part
    from archive.tables.store import surveys_in

    there = [survey] if survey is not None else surveys_in(address)
    common = [name for name in there if all(name in f.surveys for f in chosen)]
    if len(common) > 1 and not chosen:
        raise ZadsError(f"the archive has {', '.join(common)}", hint="say which with --survey")
    # If no part fits all of them, the replay says which filter is for another survey.
    return Part(address, (common or there)[0])


def _require_nights(where: Reader, nights: str | None) -> None:
    """Raises ZadsError when the archive has none of the nights: most likely they were mistyped."""
    from archive.read.fragments import nights_of

    wanted, files = nights_of(nights), where.files()
    if not any(wanted.holds(file.night) for file in files):
        there = sorted({str(file.night) for file in files if file.night is not None})
        span = f"it has {len(there)}, {there[0]} to {there[-1]}" if there else "it has none"
        words = f"none of the nights {nights}" if nights else "no nights"
        raise ZadsError(
            f"{words} in the archive {where.path}", hint=f"{span}; `zads archive info` lists them"
        )


def _make_room(out: Path | None, plots: Path | None) -> None:
    """The folders for what is written at the end. Raises ZadsError."""
    try:
        if plots is not None:
            (plots.parent if plots.suffix in _PICTURES else plots).mkdir(parents=True, exist_ok=True)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZadsError(f"cannot write to {error.filename}: {error.strerror}") from None
    for path in (one if one is None or one.exists() else one.parent for one in (plots, out)):
        if path is not None and not os.access(path, os.W_OK):
            raise ZadsError(f"cannot write to {path}: you have no right to")
    if out is not None and out.is_dir():
        raise ZadsError(f"cannot write to {out}: it is a folder", hint="--out is a file, matches.vot")
    if out is not None:
        from schemas.tabular import check_name

        check_name(out, ".json")


def _sender(
    topic: str | None, speed: float, bootstrap: str | None, config: Path | None
) -> Callable[..., int] | None:
    """What publishes packets to the topic; None for no topic. Raises BrokerError."""
    if topic is None:
        return None
    from commands.shared.bootstrap import connection
    from pipeline.broker.client import wait_for_broker
    from pipeline.clients.rehearse import rehearse

    broker, kafka = connection(bootstrap, config)
    wait_for_broker(broker, **kafka)
    return partial(rehearse, bootstrap=broker, topic=topic, speed=speed or None, **kafka)


def sweeps(given: list[str]) -> dict[str, Any]:
    """["gap=20", "rb_min=0.5,0.6"] as {"gap": "20", "rb_min": ["0.5", "0.6"]}; a table by a column
    ("rb_min=band:g=0.7,r=0.6") is one value. Raises BadParameter."""
    from commands.explain import parameters
    from filters.tables import is_table

    return {
        name: [v.strip() for v in text.split(",")] if "," in text and not is_table(text) else text
        for name, text in parameters(given).items()
    }


def _as_ran(
    filters: list[str],
    where: Reader,
    nights: str | None,
    out: Path | None,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    from commands.shared.as_ran import matches_as_ran
    from schemas.tabular import write_table

    if len(filters) != 1:
        raise typer.BadParameter("--as-ran wants one channel: channel.NAME")
    matches = matches_as_ran(filters[0], where, nights, config, bootstrap)
    people.print(f"{counted(len(matches), 'match')} as it ran")
    if out is not None:
        write_table(matches.drop(columns="variant"), out, where.survey)
        people.print(f"{counted(len(matches), 'match')} in {out}", soft_wrap=True)


def _cone(given: str | None) -> Cone | None:
    from archive.read.cones import cone_of

    return None if given is None else cone_of(given)


def _replayed(
    filters: list[Filter], where: Reader, values: dict[str, Any], cluster: Any, chosen: dict[str, Any]
) -> Replay:
    from archive.replay.replay import replay as run

    with counting_bar() as bar:
        task = bar.add_task("replaying", total=None, counted="")

        def show(so_far: SoFar) -> None:
            pace = so_far.alerts / so_far.seconds if so_far.seconds else 0.0
            words = f"{counted(so_far.matches, 'match')}, {pace:,.0f} alerts/s"
            bar.update(task, completed=so_far.alerts, total=so_far.of, counted=words)

        return run(filters, where, parameters=values, cluster=cluster, on_progress=show, **chosen)


def _say_estimate(
    filters: list[Filter], where: Reader, values: dict[str, Any], chosen: dict[str, Any]
) -> None:
    from archive.replay.estimate import estimate

    public, cone = chosen["public"], chosen["cone"]
    people.print(str(estimate(filters, where, chosen["nights"], values, public, cone)), soft_wrap=True)


def _truth(
    path: Path | None, filters: list[Filter], seeks: str | None
) -> tuple[pd.DataFrame | None, list[str] | None]:
    """The truth table and the classes that were named. Raises FilterError where it is not known what a filter
    seeks."""
    from filters.scoring import classes_sought, read_truth

    named = names_of(seeks)
    if path is None:
        return None, named
    truth = read_truth(path)
    for f in filters:
        classes_sought(f.name, truth, named)
    return truth, named


def _put_away(
    found: Replay,
    as_json: bool,
    out: Path | None,
    plots: Path | None,
    truth: pd.DataFrame | None,
    seeks: list[str] | None,
) -> None:
    if as_json:
        print(found.to_json())
    if out is not None:
        found.write(out)
        people.print(f"{counted(len(found.matches), 'match')} in {out}", soft_wrap=True)
    if plots is not None:
        people.print(_drawn(found, plots, truth, seeks), soft_wrap=True)


def _drawn(found: Replay, plots: Path, truth: pd.DataFrame | None, seeks: list[str] | None) -> str:
    from archive.plots.replays import plot_sweep, save_plots
    from archive.replay.sweep import sweep
    from schemas.pictures.figure import write_figure

    if plots.suffix in _PICTURES:
        return f"picture: {write_figure(plot_sweep(sweep(found, truth, seeks)), plots)}"
    return f"{counted(len(save_plots(found, plots, truth, seeks)), 'picture')} in {plots}"


def _rehearse(
    found: Replay | None, where: Reader, chosen: dict[str, Any], send: Callable[..., int], topic: str
) -> None:
    """Send the packets that pass, or all of them, and say how many; Ctrl-C ends it early."""
    from archive.read.stream import in_time_order, record_keys

    wanted = None if found is None else found.matches
    packets = in_time_order(where, wanted=wanted, **chosen)
    sent = 0
    with counting_bar() as bar:
        total = None if wanted is None else len(wanted.drop_duplicates(record_keys(wanted)))
        task = bar.add_task("publishing", total=total, counted="")

        def show(so_far: int) -> None:
            nonlocal sent
            sent = so_far
            bar.update(task, completed=sent, counted=counted(sent, "alert"))

        try:
            sent = send(packets, progress=show)
        except KeyboardInterrupt:
            people.print(f"[yellow]ended early:[/] {counted(sent, 'alert')} sent to {topic}", soft_wrap=True)
            raise typer.Exit(EXIT_STOPPED) from None
    people.print(f"sent {counted(sent, 'alert')} to {topic}", soft_wrap=True)
