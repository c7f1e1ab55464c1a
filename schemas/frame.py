"""Arrow columns as decoded or stored -> the pandas frame that a filter sees.

The decoder and the archive keep raw values. Here, and only here, they get the meaning of
`schemas.surveys.definitions`: sentinels become NaN, floats and 32-bit integers are widened to float64,
`night`, `positive` and `flux` are derived. Types come from the survey's schema, never from the batch, so
that any cutting of a night into batches gives the same columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import CorruptValue, NoSuchColumn
from schemas.surveys.definitions import PUBLIC_PROGRAMID, night, sentinel
from schemas.surveys.derived import MADE_FROM, MADE_FROM_FORCED, MAKE, MAKE_FORCED, floats
from schemas.surveys.registry import SURVEYS, Survey

IDENTITY = ("candid", "objectId")
"""In every frame, declared or not: what an alert and its object are called."""

ALWAYS_STORED = (*IDENTITY, "jd", "programid")

TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
"""The type of words: pandas' own "str", missing as NaN."""


def survey_named(survey: str) -> Survey:
    """The survey, with a clear error for one that this project does not know."""
    try:
        return SURVEYS[survey]
    except KeyError:
        raise NoSuchColumn(survey, SURVEYS, what="survey") from None


def split(name: str, survey: Survey) -> tuple[str | None, str]:
    """("prv_candidates", "jd") of "prv_candidates.jd"; (None, "jd") of "jd"."""
    history, dot, field = name.partition(".")
    if dot and history in survey.histories:
        return history, field
    return None, name


def inputs(name: str, survey: Survey) -> list[str]:
    """The stored columns that the column `name` of a frame is made from."""
    history, field = split(name, survey)
    table = {} if survey.name != "ztf" else MADE_FROM_FORCED if history == "fp_hists" else MADE_FROM
    fields = table.get(field, (field,))
    return [f"{history}.{f}" if history else f for f in fields]


def stored_columns(reads: Sequence[str], survey: str = "ztf", public: bool = False) -> list[str]:
    """What the reader (or the archive) must bring so that `to_frame` can show `reads`.

    Derived names are replaced by what they are made from; `candid`, `objectId`, `jd`, `programid` and the
    `jd` of each history touched always come; with `public` also the `programid` of its rows.

    Raises NoSuchColumn for a name that the survey does not have.
    """
    of = survey_named(survey)
    known = set(of.names())
    wanted = [name for name in ALWAYS_STORED if name in known or survey == "ztf"]
    for name in reads:
        wanted += inputs(name, of)
        history, _ = split(name, of)
        if history:
            wanted.append(f"{history}.jd")
            if public:
                wanted.append(f"{history}.programid")
    wanted = list(dict.fromkeys(wanted))
    for name in wanted:
        of.path(name)  # raises NoSuchColumn, with the names that are near
    return wanted


def to_frame(
    table: pa.Table | pa.RecordBatch, reads: Sequence[str], survey: str = "ztf", public: bool = False
) -> pd.DataFrame:
    """The frame that a filter with these `reads` sees: `reads`, then `candid` and `objectId`, in row order.

    table: the columns of `stored_columns(reads)`, raw. Columns of an older schema may be all null.
    public: rows of histories whose `programid` is not 1 are left out (whole alerts are the caller's to drop).

    Scalars: floats and 32-bit integers are float64 with NaN, 64-bit integers "Int64" (`candid` plain int64),
    strings "str". Histories: one list column a field (ArrowDtype of large_list), numbers as double.
    Raises NoSuchColumn when the table lacks a column, CorruptValue for an alert without `candid`.
    """
    maker = _FrameMaker(table, survey_named(survey), public)
    names = dict.fromkeys([*reads, *IDENTITY])
    return pd.DataFrame(
        {name: maker.column(name) for name in names}, index=pd.RangeIndex(table.num_rows), copy=False
    )


class _FrameMaker:
    """Makes the columns of one frame; what several columns share (a history's layout) is made once."""

    def __init__(self, table: pa.Table | pa.RecordBatch, survey: Survey, public: bool):
        self.table = table
        self.survey = survey
        self.public = public
        self.where = {name: i for i, name in enumerate(table.schema.names)}
        self.layouts: dict[str, _Layout] = {}

    def raw(self, name: str) -> pa.Array:
        """The stored column as one Arrow array."""
        if name not in self.where:
            raise NoSuchColumn(name, self.where)
        column = self.table.column(self.where[name])
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # a table without rows
            column = pa.array([], column.type)
        return column

    def column(self, name: str) -> Any:
        history, field = split(name, self.survey)
        if history:
            return self.history_column(history, field)
        stored = {source: self.raw(source) for source in inputs(name, self.survey)}
        derive = MAKE.get(name) if self.survey.name == "ztf" else None
        if name == "night":
            return night(floats(stored["jd"]), self.survey.name)
        if derive:
            return derive(stored, "")
        return _scalar(name, stored[name], self.survey)

    def history_column(self, history: str, field: str) -> Any:
        layout = self.layout(history)
        prefix = f"{history}."
        names = inputs(prefix + field, self.survey)
        stored = {name: layout.values(self.raw(name), name) for name in names}
        table = MAKE_FORCED if history == "fp_hists" else MAKE
        derive = table.get(field) if self.survey.name == "ztf" else None
        if field == "night":
            values: Any = night(floats(stored[prefix + "jd"]), self.survey.name)
        elif derive:
            values = derive(stored, prefix)
        else:
            values = _list_values(prefix + field, stored[prefix + field], self.survey)
        return layout.lists(values)

    def layout(self, history: str) -> "_Layout":
        if history not in self.layouts:
            clock = self.raw(f"{history}.jd")
            layout = _Layout(clock)
            if self.public:
                name = f"{history}.programid"
                layout.keep_only(floats(layout.values(self.raw(name), name)) == PUBLIC_PROGRAMID)
            self.layouts[history] = layout
        return self.layouts[history]


