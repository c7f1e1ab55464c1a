"""The histories of a batch of alerts, flat: one row an epoch, in NumPy, shared by the filters of a batch.

past = history(alerts, "prv_candidates")
seen = past[past["magpsf"].notna()]
minutes = (seen.alert["jd"] - seen["jd"]) * 1440
seen[minutes > 30].any()                      # one true or false an alert
"""

import threading
import weakref
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.column import Column, Memory
from filters.errors import BadSelection, FilterError
from filters.traced import NOTHING, answer
from filters.view import AlertView, column_of, index_of
from schemas.frame import TEXT, as_pandas

Mask = Column | np.ndarray | pd.Series


def history(alerts: pd.DataFrame, name: str) -> "History":
    """The past epochs of each alert in the history `name` ("prv_candidates", "fp_hists").

    Rows at or after the alert's own `jd` are not past: they are left out and counted in `.not_past`.
    Needs the columns `jd` and `<name>.jd` (a filter's `reads` bring them by themselves).

    Raises NoSuchColumn when a column is not declared in `reads`.
    """

    def whole() -> History:
        flat = _flat(_list_column(alerts, f"{name}.jd"))
        keep = flat.before(column_of(alerts, "jd").to_numpy())
        return History(alerts, name, flat, keep, frozenset(["jd", f"{name}.jd"]))

    return alerts.computed(name, whole) if isinstance(alerts, AlertView) else whole()


