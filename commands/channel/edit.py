"""`zads channel create | set | test | enable | pause | retire`: changes of the channel registry."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from commands.channel.ask import asked
from commands.channel.show import Name, registry_of
from commands.channel.wish import filter_of, readers_of, wish
from commands.shared.options import Archive, Bootstrap, Config, names_of, people, settings_of

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition

Why = Annotated[str, typer.Option("--why", help="Kept in the channel's history.")]
Values = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="The filter's parameters.")
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help="A filter's name, path/to/file.py:function (kept as text) or package.module:function.",
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", metavar="EXPRESSION", help="Instead of a filter: rb > 0.65 and magpsf < 19."),
]
Access = Annotated[str | None, typer.Option("--access", help="public or collaboration.")]
Drop = Annotated[str | None, typer.Option("--drop", help="Fields to leave out, separated by commas.")]
Carried = Annotated[
    str | None,
    typer.Option(
        "--values",
        metavar="COLUMNS",
        help='Columns that travel with each alert, separated by commas: watch.name,watch.sep; "" for none.',
    ),
]
Annotate = Annotated[
    bool | None,
    typer.Option(
        "--annotate/--no-annotate",
        help="Put its values into the packet too, where channels that read it can use them.",
    ),
]
Topics = Annotated[
    str | None, typer.Option("--topics", help="Regular expression: of the topics that are read, only these.")
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CHANNEL",
        help='Another channel, whose alerts it reads instead; "" for those of the run.',
    ),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help="alerts_per_hour=500, sample=0.1, throttle_per_hour=60, once=true, ... (docs/channels.md);"
        " alerts_per_hour=none lifts it.",
    ),
]
Readers = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Who may read a channel that a user owns: ann,ben, everybody or nobody."
    ),
]
Owner = Annotated[str | None, typer.Option("--owner", help="Whom to ask about it.")]
Nights = Annotated[
    str | None,
    typer.Option(help="Nights to try it on: A..B.", show_default="the last ones, see [gate] nights"),
]
Force = Annotated[
    str | None, typer.Option("--force", metavar="REASON", help="Enable it whatever the backtest says.")
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("create")(create)
    group.command("set")(change)
    group.command("test")(try_out)
    group.command("enable")(enable)
    group.command("pause")(pause)
    group.command("retire")(retire)


def create(
    name: Name,
    values: Values = None,
    filter_: FilterOption = None,
    where: WhereOption = None,
    access: Access = None,
    drop: Drop = None,
    carried: Carried = None,
    annotate: Annotate = None,
    topics: Topics = None,
    input_: Input = None,
    limit: Limit = None,
    owner: Owner = None,
    readers: Readers = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Make a channel, a draft that delivers nothing until it is enabled.

    Example: `zads channel create bright --where "rb > 0.9 and magpsf < 17"`
    """
    from filters import filter_or_expression
    from pipeline.channels.definition import Definition

    settings = settings_of(config, bootstrap_servers=bootstrap)
    more: dict[str, Any] = {"drop": drop, "topics": topics, "input": input_, "owner": owner}
    more |= {"values": carried, "annotate": annotate}

    def wished() -> dict[str, Any]:
        return {**wish(values, limit, readers, why), **filter_of(filter_)}

    if asked(settings, "create", name, more, wished, access=access, where=where):
        people.print(f"`zads channel enable {name}` tries it and lets it run")
        return
    chosen = filter_or_expression(filter_ or "", where or "") or name
    fresh = Definition(name=name, filter=chosen, owner=me())
    plain: dict[str, Any] = {"access": access, "topics": topics, "input": input_, "owner": owner}
    plain |= {"readers": readers_of(readers), "annotate": annotate}
    changes = _changes(fresh, values, chosen, drop, limit, plain, carried)
    written = save(settings, [fresh.with_changes(**changes)], why)[0]
    people.print(f"{written.name} is a draft; `zads channel enable {name}` tries it and lets it run")


