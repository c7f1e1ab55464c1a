"""A user's way to lists of their own: asking `zads serve`, since only it writes what workers read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.shared.options import settings_of
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from filters.external import Store
    from pipeline.access.requests import Answer

_SECONDS = 600.0


def answered(
    action: str, name: str, config: Path | None, bootstrap: str | None, **wish: Any
) -> Answer | None:
    """Ask for it when we are a user who does not keep the lists; None for whoever does it directly.

    Parameters
    ----------
    action
        As in `pipeline.access.lists.ListRequest`.
    name
        Of the list.
    config, bootstrap
        Where the broker is.
    wish
        Other fields of the request; what is None is not asked for.

    Raises
    ------
    typer.Exit
        When it was refused.
    BrokerError
        When nobody answers.
    """
    from pipeline.broker.profile import user_name

    if not (user := user_name()):
        return None
    from commands.channel.ask import done, only_asks, say
    from pipeline.access.lists import ListRequest
    from pipeline.access.requests import ask

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if not only_asks(settings, user):
        return None
    given = {key: value for key, value in wish.items() if value is not None}
    request = ListRequest(action=action, name=name, **given)  # type: ignore[arg-type]
    answer = ask(request, user, settings.bootstrap_servers, seconds=_SECONDS, **settings.client)
    say(answer)
    return done(answer)


def file_of(path: Path) -> dict[str, str]:
    """Fields of a request for a file. Raises ZadsError."""
    from pipeline.access.lists import MOST_FILE

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ZadsError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MOST_FILE:
        raise ZadsError(
            f"{path} has {len(raw) / 1e6:,.1f} MB, {MOST_FILE / 1e6:,.0f} MB may be",
            hint="an operator can add a larger one",
        )
    return {"file": base64.b64encode(raw).decode(), "file_name": path.name}


def readers_in_words(readers: str | None) -> tuple[str, ...] | None:
    """Of `--readers ann,ben`, `everybody` or `nobody`; None where nothing was said."""
    from commands.channel.wish import readers_of

    return readers_of(readers)


def refuse_readers(readers: str | None) -> None:
    """Raise ZadsError: lists without an owner are read by whoever has the folder."""
    if readers is not None:
        raise ZadsError("--readers is for lists that a user owns", hint="use it with --as, as that user")


def refuse_users_name(name: str, store: Store) -> None:
    """Raise ZadsError where an operator would add what looks like a user's list, and no user has it.

    name: of the list; store: where it would be kept.
    """
    from filters.external.store import is_owned

    if is_owned(name) and store.access(name) is None:
        raise ZadsError(f"{name}: names with two _ belong to users, and no user has this list")


def rows_of(answer: Answer) -> list[Mapping[str, Any]]:
    """The rows that came with an answer."""
    return list(answer.preview)
