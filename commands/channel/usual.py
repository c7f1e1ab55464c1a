"""`zads channel usual`: the running medians of a channel that knows what is usual, from the nights before."""

from __future__ import annotations

import time
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.channel.edit import Why, known, save
from commands.channel.show import Name
from commands.shared.options import Archive, Bootstrap, Config, archive_at, people, settings_of

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig

_PARAMETER = "usual"
_LOOK_SECONDS = 60.0


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("usual")(usual)


def usual(
    name: Name,
    by: Annotated[
        str, typer.Option("--by", help="Columns that tell exposures apart: detector+band for Rubin.")
    ] = "rcid+band",
    nights: Annotated[int, typer.Option("--nights", min=1, help="So many nights before.")] = 30,
    follow: Annotated[bool, typer.Option("--follow", help="Again after each night, without end.")] = False,
    archive: Archive = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Set the parameter `usual` of a channel to the medians of the archive's last nights that are over.

    Each change is a revision of the channel, and takes effect between two exposures.

    Example: `zads channel usual calm --nights 30`
    """
    from pipeline.channels.ledger import night_of_arrival

    settings = settings_of(config, bootstrap_servers=bootstrap)
    seen = ""
    while True:
        tonight = night_of_arrival(None)
        if tonight != seen:
            update(settings, name, archive, tonight, (by, nights, why))
            seen = tonight
        if not follow:
            return
        time.sleep(_LOOK_SECONDS)


def update(
    settings: RunConfig, name: str, archive: str | None, tonight: str, how: tuple[str, int, str]
) -> bool:
    """Set the medians of the nights before a night; False when they are those of the channel already.

    Parameters
    ----------
    settings
        With the broker.
    name
        Of the channel.
    archive
        Its address.
    tonight
        "2023-10-12": this night and later ones do not count.
    how
        The columns, the number of nights, and what to say of it.

    Raises
    ------
    ZadsError
        For a channel without such a parameter, or an archive without such nights.
    """
    from archive.read.archive import Archive as Reader
    from archive.replay.usual import nights_before, usual_alerts
    from schemas.errors import ZadsError

    by, number, why = how
    old = known(settings, name)
    chosen = old.loaded()
    if _PARAMETER not in chosen.parameters:
        raise ZadsError(f"the filter of {name}, {chosen.name}, has no parameter `{_PARAMETER}`")
    reader = Reader(archive_at(archive), chosen.surveys[0])
    before = nights_before(reader, tonight, number)
    if not before:
        raise ZadsError(f"the archive has no night before {tonight}: there are no medians yet")
    table = usual_alerts(reader, before, by, public=old.access == "public")
    new = old.with_changes(parameters={_PARAMETER: table})
    if new.loaded().values == chosen.values:
        people.print(f"{name}: the medians of {_span(before)} are those it has")
        return False
    (written,) = save(settings, [new], why or f"medians of {_span(before)}")
    entries = len(table) - 2
    people.print(f"{name}: {entries} medians of {_span(before)} (revision {written.revision})")
    return True


def _span(nights: list[Any]) -> str:
    """The nights, as people say them."""
    first, last = (str(date.fromisoformat(str(night))) for night in (nights[0], nights[-1]))
    return first if first == last else f"{len(nights)} nights, {first} to {last}"
