"""One value for each epoch of many alerts, end to end: what `history(...)["jd"]` gives.

Arithmetic and comparisons go epoch by epoch, as in NumPy; `min`, `mean`, `any` ... go alert by alert.
There is no way to mix epochs of different alerts, so a filter cannot depend on who else is in its batch.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
from numpy.lib.mixins import NDArrayOperatorsMixin

from filters.errors import BadSelection, FilterError
from filters.traced import NOTHING

_COMPARE: dict[Any, Callable[[Any, Any], Any]] = {
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
}
_COMPARE |= {np.greater: operator.gt, np.greater_equal: operator.ge}
_SWAPPED: dict[Any, np.ufunc] = {np.less: np.greater, np.greater: np.less}
_SWAPPED |= {np.less_equal: np.greater_equal, np.greater_equal: np.less_equal}


class Epochs(Protocol):
    """The selection of a history that columns belong to (`filters.history.History`)."""

    name: str
    rows: np.ndarray
    sources: frozenset[str]

    @property
    def index(self) -> pd.Index: ...
    def __getitem__(self, key: Any) -> Any: ...
    def same(self, other: object) -> bool: ...
    def mask(self, key: Any) -> np.ndarray: ...
    def per_alert(self, values: np.ndarray, sources: frozenset[str]) -> pd.Series: ...
    def totals(self, weights: np.ndarray) -> np.ndarray: ...
    def how_many(self, mask: np.ndarray) -> np.ndarray: ...
    def extremes(self, values: np.ndarray, which: np.ufunc) -> np.ndarray: ...
    def at_edge(self, values: np.ndarray, last: bool) -> np.ndarray: ...


class Memory:
    """What was computed of an immutable thing, for whoever asks for the same: filters of one kind do.

    The first few results are kept; what differs from filter to filter comes after what they share.
    """

    MOST = 8

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] = {}

    def get(self, what: object, compute: Callable[[], Any], *operands: Any) -> Any:
        """The result of `what` with these operands, known or computed.

        Parameters
        ----------
        what
            Names the operation.
        compute
            Computes it.
        operands
            Columns of epochs, which are known by identity, and plain numbers and texts.
        """
        key = what, *((id(x) if isinstance(x, Column) else (type(x), x)) for x in operands)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        found = compute()
        if len(self._known) < self.MOST:
            self._known[key] = operands, found  # the operands live on, so that nobody gets their identity
        return found


class Column(NDArrayOperatorsMixin):
    """A value for each epoch of a `History`; immutable. A comparison with a missing value is false.

    Parameters
    ----------
    epochs
        The selection of epochs.
    values
        One for each epoch: a NumPy array, or a pandas array where NumPy has no missing value (strings, 64-bit
        integers).
    name
        Name of the field; "" for computed values.
    sources
        The frame's columns that it was made from.
    """

    __array_priority__ = 2000  # pandas and NumPy leave the operators to this class
    __pandas_priority__ = 5000
    __hash__ = None  # type: ignore[assignment]  # == compares epoch by epoch

    def __init__(self, epochs: Epochs, values: Any, name: str = "", sources: frozenset[str] = NOTHING):
        self.epochs = epochs
        self.values = values
        self.name = name
        self.sources = sources
        self._memory = Memory()
        if isinstance(values, np.ndarray):
            values.flags.writeable = False

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"{self.epochs.name}.{self.name or '(computed)'}\n{self.series()!r}"

    def __bool__(self) -> bool:
        raise FilterError(
            "a column of epochs is neither true nor false: use .any() or .all(), an answer an alert",
            hint="write & for `and`, | for `or`, ~ for `not`, each comparison in parentheses",
        )

    def __getitem__(self, mask: "Column | np.ndarray | pd.Series") -> "Column":
        chosen = self.epochs[mask]
        return Column(chosen, self.values[self.epochs.mask(mask)], self.name, self.sources | chosen.sources)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values, dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> "Column":
        if method != "__call__" or kwargs.get("out"):
            return NotImplemented
        if not kwargs and all(isinstance(x, Column | float | int) for x in inputs):
            first = next(x for x in inputs if isinstance(x, Column))
            return cast(Column, first._memory.get(ufunc, lambda: self._result(ufunc, *inputs), *inputs))
        return self._result(ufunc, *inputs, **kwargs)

    def _result(self, ufunc: np.ufunc, *inputs: Any, **kwargs: Any) -> "Column":
        plain = [self._operand(x) for x in inputs]
        sources = NOTHING.union(*(x.sources for x in inputs if isinstance(x, Column)))
        if ufunc in _COMPARE and not all(isinstance(x, np.ndarray) or np.isscalar(x) for x in plain):
            return Column(self.epochs, _compare(ufunc, *plain), sources=sources)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values = ufunc(*plain, **kwargs)
        if ufunc is np.not_equal:  # NumPy's NaN differs from everything; here no comparison with it is true
            for x in plain:
                values = values & (x == x)
        return Column(self.epochs, values, sources=sources)

    def _operand(self, x: Any) -> Any:
        if isinstance(x, Column):
            if not self.epochs.same(x.epochs):
                raise BadSelection(
                    f"{x!r:.80} belongs to another selection of epochs than {self.name or 'this column'}: "
                    "select both with the same masks"
                )
            return x.values
        if isinstance(x, pd.Series):
            name = x.name or "..."
            raise BadSelection(
                f"a column of alerts met one of epochs: write seen.alert[{name!r}], "
                "which has the alert's value on each of its epochs"
            )
        return x

    def _like(self, values: Any) -> "Column":
        return Column(self.epochs, values, self.name, self.sources)

    def _remembered(self, what: str, values: Callable[[], np.ndarray]) -> "Column":
        return cast(Column, self._memory.get(what, lambda: self._like(values())))

    def _number(self, what: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """One value an alert, for reading only: a Series that is made of it shares nothing with others."""
        return cast(np.ndarray, self._memory.get(what, compute))

    def _answer(self, values: Any) -> pd.Series:
        return self.epochs.per_alert(values.copy(), self.sources)

    def series(self) -> pd.Series:
        """A plain pandas Series on the epochs' index, for what is not here; go back with `seen[mask]`."""
        return pd.Series(self.values, index=self.epochs.index, name=self.name, copy=False)

    def to_numpy(self) -> np.ndarray:
        """The values as NumPy has them; missing strings and integers as None or NaN."""
        return np.asarray(self.values)

    def isna(self) -> "Column":
        """True where the value is missing."""
        return self._remembered("isna", lambda: np.asarray(pd.isna(self.values)))

    def notna(self) -> "Column":
        """True where there is a value."""
        return self._remembered("notna", lambda: ~np.asarray(pd.isna(self.values)))

    def isin(self, values: Iterable[Any]) -> "Column":
        """True where the value is one of `values`."""
        return self._like(np.asarray(pd.Series(self.values, copy=False).isin(list(values)), bool))

    def between(self, low: Any, high: Any) -> "Column":
        """True where low <= value <= high."""
        return (self >= low) & (self <= high)

    def fillna(self, value: Any) -> "Column":
        """The values, with `value` where there is none."""
        if isinstance(self.values, np.ndarray):
            return self._like(np.where(np.isnan(self.values), value, self.values))
        return self._like(self.values.fillna(value))

    def abs(self) -> "Column":
        """Absolute values."""
        return cast(Column, np.abs(self))

    def __abs__(self) -> "Column":
        return self.abs()

    # Alert by alert. Sums go in row order (bincount), so that no neighbour changes the last digit.

    def _floats(self) -> np.ndarray:
        if isinstance(self.values, np.ndarray):
            return self.values.astype(float, copy=False)
        return np.asarray(self.values.to_numpy(dtype=float, na_value=np.nan))

    def _total(self, values: np.ndarray) -> np.ndarray:
        return self.epochs.totals(np.where(np.isnan(values), 0.0, values))

    def _count(self) -> np.ndarray:
        return self._number("count", lambda: self.epochs.how_many(self.notna().values))

    def _mean(self) -> np.ndarray:
        return self._number("mean", lambda: _ratio(self._total(self._floats()), self._count()))

    def count(self) -> pd.Series:
        """How many epochs of each alert have a value (int64)."""
        return self._answer(self._count())

    def any(self) -> pd.Series:
        """True for an alert with some true epoch; false without epochs."""
        return self._answer(self.epochs.how_many(self._truth()) > 0)

    def all(self) -> pd.Series:
        """True for an alert without a false epoch; true without epochs."""
        return self._answer(self.epochs.how_many(~self._truth()) == 0)

    def sum(self) -> pd.Series:
        """Sum of the values of each alert; 0 where there is none."""
        return self._answer(self._total(self._floats()))

    def mean(self) -> pd.Series:
        """Mean of the values of each alert; NaN where there is none."""
        return self._answer(self._mean())

    def std(self, ddof: int = 0) -> pd.Series:
        """Standard deviation (rms about the mean) of the values of each alert; NaN where count <= ddof."""
        return self._answer(self._number(f"std {ddof}", lambda: self._std(ddof)))

    def _std(self, ddof: int) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            away = self._floats() - self._mean()[self.epochs.rows]
            return np.sqrt(_ratio(self._total(away * away), self._count() - ddof))

    def min(self) -> pd.Series:
        """Smallest value of each alert; NaN where there is none."""
        return self._answer(self.epochs.extremes(self._floats(), np.fmin))

    def max(self) -> pd.Series:
        """Largest value of each alert; NaN where there is none."""
        return self._answer(self.epochs.extremes(self._floats(), np.fmax))

    def first(self) -> pd.Series:
        """The value at each alert's earliest epoch, NaN if it is missing there; NaN without epochs."""
        return self._answer(self.epochs.at_edge(self._floats(), last=False))

    def last(self) -> pd.Series:
        """The value at each alert's latest epoch, NaN if it is missing there; NaN without epochs."""
        return self._answer(self.epochs.at_edge(self._floats(), last=True))

    def diff(self) -> "Column":
        """Value minus that of the same alert's row before; NaN on its first. Put in order with `by_time`."""
        values, rows = self._floats(), self.epochs.rows
        step = np.full(len(values), np.nan)
        step[1:] = np.where(rows[1:] == rows[:-1], values[1:] - values[:-1], np.nan)
        return self._like(step)

    def _truth(self) -> np.ndarray:
        if not isinstance(self.values, np.ndarray) or self.values.dtype != bool:
            raise FilterError(
                f"any() and all() are of true and false, not of {self.name or self.values.dtype}"
            )
        return self.values


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def _compare(ufunc: np.ufunc, left: Any, right: Any) -> np.ndarray:
    """Compare where one side is a pandas array; missing is false, also for !=."""
    if not hasattr(left, "isna"):
        return _compare(_SWAPPED.get(ufunc, ufunc), right, left)
    missing = np.asarray(left.isna())
    if hasattr(right, "isna"):
        missing = missing | np.asarray(right.isna())
    answer = pd.array(_COMPARE[ufunc](left, right), dtype="boolean").to_numpy(dtype=bool, na_value=False)
    return np.asarray(answer) & ~missing
