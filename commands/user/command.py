"""`zads user`: the users of a secured broker."""

from __future__ import annotations

import typer

from commands.user import accounts, usage


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Users of a secured broker: passwords, roles, what they may read and how much.",
    )
    accounts.register(group)
    usage.register(group)
    app.add_typer(group, name="user")