def change(
    name: Name,
    values: Values = None,
    filter_: FilterOption = None,
    where: WhereOption = None,
    access: Access = None,
    drop: Drop = None,
    carried: Carried = None,
    annotate: Annotate = None,
    topics: Topics = None,
    input_: Input = None,
    limit: Limit = None,
    owner: Owner = None,
    readers: Readers = None,
    revision: Annotated[
        int | None, typer.Option(help="Only if this is still its revision (see `zads channel show`).")
    ] = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Change a channel. One that is enabled goes on with the new values from the next batch on.

    Example: `zads channel set young_supernova rb_min=0.7`
    """
    from filters import filter_or_expression
    from pipeline.channels.registry import difference

    settings = settings_of(config, bootstrap_servers=bootstrap)
    more: dict[str, Any] = {"drop": drop, "topics": topics, "input": input_, "owner": owner}
    more |= {"access": access, "where": where, "values": carried, "revision": revision}

    def wished() -> dict[str, Any]:
        return {**wish(values, limit, readers, why), **filter_of(filter_)}

    if asked(settings, "set", name, more, wished):
        return
    old = known(settings, name)
    base = old if revision is None else old.model_copy(update={"revision": revision})
    plain: dict[str, Any] = {"access": access, "topics": topics, "input": input_, "owner": owner}
    plain |= {"readers": readers_of(readers), "annotate": annotate}
    chosen = filter_or_expression(filter_ or "", where or "") or None
    changes = _changes(old, values, chosen, drop, limit, plain, carried)
    new = base.with_changes(**changes, asks="")
    written = save(settings, [new], why)[0]
    people.print(f"{name}: {escape(difference(old, written))} (revision {written.revision}, {written.state})")
    if written.state == "enabled" and not written.is_tested:
        people.print(f"not tried like this: `zads channel test {name}` says what it brings", style="yellow")


def try_out(
    name: Name,
    archive: Archive = None,
    nights: Nights = None,
    preview: Annotated[
        int, typer.Option(min=0, max=50, help="Show so many of the last alerts that it would have delivered.")
    ] = 0,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Try a channel on recent nights of the archive, keep the report, and enable nothing.

    Example: `zads channel test bright --nights 2023-10-12..2023-10-14`
    """
    from commands.channel.gate import last_matches, show_preview

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "test", name, {"nights": nights}, why=why, preview=preview):
        return
    found = tried(settings, known(settings, name).with_changes(), archive, nights)
    if found.is_tested and found.state == "draft":
        found = found.becoming("tested")
    save(settings, [found], why)
    if preview:
        show_preview(last_matches(settings, found, archive, nights, preview))
    if not found.is_tested:
        raise typer.Exit(1)


def enable(
    name: Name,
    archive: Archive = None,
    nights: Nights = None,
    force: Force = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Let a channel run, after a look at what it would have brought on recent nights.

    Refused when it floods, is slow or raises (limits: [gate] of zads.toml), or was not tried, unless forced
    with a reason. What was tried as it is now is not tried again, unless --nights are named. A user's
    channel that an operator enables is beside its owner's limits, until its owner changes it.

    Example: `zads channel enable bright --nights 2023-10-12..2023-10-14`
    """
    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "enable", name, why=why):
        return
    admitted = admit(settings, known(settings, name).with_changes(), archive, nights, force)
    if admitted.owned_by and admitted.state == "enabled":
        admitted = admitted.model_copy(update={"asks": "", "granted": me(), "beyond": False})
    written = save(settings, [admitted], why or force or "")[0]
    if written.state != "enabled" or not written.is_tested:
        people.print(f"{name} is not enabled (it is {written.state}): --force REASON enables it all the same")
        raise typer.Exit(1)
    people.print(f"{name} is enabled: {written.channel().topic}")


def pause(name: Name, why: Why = "", config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Stop a channel for a while; what comes meanwhile is not delivered later.

    Example: `zads channel pause bright --why "Moon"`
    """
    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "pause", name, why=why):
        return
    save(settings, [known(settings, name).becoming("paused")], why)
    people.print(f"{name} is paused; `zads channel enable {name}` lets it run again")


