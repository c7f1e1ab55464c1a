"""`zads channel apply`: the channels of a file, first as a plan, then in the registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from commands.channel.edit import Force, Nights, Why, admit, me, save
from commands.channel.show import registry_of
from commands.shared.options import Archive, Bootstrap, Config, counted, people, settings_of

if TYPE_CHECKING:
    from commands.channel.file import Wanted
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry


@dataclass(frozen=True)
class Step:
    """One channel of the plan: as it is (None: not there), as it is to be, and what differs."""

    old: Definition | None
    new: Definition
    state: str
    what: str

    @property
    def to_admit(self) -> bool:
        """Whether it needs a backtest first: it is to run, and was not tried with these values."""
        return self.state == "enabled" and not self.new.is_tested


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("apply")(apply)


def apply(
    file: Annotated[Path, typer.Argument(help="A file with [channels.NAME] tables, as in zads.toml.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    archive: Archive = None,
    nights: Nights = None,
    force: Force = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Make the registry's channels those of a file: shows the plan, asks, and does all of it or nothing.

    Each table may also have `owner` and `state` (enabled, paused, draft or retired). What is to run passes
    the gate first. Channels that the file does not name are left alone.

    Example: `zads channel apply channels.toml --yes`
    """
    from commands.channel.file import read_channels

    settings = settings_of(config, bootstrap_servers=bootstrap)
    registry = registry_of(settings)
    steps = list(plan(read_channels(file), registry, file.parent))
    _show(steps, sorted(registry.definitions.keys() - read_channels(file).keys()))
    if not steps:
        return
    if not yes and not typer.confirm("do it?", err=True):
        raise typer.Exit(1)
    done = []
    for step in steps:
        new = admit(settings, step.new, archive, nights, force) if step.to_admit else step.new
        if step.to_admit and not new.is_tested:
            people.print(f"nothing was changed: {step.new.name} may not run, see above (--force REASON)")
            raise typer.Exit(1)
        done.append(new if new.state == step.state else _moved(new, step.state))
    save(settings, done, why or f"{file.name}")
    people.print(f"{counted(len(done), 'channel')} changed")


def plan(wanted: dict[str, Wanted], registry: Registry, folder: Path) -> Iterator[Step]:
    """The steps that make the registry as the file says.

    Parameters
    ----------
    wanted
        The file's channels by name.
    registry
        The registry as it is now.
    folder
        Folder of the file; filters' files are looked for in it.

    Raises
    ------
    ChannelError
        For a channel that cannot be.
    FilterError
        For a filter that cannot be loaded.
    """
    from filters import filter_or_expression
    from pipeline.channels.definition import Definition, by_value
    from pipeline.channels.registry import difference

    for name, table in wanted.items():
        old = registry.definitions.get(name)
        named = filter_or_expression(table.filter, table.where) or name
        if named.partition(":")[0].endswith(".py"):
            named = str(folder / named)
        given = table.model_dump(exclude={"filter", "where", "state", "owner"}) | by_value(named)
        given["owner"] = table.owner or (old.owner if old else me())
        if old is not None and old.state == "retired" == table.state:
            continue
        new = (old or Definition(name=name, filter=named)).with_changes(**given)
        what = difference(old, new)
        if old is None or old.state != table.state:
            what = f"{what} and make it {table.state}".removeprefix("changed nothing and ")
        if what != "changed nothing":
            yield Step(old, new, table.state, what)


def _moved(definition: Definition, state: str) -> Definition:
    """In the wanted state; one that was tested may stay so where a draft is wanted. Raises ChannelError."""
    from pipeline.channels.definition import State

    wanted: State = state  # type: ignore[assignment]
    if definition.state == "tested" and wanted == "draft":
        return definition
    return definition.becoming(wanted)


def _show(steps: list[Step], others: list[str]) -> None:
    table = Table("channel", "plan", "gate", box=None)
    for step in steps:
        table.add_row(f"[bold]{step.new.name}", escape(step.what), "to be tried" if step.to_admit else "")
    people.print(table if steps else "nothing to change")
    if others:
        people.print(f"not in the file, left alone: {', '.join(others)}", style="dim")
