"""`zads channel clone`: a channel of one's own, made from another or from a filter."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.channel.ask import asked
from commands.channel.edit import Limit, Readers, Values, Why, known, me, save
from commands.channel.show import Name, registry_of
from commands.channel.wish import limit_of, wish
from commands.shared.options import Bootstrap, Config, people, settings_of
from schemas.errors import ZadsError


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("clone")(clone)


def clone(
    source: Annotated[str, typer.Argument(help="A channel, or a filter that comes with zads.")],
    name: Name,
    values: Values = None,
    limit: Limit = None,
    readers: Readers = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Make a channel like another one, with other parameters; it stays known what it was made from.

    A user of a secured broker owns the clone: it is OWNER.NAME, its topic channel.OWNER.NAME.

    Example: `zads channel clone young_supernova mine rb_min=0.8 --as ann`
    """
    settings = settings_of(config, bootstrap_servers=bootstrap)
    wished = wish(values, limit, readers, why)
    if asked(settings, "clone", name, source=source, **wished):
        people.print(f"`zads channel enable {name}` tries it and lets it run")
        return
    if name in registry_of(settings).definitions:
        raise ZadsError(f"there is a channel {name} already", hint="take another name")
    old, most = known(settings, source), limit_of(limit)
    fresh = {"name": name, "owner": me(), "state": "draft", "revision": 0, "report": None, "request": ""}
    like = old.model_copy(update={**fresh, "of": f"{old.name}@{old.revision}"})
    limits = like.limits.model_copy(update={"alerts_per_hour": most}) if most else like.limits
    draft = like.with_changes(
        parameters={**like.parameters, **wished["parameters"]}, limits=limits.model_dump()
    )
    save(settings, [draft], why)
    people.print(f"{name} is a draft; `zads channel enable {name}` tries it and lets it run")
