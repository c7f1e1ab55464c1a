"""`zads filter new | check`: create a filter of your own, and test it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.shared.options import people

_FILTER = '''"""{title}."""

from typing import Annotated, Any

import pandas as pd

from zads import alert_filter, history


@alert_filter(
    survey="{survey}",
    reads=["mag", "positive", "{history}.mag", "{history}.jd"],
)
def {name}(alerts: pd.DataFrame, *, faintest: Annotated[float, "mag"] = 19.0) -> dict[str, Any]:
    """{title}: say here what it looks for, and where the rule comes from."""
    seen = history(alerts, "{history}")
    return {{
        "positive": alerts["positive"],
        "bright enough": alerts["mag"] < faintest,
        "seen before": seen[seen["mag"].notna()].any(),
    }}
'''
_TEST = '''"""The filter {name}, on packets made by hand."""

from filters.testing import packet
from {name} import {name}


def test_what_passes_and_what_stops_the_others() -> None:
    before = [{before}]
    assert {name}.one(packet("{survey}", {bright}, history=before))
    assert {name}.one(packet("{survey}", {faint}, history=before)).stopped_by == "bright enough"
    assert {name}.one(packet("{survey}", {bright})).stopped_by == "seen before"
'''
_VALUES = {
    "ztf": {
        "bright": 'magpsf=17.0, isdiffpos="t"',
        "faint": 'magpsf=20.0, isdiffpos="t"',
        "before": '{"jd": 2460235.7, "magpsf": 18.0}',
    },
    "lsst": {
        "bright": "psfFlux=1.0e6, psfFluxErr=10.0, isNegative=False, midpointMjdTai=60236.2",
        "faint": "psfFlux=1.0e4, psfFluxErr=10.0, isNegative=False, midpointMjdTai=60236.2",
        "before": '{"midpointMjdTai": 60235.2, "psfFlux": 5.0e5, "psfFluxErr": 10.0, "isNegative": False}',
    },
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Begin a filter of your own, and try it against the laws.")
    group.command("new")(new)
    group.command("check")(check)
    app.add_typer(group, name="filter")


def new(
    name: Annotated[str, typer.Argument(help="Of the filter: letters, digits, _.")],
    survey: Annotated[str, typer.Option("--survey", help="Whose alerts: ztf or lsst.")] = "ztf",
    folder: Annotated[Path, typer.Option("--folder", help="Where to write.")] = Path(),
) -> None:
    """Write NAME.py with a filter to change, and test_NAME.py with a test on packets made by hand.

    Example: `zads filter new my_filter`
    """
    from filters.errors import FilterError
    from schemas.surveys.registry import survey_named

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise typer.BadParameter(f"{name!r}: a lower-case letter, then letters, digits and _")
    if survey not in _VALUES:
        raise typer.BadParameter(f"no template for {survey}; there are {', '.join(_VALUES)}")
    words: dict[str, Any] = {
        "name": name,
        "survey": survey,
        "title": name.replace("_", " ").capitalize(),
        "history": survey_named(survey).light_curve.detections,
        **_VALUES[survey],
    }
    for file, text in ((folder / f"{name}.py", _FILTER), (folder / f"test_{name}.py", _TEST)):
        if file.exists():
            raise FilterError(f"{file} is there already")
        file.write_text(text.format(**words))
        people.print(f"wrote {file}")
    people.print(f"next: pytest {folder / f'test_{name}.py'}; zads filter check {folder / f'{name}.py'}")


def check(
    where: Annotated[str, typer.Argument(help="A filter's name, FILE.py:FUNCTION or an expression.")],
    alerts: Annotated[int, typer.Option("--alerts", help="How many simulated alerts.")] = 500,
    packets: Annotated[
        Path | None, typer.Option("--packets", help="A folder of packets to try it on instead.")
    ] = None,
) -> None:
    """Try a filter against the laws that live, replay and notebooks rely on, and measure it.

    Exit code 1 when a law is broken.

    Example: `zads filter check my_filter.py`
    """
    from commands.shared.exported import filter_named
    from filters.testing import check as try_laws
    from filters.testing import kept

    chosen = filter_named(where)
    findings = try_laws(chosen, _packets(chosen.surveys[0], alerts, packets))
    table = Table("check", "", "what was seen", box=None)
    for one in findings:
        mark = {True: "[green]ok[/green]", False: "[red]broken[/red]", None: ""}[one.ok]
        table.add_row(one.check, mark, escape(one.detail))
    Console().print(table)
    if not kept(findings):
        raise typer.Exit(1)


def _packets(survey: str, alerts: int, folder: Path | None) -> list[dict[str, Any]]:
    """Packets of a survey as plain dictionaries: from a folder, or simulated."""
    from schemas.packets.files import PacketFiles
    from schemas.packets.packet import packet_survey, read_packet
    from simulator import SKIES, simulate

    if folder is not None:
        raws = [file.raw for file in PacketFiles([folder])]
        return [one for raw in raws if packet_survey(raw) == survey for one in read_packet(raw)]
    if survey not in ("ztf", *SKIES):
        raise typer.BadParameter(f"name a folder of {survey} packets with --packets")
    made = SKIES[survey](alerts, 1, False) if survey in SKIES else simulate(alerts, seed=1, stamps=False)
    return [read_packet(alert.packet)[0] for alert in made]
