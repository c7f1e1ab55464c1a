"""`zads channel rank`: fill ranked channels with the best alerts of a night that is over."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.shared.options import Bootstrap, Config, counted, iso_night, people, settings_of


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("rank")(rank)


def rank(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ranked channels.", show_default="all of [ranked.NAME]")
    ] = None,
    night: Annotated[
        str | None,
        typer.Option("--night", help="2023-10-12 or 20231012.", show_default="the last one that is over"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when the night's ledger is not closed.")
    ] = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Deliver the best alerts of a night to ranked channels, once a night, however often this is called.

    `zads archive follow` does so by itself.

    Exit code 1 when a channel was not filled, each with its reason.

    Example: `zads channel rank best --night 2023-10-12`
    """
    from pipeline.clients.ledger import entries
    from pipeline.clients.ranked import RankingError, fill, nights_over

    settings = settings_of(config, bootstrap_servers=bootstrap)
    chosen = names or sorted(settings.ranked)
    if not chosen:
        raise RankingError("no ranked channel", hint="[ranked.NAME] of zads.toml makes one")
    wanted = iso_night(night) if night else max(nights_over(entries(settings)), default="")
    if not wanted:
        raise RankingError("no night is over yet", hint="--night and --force rank one that is not")
    failed = False
    for name in chosen:
        try:
            filled = fill(settings, name, wanted, force=force)
        except RankingError as error:
            failed = True
            people.print(f"[red]{name}: {error}[/]", soft_wrap=True)
            continue
        words = "delivered" if filled.now else "were delivered before, and nothing now"
        people.print(f"{name}, night {wanted}: {counted(len(filled.candids), 'alert')} {words}")
    if failed:
        raise typer.Exit(1)
