"""`zads show | light-curve | cutouts`: one alert or one object of the archive, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commands.shared.alerts import What, curve_of, is_candid, packets_named
from commands.shared.options import Archive, Json, counted, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    import pandas as pd

_MOST_ALERTS = 12  # of an object, in the terminal
_OUT = "PNG, PDF or SVG for a picture."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("show")(show)
    app.command("light-curve")(light_curve)
    app.command("cutouts")(cutouts)
    app.command("finder")(finder)


def show(
    what: What,
    archive: Archive = None,
    out: Annotated[Path | None, typer.Option(help=_OUT)] = None,
    as_json: Json = False,
) -> None:
    """Show an alert or an object: its facts, light curve and stamps; in the terminal or as a picture.

    Example: `zads show ZTF18abcdefg --out ZTF18abcdefg.png`
    """
    from schemas.packets.packet import read_packet
    from schemas.pictures.facts import facts
    from schemas.pictures.terminal import print_picture

    packets = [packet for raw in packets_named(what, archive) for packet in read_packet(raw)]
    known = [facts(packet) for packet in packets]
    of_object = not is_candid(what) and not Path(what).is_file()
    if as_json:
        print(to_json(known, indent=2))
        return
    if out is not None:
        _picture(what, packets, of_object, archive, out)
        people.print(f"picture: {out}", highlight=False, soft_wrap=True)
        return
    console = Console()
    print_picture(packets[-1], console)
    console.print(_facts_table(known[-1]))
    if of_object:
        console.print(_alerts_table(known))


def _picture(what: str, packets: list[Any], of_object: bool, archive: str | None, out: Path) -> None:
    from archive.plots.objects import plot_object
    from schemas.pictures.figure import save_picture, write_figure

    if of_object:
        part, _ = curve_of(what, archive)
        write_figure(plot_object(part, what), out)
    else:
        save_picture(packets, out)


def _facts_table(known: dict[str, Any]) -> Table:
    from schemas.dictionary import words_of

    words = words_of(known["survey"])
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in known.items():
        unit = words[name].unit if name in words and value is not None else ""
        table.add_row(f"[bold]{name}", "missing" if value is None else f"{value} {unit}".strip())
    return table


def _alerts_table(every: list[dict[str, Any]]) -> Table:
    """The object's alerts, newest last; of many the last."""
    last = f", the last {_MOST_ALERTS}" if len(every) > _MOST_ALERTS else ""
    title = counted(len(every), "alert") + last
    columns = ("candid", "utc", "band", "mag", "magerr", "positive")
    table = Table(*columns, title=title, title_justify="left", box=None)
    for known in every[-_MOST_ALERTS:]:
        table.add_row(*("" if known[name] is None else f"{known[name]}" for name in columns))
    return table


def light_curve(
    objectId: Annotated[str, typer.Argument(metavar="OBJECTID", help="Name of an object of the archive.")],
    archive: Archive = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help=f".csv, .ecsv, .vot, .fits or .parquet for a table; {_OUT}", show_default="a table"
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Only what is public.")] = False,
) -> None:
    """Every epoch of an object: its alerts, the detections and limits they carry, forced photometry.

    Example: `zads light-curve ZTF18abcdefg --out ZTF18abcdefg.ecsv`
    """
    part, curve = curve_of(objectId, archive, public)
    if out is None:
        Console().print(_curve_table(curve, part.survey))
        return
    _write_curve(curve, objectId, part.survey, out)
    people.print(f"{counted(len(curve), 'epoch')} of {objectId} in {out}", soft_wrap=True)


def _write_curve(curve: pd.DataFrame, objectId: str, survey: str, out: Path) -> None:
    from archive.plots.objects import plot_light_curve
    from schemas.pictures.figure import write_figure
    from schemas.tabular import FORMATS, write_table

    if out.suffix.lower() in FORMATS:
        write_table(curve, out, survey, notes={"objectId": objectId, "survey": survey})
    else:
        write_figure(plot_light_curve(curve), out)


def _curve_table(curve: pd.DataFrame, survey: str) -> Table:
    from schemas.pictures.light_curve import utc
    from schemas.surveys.registry import survey_named

    made = survey_named(survey).light_curve
    columns = [name for name in (made.value, made.error, made.limit) if name]
    table = Table("time (UTC)", "band", "kind", *columns, "forced", "candid", box=None)
    for row in curve.to_dict("records"):
        numbers = [_number(row[name]) for name in columns]
        forced = _number(row["point"]) if row["usable"] else ""
        candid = "" if _missing(row["candid"]) else str(row["candid"])
        seen = utc(row["jd"]).removesuffix(" UTC")
        table.add_row(seen, str(row["band"]), str(row["kind"]), *numbers, forced, candid)
    return table


def _number(value: Any) -> str:
    return "" if _missing(value) else f"{value:.3f}"


def _missing(value: Any) -> bool:
    """Whether a cell of a frame has no value."""
    import pandas as pd

    return bool(pd.isna(value))


def cutouts(
    what: What,
    archive: Archive = None,
    out: Annotated[Path, typer.Option(help="Folder for the images, which is made.")] = Path("cutouts"),
) -> None:
    """Write the stamps of an alert, or of all alerts of an object, as FITS files, and a picture of each.

    The files hold the pixels as the survey sent them: rows to the south, columns to the west.

    Example: `zads cutouts 2475433850315015009 --out stamps`
    """
    from schemas.frame import value_in_packet
    from schemas.packets.packet import STAMPS, read_packet, stamp_bytes
    from schemas.pictures.figure import save_picture

    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for raw in packets_named(what, archive):
        for packet in read_packet(raw):
            candid = value_in_packet(packet, "candid")
            for which in STAMPS:
                data = stamp_bytes(packet, which)
                if data is not None:
                    (out / f"{candid}_{which}.fits").write_bytes(data)
                    written += 1
            save_picture(packet, out / f"{candid}.png")
    people.print(f"{counted(written, 'stamp')} in {out}", soft_wrap=True)


def finder(
    what: What,
    archive: Archive = None,
    out: Annotated[Path, typer.Option(help="Picture: .pdf, .png or .svg.")] = Path("finder.pdf"),
    stamp: Annotated[str, typer.Option(help="Template or Science.")] = "Template",
    site: Annotated[
        str, typer.Option(help='palomar, pachon, … or "longitude latitude height" (degrees, metres).')
    ] = "palomar",
    when: Annotated[
        str | None,
        typer.Option(
            help="The night that begins on the evening of this date at the site.",
            show_default="the first night in which it can still be observed",
        ),
    ] = None,
    catalogue: Annotated[
        str | None,
        typer.Option(help="Neighbours to mark: a catalogue's name, or a table with ra and dec in degrees."),
    ] = None,
) -> None:
    """Draw a finder chart: north up, east left, scale, coordinates, neighbours, and when to observe.

    Of an object the newest alert is taken.

    Example: `zads finder ZTF18abcdefg --site pachon --out finder.pdf`
    """
    from commands.shared.neighbours import neighbours
    from schemas.packets.packet import read_packet
    from schemas.pictures.facts import facts
    from schemas.pictures.figure import write_figure
    from schemas.pictures.finder import finder_chart

    packet = read_packet(packets_named(what, archive)[-1])[0]
    known = facts(packet)
    around = None if catalogue is None else neighbours(catalogue, known["ra"], known["dec"])
    write_figure(finder_chart(packet, stamp.capitalize(), site, when, around), out)
    people.print(f"finder chart: {out}", highlight=False, soft_wrap=True)
