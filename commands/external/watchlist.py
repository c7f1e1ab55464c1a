"""`zads watchlist`: lists of one's own targets, by place or by objectId."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from commands.external.ask import (
    answered,
    file_of,
    readers_in_words,
    refuse_readers,
    refuse_users_name,
    rows_of,
)
from commands.external.catalogue import Root, settled_externals
from commands.shared.options import Archive, Bootstrap, Config, archive_at, counted, people

if TYPE_CHECKING:
    import pandas as pd

Name = Annotated[str, typer.Argument(help="The list; another's as OWNER__LIST.")]
Readers = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Who may read it beside its owner: ann,ben, everybody or nobody."),
]
_TOLD = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Lists of targets, by place or objectId: filters read `NAME.match`, `NAME.name`.",
    )
    for command, name in (
        (add, "add"),
        (set_row, "set"),
        (drop, "drop"),
        (share, "share"),
        (list_, "list"),
        (show, "show"),
        (seen, "seen"),
        (remove, "remove"),
    ):
        group.command(name)(command)
    app.add_typer(group, name="watchlist")


def add(
    file: Annotated[Path, typer.Argument(help="CSV, FITS, VOTable or Parquet, a row a target.")],
    name: Annotated[str, typer.Option("--name", help="What filters call it; a user's own is USER__NAME.")],
    radius: Annotated[float, typer.Option("--radius", help="Matches within so many arcsec.")] = 3.0,
    radius_column: Annotated[
        str, typer.Option("--radius-column", help="Column with each target's own radius, arcsec.")
    ] = "",
    object_column: Annotated[
        str,
        typer.Option(
            "--object-column",
            help="Column of objectIds, for a list of objects.",
            show_default="objectId, in a table without positions",
        ),
    ] = "",
    ra: Annotated[str | None, typer.Option("--ra", help="Column of right ascension, degrees.")] = None,
    dec: Annotated[str | None, typer.Option("--dec", help="Column of declination, degrees.")] = None,
    readers: Readers = None,
    root: Root = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Add a list of targets, or a new version of one; channels that read it take it within seconds.

    Example: `zads watchlist add targets.csv --name targets --radius-column radius --as ann`
    """
    own: dict[str, Any] = {"radius": radius, "radius_column": radius_column, "object_column": object_column}
    more = {**own, "ra": ra, "dec": dec, "readers": readers_in_words(readers)}
    if answered("add", name, config, bootstrap, kind="watchlist", **more, **file_of(file)):
        return
    refuse_readers(readers)
    from commands.external.catalogues import read_table
    from commands.external.lists import add_list
    from filters.external import Store

    frame, described = read_table(file)
    where: dict[str, Any] = {
        key: value for key, value in {**own, "ra": ra, "dec": dec}.items() if value is not None
    }
    store = Store(settled_externals(root, config))
    refuse_users_name(name, store)
    said = add_list(frame, name, store, described=described, origin=file.name, **where)
    people.print(f"{name}: {said}; filters read {name}.match")


