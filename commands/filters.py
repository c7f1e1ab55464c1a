"""`zads filters`: which filters there are, what each asks and which thresholds it has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Json, people
from schemas.json_text import to_json

if TYPE_CHECKING:
    from filters import Filter


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("filters")(filters)


def filters(
    name: Annotated[
        str | None,
        typer.Argument(help="A filter: its name, path/to/file.py:function or package.module:function."),
    ] = None,
    as_json: Json = False,
    gallery: Annotated[
        Path | None,
        typer.Option(help="Write a page of all filters on a simulated night, with pictures: gallery.md"),
    ] = None,
) -> None:
    """List the filters, or tell all about one: what it asks, its thresholds with units, its cuts.

    Example: `zads filters young_supernova`
    """
    from commands.shared.exported import filter_named
    from filters import registered

    if gallery is not None:
        from commands.filter.gallery import write_gallery

        write_gallery(gallery)
        people.print(f"{gallery} and the pictures in {gallery.with_suffix('')}")
        return
    if name is not None:
        chosen = filter_named(name)
        _print_json(described(chosen)) if as_json else show_one(chosen)
        return
    every = list(registered().values())
    if as_json:
        _print_json([described(f) for f in every])
        return
    Console().print(listing(every))
    people.print("`zads filters NAME` tells all about one.", style="dim")


def described(f: Filter) -> dict[str, Any]:
    """All that is declared about a filter, as plain JSON values."""
    return {
        "name": f.name,
        "surveys": list(f.surveys),
        "scope": f.scope,
        "version": f.version,
        "doc": f.doc,
        "parameters": {
            name: {"default": p.default, "unit": p.unit, "kind": p.kind.__name__}
            for name, p in f.parameters.items()
        },
        "gives": dict(f.gives),
        "cuts": f.cut_names() if f.reads is not None else None,
        "reads": list(f.reads) if f.reads is not None else None,
    }


def listing(every: list[Filter]) -> Table:
    """One row a filter."""
    table = Table("filter", "survey", "asks for", "thresholds", "reads", box=None, padding=(0, 2, 1, 0))
    table.columns[0].no_wrap = True
    table.columns[2].ratio, table.columns[3].ratio = 3, 2
    table.columns[4].justify = "right"
    for f in every:
        thresholds = ", ".join(
            f"{name}={_number(p.default)} {p.unit}".strip() for name, p in f.parameters.items()
        )
        reads = str(len(f.reads)) if f.reads is not None else "?"
        table.add_row(f"[bold]{f.name}", f.of, escape(f.title), escape(thresholds), reads)
    return table


def show_one(f: Filter) -> None:
    """Everything about one filter."""
    console = Console()
    console.print(f"[bold]{f.name}[/]  for {f.of}, one {f.scope} at a time, version {f.version}\n")
    console.print(escape(f.doc) + "\n")
    table = Table("threshold", "default", "unit", box=None, padding=(0, 2, 0, 0))
    for name, parameter in f.parameters.items():
        table.add_row(name, _number(parameter.default), escape(parameter.unit))
    if f.parameters:
        console.print(table)
    if f.reads is None:
        console.print("\nIt does not say what it reads, so no channel can run it.")
        return
    console.print("\n[bold]cuts[/], in this order: " + escape(", ".join(f.cut_names())))
    console.print("[bold]reads[/]: " + escape(", ".join(f.reads)))
    if f.gives:
        told = ", ".join(f"{name} ({unit})" if unit else name for name, unit in f.gives.items())
        console.print("[bold]gives[/]: " + escape(told))


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_json(value: Any) -> None:
    print(to_json(value, indent=2))
