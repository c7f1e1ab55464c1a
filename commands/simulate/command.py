"""`zads simulate`: packets of the simulated sky, into a folder or into Kafka, and the truth about them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from commands.shared.options import Bootstrap, Config, counted, people

if TYPE_CHECKING:
    import pyarrow as pa

    from simulator import Month, SimulatedAlert, Staged
    from simulator.packets.cell import Cell

NIGHTLY = "nightly"
TRUTH, CATALOGUE, EXPOSURES = "truth.parquet", "catalogue.parquet", "exposures.parquet"
MESSAGES = "messages"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    alerts: Annotated[
        int | None,
        typer.Option(
            min=1, help="Exactly so many, rare kinds raised.", show_default="2000 without --density"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    nights: Annotated[int, typer.Option(min=1, help="Spread them over the last so many nights.")] = 1,
    density: Annotated[
        float | None,
        typer.Option(
            help="Instead of --alerts: object density relative to the real sky (1.0); for lsst with --alerts:"
            " alerts a visit relative to 10,000."
        ),
    ] = None,
    rare: Annotated[float, typer.Option(help="With --density: supernovae and other rare kinds more.")] = 1.0,
    merger: Annotated[
        bool, typer.Option(help="With --density: a merger, its kilonova, GW and neutrino notices in --out.")
    ] = False,
    fields: Annotated[int, typer.Option(help="With --density: fields to observe.")] = 4,
    quadrants: Annotated[int, typer.Option(help="With --density: quadrants of each field, of 64.")] = 8,
    schema: Annotated[
        str, typer.Option(help="ZTF schema version: 4.01, 4.02, 3.3, or several: 3.3,4.02.")
    ] = "4.01",
    survey: Annotated[
        str, typer.Option(help="Whose packets: ztf, or lsst for one night of Rubin's (its newest schema).")
    ] = "ztf",
    stamps: Annotated[bool, typer.Option(help="With or without the three pictures.")] = True,
    damage: Annotated[
        float, typer.Option(help="Share of packets corrupt, truncated, repeated or delayed.")
    ] = 0.0,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder for one .avro file an alert, named by candid; {CATALOGUE} and {EXPOSURES} too."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Truth table by alert.", show_default=f"{TRUTH} in --out")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; for --density into --out.")] = 1,
    topic: Annotated[
        str | None,
        typer.Option(
            help=f"Publish to this topic; '{NIGHTLY}' for the survey's own, such as ztf_YYYYMMDD_programidN."
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="Folder of real packets: draw distributions beside theirs, in --out or here."),
    ] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Simulate a sky: supernovae, variable stars, outbursts, active nuclei, asteroids and artefacts.

    Packets are valid ones of the survey (ZTF: programs 1, 2, 3) with consistent histories; truth.parquet says
    what each alert is, truth_objects.parquet what each object is. Give --out, --topic, or both.

    Example: `zads simulate --alerts 2000 --seed 1 --out night`

    Example: `zads simulate --nights 30 --density 0.2 --rare 20 --seed 1 --out month`

    Example: `zads simulate --survey lsst --alerts 300 --out rubin`
    """
    if out is None and topic is None and compare is None:
        raise typer.BadParameter("say where the alerts go: --out FOLDER, --topic NAME, or both")
    if survey == "ztf" and density is not None and alerts is not None:
        raise typer.BadParameter("give --alerts for an exact number or --density for a natural sky, not both")
    if workers > 1 and (density is None or out is None or topic is not None):
        raise typer.BadParameter("--workers needs --density and --out, and no --topic: files have no order")
    from schemas.surveys.registry import survey_named
    from simulator import SKIES

    survey_named(survey)  # raises NoSuchColumn
    try:
        if survey in SKIES:
            if merger or compare is not None or workers > 1 or nights > 1:
                raise typer.BadParameter(
                    f"--survey {survey} goes with --alerts, --density, --seed, --stamps, --damage only"
                )
            number = 2000 if alerts is None else alerts
            _simulate_other(
                SKIES[survey](number, seed, stamps, density=density),
                number,
                damage,
                seed,
                out,
                truth,
                topic,
                (bootstrap, config),
            )
            return
        run = _run(alerts, seed, nights, density, (rare, merger, fields, quadrants), schema, stamps)
        if compare is not None:
            _compare(run, compare, out)
        if out is not None or topic is not None:
            _simulate(run, damage, out, truth, workers, topic, bootstrap, config)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _run(
    alerts: int | None,
    seed: int,
    nights: int,
    density: float | None,
    natural: tuple[float, bool, int, int],
    schema: str,
    stamps: bool,
) -> Staged | Month:
    from simulator import Month, Staged

    if density is None:
        return Staged(2000 if alerts is None else alerts, seed, nights, schema, stamps)
    rare, merging, fields, quadrants = natural
    return Month(nights, density, seed, fields, quadrants, rare, merging, schema, stamps)


