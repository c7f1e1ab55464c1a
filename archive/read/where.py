"""Conditions on alerts, such as "rb >= 0.65 and magpsf < 19", on the values that a filter sees.

First the statistics of a file or row group say whether any of its rows can fulfil them; then each row is
asked. Sentinels such as -999 are missing, and a comparison with what is missing is false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from schemas.errors import ZadsError

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda column, values: column.isin(list(values)),
}
_WORDS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in"}
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
Ranges = Mapping[str, tuple[Any, Any]]
"""Column -> least and greatest raw value."""


class BadCondition(ZadsError):
    """A condition that cannot be understood."""


@dataclass(frozen=True)
class Condition:
    """One comparison: a column that a filter may read, an operator, a value (for "in" a tuple of them)."""

    column: str
    operator: str
    value: Any

    def possible(self, ranges: Ranges) -> bool:
        """Whether some row between these least and greatest values may fulfil it.

        Raw values are compared: a sentinel only widens the range. Columns that are computed have no ranges.
        """
        least, most = ranges.get(self.column, (None, None))
        if least is None or most is None or not _comparable(self.value, least):
            return True
        values = self.value if self.operator == "in" else (self.value,)
        match self.operator:
            case "<" | "<=":
                return bool(_OPERATORS[self.operator](least, self.value))
            case ">" | ">=":
                return bool(_OPERATORS[self.operator](most, self.value))
            case "==" | "in":
                return any(least <= value <= most for value in values)
        return True

    def mask(self, frame: pd.DataFrame) -> np.ndarray:
        """Boolean, one an alert; missing is false."""
        column = frame[self.column]
        truth = pd.array(_OPERATORS[self.operator](column, self.value), dtype="boolean")
        return np.asarray(truth.to_numpy(dtype=bool, na_value=False)) & ~column.isna().to_numpy(dtype=bool)


def _comparable(value: Any, least: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(v, str) == isinstance(least, str) for v in values)


def conditions(given: str | Sequence[Any] | None) -> tuple[Condition, ...]:
    """From "rb >= 0.65 and fid == 1", or from [("rb", ">=", 0.65), ...]; all must hold.

    Raises BadCondition.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return tuple(_of_text(given))
    try:
        return tuple(c if isinstance(c, Condition) else _checked(*c) for c in given)
    except TypeError as error:
        raise BadCondition(
            f"{given!r} is no list of conditions", hint='write [("rb", ">=", 0.65), ...] or "rb >= 0.65"'
        ) from error


def _checked(column: str, word: str, value: Any) -> Condition:
    if word not in _OPERATORS:
        raise BadCondition(f"no operator {word!r}; there are {', '.join(_OPERATORS)}")
    if word == "in":
        value = tuple(value)
    return Condition(column, word, value)


def _of_text(text: str) -> Iterable[Condition]:
    wrong = BadCondition(
        f"cannot understand the condition {text!r}",
        hint='write comparisons joined by "and": "rb >= 0.65 and fid == 1"',
    )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise wrong from None
    for part in tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]:
        if not isinstance(part, ast.Compare) or type(part.ops[0]) not in _WORDS:
            raise wrong
        sides = [part.left, *part.comparators]
        for left, op, right in zip(sides, part.ops, sides[1:], strict=False):
            yield _comparison(left, _WORDS.get(type(op), ""), right, wrong)


def _comparison(left: ast.expr, word: str, right: ast.expr, wrong: BadCondition) -> Condition:
    names = _name(left), _name(right)
    try:
        if names[0] and word:
            return _checked(names[0], word, ast.literal_eval(right))
        if names[1] and word in _SWAPPED:
            return _checked(names[1], _SWAPPED[word], ast.literal_eval(left))
    except ValueError:
        pass
    raise wrong


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None