class History:
    """Epochs of many alerts, end to end, in the alerts' order; a mask selects, a name gives a column.

    Parameters
    ----------
    alerts
        The batch, one row an alert.
    name
        Name of the history.
    whole
        All rows of its `<name>.jd`.
    keep
        Positions of the rows chosen; None: all.
    sources
        The columns that chose these rows.

    Attributes
    ----------
    rows
        int64, for each epoch the position of its alert in the batch.
    """

    def __init__(
        self,
        alerts: pd.DataFrame,
        name: str,
        whole: "_Flat",
        keep: np.ndarray | None,
        sources: frozenset[str] = NOTHING,
    ):
        self._alerts = alerts
        self.name = name
        self._whole = whole
        self._keep = keep
        self.sources = sources  # the columns that chose these rows
        self.rows: np.ndarray = whole.rows if keep is None else whole.rows[keep]
        self._columns: dict[str, Column] = {}
        self._memory = Memory()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"{len(self)} epochs of {self.name} of {len(self._alerts)} alerts: {', '.join(self.columns)}"

    @property
    def columns(self) -> list[str]:
        """The names of the fields that can be read."""
        start = f"{self.name}."
        return [c[len(start) :] for c in map(str, self._alerts) if c.startswith(start)]

    @cached_property
    def index(self) -> pd.Index:
        """Index of the epochs of this selection: their positions in the batch's whole history."""
        return pd.RangeIndex(len(self)) if self._keep is None else pd.Index(self._keep)

    def __getitem__(self, key: Any) -> Any:
        """`past["magpsf"]` is a Column; `past[mask]` the epochs where the mask is true."""
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, Column):
            return self._memory.get("select", lambda: self._selected(key), key)
        return self._selected(key)

    def _selected(self, key: Mask) -> "History":
        chosen = np.flatnonzero(self.mask(key))
        keep = chosen if self._keep is None else self._keep[chosen]
        return self._rows(keep, getattr(key, "sources", NOTHING))

    def _rows(self, keep: np.ndarray, sources: frozenset[str]) -> "History":
        return History(self._alerts, self.name, self._whole, keep, self.sources | sources)

    def same(self, other: object) -> bool:
        """Whether another selection has the same epochs, in the same order."""
        if other is self:
            return True
        if not isinstance(other, History) or other._whole is not self._whole:
            return False
        if self._keep is None or other._keep is None:
            return self._keep is other._keep
        return np.array_equal(self._keep, other._keep)

    def mask(self, key: Mask) -> np.ndarray:
        """A mask as a NumPy array, after a check that it was made from this very selection."""
        if isinstance(key, Column):
            if not self.same(key.epochs):
                raise BadSelection(f"this mask was made from another selection of {self.name}")
            values = key.values
        elif isinstance(key, pd.Series):
            if len(key) != len(self) or not key.index.equals(self.index):
                raise BadSelection(f"this mask is not on the epochs of this selection of {self.name}")
            values = key.to_numpy(dtype=bool, na_value=False) if key.dtype != bool else key.to_numpy()
        else:
            values = np.asarray(key)
        if values.dtype.kind != "b" or len(values) != len(self):
            raise BadSelection(
                f"a mask of {self.name} is {len(self)} times true or false, not {len(values)} {values.dtype}"
            )
        return np.asarray(values)

    def _column(self, field: str) -> Column:
        if field not in self._columns:
            flat = _flat(_list_column(self._alerts, f"{self.name}.{field}"))
            if len(flat.values) != len(self._whole.values):
                raise FilterError(f"{self.name}.{field} has another length than {self.name}.jd")
            values = flat.values if self._keep is None else flat.values[self._keep]
            sources = self.sources | {f"{self.name}.{field}"}
            self._columns[field] = Column(self, values, field, sources)
        return self._columns[field]

    @cached_property
    def alert(self) -> "AlertValues":
        """`seen.alert["night"]`: the alert's own value on each of its epochs."""
        return AlertValues(self, self._alerts)

    @cached_property
    def not_past(self) -> pd.Series:
        """How many rows of each alert's whole history were left out, being at or after its `jd` (int64)."""
        rows = self._whole.rows
        out = ~(self._whole.values < self._alerts["jd"].to_numpy()[rows])
        return self.per_alert(np.bincount(rows[out], minlength=len(self._alerts)))

    # Selections

    def by_time(self) -> "History":
        """The same epochs, each alert's in order of `jd` (equal times as stored)."""
        return self._memory.get("by time", self._by_time)

    def _by_time(self) -> "History":
        keep = np.arange(len(self)) if self._keep is None else self._keep
        jd = self["jd"].values
        in_order = (jd[1:] >= jd[:-1]) | (self.rows[1:] != self.rows[:-1])
        return self if in_order.all() else self._rows(keep[np.lexsort((jd, self.rows))], NOTHING)

    def once_an_exposure(self) -> "History":
        """One row for each `exposure` of an alert, the first stored: one exposure is one epoch."""
        return self._memory.get("once", self._once_an_exposure)

    def _once_an_exposure(self) -> "History":
        exposure = self["exposure"].to_numpy()
        order = np.lexsort((exposure, self.rows))  # stable: equal ones stay as stored
        again = np.zeros(len(self), bool)
        same = exposure[order][1:] == exposure[order][:-1]
        same &= self.rows[order][1:] == self.rows[order][:-1]
        again[order[1:]] = same
        return self[~again] if again.any() else self

    # Alert by alert

    def per_alert(self, values: np.ndarray, sources: frozenset[str] = NOTHING) -> pd.Series:
        """One value an alert, as a Series on the batch's index."""
        return answer(self._alerts, values, self.sources | sources)

    def spread(self, values: pd.Series) -> Column:
        """One value an alert -> that value on each of its epochs."""
        sources = self.sources | getattr(values, "sources", NOTHING)
        return Column(self, values.to_numpy()[self.rows], str(values.name or ""), sources)

    def totals(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum of the weights (default: 1) of each alert's epochs, in row order."""
        return np.bincount(self.rows, weights, minlength=len(self._alerts))

    def how_many(self, mask: np.ndarray) -> np.ndarray:
        """How many epochs of each alert are true in the mask (int64)."""
        return np.bincount(self.rows[mask], minlength=len(self._alerts))

    def extremes(self, values: np.ndarray, which: np.ufunc) -> np.ndarray:
        """fmin or fmax over each alert's epochs; NaN where there is none."""
        best = np.full(len(self._alerts), np.nan)
        if len(self):
            starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
            best[self.rows[starts]] = which.reduceat(values, starts)
        return best

    def at_edge(self, values: np.ndarray, last: bool) -> np.ndarray:
        """The value at each alert's earliest (or latest) epoch; NaN without epochs."""
        found = np.full(len(self._alerts), np.nan)
        if len(self):
            order = np.lexsort((self["jd"].values, self.rows))
            rows = self.rows[order]
            edge = np.diff(rows, append=-1) != 0 if last else np.diff(rows, prepend=-1) != 0
            found[rows[edge]] = values[order[edge]]
        return found

    def count(self) -> pd.Series:
        """How many epochs each alert has (int64)."""
        return self.per_alert(self.totals())

    def any(self) -> pd.Series:
        """True for each alert with an epoch."""
        return self.per_alert(self.totals() > 0)

    def frame(self) -> pd.DataFrame:
        """Plain pandas, indexed by (candid, row), row counting the alert's epochs as stored."""
        keep = np.arange(len(self)) if self._keep is None else self._keep
        within = keep - self._whole.starts[self.rows]
        names = self._alerts["candid"] if "candid" in list(self._alerts) else index_of(self._alerts)
        index = pd.MultiIndex.from_arrays([np.asarray(names)[self.rows], within], names=["candid", "row"])
        return pd.DataFrame({field: self[field].values for field in self.columns}, index=index)


class AlertValues:
    """Columns of the alerts, repeated on their epochs."""

    def __init__(self, epochs: History, alerts: pd.DataFrame):
        self._epochs = epochs
        self._alerts = alerts
        self._columns: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = self._column(name)
        return self._columns[name]

    def _column(self, name: str) -> Column:
        values: Any = column_of(self._alerts, name).array
        values = values.to_numpy() if isinstance(values, pd.arrays.NumpyExtensionArray) else values
        return Column(self._epochs, values[self._epochs.rows], name, self._epochs.sources | {name})


def _list_column(alerts: pd.DataFrame, name: str) -> pa.ChunkedArray:
    lists: Any = column_of(alerts, name).array
    return lists.__arrow_array__()


class _Flat:
    """One history column end to end; values: float64, bool or a pandas array."""

    def __init__(self, column: pa.ChunkedArray):
        lists = (
            column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [_none(column)])
        )
        if lists.null_count:
            raise FilterError("a history column has null lists: make the frame with zads.to_frame")
        self._offsets = lists.offsets.to_numpy()
        self.values: Any = _plain(lists.values.slice(self._offsets[0], self._offsets[-1] - self._offsets[0]))
        self._before: tuple[np.ndarray, np.ndarray | None] | None = None

    @cached_property
    def starts(self) -> np.ndarray:
        """int64, for each alert the position of its first row."""
        starts: np.ndarray = self._offsets[:-1] - self._offsets[0]
        return starts

    @cached_property
    def rows(self) -> np.ndarray:
        """int64, for each row the position of its alert."""
        rows = np.repeat(np.arange(len(self._offsets) - 1), np.diff(self._offsets))
        rows.flags.writeable = False
        return rows

    def before(self, jd: np.ndarray) -> np.ndarray | None:
        """Of a history's times, the positions of those before the alerts' own; None for all of them."""
        known = self._before
        if known is None or not np.array_equal(known[0], jd, equal_nan=True):
            past = self.values < jd[self.rows]
            known = self._before = jd.copy(), None if past.all() else np.flatnonzero(past)
        return known[1]


def _none(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([], column.type)


def _plain(flat: pa.Array) -> Any:
    if pa.types.is_floating(flat.type):
        return flat.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(flat.type):
        return flat.fill_null(False).to_numpy(zero_copy_only=False)
    if pa.types.is_integer(flat.type):
        return flat.to_numpy() if flat.null_count == 0 else as_pandas(pd.Int64Dtype(), flat)
    return as_pandas(TEXT, flat)


# Filters of one batch share the flattening: found by the identity of the Arrow column, which lives as long as
# the frame does. A pure function's memory: two threads at worst do the same work twice.
_kept: dict[int, tuple[weakref.ref, _Flat]] = {}
_lock = threading.RLock()


def _flat(column: pa.ChunkedArray) -> _Flat:
    key = id(column)
    with _lock:
        found = _kept.get(key)
    if found is not None and found[0]() is column:
        return found[1]
    flat = _Flat(column)
    with _lock:
        _kept[key] = (weakref.ref(column, partial(_forget, key)), flat)
    return flat


def _forget(key: int, _: object) -> None:
    with _lock:
        found = _kept.get(key)
        if found is not None and found[0]() is None:
            del _kept[key]
