"""A user's way to lists of their own: asking `zads serve`, since only it writes what workers read."""

from __future__ import annotations

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
        Other fields of the request; what is None is not asked for. raw: bytes of a file that goes with it.

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
    from pipeline.access.uploads import ask_with_file

    settings = settings_of(config, bootstrap_servers=bootstrap)
    if not only_asks(settings, user):
        return None
    raw = wish.pop("raw", b"")
    given = {key: value for key, value in wish.items() if value is not None}
    request = ListRequest(action=action, name=name, **given)  # type: ignore[arg-type]
    answer = ask_with_file(request, raw, user, settings.bootstrap_servers, _SECONDS, **settings.client)
    say(answer)
    return done(answer)


def file_of(path: Path) -> dict[str, Any]:
    """A file to be sent with a request: `raw`, its bytes, and `file_name`. Raises ZadsError."""
    try:
        return {"raw": path.read_bytes(), "file_name": path.name}
    except OSError as error:
        raise ZadsError(f"cannot read {path}: {error.strerror}") from None


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