def retire(name: Name, why: Why = "", config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Stop a channel for good. Its name is not used again, its topic and history stay.

    Example: `zads channel retire bright --why "see brighter"`
    """
    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "retire", name, why=why):
        return
    save(settings, [known(settings, name).becoming("retired")], why)
    people.print(f"{name} is retired")


def known(settings: RunConfig, name: str) -> Definition:
    """The channel as it is in the registry, else as the configuration runs it."""
    from pipeline.channels.changes import known_definition

    return known_definition(settings, registry_of(settings), name)


def admit(
    settings: RunConfig, definition: Definition, archive: str | None, nights: str | None, force: str | None
) -> Definition:
    """The definition enabled if its backtest allows it or it is forced; else with the report that says why
    not.

    Parameters
    ----------
    settings
        The configuration.
    definition
        The channel's definition.
    archive
        Address of the archive to try it on; None: the usual one.
    nights
        Nights to try it on; None: the last ones, or the last backtest if it still holds.
    force
        Why it is enabled although the backtest is against it; None: it is not forced.
    """
    now = definition.with_external(settings.externals)
    if nights is None and now.is_tested:
        return now.becoming("enabled")
    found = tried(settings, definition, archive, nights)
    if force is not None and found.report is not None:
        found = found.model_copy(update={"report": {**found.report, "forced": force}})
    return found.becoming("enabled") if found.is_tested else found


def save(
    settings: RunConfig, definitions: list[Definition], why: str, who: str | None = None
) -> list[Definition]:
    """Write definitions to the registry, all or none; return them as written.

    Parameters
    ----------
    settings
        The configuration, with the broker's address.
    definitions
        The new definitions.
    why
        Reason, kept in the registry.
    who
        Who makes the change; None: the user of this machine.

    Raises
    ------
    EditConflict
        When another process has changed one of them first.
    InputError
        When a channel's input would not be valid.
    """
    from pipeline.channels.config import known_channels
    from pipeline.channels.inputs import refuse_wrong_inputs
    from pipeline.channels.registry import write_registry

    changed = {one.name: one for one in definitions}
    known = {**known_channels(settings, registry_of(settings).definitions), **changed}
    to_run = [one.name for one in definitions if one.state not in ("paused", "retired")]
    reading_them = [name for name, one in known.items() if one.input in changed]
    refuse_wrong_inputs([*to_run, *reading_them], known)
    client = settings.client
    return write_registry(definitions, settings.bootstrap_servers, who=who or me(), why=why, **client)


def tried(settings: RunConfig, definition: Definition, archive: str | None, nights: str | None) -> Definition:
    """A definition with the report of its backtest.

    Parameters
    ----------
    settings
        The configuration.
    definition
        The channel's definition.
    archive
        Address of the archive to try it on; None: the usual one.
    nights
        Nights to try it on; None: the last ones.
    """
    from commands.channel.gate import try_on_archive

    now = definition.with_external(settings.externals)
    return now.model_copy(update={"report": try_on_archive(settings, now, archive, nights)})


def _changes(
    old: Definition,
    values: list[str] | None,
    filter_: str | None,
    drop: str | None,
    limit: list[str] | None,
    plain: dict[str, Any],
    carried: str | None,
) -> dict[str, Any]:
    """What was given, as fields of a Definition; `plain` are taken as they are."""
    from commands.explain import parameters
    from pipeline.channels.definition import by_value

    given = parameters(values or [])
    changes: dict[str, Any] = {key: value for key, value in plain.items() if value is not None}
    if drop is not None:
        changes["drop"] = tuple(names_of(drop) or ())
    if carried is not None:
        changes["values"] = tuple(names_of(carried) or ())
    if limit is not None:
        changes["limits"] = _limits(old, limit)
    if filter_ is not None:
        changes |= by_value(filter_)
        given = {**_still_there(old, changes), **given}
        return changes | {"parameters": given}
    return changes | {"parameters": {**old.parameters, **given}} if given else changes


def _limits(old: Definition, given: list[str]) -> dict[str, Any]:
    from commands.explain import parameters

    limits = {**old.limits.model_dump(exclude_defaults=True), **parameters(given)}
    return {name: value for name, value in limits.items() if value != "none"}


def _still_there(old: Definition, changes: dict[str, Any]) -> dict[str, Any]:
    """The values of parameters that another filter, or a newer one, has too."""
    bare = old.model_copy(update={**changes, "parameters": {}}).loaded()
    return {name: value for name, value in old.parameters.items() if name in bare.parameters}


def me() -> str:
    """Name of the person who makes a change: the user of this machine."""
    return getpass.getuser()