def _simulate(
    run: Staged | Month,
    damage: float,
    out: Path | None,
    truth: Path | None,
    workers: int,
    topic: str | None,
    bootstrap: str | None,
    config: Path | None,
) -> None:
    from simulator import write_truth

    started, tally = time.perf_counter(), _Tally()
    truth = truth or (out / TRUTH if out is not None else None)
    if out is not None:
        _clear(out, truth)
    if workers > 1 and out is not None:
        _in_parallel(run, damage, out, workers, tally)
    else:
        _in_order(run, damage, out, topic, bootstrap, config, tally)
    if out is not None:
        _write_beside(run, out)
    if truth is not None:
        write_truth(tally.alerts, truth)
    _report(tally, time.perf_counter() - started, out)


def _simulate_other(
    alerts: Iterable[SimulatedAlert],
    number: int,
    damage: float,
    seed: int,
    out: Path | None,
    truth: Path | None,
    topic: str | None,
    broker: tuple[str | None, Path | None],
) -> None:
    """The alerts of another survey's sky into a folder, a topic, or both, with the truth."""
    from simulator import damaged, write_truth

    started, tally = time.perf_counter(), _Tally()
    truth = truth or (out / TRUTH if out is not None else None)
    if out is not None:
        _clear(out, truth)
    stream = _followed(damaged(alerts, damage, seed), number, tally)
    if out is not None:
        stream = _written(stream, out)
    if topic is None:
        for _ in stream:
            pass
    else:
        _publish(stream, topic, *broker)
    if truth is not None:
        write_truth(tally.alerts, truth)
    _report(tally, time.perf_counter() - started, out)


def _in_order(
    run: Staged | Month,
    damage: float,
    out: Path | None,
    topic: str | None,
    bootstrap: str | None,
    config: Path | None,
    tally: _Tally,
) -> None:
    """One stream in order of time."""
    from simulator import damaged
    from simulator.packets.stream import stream_of

    with people.status("taking the census of the sky"):
        cells = list(_cells(run))
    stream = damaged(stream_of(cells, run.schema, run.stamps), damage, run.seed)
    stream = _followed(stream, sum(cell.count for cell in cells), tally)
    if out is not None:
        stream = _written(stream, out)
    if topic is None:
        for _ in stream:
            pass
    else:
        _publish(stream, topic, bootstrap, config)
    if out is not None:
        _write_catalogue([cell.catalogue.table() for cell in cells], out)


def _cells(run: Staged | Month) -> Iterable[Cell]:
    from simulator import Month

    return run.partitions(1)[0].cells() if isinstance(run, Month) else run.cells()


def _write_catalogue(tables: list[pa.Table], out: Path) -> None:
    """The static sources for crossmatch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = [table for table in tables if table.num_rows]
    if there:
        pq.write_table(pa.concat_tables(there), out / CATALOGUE)


def _write_beside(run: Staged | Month, out: Path) -> None:
    """The observing log; and the messages about a merger."""
    import pyarrow.parquet as pq

    from simulator import Month

    survey = run.survey()
    pq.write_table(survey.log(), out / EXPOSURES)
    merger = run.merger(survey) if isinstance(run, Month) else None
    if merger is not None:
        from simulator.sky.messages import write_messages

        written = write_messages(merger, run.seed, out / MESSAGES)
        people.print(f"{merger.name}: {len(written)} messages in {out / MESSAGES}", highlight=False)


def _in_parallel(run: Staged | Month, damage: float, out: Path, workers: int, tally: _Tally) -> None:
    """A month's quadrants divided among processes, which write the files themselves."""
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial
    from multiprocessing import get_context

    from commands.simulate.part import write_part
    from simulator import Month

    assert isinstance(run, Month)
    catalogues = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, _bar() as bar:
        parts = run.partitions(4 * workers)
        task = bar.add_task("simulating", total=len(parts))
        for made in pool.map(partial(write_part, damage=damage, folder=out), parts):
            tally.alerts += made.alerts
            tally.bytes += made.bytes
            catalogues.append(made.catalogue)
            bar.advance(task)
    tally.alerts.sort(key=lambda alert: (alert.jd, alert.candid))
    _write_catalogue(catalogues, out)


