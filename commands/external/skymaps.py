"""`zads skymaps`: sky maps of mergers, neutrinos and bursts that filters read as `skymaps.level`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commands.external.catalogue import Root, settled_externals
from commands.shared.options import Bootstrap, Config, people, settings_of

if TYPE_CHECKING:
    from filters.regions.skymap import Notice

NameOption = Annotated[str, typer.Option("--name", help="The collection; filters read NAME.level.")]
Window = Annotated[float, typer.Option("--window", help="Days after an event in which its map counts.")]
Tests = Annotated[bool, typer.Option("--tests", help="Take notices that are marked as tests too.")]
_LOOK_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Sky maps of events: filters read `skymaps.level`.")
    for command, name in ((add, "add"), (follow, "follow"), (list_, "list")):
        group.command(name)(command)
    app.add_typer(group, name="skymaps")


def add(
    files: Annotated[list[Path], typer.Argument(help="Multi-order FITS files, or JSON of IGWN or GCN.")],
    name: NameOption = "skymaps",
    window: Window = 30.0,
    tests: Tests = False,
    root: Root = None,
    config: Config = None,
) -> None:
    """Add maps, updates and retractions, in the order given; a run takes them within seconds.

    Example: `zads skymaps add messages/*.json`
    """
    from filters.external.add import add_notices

    where = settled_externals(root, config)
    for notice in add_notices(name, [file.read_bytes() for file in files], where, window, tests):
        people.print(_sentence(notice))


def follow(
    topic: Annotated[str, typer.Argument(help="A Kafka topic of notices (JSON), or a folder of files.")],
    name: NameOption = "skymaps",
    window: Window = 30.0,
    bootstrap: Bootstrap = None,
    until_drained: Annotated[bool, typer.Option("--until-drained", help="End with what is there.")] = False,
    tests: Tests = False,
    root: Root = None,
    config: Config = None,
) -> None:
    """Add each notice that arrives, for ever. What cannot be read is said and left out.

    Example: `zads skymaps follow igwn.gwalert --bootstrap kafka.gcn.nasa.gov:9092`
    """
    from filters.external.add import add_notices
    from filters.regions.skymap import BadSkyMap

    folder, kept = Path(topic), settled_externals(root, config)
    arriving = (
        _of_folder(folder, until_drained)
        if folder.is_dir()
        else _of_topic(topic, config, bootstrap, until_drained)
    )
    for where, content in arriving:
        try:
            for notice in add_notices(name, [content], kept, window, tests):
                people.print(_sentence(notice))
        except BadSkyMap as error:
            people.print(f"{where}: left out: {error}", style="yellow")


def list_(name: NameOption = "skymaps", root: Root = None, config: Config = None) -> None:
    """List the events whose maps are in force.

    Example: `zads skymaps list`
    """
    from filters.external import Store
    from filters.regions.skymap import read_fits

    store = Store(settled_externals(root, config))
    if name not in store.names():
        people.print(f"no sky maps in {store.root} yet: `zads skymaps add FILE`")
        return
    about, folder = store.about(name), store.folder(name)
    table = Table("event", "update", "90 % area (square degrees)", "JD of the event", box=None)
    for one in about["maps"]:
        read = read_fits((folder / one["file"]).read_bytes(), one["event"], one["number"], one.get("jd"))
        area = read.area(0.9).square_degrees
        table.add_row(one["event"], str(one["number"]), f"{area:,.4g}", f"{read.jd:.5f}")
    Console().print(table)


def _of_folder(folder: Path, until_drained: bool) -> Iterator[tuple[str, bytes]]:
    """Each file of a folder once, by name; then those that come."""
    seen: set[Path] = set()
    while True:
        for file in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".fits")):
            if file not in seen:
                seen.add(file)
                yield file.name, file.read_bytes()
        if until_drained:
            return
        time.sleep(_LOOK_SECONDS)


def _of_topic(
    topic: str, config: Path | None, bootstrap: str | None, until_drained: bool
) -> Iterator[tuple[str, bytes]]:
    from pipeline.broker.listen import listen

    settings: Any = settings_of(config, bootstrap_servers=bootstrap)
    for one in listen(topic, settings.bootstrap_servers, until_drained, **settings.client):
        yield f"{one.topic}/{one.partition}/{one.offset}", one.raw


def _sentence(notice: Notice) -> str:
    if notice.map is None:
        return f"{notice.event}: retracted, void from now on"
    return f"{notice.event}: {notice.map.area(0.9).square_degrees:,.4g} square degrees hold 90 %"
