"""What a user wishes of a channel, from the options of a command."""

from __future__ import annotations

from typing import Any

from schemas.errors import ZadsError

EVERYBODY, NOBODY = "everybody", "nobody"


def wish(values: list[str] | None, limit: list[str] | None, readers: str | None, why: str) -> dict[str, Any]:
    """Fields of a request.

    Parameters
    ----------
    values
        The filter's parameters, NAME=VALUE each.
    limit
        As `--limit` gives it.
    readers
        As `--readers` gives it.
    why
        Kept in the channel's history.

    Raises
    ------
    ZadsError
        For a limit that a user cannot have.
    """
    from commands.explain import parameters

    given = {"parameters": parameters(values or []), "alerts_per_hour": limit_of(limit)}
    return {**given, "readers": readers_of(readers), "why": why}


def filter_of(named: str | None) -> dict[str, Any]:
    """Fields of a request for what `--filter` names: of a Python file its text. Raises ChannelError."""
    from pipeline.channels.definition import by_value

    if named is None:
        return {}
    chosen = by_value(named)
    return {"filter": chosen["filter"], "text": chosen["source"]}


def limit_of(limits: list[str] | None) -> int | None:
    """alerts_per_hour of `--limit`. Raises ZadsError for another limit."""
    from commands.explain import parameters

    given = parameters(limits or [])
    if set(given) - {"alerts_per_hour"}:
        raise ZadsError(f"no limit {min(set(given) - {'alerts_per_hour'})}", hint="alerts_per_hour=500")
    most = str(given.get("alerts_per_hour", "0"))
    if not most.isdecimal():
        raise ZadsError(f"alerts_per_hour={most} is no number of alerts", hint="alerts_per_hour=500")
    return int(most) or None


def readers_of(text: str | None) -> tuple[str, ...] | None:
    """Of `--readers ann,ben`, `everybody` or `nobody`; None where nothing was said."""
    from commands.shared.options import names_of

    if text is None:
        return None
    if text in (EVERYBODY, NOBODY):
        return ("*",) if text == EVERYBODY else ()
    return tuple(names_of(text) or ())
