"""A block: one question to an alert, asked in one place, with its source and its parameters.

In a filter it is a function, `star(alerts, radius=1.0)`; in an expression a word, `not star(radius=1)`.
Missing values follow the rule of all comparisons: what cannot be said is false.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pandas as pd

from filters.parameters import Parameter, parameters_of

Predicate = Callable[..., pd.Series]


@dataclass(frozen=True)
class Block:
    """A predicate of one survey's alerts.

    function: gets the alerts and values of its parameters, gives a boolean Series on their index. reads: the
    columns that it needs. parameters: name -> default and unit.
    """

    name: str
    function: Predicate
    reads: tuple[str, ...]
    parameters: Mapping[str, Parameter]

    @property
    def meaning(self) -> str:
        """The first sentence of its documentation."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")


BLOCKS: dict[str, dict[str, Block]] = {}
"""Survey -> name -> block, of the modules loaded so far: see `blocks_of`."""


def block(survey: str, reads: Sequence[str]) -> Callable[[Predicate], Predicate]:
    """Make a block of a function `f(alerts, *, parameter: Annotated[type, unit] = default)`, which stays as
    it is.

    survey: whose alerts. reads: the columns that it needs, complete.
    """

    def make(function: Predicate) -> Predicate:
        name = function.__name__
        one = Block(name, function, tuple(reads), parameters_of(function, {}))
        BLOCKS.setdefault(survey, {})[name] = one
        return function

    return make


@cache
def blocks_of(survey: str) -> Mapping[str, Block]:
    """Name -> block, of one survey: the module filters/blocks/SURVEY.py, if there is one."""
    name = f"filters.blocks.{survey}"
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
    return BLOCKS.get(survey, {})
