"""`zads simulate`: packets of the simulated sky, into a folder or into Kafka."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from commands.options import Bootstrap, Config, people

if TYPE_CHECKING:
    from schemas.simulated import SimulatedAlert

NIGHTLY = "nightly"
TRUTH = "truth.parquet"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    alerts: Annotated[int, typer.Option(min=1, help="How many alerts, exactly.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    nights: Annotated[int, typer.Option(min=1, help="Spread them over the last so many nights.")] = 1,
    schema: Annotated[
        str, typer.Option(help="ZTF schema version: 4.01 (with forced photometry) or 3.3.")
    ] = "4.01",
    stamps: Annotated[bool, typer.Option(help="With or without the three pictures.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for one .avro file an alert, named by candid, and truth.parquet."),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(help=f"Publish to this topic; '{NIGHTLY}' for the survey's ztf_YYYYMMDD_programidN."),
    ] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Simulate a sky: supernovae, variable stars, outbursts, active nuclei, asteroids and artefacts.

    Packets are valid ZTF packets of programs 1, 2 and 3 with consistent histories; truth.parquet says what
    each one is. Give --out, --topic, or both.

    Example: `zads simulate --alerts 2000 --seed 1 --out night`
    """
    from schemas.simulated import simulate as sky
    from schemas.simulated import write_truth

    if out is None and topic is None:
        raise typer.BadParameter("say where the alerts go: --out FOLDER, --topic NAME, or both")
    tally = _Tally()
    started = time.perf_counter()
    try:
        stream = _followed(sky(alerts, seed, nights, schema, stamps), alerts, tally)
        if out is not None:
            stream = _written(stream, out)
        if topic is None:
            for _ in stream:
                pass
        else:
            _publish(stream, topic, bootstrap, config)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if out is not None:
        write_truth(tally.alerts, out / TRUTH)
    _report(tally, time.perf_counter() - started, out)


class _Tally:
    """Alerts without their packets, for the truth table and the summary."""

    def __init__(self) -> None:
        self.alerts: list[SimulatedAlert] = []
        self.bytes = 0

    def add(self, alert: SimulatedAlert) -> None:
        from dataclasses import replace

        self.bytes += len(alert.packet)
        self.alerts.append(replace(alert, packet=b""))


def _followed(stream: Iterable[SimulatedAlert], total: int, tally: _Tally) -> Iterator[SimulatedAlert]:
    """The stream, counted, with a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=people, transient=True) as bar:
        task = bar.add_task("simulating", total=total)
        for alert in stream:
            tally.add(alert)
            yield alert
            bar.advance(task)


def _written(stream: Iterable[SimulatedAlert], folder: Path) -> Iterator[SimulatedAlert]:
    _clear(folder)
    for alert in stream:
        (folder / f"{alert.candid}.avro").write_bytes(alert.packet)
        yield alert


def _clear(folder: Path) -> None:
    """Make room: the packets of an earlier simulation go, so that truth.parquet describes what is there."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    truth = folder / TRUTH
    if truth.exists():
        for candid in pq.read_table(truth, columns=["candid"]).column("candid").to_pylist():
            (folder / f"{candid}.avro").unlink(missing_ok=True)
        truth.unlink()


def _publish(
    stream: Iterable[SimulatedAlert], topic: str, bootstrap: str | None, config: Path | None
) -> None:
    from commands.bootstrap import connection
    from pipeline.publish import publish_packets

    broker, kafka = connection(bootstrap, config)
    name = None if topic == NIGHTLY else topic
    summary = publish_packets((alert.packet for alert in stream), bootstrap=broker, topic=name, **kafka)
    for where, count in sorted(summary.topics.items()):
        people.print(f"{count:,} alerts to {where}")
    if summary.refused:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.refused.items())
        people.print(f"refused, now dead letters: {reasons}")
        raise typer.Exit(1)


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
    pace = len(tally.alerts) / seconds
    people.print(
        f"{tally.bytes / 1e6:,.1f} MB in {seconds:,.1f} s ({pace:,.0f} alerts/s)"
        + (f", in {out}" if out else "")
    )