def set_row(
    name: Name,
    values: Annotated[
        list[str], typer.Argument(metavar="COLUMN=VALUE...", help="name=M31 ra=10.68 dec=41.27 radius=5")
    ],
    root: Root = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Put a target into a list, or change the one of this name.

    Example: `zads watchlist set targets name=M31 ra=10.6847 dec=41.2688 radius=5 --as ann`
    """
    _edit(name, [_row(values)], [], root, config, bootstrap)


def drop(
    name: Name,
    targets: Annotated[list[str], typer.Argument(help="Names (or objectIds) of rows.")],
    root: Root = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Take targets out of a list.

    Example: `zads watchlist drop targets M31 --as ann`
    """
    _edit(name, [], targets, root, config, bootstrap)


def share(
    name: Name,
    readers: Annotated[str, typer.Option(metavar="NAMES", help="ann,ben, everybody, or nobody.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Say who may read a list of yours beside you; channels of those who may not any more are paused.

    Example: `zads watchlist share targets --readers ben,cora --as ann`
    """
    if not answered("share", name, config, bootstrap, readers=readers_in_words(readers)):
        refuse_readers(readers)


def list_(root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """List the catalogues and watchlists that you may read.

    Example: `zads watchlist list --as ann`
    """
    if answered("list", "", config, bootstrap):
        return
    from filters.external import Store

    store = Store(settled_externals(root, config))
    table = Table("list", "rows", "what", "version", "owner", "added", box=None)
    for name in store.names():
        about = store.about(name)
        if about["what"] in ("catalogue", "objects"):
            what = "objects" if about["what"] == "objects" else "places"
            told = (about["version"], about["owner"], about["added"])
            table.add_row(name, f"{about['rows']:,}", what, *map(str, told))
    Console().print(table if table.row_count else f"no lists in {store.root} yet")


def show(name: Name, root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Show the columns of a list, and its first rows.

    Example: `zads watchlist show targets --as ann`
    """
    if answer := answered("show", name, config, bootstrap):
        _print_rows(rows_of(answer))
        return
    from commands.external.lists import content
    from filters.external import Externals, Store
    from filters.values import as_json

    where = settled_externals(root, config)
    for column, (kind, unit, meaning) in Externals(where).opened(name).kinds.items():
        people.print(f"{name}.{column}: {', '.join(filter(None, (kind, unit, meaning)))}", highlight=False)
    _print_rows(as_json(content(Store(where), name).rows.head(_TOLD)))


def seen(
    name: Name,
    nights: Annotated[
        str | None, typer.Option(help="Nights of the archive: A..B.", show_default="the last ones")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="How many of the last nights.")] = 30,
    collaboration: Annotated[
        bool, typer.Option("--collaboration", help="Of all alerts, not the public ones only.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .csv, .ecsv, .vot, .fits, .parquet.")
    ] = None,
    archive: Archive = None,
    root: Root = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Tell which alerts of the last month the targets of a list have had, by the archive.

    A user of a secured broker asks its service, and sees the alerts that the user's role may see.

    Example: `zads watchlist seen targets --days 30 --out seen.csv --as ann`
    """
    import pandas as pd

    from schemas.tabular import check_name, write_table

    if out is not None:
        check_name(out)
    if answer := answered("seen", name, config, bootstrap, nights=nights, days=days):
        found = pd.DataFrame(rows_of(answer))
    else:
        found = _seen_here(
            name, nights or "", days, not collaboration, archive, settled_externals(root, config)
        )
        alerts, objects = counted(len(found), "alert"), counted(found["objectId"].nunique(), "object")
        people.print(f"{name}: {alerts} of {objects}")
    if out is not None:
        write_table(found, out)
        people.print(f"{counted(len(found), 'alert')} in {out}", soft_wrap=True)
    else:
        from filters.values import as_json

        _print_rows(
            as_json(found.head(_TOLD).assign(night=found["night"].astype(str)) if len(found) else found)
        )


def remove(name: Name, root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Take a list away, with all its versions. Channels that read it are paused, or refused.

    Example: `zads watchlist remove targets --as ann`
    """
    if answered("remove", name, config, bootstrap, kind="watchlist"):
        return
    from filters.external import Store

    Store(settled_externals(root, config)).remove(name, "watchlist")
    people.print(f"{name} is gone")


def _edit(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    gone: Sequence[str],
    root: Path | None,
    config: Path | None,
    bootstrap: str | None,
) -> None:
    if answered("edit", name, config, bootstrap, kind="watchlist", rows=tuple(rows), drop=tuple(gone)):
        return
    from commands.external.lists import edit_list
    from filters.external import Store

    said = edit_list(name, Store(settled_externals(root, config)), rows, gone)
    people.print(f"{name}: {said}")


def _row(given: list[str]) -> dict[str, Any]:
    """["name=M31", "ra=10.68"] as a row; what looks like a number is one, but for names."""
    row: dict[str, Any] = {}
    for text in given:
        column, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r}: write COLUMN=VALUE")
        row[column] = _value(value) if column.lower() not in ("name", "objectid") else value
    return row


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "": None}.get(text.lower(), text)


def _seen_here(
    name: str, nights: str, days: int, public: bool, archive: str | None, root: Path | None
) -> pd.DataFrame:
    from commands.external.seen import seen as look
    from filters.external import Externals

    found: pd.DataFrame = look(
        name, archive_at(archive), Externals(root), nights=nights, days=days, public=public
    )
    return found


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    table = Table(*rows[0], box=None)
    for one in rows[:_TOLD]:
        cells = (f"{v:.5f}" if isinstance(v, float) else "" if v is None else f"{v}" for v in one.values())
        table.add_row(*map(escape, cells))
    Console().print(table)
    if len(rows) > _TOLD:
        people.print(f"and {len(rows) - _TOLD:,} more: --out FILE writes all")
