"""`--as NAME` of every command that talks to a broker: who one is to a secured one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

_VARIABLE = "ZADS_PROFILE"
_PARAMETER = "as_user"


_As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Who you are to a secured broker: a profile's file, or its name in profiles of ZADS_HOME.",
        show_default="ZADS_PROFILE",
    ),
]


def add_as_user(app: typer.Typer) -> None:
    """Give every command that has `--bootstrap` the option `--as` too: its function need not know."""
    for command in app.registered_commands:
        assert command.callback is not None
        told = inspect.signature(command.callback, eval_str=True)
        if "bootstrap" in told.parameters and _PARAMETER not in told.parameters:
            command.callback = _with_profile(command.callback, told)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        add_as_user(group.typer_instance)


def _with_profile(function: Callable[..., Any], told: inspect.Signature) -> Callable[..., Any]:
    """The function with one more argument: the profile, for this process and those that it starts."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if name := kwargs.pop(_PARAMETER, None):
            from pipeline.broker.profile import profile_file

            os.environ[_VARIABLE] = str(profile_file(name))
        return function(*args, **kwargs)

    more = inspect.Parameter(_PARAMETER, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_As)
    signature = told.replace(parameters=[*told.parameters.values(), more])
    called.__signature__ = signature  # type: ignore[attr-defined]
    return called
