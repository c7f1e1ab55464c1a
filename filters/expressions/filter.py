"""An expression as a filter like any other: cuts, funnel, explain, parameters, version."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from filters.contract import Answer, Filter, complete
from filters.errors import FilterError
from filters.expressions.meaning import Reader, defaults
from filters.expressions.syntax import BadExpression, dotted, parse
from filters.expressions.terms import Batch, Part, Shared
from filters.expressions.values import Kind, Values, spread
from filters.traced import answer
from filters.values import declared
from filters.view import index_of
from schemas.errors import NoSuchColumn
from schemas.frame import TEXT
from schemas.surveys.registry import SURVEYS, survey_named


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
        self.__name__, self.__doc__ = name or " ".join(text.split()), text
        self.text, self.survey = text, survey
        self._meaning = _meaning(text, survey)
        self._cuts, self.parameters = self._meaning.cuts, self._meaning.parameters
        self._used = [part.thresholds for part in self._cuts.values()]

    def __call__(self, alerts: pd.DataFrame, **values: Any) -> Answer:
        """Each term as a cut: its text -> a boolean Series; with values, these too."""
        batch = Batch(alerts, values)
        cuts = {
            name: answer(alerts, spread(part.values(batch), batch.length, "flag"), part.reads)
            for name, part in self._cuts.items()
        }
        given = {name: _one_each(batch, part) for name, part in self._meaning.given.items()}
        return (cuts, given) if given else cuts

    def mask(self, shared: Shared, **values: Any) -> np.ndarray:
        """Who passes every term: (n,) bool. The same as of the cuts, without making them.

        Parameters
        ----------
        shared
            Of the frame; a term that another expression has too is computed once.
        values
            Parameter values.

        Raises
        ------
        NoSuchColumn
            For a column that the frame lacks.
        BadCut
            For a term that is no truth.
        """
        batch = Batch(shared, values)
        whole = np.ones(shared.length, bool)
        for (text, part), used in zip(self._cuts.items(), self._used, strict=True):
            term = (self.survey, text, *((name, values[name]) for name in used))
            if term not in shared.masks:
                shared.masks[term] = spread(part.values(batch), shared.length, "flag")
            whole &= shared.masks[term]
        return whole

    @property
    def gives(self) -> dict[str, str]:
        """The values and their units."""
        return dict(self._meaning.units)

    def computed(self, alert: pd.DataFrame, **values: Any) -> dict[str, dict[str, Any]]:
        """What the terms compute of one alert: term -> text of a part, or name of a parameter -> its value.

        Parameters
        ----------
        alert
            A frame of one row.
        values
            Parameter values.
        """
        batch = Batch(alert, values)
        return {
            term: {text: _only(part.values(batch), part.kind) for text, part in parts.items()}
            for term, parts in self._meaning.computed.items()
        }

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the expression names, in their order."""
        parts = (*self._cuts.values(), *self._meaning.given.values())
        return tuple(dict.fromkeys(name for part in parts for name in part.reads))

    def __reduce__(self) -> tuple[Any, ...]:
        return Expression, (self.text, self.__name__, self.survey)

    def __repr__(self) -> str:
        # The version is made of this: raise the number when the rules of expressions change.
        return f"expression 1: {' '.join(self.text.split())}"


def _only(values: Values, kind: Kind) -> Any:
    """The value of the only alert."""
    data: Any = values.floats if kind == "number" else values.data
    return data[0] if np.ndim(data) else data


def _one_each(batch: Batch, part: Part) -> pd.Series:
    """A value of each alert; of a flag 1 or 0."""
    values = part.values(batch)
    if isinstance(values.data, str | pd.api.extensions.ExtensionArray):
        words = [values.data] * batch.length if isinstance(values.data, str) else values.data
        return pd.Series(words, index=index_of(batch.alerts), dtype=TEXT)
    return answer(batch.alerts, spread(values, batch.length, "number"), part.reads)


_Parts = Mapping[str, Part]


class _Meaning(NamedTuple):
    """cuts: term -> its part; computed: term -> what it computes on the way; given, units: of the values."""

    cuts: _Parts
    computed: Mapping[str, _Parts]
    given: _Parts
    units: Mapping[str, str]
    parameters: Mapping[str, Any]


def _meaning(text: str, survey: str) -> _Meaning:
    reader, parsed = Reader(survey), parse(text)
    for node in parsed.nodes:
        reader.define(node)
    cuts, computed = {}, {}
    for term in parsed.terms:
        cuts[term.text] = reader.cut(term.node)
        computed[term.text] = reader.computed
    given = {one.name: reader.value(one.node) for one in parsed.given}
    units = {one.name: reader.unit(given[one.name], one.unit) for one in parsed.given}
    return _Meaning(cuts, computed, given, units, reader.parameters)


