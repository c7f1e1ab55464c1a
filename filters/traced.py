"""What a filter looked at: columns that remember their names, for `explain` and `suggest_reads`.

Used interactively on an alert or a small frame; batches run on plain pandas.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.view import AlertColumn, index_of
from schemas.errors import NoSuchColumn
from schemas.frame import IDENTITY

NOTHING: frozenset[str] = frozenset()


class Evaluates(Protocol):
    """What is needed of a filter: its view of a frame, and its cuts on that view."""

    def restricted(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that the filter declared."""

    def evaluate(self, view: pd.DataFrame) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
        """What its function returns, and the boolean cuts made of it."""

    def computed(self, alert: pd.DataFrame) -> Mapping[str, Mapping[str, Any]]:
        """Cut -> what it computes of one alert: text -> value."""


class TracedSeries(AlertColumn):
    """A Series that knows which columns it was made from (`sources`)."""

    _metadata: ClassVar[list[str]] = ["name", "sources"]
    sources: frozenset[str] = NOTHING

    @property
    def _constructor_expanddim(self) -> Any:
        return TracedFrame

    def __finalize__(self, other: Any, method: str | None = None, **kwargs: Any) -> "TracedSeries":
        made: TracedSeries = super().__finalize__(other, method, **kwargs)  # type: ignore[misc]
        return made.seeing(self.sources | getattr(other, "sources", NOTHING))

    def seeing(self, sources: frozenset[str]) -> "TracedSeries":
        """The same Series, made from these columns too."""
        object.__setattr__(self, "sources", self.sources | sources)
        return self

    def _with_other(self, answer: Any, other: Any) -> Any:
        if isinstance(answer, TracedSeries):
            answer.seeing(self.sources | getattr(other, "sources", NOTHING))
        return answer

    def where(self, cond: Any, other: Any = np.nan, **kwargs: Any) -> Any:
        """As in pandas; the result also depends on the columns of the condition.

        Parameters
        ----------
        cond
            Boolean Series or array: where to keep the value.
        other
            The value elsewhere.
        kwargs
            As in pandas.
        """
        answer = super().where(cond, other, **kwargs)
        return self._with_other(self._with_other(answer, cond), other)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        answer = super().__array_ufunc__(ufunc, method, *inputs, **kwargs)
        for other in inputs:
            self._with_other(answer, other)
        return answer


def _tracing(name: str) -> Callable[[TracedSeries, Any], Any]:
    """An operator whose answer was made from both operands' columns."""
    operator = getattr(AlertColumn, name)

    def operate(self: TracedSeries, other: Any) -> Any:
        return self._with_other(operator(self, other), other)

    return operate


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
for _name in [*_ARITHMETIC, *(f"r{word}" for word in _ARITHMETIC), "eq", "ne", "lt", "le", "gt", "ge"]:
    setattr(TracedSeries, f"__{_name}__", _tracing(f"__{_name}__"))


def answer(alerts: pd.DataFrame, values: np.ndarray, sources: Iterable[str], called: str = "") -> pd.Series:
    """Computed values, one an alert, as a column of the alerts that knows what it was made from.

    Parameters
    ----------
    alerts
        One row an alert, n rows.
    values
        (n,), in the alerts' order.
    sources
        Names of the columns that they were computed from.
    called
        What to call the values in what `explain` tells of a cut made of them; "": nothing.
    """
    if isinstance(alerts, TracedFrame):
        if called:
            told = alerts.__dict__.setdefault("told", {}).setdefault(called, {})
            told.update(zip(alerts.index, values.tolist(), strict=True))
            sources = [*sources, called]
        return TracedSeries(values, index=alerts.index).seeing(frozenset(sources))
    return pd.Series(values, index=index_of(alerts), copy=False)


class TracedFrame(pd.DataFrame):
    """A frame that notes which of its columns were read, and what was computed of its alerts.

    used: names of columns; told: what is computed, such as `rise_rate()` -> label of the alert -> its value.
    Both are shared with what is selected from it.
    """

    _metadata: ClassVar[list[str]] = ["used", "told"]
    used: set[str]
    told: dict[str, dict[Any, Any]]

    @property
    def _constructor(self) -> Any:
        return TracedFrame

    @property
    def _constructor_sliced(self) -> Any:
        return TracedSeries

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str) and key not in self.columns:
            raise NoSuchColumn(key, self.columns)
        found = super().__getitem__(key)
        names = [key] if isinstance(key, str) else key if isinstance(key, list) else []
        self.__dict__.setdefault("used", set()).update(n for n in names if isinstance(n, str))
        if isinstance(key, str) and isinstance(found, TracedSeries):
            found.seeing(frozenset([key]))
        return found


def traced(frame: pd.DataFrame) -> TracedFrame:
    """The frame, noting what is read."""
    noted = TracedFrame(dict(frame.items()), index=frame.index)
    object.__setattr__(noted, "used", set())
    object.__setattr__(noted, "told", {})
    return noted


def columns_used(f: Evaluates, frame: pd.DataFrame) -> list[str]:
    """The columns that the filter read on this frame, in the frame's order."""
    noted = traced(frame)
    f.evaluate(noted)
    return [str(c) for c in frame.columns if c in noted.used and c not in IDENTITY]


def explain(f: Evaluates, alerts: pd.DataFrame, beside: int | None = None) -> pd.DataFrame:
    """One row a cut of each alert: candid, cut, passed, stopped (this cut was the first false), saw.

    passed is missing for a callable cut that was not reached. saw: column -> value (a list for a history),
    the features of the light curve (`rise_rate()`) -> their values, and for an expression the text of each
    part that is computed -> its value.

    Parameters
    ----------
    f
        The filter.
    alerts
        One row an alert, each judged by itself.
    beside
        Only the alert of this row, judged beside all the others.
    """
    rows: list[dict[str, Any]] = []
    if beside is not None:
        rows = _explained(f, alerts, beside)
    else:
        for position in range(len(alerts)):
            rows += _explained(f, alerts.iloc[[position]], 0)
    return pd.DataFrame(rows, columns=["candid", "cut", "passed", "stopped", "saw"]).astype(
        {"passed": "boolean"}
    )


def _explained(f: Evaluates, alerts: pd.DataFrame, row: int) -> list[dict[str, Any]]:
    view = traced(f.restricted(alerts))
    returned, cuts = f.evaluate(view)
    computed = f.computed(f.restricted(alerts.iloc[[row]]))
    stopped = False
    rows = []
    for cut, value in returned.items():
        lazy = not isinstance(value, pd.Series) and callable(value)
        passed = None if lazy and stopped else bool(cuts[str(cut)][row])
        sources = NOTHING
        if lazy and not stopped:
            sources = getattr(value(view), "sources", NOTHING)
        elif not lazy:
            sources = getattr(value, "sources", NOTHING)
        saw = {name: plain(view[name].iloc[row]) for name in view.columns if name in sources}
        saw |= {text: plain(told[view.index[row]]) for text, told in view.told.items() if text in sources}
        saw |= {text: plain(value) for text, value in computed.get(str(cut), {}).items()}
        here = passed is False and not stopped
        rows.append(
            {"candid": int(alerts["candid"].iloc[row]), "cut": str(cut), "passed": passed, "stopped": here}
        )
        rows[-1]["saw"] = saw
        stopped = stopped or here
    return rows


def plain(value: Any) -> Any:
    """A value of a frame as plain Python: None for missing, a list for a history, the size of a stamp."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, list | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return None if value is pd.NA or value != value else value