class _Layout:
    """Which rows of a history belong to which alert: the offsets that all its columns share."""

    def __init__(self, clock: pa.Array):
        self.stored_offsets, _ = _lists(clock)
        self.offsets = self.stored_offsets
        self.keep: np.ndarray | None = None

    def keep_only(self, mask: np.ndarray) -> None:
        """Leave out the rows where mask is false."""
        if not mask.all():
            self.keep = mask
            self.offsets = np.concatenate([[0], np.cumsum(mask)])[self.stored_offsets]

    def values(self, column: pa.Array, name: str) -> pa.Array:
        """The column's rows of all alerts end to end; null where an older schema has no such field."""
        offsets, values = _lists(column)
        if not np.array_equal(offsets, self.stored_offsets):
            values = self._spread(offsets, values, name)
        return values if self.keep is None else values.filter(pa.array(self.keep))

    def _spread(self, offsets: np.ndarray, values: pa.Array, name: str) -> pa.Array:
        """A column that some alerts lack: null for each of their rows."""
        want, have = np.diff(self.stored_offsets), np.diff(offsets)
        if np.any((have != want) & (have != 0)):
            row = int(np.flatnonzero((have != want) & (have != 0))[0])
            raise CorruptValue(f"row {row}: {name} has {have[row]} values, the history's jd {want[row]}")
        there = np.repeat(have != 0, want)
        index = np.full(int(want.sum()), -1)
        index[there] = np.arange(len(values))
        return values.take(pa.array(index, mask=~there))

    def lists(self, values: np.ndarray | pa.Array) -> Any:
        """A pandas column with a list for each alert."""
        flat = values if isinstance(values, pa.Array) else pa.array(values)
        lists = pa.LargeListArray.from_arrays(pa.array(self.offsets), flat)
        return as_pandas(pd.ArrowDtype(lists.type), lists)


def _lists(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Offsets (from 0) and values of a list column; a null list is an empty one."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column) + 1, np.int64), pa.nulls(0)
    if column.null_count:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), column.flatten()
    offsets = column.offsets.to_numpy().astype(np.int64, copy=False)
    values = column.values
    if offsets[0] or offsets[-1] != len(values):
        values = values.slice(offsets[0], offsets[-1] - offsets[0])
        offsets = offsets - offsets[0]
    return offsets, values


def as_pandas(dtype: Any, values: pa.Array) -> Any:
    """An Arrow array as a pandas array of this type."""
    return dtype.__from_arrow__(values)


def _numbers(name: str, column: pa.Array, survey: Survey) -> np.ndarray:
    """float64 with NaN for null and for the column's sentinel."""
    values = floats(column)
    missing = sentinel(name, survey.name)
    if isinstance(missing, float | int):
        there = values != missing
        if not there.all():
            values = np.where(there, values, np.nan)
    return values


def _scalar(name: str, column: pa.Array, survey: Survey) -> Any:
    """One column of alerts, typed by the survey's schema."""
    kind = survey.arrow_type(name)
    if column.type != kind:
        column = column.cast(kind)
    if name == "candid":
        if column.null_count:
            raise CorruptValue(f"{column.null_count} of {len(column)} alerts have no candid")
        return column.to_numpy()
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width <= 32):
        return _numbers(name, column, survey)
    column = _without_sentinel(name, column, survey)
    if pa.types.is_integer(kind):
        return as_pandas(pd.Int64Dtype(), column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return as_pandas(TEXT, column)
    if pa.types.is_boolean(kind):
        return pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return as_pandas(pd.ArrowDtype(column.type), column)


def _list_values(name: str, column: pa.Array, survey: Survey) -> np.ndarray | pa.Array:
    """The rows of one history column end to end, typed by the survey's schema."""
    kind = survey.arrow_type(name).value_type
    if pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width <= 32):
        return _numbers(name, column, survey)
    if pa.types.is_integer(kind):
        kind = pa.int64()
    column = column if column.type == kind else column.cast(kind)
    return _without_sentinel(name, column, survey)


def _without_sentinel(name: str, column: pa.Array, survey: Survey) -> pa.Array:
    """Null where a string or 64-bit integer column holds the value that means "missing"."""
    missing = sentinel(name, survey.name)
    if missing is None or len(column) == 0:
        return column
    textual = not pa.types.is_integer(column.type)
    if textual != isinstance(missing, str):
        return column  # fp_hists has one number for all its numbers, and none for its words
    here = pc.equal(column, pa.scalar(missing if textual else int(missing), column.type))
    return pc.if_else(pc.fill_null(here, False), pa.scalar(None, column.type), column)
