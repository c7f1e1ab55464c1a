"""`zads explain`: which cut stopped an alert, and on what values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.filters import Json
from commands.shared.options import Config, Schemas
from schemas.json_text import to_json

if TYPE_CHECKING:
    import pandas as pd

    from filters import Filter
    from schemas.avro.framing import SchemaSource


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


@dataclass(frozen=True)
class Explained:
    """One alert, and what each cut of a filter said of it (see `Filter.explain`)."""

    candid: int
    objectId: str
    cuts: pd.DataFrame

    @property
    def passes(self) -> bool:
        return not self.cuts["stopped"].any()


def explain(
    filter_name: Annotated[
        str,
        typer.Argument(metavar="FILTER", help="Name, path/to/file.py:function or package.module:function."),
    ],
    packet: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="File of one or several alerts.")
    ],
    param: Annotated[
        list[str] | None, typer.Option(help="Another value of a threshold: name=value; may be repeated.")
    ] = None,
    as_json: Json = False,
    schema_source: Schemas = None,
    config: Config = None,
) -> None:
    """Tell for each cut of a filter whether an alert passes it, and on what values.

    Example: `zads explain asteroid 2475433850315015009.avro --param rb_min=0.5`
    """
    from commands.shared.bootstrap import schemas
    from filters import load

    chosen = load(filter_name).using(**parameters(param or []))
    alerts = list(explained(chosen, packet, schemas(schema_source, config)))
    if as_json:
        print(to_json([_plain(alert) for alert in alerts], indent=2))
        return
    console = Console()
    for alert in alerts:
        verdict = "[green]passes[/]" if alert.passes else "[red]does not pass[/]"
        console.print(f"[bold]{alert.objectId}[/], candid {alert.candid}: {verdict} {escape(repr(chosen))}")
        console.print(_table(alert.cuts))
    console.print(_counts(alerts))


def parameters(given: list[str]) -> dict[str, str]:
    """["gap=20"] as {"gap": "20"}. Raises BadParameter (a usage error) for anything else."""
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise typer.BadParameter(f"{text!r}: write --param name=value")
        values[name.strip()] = value.strip()
    return values


def explained(chosen: Filter, packet: Path, schemas: SchemaSource | None = None) -> Iterator[Explained]:
    """Every alert of the file. Raises what is wrong with the packet, FilterError for another survey's."""
    from filters.errors import FilterError
    from schemas.frame import FrameMaker
    from schemas.packets.packet import packet_survey
    from schemas.packets.reader import PacketReader

    reads = chosen.require_reads()
    survey = packet_survey(packet, schemas)
    if survey not in chosen.surveys:
        raise FilterError(f"{packet.name} is of {survey}; {chosen.name} is for {chosen.of}")
    maker = FrameMaker(reads, survey)
    batch = PacketReader(maker.columns, survey, schemas).read([packet.read_bytes()])
    if batch.refused:
        raise batch.refused[0].error
    frame = maker.frame(batch.table)
    for row in range(len(frame)):
        alert = frame.iloc[[row]]
        candid = int(alert["candid"].iloc[0])
        yield Explained(candid, str(alert["objectId"].iloc[0]), chosen.explain(alert, candid))


def _table(cuts: pd.DataFrame) -> Table:
    table = Table("cut", "", "saw", box=None, padding=(0, 2, 0, 2))
    for row in cuts.to_dict("records"):
        saw = "\n".join(f"{name} = {brief(value)}" for name, value in row["saw"].items())
        table.add_row(row["cut"], _mark(row), escape(saw))
    return table


def _mark(row: dict[Any, Any]) -> str:
    if row["stopped"]:
        return "[red]✗ stopped here[/]"
    if row["passed"] is True:
        return "[green]✓ passed[/]"
    return "[dim]✗ failed too[/]" if row["passed"] is False else "[dim]not reached[/]"


def brief(value: Any) -> str:
    """A value for one line; of a history how many rows have a value, and their range."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        there = [v for v in value if v is not None]
        if not there:
            return f"{len(value)} rows, no value"
        span = brief(there[0]) if min(there) == max(there) else f"{brief(min(there))} to {brief(max(there))}"
        return f"{len(value)} rows, {len(there)} with a value: {span}"
    if isinstance(value, float):
        return f"{value:.5f}" if abs(value) > 1e6 else f"{value:.7g}"  # a Julian date to the second
    return str(value)


def _counts(alerts: list[Explained]) -> str:
    passed = [alert for alert in alerts if alert.passes]
    objects, passed_objects = ({alert.objectId for alert in some} for some in (alerts, passed))
    return (
        f"{len(passed)} of {len(alerts)} alerts pass, {len(passed_objects)} of {len(objects)} objects."
        if len(alerts) != 1
        else f"{len(passed)} of 1 alert passes, {len(passed_objects)} of 1 object."
    )


def _plain(alert: Explained) -> dict[str, Any]:
    cuts = alert.cuts.drop(columns="candid").astype({"passed": object}).to_dict("records")
    for cut in cuts:
        cut["passed"] = None if cut["passed"] not in (True, False) else bool(cut["passed"])
    return {"candid": alert.candid, "objectId": alert.objectId, "passes": alert.passes, "cuts": cuts}
