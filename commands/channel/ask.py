"""A user's way to change channels: asking `zads serve`, since only operators write the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from commands.shared.options import people
from schemas.errors import ZadsError

if TYPE_CHECKING:
    from pipeline.access.requests import Answer
    from pipeline.channels.config import RunConfig


def asked(
    settings: RunConfig,
    action: str,
    channel: str = "",
    for_operators: Mapping[str, Any] | None = None,
    wish: Callable[[], Mapping[str, Any]] = dict,
    **more: Any,
) -> bool:
    """Ask for it, when we are a user who may not write the registry; False for whoever does it directly.

    Parameters
    ----------
    settings
        The configuration, with the broker's address.
    action
        As in `pipeline.access.requests.Request`.
    channel
        The channel's name.
    for_operators
        Options that a user cannot give.
    wish
        Gives other fields of the request, when we ask; what is None is not asked for.
    more
        The same, known already.

    Raises
    ------
    typer.Exit
        When it was refused.
    BrokerError
        When nobody answers.
    """
    return answered(settings, action, channel, for_operators, wish, **more) is not None


def answered(
    settings: RunConfig,
    action: str,
    channel: str = "",
    for_operators: Mapping[str, Any] | None = None,
    wish: Callable[[], Mapping[str, Any]] = dict,
    **more: Any,
) -> Answer | None:
    """As `asked`: the answer, whose words have been printed; None for whoever does it directly.

    Parameters
    ----------
    settings, action, channel, for_operators, wish, more
        As for `asked`.

    Raises
    ------
    typer.Exit
        When it was refused.
    BrokerError
        When nobody answers.
    """
    from commands.channel.gate import show_preview
    from pipeline.access.requests import Request, ask
    from pipeline.broker.profile import user_name

    user = user_name()
    if not user or not only_asks(settings, user):
        return None
    _refuse_for_users(for_operators or {})
    given = {key: value for key, value in {**wish(), **more}.items() if value is not None}
    owner, dot, name = channel.partition(".")
    request = Request(action=action, channel=name if dot and owner == user else channel, **given)  # type: ignore[arg-type]
    answer = ask(request, user, settings.bootstrap_servers, **settings.client)
    say(answer)
    if request.preview:
        show_preview(answer.preview)
    if answer.traceback:
        people.print(escape(answer.traceback), style="dim", highlight=False)
    return done(answer)


def say(answer: Answer) -> None:
    """Print the words of an answer."""
    for words in filter(None, (answer.text, answer.hint)):
        people.print(escape(words), soft_wrap=True, highlight=False)


def done(answer: Answer) -> Answer:
    """The answer. Raises typer.Exit when it was refused: its words have been printed."""
    if not answer.done:
        raise typer.Exit(1)
    return answer


def only_asks(settings: RunConfig, user: str) -> bool:
    """Whether the broker shows us our requests, and not the registry."""
    from pipeline.access.roles import REQUESTS
    from pipeline.broker.client import topic_names
    from pipeline.channels.registry import CHANNELS_TOPIC

    names = topic_names(settings.bootstrap_servers, **settings.client)
    return CHANNELS_TOPIC not in names and REQUESTS + user in names


def _refuse_for_users(given: Mapping[str, Any]) -> None:
    if found := [name for name, value in given.items() if value is not None]:
        raise ZadsError(
            f"--{found[0]} is for operators",
            hint="a user chooses filter or expression, parameters, one limit, access and readers",
        )
