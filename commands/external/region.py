"""`zads region`: regions of the sky that filters read as `NAME.inside`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from commands.external.catalogue import Root, settled_externals
from commands.shared.options import Config, people

Name = Annotated[str, typer.Argument(help="What filters call it.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Regions of the sky: filters read `NAME.inside`.")
    for command, name in ((add, "add"), (list_, "list"), (remove, "remove")):
        group.command(name)(command)
    app.add_typer(group, name="region")


def add(
    name: Name,
    region: Annotated[
        str, typer.Argument(help='"cone RA DEC RADIUS", "polygon RA DEC RA DEC RA DEC …", or a MOC file.')
    ],
    root: Root = None,
    config: Config = None,
) -> None:
    """Add a region, or change one; a run that reads it takes the new one within seconds.

    Example: `zads region add lmc "cone 80.9 -69.8 6 deg"`
    """
    from filters.external import Store
    from filters.external.add import add_region

    where = settled_externals(root, config)
    version = add_region(name, region, where)
    size = Store(where).about(name)["square_degrees"]
    people.print(f"{name}: {size} square degrees, version {version}; a filter reads it as {name}.inside")


def list_(root: Root = None, config: Config = None) -> None:
    """List the regions.

    Example: `zads region list`
    """
    from filters.external import Store

    store = Store(settled_externals(root, config))
    table = Table("region", "square degrees", "version", "made from", box=None)
    for name in store.names("region"):
        about = store.about(name)
        table.add_row(name, about["square_degrees"], store.current(name), about["text"])
    if not table.row_count:
        people.print(f"no regions in {store.root} yet: `zads region add NAME REGION`")
        return
    Console().print(table)


def remove(name: Name, root: Root = None, config: Config = None) -> None:
    """Take a region away. Channels that read it are refused from then on.

    Example: `zads region remove lmc`
    """
    from filters.external import Store

    Store(settled_externals(root, config)).remove(name, "region")
    people.print(f"{name} is gone")
