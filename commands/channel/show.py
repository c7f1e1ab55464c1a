"""`zads channel list | show | history`: what the channel registry holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from commands.shared.options import Bootstrap, Config, Json, paper, people, settings_of
from schemas.json_text import to_json

if TYPE_CHECKING:
    from pipeline.channels.config import RunConfig
    from pipeline.channels.definition import Definition
    from pipeline.channels.registry import Registry

Name = Annotated[str, typer.Argument(help="Name of the channel.")]
_COLOURS = {"enabled": "green", "paused": "yellow", "tested": "cyan"}


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("list")(listing)
    group.command("show")(show)
    group.command("history")(history)


def registry_of(settings: RunConfig) -> Registry:
    """The registry of the broker that the settings name."""
    from pipeline.channels.registry import read_registry

    return read_registry(settings.bootstrap_servers, **settings.client)


def listing(config: Config = None, bootstrap: Bootstrap = None, as_json: Json = False) -> None:
    """List the channels of the registry: state, filter, parameters, alerts expected a night.

    Example: `zads channel list`
    """
    from commands.channel.ask import asked
    from pipeline.clients.status.runs import suspended_channels

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "list"):
        return
    found = registry_of(settings).definitions
    stopped = suspended_channels(settings, [settings.group]) if found else {}
    if as_json:
        each = [_plain(found[name]) | {"suspended": stopped.get(name, "")} for name in sorted(found)]
        print(to_json(each, indent=2))
    elif found:
        paper().print(_table([found[name] for name in sorted(found)], stopped))
        for name in sorted(stopped.keys() & found.keys()):
            words = (
                f"{name} is suspended in the run: {stopped[name]}; `zads channel gaps` tells what it misses"
            )
            people.print(escape(words), style="red", soft_wrap=True)
        for one in (
            found[name] for name in sorted(found) if found[name].asks and found[name].state != "retired"
        ):
            words = (
                f"{one.name} waits for an operator: {one.asks}; `zads channel enable {one.name}` allows it"
            )
            people.print(escape(words), style="yellow", soft_wrap=True)
    else:
        people.print("no channels yet: `zads run` runs those of zads.toml, or all filters")


def show(name: Name, config: Config = None, bootstrap: Bootstrap = None, as_json: Json = False) -> None:
    """Tell all about one channel, its backtest too.

    Example: `zads channel show young_supernova`
    """
    from commands.channel.ask import asked
    from commands.channel.gate import show_report
    from pipeline.channels.changes import known_definition

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if asked(settings, "show", name):
        return
    found = known_definition(settings, registry_of(settings), name)
    if as_json:
        print(to_json(_plain(found), indent=2))
        return
    table = Table(box=None, show_header=False)
    for key, value in _facts(found):
        table.add_row(f"[bold]{key}", escape(value))
    paper().print(table)
    if found.report is not None:
        show_report(name, found.report)


def history(name: Name, config: Config = None, bootstrap: Bootstrap = None) -> None:
    """Tell every change of a channel: who, when, what, why.

    Example: `zads channel history young_supernova`
    """
    from pipeline.channels.registry import difference

    registry = registry_of(settings_of(config, bootstrap_servers=bootstrap))
    registry[name]
    revisions = [one for one in registry.history if one.name == name]
    table = Table("revision", "when", "who", "what", "why", box=None)
    for old, new in zip([None, *revisions], revisions, strict=False):
        told = (str(new.revision), new.when, new.who, difference(old, new), new.why)
        table.add_row(*map(escape, told))
    paper().print(table)


def parameters_text(definition: Definition) -> str:
    """ "rb_min=0.7 gap=30"."""
    from filters.tables import text_of

    return " ".join(f"{name}={text_of(value)}" for name, value in definition.parameters.items())


def _table(every: list[Definition], suspended: Collection[str]) -> Table:
    from commands.channel.gate import expected

    table = Table("channel", "state", "filter", "parameters", "alerts a night", "rev", "owner", box=None)
    for one in every:
        state = (
            "[red]suspended" if one.name in suspended else f"[{_COLOURS.get(one.state, 'dim')}]{one.state}"
        )
        told = (one.filter, parameters_text(one), expected(one.report), str(one.revision), one.owner)
        table.add_row(f"[bold]{one.name}", state, *map(escape, told))
    return table


def _facts(one: Definition) -> list[tuple[str, str]]:
    now = one.completed()
    same = "" if now.version == one.version else f"; of revision {one.revision}: {one.version}"
    return [
        ("channel", one.name),
        ("topic", one.channel().topic),
        ("state", one.state),
        (
            "revision",
            f"{one.revision}, {one.when} by {one.who}" if one.revision else "0, of the configuration",
        ),
        ("why", one.why),
        ("owner", one.owner),
        ("filter", f"{one.written}, version {now.version}{same}"),
        ("parameters", parameters_text(one)),
        ("reads", f"channel {one.input}" if one.input else one.topics or "every topic of the run"),
        ("access", one.access),
        ("drops", ", ".join(one.drop)),
        ("values", ", ".join(one.values)),
        ("limits", str(one.limits)),
        ("asks", one.asks),
        ("granted by", one.granted),
        ("tried", (one.report or {}).get("when", "never") + ("" if now.is_tested else ", not as it is now")),
    ]


def _plain(one: Definition) -> dict[str, Any]:
    return one.model_dump(mode="json")
