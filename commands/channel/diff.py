"""`zads channel diff`: what a change of a channel is: its text, its parameters, alerts gained and lost."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from commands.channel.ask import asked
from commands.channel.edit import known
from commands.channel.show import Name, registry_of
from commands.shared.options import Archive, Bootstrap, Config, archive_at, counted, people, settings_of

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry

_MOST_LINES, _MOST_ALERTS = 400, 20


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("diff")(diff)


def diff(
    name: Name,
    other: Annotated[
        str | None, typer.Argument(help="A channel or filter to compare with, instead of a revision.")
    ] = None,
    revision: Annotated[
        int | None,
        typer.Option(help="Compare with this one.", show_default="the last that judged otherwise"),
    ] = None,
    archive: Archive = None,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Tell what has changed: the text, the parameters, and which alerts of last week it gains and loses.

    Compared is with the last revision that judged otherwise; of a clone that was never changed, with the
    channel that it was made from. Last week is the seven days up to the archive's last night. Limits are
    not counted.

    Example: `zads channel diff mine --as ann.ini`
    """
    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "diff", name, source=other or "", revision=revision):
        return
    new = known(settings, name)
    older = former(registry_of(settings), new, revision) if other is None else None
    old = older or known(settings, other or new.of.partition("@")[0])
    for line in compared(settings, old, new, archive):
        people.print(escape(line), soft_wrap=True, highlight=False)


def former(registry: Registry, new: Definition, revision: int | None) -> Definition | None:
    """The revision of a channel to compare with; None: the channel that it was made from.

    Parameters
    ----------
    registry
        The registry.
    new
        The channel as it is now.
    revision
        The number that is asked for; None: the last that judged otherwise.

    Raises
    ------
    ChannelError
        When there is no such revision, or nothing to compare with.
    """
    from pipeline.channels.definition import ChannelError

    every = [one for one in registry.history if one.name == new.name]
    if revision is not None:
        found = [one for one in every if one.revision == revision]
        if not found:
            raise ChannelError(f"channel {new.name} has no revision {revision}, the last is {new.revision}")
        return found[0]
    others = [one for one in every if _judges(one) != _judges(new)]
    if not others and not new.of:
        raise ChannelError(
            f"channel {new.name} has always judged as it does now",
            hint="name another channel to compare with",
        )
    return others[-1] if others else None


def compared(settings: RunConfig, old: Definition, new: Definition, archive: str | None) -> Iterator[str]:
    """What differs between two definitions, as lines.

    Parameters
    ----------
    settings
        The configuration.
    old, new
        The definitions.
    archive
        Address of the archive; None: the usual one.

    Raises
    ------
    ChannelError
        When one of them cannot be loaded.
    """
    from archive.replay.backtest import NothingToTry
    from archive.tables.store import NoSuchArchive
    from pipeline.channels.registry import difference

    yield f"{_called(old)} → {_called(new)}: {difference(old, new)}"
    text = difflib.unified_diff(_text(old), _text(new), _called(old), _called(new), lineterm="", n=2)
    lines = list(text)
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"and {len(lines) - _MOST_LINES:,} lines more"
    if _judges(old) == _judges(new):
        yield "both judge every alert alike"
        return
    try:
        yield from _alerts(settings, old, new, archive)
    except (NoSuchArchive, NothingToTry) as error:
        yield f"which alerts it gains and loses is not known: {error}"


def _alerts(settings: RunConfig, old: Definition, new: Definition, archive: str | None) -> Iterator[str]:
    from archive.replay.change import Seeing, change

    older, newer = (Seeing(one.loaded(), one.access == "public") for one in (old, new))
    found = change(older, newer, archive_at(archive), externals=settings.externals)
    first, last = found.nights[0], found.nights[-1]
    yield (
        f"nights {first} to {last}: {counted(len(found.gained), 'alert')} gained, {len(found.lost):,} lost,"
        f" {found.kept:,} kept"
    )
    if found.unjudged:
        yield f"{counted(found.unjudged, 'alert')} not judged by one of them, which may be gained or lost too"
    for word, rows in (("gained", found.gained), ("lost", found.lost)):
        yield from _examples(word, rows)


def _examples(word: str, rows: pd.DataFrame) -> Iterator[str]:
    for row in rows.sort_values(["night", "candid"]).tail(_MOST_ALERTS).to_dict("records"):
        yield f"  {word} {row['objectId']} candid {row['candid']}, {str(row['night'])[:10]}"
    if len(rows) > _MOST_ALERTS:
        yield f"  {word} before these: {len(rows) - _MOST_ALERTS:,}"


def _judges(one: Definition) -> tuple[object, ...]:
    return one.filter, one.source, one.version, one.parameters, one.access


def _text(one: Definition) -> list[str]:
    return (one.source or one.filter).splitlines()


def _called(one: Definition) -> str:
    return f"{one.name}@{one.revision}" if one.revision else one.name
