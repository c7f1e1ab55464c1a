"""Arrays that know which of their values are missing, and the rules that follow.

A comparison with a missing operand is false, `!=`, `in` and `not in` too; a flag that is missing is false;
`not` negates what there is, so it passes. Arithmetic with a missing operand is missing. (Source: the
project's definitions, "Missing in a comparison".)
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from filters.errors import BadCut

Kind = Literal["number", "text", "flag", "any"]
"""What values are; "any": an external column's, known when it is read."""


@dataclass(frozen=True)
class Values:
    """One value an alert or an epoch, or one for all of them.

    data: float64 (NaN where missing), int64, bool, or a pandas array of text; or a plain Python value.
    missing: where an int64 or text value is missing; None where nothing is, and for floats and flags.
    """

    data: Any
    missing: np.ndarray | None = None

    @property
    def floats(self) -> Any:
        """As float64, NaN where missing."""
        if not isinstance(self.data, np.ndarray):
            return float(self.data)
        data = self.data.astype(float, copy=False)
        return data if self.missing is None else np.where(self.missing, np.nan, data)


def of_column(column: Any) -> Values:
    """The values of a pandas array or Series, or of a NumPy array."""
    data = column.array if isinstance(column, pd.Series) else column
    if isinstance(data, pd.arrays.NumpyExtensionArray):
        data = data.to_numpy()
    if isinstance(data, np.ndarray):
        return Values(data if data.dtype.kind in "fb" else data.astype(np.int64, copy=False))
    missing = np.asarray(data.isna(), bool)
    gaps = missing if missing.any() else None
    if isinstance(data.dtype, pd.BooleanDtype):
        return Values(data.to_numpy(dtype=bool, na_value=False))
    if pd.api.types.is_integer_dtype(data.dtype):
        return Values(data.to_numpy(dtype=np.int64, na_value=0), gaps)
    return Values(data, gaps)


def compare(comparison: Callable[[Any, Any], Any], left: Values, right: Values) -> Values:
    """True where neither operand is missing and the comparison holds.

    Parameters
    ----------
    comparison
        A function of two arrays, such as `operator.lt`.
    left, right
        The operands, both text or both numbers.

    Raises
    ------
    BadCut
        When one is text and the other a number.
    """
    if _is_text(left) or _is_text(right):
        if not (_is_text(left) and _is_text(right)):
            raise BadCut("an expression compares text with a number")
        return Values(_compared_text(comparison, left, right))
    a, b = _same_numbers(left, right)
    with np.errstate(invalid="ignore"):
        answer = comparison(a, b)
    return Values(_there(answer, a, b, left.missing, right.missing))


def _same_numbers(left: Values, right: Values) -> tuple[Any, Any]:
    """Both as whole numbers where both are, so that no digit of an identifier is lost; else as floats."""
    if _is_whole(left.data) and _is_whole(right.data):
        return left.data, right.data
    if _is_flag(left.data) and _is_flag(right.data):
        return left.data, right.data
    return left.floats, right.floats


def _is_whole(data: Any) -> bool:
    if isinstance(data, np.ndarray):
        return data.dtype.kind == "i"
    return isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**63


def _is_flag(data: Any) -> bool:
    return data.dtype == bool if isinstance(data, np.ndarray) else isinstance(data, bool | np.bool_)


def _is_text(values: Values) -> bool:
    return isinstance(values.data, str | pd.api.extensions.ExtensionArray)


def _there(answer: Any, a: Any, b: Any, *gaps: np.ndarray | None) -> Any:
    """The answer, false where an operand is missing (only `!=` says true of a NaN by itself)."""
    for operand in (a, b):
        if not isinstance(operand, np.ndarray):
            answer = answer & (operand == operand)
        elif operand.dtype.kind == "f":
            answer = answer & ~np.isnan(operand)
    for missing in gaps:
        if missing is not None:
            answer = answer & ~missing
    return answer


def _compared_text(comparison: Callable[[Any, Any], Any], left: Values, right: Values) -> Any:
    if isinstance(left.data, str) and isinstance(right.data, str):
        return bool(comparison(left.data, right.data))
    answer = pd.array(comparison(left.data, right.data), dtype="boolean")
    return _there(answer.to_numpy(dtype=bool, na_value=False), 0, 0, left.missing, right.missing)


def among(values: Values, choices: Sequence[Any], wanted: bool) -> Values:
    """Whether values are among some choices (`in`, `not in`); false where the value is missing.

    Parameters
    ----------
    values
        The values.
    choices
        Plain Python values to compare with.
    wanted
        True for `in`, False for `not in`.

    Raises
    ------
    BadCut
        When text is compared with a number.
    """
    inside: Any = False
    for choice in choices:
        inside = inside | compare(operator.eq, values, Values(choice)).data
    return Values(inside) if wanted else both(negated(Values(inside)), present(values))


def absent(values: Values) -> Values:
    """True where the value is missing."""
    if values.missing is not None:
        return Values(values.missing)
    data = values.data
    if isinstance(data, np.ndarray):
        return Values(np.isnan(data) if data.dtype.kind == "f" else np.zeros(len(data), bool))
    if isinstance(data, pd.api.extensions.ExtensionArray):
        return Values(np.zeros(len(data), bool))
    return Values(data != data)


def present(values: Values) -> Values:
    """True where there is a value."""
    return negated(absent(values))


def negated(values: Values) -> Values:
    """True where it is false."""
    return Values(np.logical_not(values.data))


def both(left: Values, right: Values) -> Values:
    """True where both are."""
    return Values(left.data & right.data)


def either(left: Values, right: Values) -> Values:
    """True where one of them is."""
    return Values(left.data | right.data)


def calculate(operation: Callable[..., Any], *operands: Values) -> Values:
    """Arithmetic in float64; what cannot be calculated is NaN (or an infinity), never an error."""
    with np.errstate(all="ignore"):
        answer = operation(*(np.asarray(operand.floats, float) for operand in operands))
    return Values(answer if answer.ndim else float(answer))


def spread(values: Values, length: int, kind: Kind) -> np.ndarray:
    """Values as an array; a single value is repeated.

    Parameters
    ----------
    values
        One value for each alert or epoch, or one for all.
    length
        Length of the array.
    kind
        "flag" gives bool, all others float64.

    Raises
    ------
    BadCut
        When flags are asked for and the values are neither true nor false.
    """
    data: Any = values.data if kind == "flag" else values.floats
    if kind == "flag" and not _is_flag(data):
        raise BadCut("an expression's term is neither true nor false: compare it")
    if isinstance(data, np.ndarray) and data.ndim:
        return data
    return np.full(length, data, bool if kind == "flag" else float)
