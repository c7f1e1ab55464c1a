"""A stranger's filter as a filter like any other: live, replayed and explained, and judged in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from filters.contract import SCOPES, Filter, complete
from filters.errors import FilterError
from filters.parameters import KINDS, Parameter, with_values
from filters.sandbox.keeper import Sandbox, sandbox, with_models
from filters.sandbox.question import Program
from filters.sandbox.wire import Verdicts
from filters.values import declared
from filters.view import arrays_of, index_of
from schemas.errors import near_names
from schemas.frame import TEXT
from schemas.surveys.registry import SURVEYS

MOST_TEXT = 50_000
"""Characters of an uploaded file."""


class Uploaded:
    """The function of an uploaded filter. It has plain data only, and pickles without its code.

    Parameters
    ----------
    program
        Whose it is, and its text.
    name
        What the filter calls itself.
    doc
        Its docstring.
    scope
        What one answer of it is for: "alert" or "exposure".
    """

    def __init__(self, program: Program, name: str, doc: str, scope: str = "alert") -> None:
        self.program, self.__name__, self.__doc__, self.scope = program, name, doc, scope
        self.__module__ = "filters.contract"  # its version is made of this room, and of the text

    def __call__(self, alerts: pd.DataFrame, **values: Any) -> Any:
        """The cuts, and the values if there are any, as the sandbox says."""
        whole = "exposure" if self.scope == "exposure" else ""
        found = _room(self.program).judge(self.program, values, arrays_of(alerts), index_of(alerts), whole)
        return (found.cuts, _spread(found, len(alerts))) if found.numbers or found.words else found.cuts

    def prepare(self) -> None:
        """Start the owner's process and load the filter there. Raises NoSandbox, Raised, Ended."""
        _room(self.program).load(self.program)

    def __reduce__(self) -> tuple[Any, ...]:
        return Uploaded, (self.program, self.__name__, self.__doc__, self.scope)

    def __repr__(self) -> str:
        return f"uploaded 1: {self.program.key}"


def _room(program: Program) -> Sandbox:
    """Where a filter is judged."""
    return with_models() if program.models else sandbox()


def _spread(found: Verdicts, rows: int) -> dict[str, Any]:
    """The values of the alerts that pass as columns of all: missing elsewhere."""
    mask = found.passing(rows)
    spread: dict[str, Any] = {}
    for name, numbers in found.numbers.items():
        spread[name] = np.full(rows, np.nan)
        spread[name][mask] = numbers
    for name, words in found.words.items():
        column = np.full(rows, None, object)
        column[mask] = words
        spread[name] = pd.array(column, dtype=TEXT)
    return spread


class _Description(BaseModel):
    """What a filter's process says that it declares: anything may come."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern=r"^[A-Za-z_]\w{0,60}$")
    surveys: list[str] = Field(min_length=1, max_length=10)
    declared: list[str] | None = Field(max_length=300)
    scope: str
    parameters: dict[str, tuple[bool | int | float | str, str, str]] = Field(max_length=100)
    gives: dict[str, str] = Field(max_length=50)
    doc: str = Field(max_length=4000)


@lru_cache(maxsize=256)
def uploaded(program: Program) -> Filter:
    """The filter of a stranger's text.

    Parameters
    ----------
    program
        Whose it is, and its text.

    Raises
    ------
    NoSandbox
        When this machine cannot confine it.
    Raised, Ended
        What its code raised when it was loaded, or that it had to be ended.
    FilterError
        For a declaration that cannot be.
    """
    if len(program.text) > MOST_TEXT:
        raise FilterError(f"{program.file} has {len(program.text):,} characters, {MOST_TEXT:,} may be")
    try:
        about = _Description.model_validate(_listed(_room(program).load(program)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FilterError(f"{program.file}: what it declares cannot be: {where}: {first['msg']}") from None
    return _made(program, about)


def _listed(about: dict[str, Any]) -> dict[str, Any]:
    """With tuples where JSON has lists."""
    parameters = about.get("parameters")
    if isinstance(parameters, Mapping):
        about["parameters"] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in parameters.items()
        }
    return about


def _made(program: Program, about: _Description) -> Filter:
    for name in about.surveys:
        if name not in SURVEYS:
            raise FilterError(f"no survey {name}; {near_names(name, SURVEYS)}")
    if about.scope not in SCOPES:
        raise FilterError(f"scope is one of {', '.join(SCOPES)}")
    surveys = tuple(about.surveys)
    kinds = {kind.__name__: kind for kind in KINDS}
    parameters = {}
    for name, (default, unit, kind) in about.parameters.items():
        if not name.isidentifier() or kind not in kinds:
            raise FilterError(f"parameter {name!r} of kind {kind!r} cannot be")
        parameters[name] = Parameter(default, unit, kinds[kind])
    values = with_values(about.name, parameters, {}, {name: p.default for name, p in parameters.items()})
    reads = None if about.declared is None else tuple(about.declared)
    if reads is not None:
        complete(reads, surveys, about.scope)
    function = Uploaded(program, about.name, about.doc, about.scope)
    return Filter(function, surveys, reads, about.scope, parameters, values, (), declared(about.gives))
