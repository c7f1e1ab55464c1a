"""An expression as a filter like any other: cuts, funnel, explain, parameters, version."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from filters.contract import Filter, complete
from filters.expressions.meaning import Reader, defaults
from filters.expressions.syntax import parse
from filters.expressions.terms import Batch, Part
from filters.expressions.values import spread
from filters.traced import answer


class Expression:
    """The function of an expression filter. It has plain data only, and pickles.

    Parameters
    ----------
    text
        The expression.
    name
        Name of the filter.
    survey
        Whose alerts.

    Raises
    ------
    BadExpression
        For a text that is no expression about these alerts.
    """

    def __init__(self, text: str, name: str, survey: str) -> None:
        self.__name__, self.__doc__ = name, text
        self.text, self.survey = text, survey
        self._cuts, self.parameters = _meaning(text, survey)

    def __call__(self, alerts: pd.DataFrame, **values: Any) -> dict[str, Any]:
        """Each term as a cut: its text -> a boolean Series."""
        batch = Batch(alerts, values)
        return {
            name: answer(alerts, spread(part.values(batch), batch.length, "flag"), part.reads)
            for name, part in self._cuts.items()
        }

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the expression names, in their order."""
        return tuple(dict.fromkeys(name for part in self._cuts.values() for name in part.reads))

    def __reduce__(self) -> tuple[Any, ...]:
        return Expression, (self.text, self.__name__, self.survey)

    def __repr__(self) -> str:
        # The version is made of this: raise the number when the rules of expressions change.
        return f"expression 1: {' '.join(self.text.split())}"


def _meaning(text: str, survey: str) -> tuple[Mapping[str, Part], Mapping[str, Any]]:
    reader, terms = Reader(survey), parse(text)
    for term in terms:
        reader.define(term.node)
    return {term.text: reader.cut(term.node) for term in terms}, reader.parameters


def expression(text: str, survey: str = "ztf", name: str = "expression") -> Filter:
    """A filter from an expression: `rb > 0.65 and count(prv_candidates.magpsf < 19) >= 2`.

    Parameters
    ----------
    text
        Comparisons of columns and numbers, joined by `and`, `or`, `not`; each term of a top-level `and` is a
        cut. `in (1, 2)`, `between(x, low, high)`, `missing(x)`, `abs`, `sqrt`, `log10`, `exp`, `floor`,
        arithmetic. Of the past epochs of a history: `any`, `all`, `count`, `min`, `max`, `first`, `last`,
        `mean`, `sum`, with `where=` for some of them. `{rb_min: 0.65}` is a parameter with its default.
        Any comparison with a missing value is false; `not` of it is true.
    survey
        Whose columns the names are.
    name
        What the filter is called.

    Returns
    -------
    Filter
        Usable wherever a filter in Python is.

    Raises
    ------
    BadExpression
        For what is not allowed, with the place and what to write instead.
    NoSuchColumn
        For a name that the survey does not have, with the names that are near.
    """
    function = Expression(text, name, survey)
    complete(function.reads, (survey,), "alert")
    return Filter(
        function, (survey,), function.reads, "alert", function.parameters, defaults(function.parameters)
    )


_NAME = re.compile(r"[\w./:~-]+", re.ASCII)


def is_expression(text: str) -> bool:
    """Whether a text is meant as an expression and not as the name or place of a filter."""
    if _NAME.fullmatch(text.strip()):
        return False
    try:
        return isinstance(ast.parse(text.strip(), mode="eval"), ast.Expression)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return bool(re.search(r"[<>=()]|\b(and|or|not|in)\b", text))
