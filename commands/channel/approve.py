"""`zads channel approve`: an operator answers for the Python of a user's channel."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.channel.edit import Why, known, save
from commands.channel.show import Name
from commands.shared.options import Bootstrap, Config, paper, people, settings_of
from schemas.errors import ZadsError

_DIGITS = 12


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("approve")(approve)


def approve(
    name: Name,
    digits: Annotated[
        str | None,
        typer.Argument(metavar="HASH", help="The first 12 digits or more of the hash of the text."),
    ] = None,
    why: Why = "",
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Let the Python of a user's channel run in the pipeline's own processes, not in the sandbox.

    Without HASH the text is printed, to be read. HASH says which text was read: another one is not approved,
    nor is a later edit.

    Example: `zads channel approve ann.mine 3f2a90c1b7de --as operator`
    """
    from filters.sandbox.question import content_hash
    from filters.sandbox.wire import printable

    settings = settings_of(config, bootstrap_servers=bootstrap)
    found = known(settings, name)
    if not found.source:
        raise ZadsError(f"channel {name} has no Python of its own: {found.filter}")
    if found.models:
        asked = ", ".join(found.models)
        raise ZadsError(f"channel {name} asks models of users ({asked}): these run in the sandbox alone")
    now = content_hash(found.source)
    if digits is None:
        paper().print(printable(found.source), markup=False, highlight=False, soft_wrap=True)
        people.print(f"`zads channel approve {name} {now[:_DIGITS]}` lets this text run outside the sandbox")
        return
    if len(digits) < _DIGITS or not now.startswith(digits):
        raise ZadsError(
            f"the text of {name} has the hash {now[:_DIGITS]}, not {digits}: nothing was approved",
            hint=f"`zads channel approve {name}` shows the text as it is now",
        )
    save(settings, [found.with_changes(approved=now)], why)
    people.print(
        f"{name}: its Python runs in the pipeline's own processes; `zads channel test {name}` tries it"
    )