class Number:
    """A number of each alert, by an expression: `jd - jdstarthist`, `rise_rate()`; a flag is 1 or 0.

    Parameters
    ----------
    text
        The expression, without parameters.
    survey
        Whose columns its names are.

    Raises
    ------
    BadExpression
        For a text that is no number of these alerts.
    NoSuchColumn
        For a name that the survey does not have.
    """

    def __init__(self, text: str, survey: str = "ztf") -> None:
        reader, nodes = Reader(survey), parse(text).nodes
        if len(nodes) != 1:
            raise BadExpression(f"`{text}` is not one number: put `and` in parentheses")
        self._part = reader.value(nodes[0])
        if self._part.kind == "text":
            raise BadExpression(f"`{text}` is text, not a number")
        self.reads = complete(self._part.reads, (survey,), "alert")

    def __call__(self, alerts: pd.DataFrame) -> np.ndarray:
        """(n,) float64, NaN where it is missing."""
        batch = Batch(alerts, {})
        return spread(self._part.values(batch), batch.length, "number")


def _surveys_of(text: str) -> tuple[str, ...]:
    """The surveys that have every column of an expression. Raises BadExpression, NoSuchColumn."""
    parse(text)
    reads: dict[str, tuple[str, ...]] = {}
    wrong: dict[str, FilterError | NoSuchColumn] = {}
    for name in SURVEYS:
        try:
            reads[name] = Expression(text, "", name).reads
        except (FilterError, NoSuchColumn) as error:
            wrong[name] = error
    if not reads:
        raise wrong[max(wrong, key=lambda name: _known_names(text, name))]
    if len(set(reads.values())) > 1:
        told = "; ".join(f"for {name} {', '.join(read)}" for name, read in reads.items())
        raise BadExpression(
            f"`{text}` has a meaning for {' and '.join(reads)}, but reads other columns of each: {told}",
            hint="add a term with a column that only one of them has, such as rb >= 0 or reliability >= 0",
        )
    return tuple(reads)


def _known_names(text: str, survey: str) -> float:
    """How many names of an expression are columns or histories of the survey; a near name is half a one."""
    nodes = [n for node in parse(text).nodes for n in ast.walk(node) if isinstance(n, ast.expr)]
    known = {*survey_named(survey).names(), *survey_named(survey).records}
    names = [name for node in nodes if (name := dotted(node)) is not None]
    return sum(1 if name in known else 0.5 * bool(get_close_matches(name, known, 1)) for name in names)


def expression(text: str, survey: str = "", name: str = "") -> Filter:
    """A filter from an expression: `rb > 0.65 and count(prv_candidates.magpsf < 19) >= 2`.

    Parameters
    ----------
    text
        Comparisons of columns and numbers, joined by `and`, `or`, `not`; each term of a top-level `and` is a
        cut. `in (1, 2)`, `between(x, low, high)`, `missing(x)`, `abs`, `sqrt`, `log10`, `exp`, `floor`,
        arithmetic. Of the past epochs of a history: `any`, `all`, `count`, `min`, `max`, `first`, `last`,
        `mean`, `sum`, with `where=` for some of them. `{rb_min: 0.65}` is a parameter with its default.
        Any comparison with a missing value is false; `not` of it is true. After a semicolon come values that
        travel with each alert: `rb > 0.65; excess = (magnr - magpsf, "mag")`.
    survey
        Whose columns the names are; where left out, of each survey that has them all.
    name
        What the filter is called; the expression itself where left out.

    Returns
    -------
    Filter
        Usable wherever a filter in Python is.

    Raises
    ------
    BadExpression
        For what is not allowed, with the place and what to write instead; for a word such as `rise_rate()`
        that reads other columns of each survey, in an expression that does not tell which is meant.
    NoSuchColumn
        For a name that the survey does not have, with the names that are near.
    """
    surveys = (survey,) if survey else _surveys_of(text)
    function = Expression(text, name, surveys[0])
    complete(function.reads, surveys, "alert")
    values = defaults(function.parameters)
    given = declared(function.gives)
    return Filter(function, surveys, function.reads, "alert", function.parameters, values, gives=given)


_NAME = re.compile(r"[\w./:~-]+", re.ASCII)


def is_expression(text: str) -> bool:
    """Whether a text is meant as an expression and not as the name or place of a filter."""
    if _NAME.fullmatch(text.strip()):
        return False
    try:
        return isinstance(ast.parse(text.strip(), mode="eval"), ast.Expression)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return bool(re.search(r"[<>=()]|\b(and|or|not|in)\b", text))
