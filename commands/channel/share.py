"""`zads channel export | import`: one file that a colleague can run, replay or make a channel from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from commands.channel.edit import Why, known, me, save
from commands.channel.show import Name
from commands.shared.options import Bootstrap, Config, people, settings_of
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.channels.definition import Definition


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("export")(export)
    group.command("import")(import_)


def export(
    name: Name,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="NAME.json")] = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Write a channel to one file: filter, parameters, versions of what it reads, backtest.

    The file goes where a filter's name goes: `zads replay FILE`, `zads explain FILE ALERT`.

    Example: `zads channel export young_supernova --out young_supernova.json`
    """
    from commands.shared.exported import export_of

    settings = settings_of(config, bootstrap_servers=bootstrap)
    written = out or Path(f"{name}.json")
    written.write_text(export_of(known(settings, name)).model_dump_json(indent=2) + "\n")
    people.print(
        f"channel {name} in {written}: `zads channel import {written}` makes it a draft elsewhere",
        soft_wrap=True,
    )


def import_(
    file: Annotated[Path, typer.Argument(help="File that `zads channel export` wrote.", dir_okay=False)],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it here.", show_default="as it was called")
    ] = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Make a draft of a channel that somebody exported; it is tried here before it runs.

    Its filter is Python code of that person: read it before you run it.

    Example: `zads channel import young_supernova.json --name theirs`
    """
    from commands.channel.show import registry_of
    from commands.shared.exported import read_export

    settings = settings_of(config, bootstrap_servers=bootstrap)
    given = read_export(file)
    called = name or given.channel.name
    if called in registry_of(settings).definitions:
        raise ZadsError(f"there is a channel {called} already", hint="--name gives it another name here")
    draft = given.channel.model_copy(update={"name": called, "owner": me(), "report": None, "external": {}})
    author = f", of {given.channel.owner}" if given.channel.owner else ""
    save(settings, [_completed(draft)], why or f"imported from {file.name}{author}")
    for sentence in given.differences():
        people.print(f"[yellow]{escape(sentence)}[/]", soft_wrap=True)
    words = f"{called} is a draft{author}, written {given.when}"
    people.print(f"{words}; `zads channel enable {called}` tries it and lets it run", soft_wrap=True)


def _completed(draft: Definition) -> Definition:
    """The draft with its filter's values; as it was written where a catalogue that it reads is not here."""
    from filters.external.store import NoSuchExternal
    from pipeline.channels.definition import ChannelError

    try:
        return draft.with_changes()
    except ChannelError as error:
        if isinstance(error.__cause__, NoSuchExternal):
            return draft
        raise