class _Tally:
    """Alerts without their packets, for the truth table and the summary."""

    def __init__(self) -> None:
        self.alerts: list[SimulatedAlert] = []
        self.bytes = 0

    def add(self, alert: SimulatedAlert) -> None:
        from dataclasses import replace

        self.bytes += len(alert.packet)
        self.alerts.append(replace(alert, packet=b""))


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=people, transient=True)


def _followed(stream: Iterable[SimulatedAlert], total: int, tally: _Tally) -> Iterator[SimulatedAlert]:
    """The stream, counted, with a progress bar on standard error."""
    with _bar() as bar:
        task = bar.add_task("simulating", total=total)
        for alert in stream:
            tally.add(alert)
            yield alert
            bar.advance(task)


def _written(stream: Iterable[SimulatedAlert], folder: Path) -> Iterator[SimulatedAlert]:
    from commands.simulate.part import write_alert

    for alert in stream:
        write_alert(alert, folder)
        yield alert


def _clear(folder: Path, truth: Path | None) -> None:
    """Remove the packets of an earlier simulation, so that the truth table describes all that is there."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    if truth is not None and truth.exists():
        for candid in pq.read_table(truth, columns=["candid"]).column("candid").to_pylist():
            (folder / f"{candid}.avro").unlink(missing_ok=True)
            (folder / f"{candid}_again.avro").unlink(missing_ok=True)
        truth.unlink()


def _publish(
    stream: Iterable[SimulatedAlert], topic: str, bootstrap: str | None, config: Path | None
) -> None:
    from commands.shared.bootstrap import connection
    from pipeline.clients.publish import publish_packets

    broker, kafka = connection(bootstrap, config)
    name = None if topic == NIGHTLY else topic
    summary = publish_packets((alert.packet for alert in stream), bootstrap=broker, topic=name, **kafka)
    for where, count in sorted(summary.topics.items()):
        people.print(f"{counted(count, 'alert')} to {where}")
    if summary.refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.refused.items())
        people.print(f"refused, now dead letters: {reasons}")
        raise typer.Exit(1)


def _compare(run: Staged | Month, real: Path, out: Path | None) -> None:
    """Distributions of this sky beside those of real packets: a picture, and where they differ."""
    from simulator.check.compare import compare_with, differences_table

    folder = out or Path()
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "distributions.png"
    people.print(differences_table(compare_with(run, real, picture)))
    people.print(f"distributions: {picture}", highlight=False, soft_wrap=True)


def _report(tally: _Tally, seconds: float, out: Path | None) -> None:
    objects: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    for alert in tally.alerts:
        kind = str(alert.truth["class"])
        counts[kind] += 1
        objects[kind].add(alert.objectId)
    table = Table("class", "alerts", "objects", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, count in counts.most_common():
        table.add_row(kind, f"{count:,}", f"{len(objects[kind]):,}")
    table.add_section()
    table.add_row("all", f"{counts.total():,}", f"{sum(map(len, objects.values())):,}")
    people.print(table)
    damages = Counter(alert.damage for alert in tally.alerts if alert.damage)
    if damages:
        people.print("damaged: " + ", ".join(f"{n:,} {kind}" for kind, n in sorted(damages.items())))
    pace = len(tally.alerts) / seconds
    people.print(
        f"{tally.bytes / 1e6:,.1f} MB in {seconds:,.1f} s ({pace:,.0f} alerts/s)"
        + (f", in {out}" if out else "")
    )
