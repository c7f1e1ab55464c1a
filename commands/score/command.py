"""`zads score`: how good a filter is, against the truth of a simulated sky."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commands.shared.options import Bootstrap, Config, counted, names_of, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    import pandas as pd

    from filters import Filter
    from filters.scoring import Answer, Score


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    filter_name: Annotated[
        str,
        typer.Argument(metavar="FILTER", help="Name, path/to/file.py:function or package.module:function."),
    ],
    truth: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Truth table that `zads simulate` wrote.")
    ],
    packets: Annotated[
        list[Path] | None,
        typer.Option("--packets", help="Packets to run it on.", show_default="the folder of the truth table"),
    ] = None,
    matches: Annotated[
        Path | None, typer.Option(help="Instead: a Parquet table of candids that passed, as a replay writes.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Instead: what a live channel delivered, e.g. channel.nuclear.")
    ] = None,
    seeks: Annotated[
        str | None, typer.Option(help="Classes it is for, separated by commas.", show_default="known ones")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="Threshold, name=value; repeatable.")] = None,
    public: Annotated[bool, typer.Option(help="As a public channel: programid 1 only.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the picture to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Score a filter: completeness by class and magnitude, purity, confusion, time to the first alert.

    Example: `zads score young_supernova --truth month/truth.parquet --plot score.png`
    """
    from commands.shared.exported import filter_named
    from filters.scoring import read_truth
    from filters.scoring import score as scored

    chosen = filter_named(filter_name).using(**_values(param or []))
    table = read_truth(truth)
    if public:
        table = table[table["programid"] == 1]
    answer = _answer(chosen, table, truth, packets, matches, topic, public, bootstrap, config)
    result = scored(chosen.name, table, answer, names_of(seeks))
    if plot is not None:
        from commands.score.picture import draw_score

        draw_score(result, plot)
        people.print(f"picture: {plot}", highlight=False, soft_wrap=True)
    print(to_json(result.summary(), indent=2)) if as_json else _show(result)


def _values(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"write --param name=value, not {text!r}")
        found[name.strip()] = value.strip()
    return found


def _answer(
    chosen: Filter,
    table: pd.DataFrame,
    truth: Path,
    packets: list[Path] | None,
    matches: Path | None,
    topic: str | None,
    public: bool,
    bootstrap: str | None,
    config: Path | None,
) -> Answer | set[int]:
    """The candids that passed, from packets, a table or a topic."""
    from filters.scoring import ask

    if sum(given is not None for given in (packets, matches, topic)) > 1:
        raise typer.BadParameter("give one of --packets, --matches and --topic")
    if matches is not None:
        return _in_table(matches, chosen.name)
    if topic is not None:
        from commands.shared.bootstrap import connection
        from pipeline.broker.listen import listen

        broker, kafka = connection(bootstrap, config)
        found = listen(topic, bootstrap=broker, until_drained=True, **kafka)
        return {int(alert.candid) for alert in found if alert.candid is not None}
    return ask(chosen, _raw(packets or [truth.parent]), public)


def _in_table(matches: Path, name: str) -> set[int]:
    import pyarrow.compute as pc

    from filters.scoring import with_candid

    table = with_candid(matches)
    if "filter" in table.column_names:
        table = table.filter(pc.equal(table["filter"], name))
    return set(table["candid"].to_pylist())


def _raw(paths: list[Path]) -> Iterator[bytes]:
    from schemas.packets.files import PacketFiles

    for file in PacketFiles(paths):
        yield file.raw


def _show(result: Score) -> None:
    console = Console()
    sought = int(result.alerts["sought"].sum())
    console.print(
        f"[bold]{result.filter}[/] seeks {', '.join(result.seeks)}\n"
        f"completeness {_share(result.completeness)} of {counted(sought, 'alert')}, purity"
        f" {_share(result.purity)} of {int(result.alerts['passed'].sum()):,};"
        f" {counted(len(result.alerts), 'alert')} asked, "
        f"{result.unreadable:,} damaged beyond reading\n"
    )
    console.print(_table(result.by_class(), "class"))
    console.print(_table(result.by_magnitude(), "by true magnitude"))
    console.print(_table(result.confusion().reset_index(names=""), "confusion (alerts)"))
    delays = result.delays()
    for column, since in (("after_first", "its first alert"), ("after_begin", "it began")):
        days = delays[column].dropna()
        if len(days):
            quantiles = ", ".join(f"{q:.0%} {days.quantile(q):.2f} d" for q in (0.25, 0.5, 0.9))
            console.print(
                f"time from when {since} to the first that passes: {quantiles}"
                f" ({counted(len(days), 'object')})"
            )


def _table(rows: pd.DataFrame, title: str) -> Table:
    heads = [str(c).replace("_", " ").replace("completeness", "complete") for c in rows.columns]
    look: dict[str, Any] = {"box": None, "padding": (0, 1, 0, 0)}  # whole at 80 columns
    table = Table(*heads, title=title, title_justify="left", **look)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows.itertuples(index=False):
        shown = [_cell(name, value) for name, value in zip(rows.columns, row, strict=True)]
        table.add_row(*shown, style=None if getattr(row, "sought", True) else "dim")
    return table


def _cell(name: Any, value: Any) -> str:
    if "completeness" in str(name):
        return _share(value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return (
        f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.1%}"
