"""`zads catalogue`: sources of other surveys that filters may read beside the alert."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commands.external.ask import answered, file_of, readers_in_words, refuse_readers, refuse_users_name
from commands.shared.options import Bootstrap, Config, counted, people

if TYPE_CHECKING:
    from filters.catalogues import Description

Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="Folder of catalogues, regions and sky maps.",
        show_default="ZADS_EXTERNAL, else external in ZADS_HOME",
    ),
]
Name = Annotated[str, typer.Argument(help="The catalogue.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Catalogues that filters read: `galex.sep`, `galex.nuv_mag`."
    )
    for command, name in ((add, "add"), (list_, "list"), (show, "show"), (remove, "remove")):
        group.command(name)(command)
    app.add_typer(group, name="catalogue")


def add(
    file: Annotated[Path, typer.Argument(help="CSV, FITS, VOTable or Parquet.")],
    name: Annotated[str, typer.Option("--name", help="What filters call it.")],
    radius: Annotated[float, typer.Option("--radius", help="Matches within so many arcsec.")] = 3.0,
    ra: Annotated[str | None, typer.Option("--ra", help="Column of right ascension, degrees.")] = None,
    dec: Annotated[str | None, typer.Option("--dec", help="Column of declination, degrees.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Columns to keep, separated by commas.")
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option("--null", help='-999, or nuv_mag=-999: a value that means "missing". Repeatable.'),
    ] = None,
    unit: Annotated[list[str] | None, typer.Option("--unit", help="COLUMN=UNIT. Repeatable.")] = None,
    radius_column: Annotated[
        str, typer.Option("--radius-column", help="Column with each source's own radius, arcsec.")
    ] = "",
    motion: Annotated[
        str | None,
        typer.Option("--motion", help="PMRA,PMDEC,EPOCH: columns in mas/yr and a Julian year."),
    ] = None,
    footprint: Annotated[
        str,
        typer.Option(
            "--footprint", help="all (the whole sky), sources (where there are any), or a MOC in FITS."
        ),
    ] = "all",
    owner: Annotated[str | None, typer.Option("--owner", help="Whom to ask about it.")] = None,
    readers: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Who may read a user's: ann,ben, everybody or nobody."),
    ] = None,
    root: Root = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Add a catalogue, or a new version of one; filters read it as NAME.column, NAME.sep.

    A user of a secured broker owns it: it is USER__NAME, and private until it is shared.

    Example: `zads catalogue add galex.fits --name galex --radius 3 --null -999`
    """
    from commands.external.catalogues import add_catalogue
    from filters.external import Store

    own: dict[str, Any] = {"radius": radius, "ra": ra, "dec": dec, "radius_column": radius_column}
    own |= {"columns": columns.split(",") if columns else None, "nulls": _nulls(null or [])}
    own |= {"units": dict(_pair(text) for text in unit or []), "motion": _motion(motion)}
    own |= {"footprint": footprint}
    if _asked(file, name, {**own, "readers": readers_in_words(readers)}, config, bootstrap):
        return
    refuse_readers(readers)
    refuse_users_name(name, Store(settled_externals(root, config)))
    people.print(f"reading {file} and sorting it by place …", style="dim", highlight=False, soft_wrap=True)
    about = add_catalogue(
        file, name, owner=owner or getpass.getuser(), root=settled_externals(root, config), tell=_tell, **own
    )
    people.print(f"{about.name}: {counted(about.rows, 'source')}, version {about.version}, {_reach(about)}")
    people.print(
        f"a filter reads them as {name}.sep, {', '.join(f'{name}.{c}' for c in list(about.columns)[:3])} …"
    )


def list_(root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """List the catalogues.

    Example: `zads catalogue list`
    """
    if answered("list", "", config, bootstrap):
        return
    from filters.catalogues import describe
    from filters.external import Store

    store = Store(settled_externals(root, config))
    table = Table("catalogue", "sources", "radius", "version", "owner", "added", box=None)
    for name in store.names("catalogue"):
        about = describe(store, name)
        table.add_row(name, f"{about.rows:,}", _reach(about), about.version, about.owner, about.added)
    if not table.row_count:
        people.print(f"no catalogues in {store.root} yet: `zads catalogue add FILE --name NAME`")
        return
    Console().print(table)


def show(name: Name, root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Show the columns of a catalogue with their units, and where it came from.

    Example: `zads catalogue show galex`
    """
    if answered("show", name, config, bootstrap):
        return
    from filters.catalogues import describe
    from filters.catalogues.description import MADE
    from filters.external import Store

    store = Store(settled_externals(root, config))
    about = describe(store, name)
    people.print(
        f"{name}: {counted(about.rows, 'source')} of {about.source}, version {about.version}, {_reach(about)}"
    )
    people.print(f"versions: {', '.join(store.versions(name))}; footprint: {about.footprint}")
    table = Table("column", "kind", "unit", "missing", "meaning", box=None)
    for column in about.names():
        one = about.column(column)
        made = "" if column not in MADE else " [dim](computed)[/]"
        nulls = ", ".join(map(str, one.nulls))
        table.add_row(f"{name}.{column}", one.kind, one.unit, nulls, one.meaning + made)
    Console().print(table)


def remove(name: Name, root: Root = None, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Take a catalogue away, with all its versions. Channels that read it are refused from then on.

    Example: `zads catalogue remove galex`
    """
    if answered("remove", name, config, bootstrap, kind="catalogue"):
        return
    from filters.external import Store

    Store(settled_externals(root, config)).remove(name, "catalogue")
    people.print(f"{name} is gone")


def settled_externals(root: Path | None, config: Path | None) -> Path | None:
    """The folder that an option or the configuration names; None for the usual one. Raises ConfigError."""
    from pipeline.channels.config import read_config

    return root or (Path(named) if (named := read_config(config).external) else None)


def _asked(file: Path, name: str, wish: dict[str, Any], config: Path | None, bootstrap: str | None) -> bool:
    """Whether the service was asked, for a user."""
    from pipeline.broker.profile import user_name

    if not user_name():
        return False
    if wish["footprint"] not in ("all", "sources"):
        raise typer.BadParameter("a footprint of one's own is for operators: --footprint all, or sources")
    return answered("add", name, config, bootstrap, kind="catalogue", **wish, **file_of(file)) is not None


def _tell(text: str) -> None:
    people.print(text, style="yellow", highlight=False, soft_wrap=True)


def _reach(about: Description) -> str:
    return (
        f"radius of each in {about.radius_column}"
        if about.radius_column
        else f"within {about.radius:g} arcsec"
    )


def _nulls(given: list[str]) -> Any:
    """The values of `--null` as `add_catalogue` takes them: for every column, or by name."""
    named = [text for text in given if "=" in text]
    if not named:
        return [_value(text) for text in given]
    if len(named) != len(given):
        raise typer.BadParameter("--null takes a value for all columns, or COLUMN=VALUE, not both")
    found: dict[str, list[Any]] = {}
    for text in named:
        column, value = _pair(text)
        found.setdefault(column, []).append(_value(value))
    return found


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write COLUMN=VALUE")
    return name, value


def _motion(text: str | None) -> tuple[str, str, float] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3:
        raise typer.BadParameter("--motion takes PMRA,PMDEC,EPOCH: two columns and a year such as 2016.0")
    return parts[0], parts[1], float(parts[2])
