"""Arrow columns as decoded or stored -> the pandas frame that a filter sees; every frame is made here.

The decoder and the archive keep raw values. Here, and only here, they get the survey's meaning: sentinels
become NaN, floats and 32-bit integers are widened to float64, `night`, `positive`, `mag` and others are
computed. Types come from the survey's schema, never from the batch, so that the columns do not
depend on how a night is divided into batches.
"""

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas.avro.fallback import fitted
from schemas.errors import CorruptValue, NoSuchColumn
from schemas.surveys import strangers
from schemas.surveys.registry import SURVEYS, survey_named, survey_of_packet
from schemas.surveys.survey import Survey, floats, is_annotation

Table: TypeAlias = pa.Table | pa.RecordBatch

IDENTITY = ("candid", "objectId")
"""In every frame, declared or not: the names of an alert and of its object."""

TEXT = pd.StringDtype("pyarrow", na_value=np.nan)
"""The type of words: pandas' own "str", missing as NaN."""


PLACE = ("ra", "dec", "jd")
"""What external columns are made from: where (degrees) and when (days UTC) an alert is."""
_OBJECT = "objectId"
"""And of which object it is."""


class External(Hashable, Protocol):
    """Columns that no packet has: of catalogues, regions, sky maps. Their names have a dot: "galex.sep"."""

    def check(self, names: Sequence[str]) -> None:
        """Raise a ZadsError when one of these columns is not there."""

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray, objects: Any = None
    ) -> Mapping[str, Any]:
        """The columns of some alerts, by name.

        Parameters
        ----------
        names
            Dotted names of the columns.
        ra
            Right ascension of the alerts, (n,) degrees.
        dec
            Declination, (n,) degrees.
        jd
            Time, (n,) days UTC.
        objects
            Their objectId, (n,) text.
        """


class FrameMaker:
    """Makes the frames of some columns of one survey. What does not depend on a batch is computed once.

    Parameters
    ----------
    reads
        The columns to show, stored or computed.
    survey
        Whose alerts.
    public
        Leave out the history rows that are not public. Whole alerts that are not public must be dropped by
        the caller, see `is_public`.
    identity
        Columns that are always shown.
    external
        Where columns come from that are not the survey's; None: there are none.

    Attributes
    ----------
    columns
        The stored columns to decode or read.
    touched
        The histories of which something is read.

    Raises
    ------
    NoSuchColumn
        For a name that the survey does not have. `external` raises its own error for a name that it does not
        have.
    """

    def __init__(
        self,
        reads: Sequence[str],
        survey: str,
        public: bool = False,
        identity: Sequence[str] = IDENTITY,
        external: External | None = None,
    ) -> None:
        self.survey = survey_named(survey)
        self.reads = tuple(dict.fromkeys([*reads, *identity]))
        self._external, self._outside = external, self._names_outside(external)
        self._first = identity
        self.field = None if not public else self.survey.public.field
        past = [history for name in self.reads if (history := self.survey.split(name)[0])]
        self.touched = tuple(dict.fromkeys(past))
        self.columns = self._columns()
        own = [name for name in (*self.reads, *self._place()) if name not in self._outside]
        self._parts = {name: _Part(self.survey, name) for name in own}

    def _names_outside(self, external: External | None) -> tuple[str, ...]:
        """Those of `reads` that are for `external`."""
        if external is None:
            return ()
        names = tuple(name for name in self.reads if may_be_external(name))
        if names:
            external.check(names)
        return names

    def _place(self) -> tuple[str, ...]:
        return (*PLACE, _OBJECT) if self._outside else ()

    def _columns(self) -> list[str]:
        own = [name for name in (*self._first, *self.reads, *self._place()) if name not in self._outside]
        wanted = [stored for name in own for stored in self.survey.inputs(name)]
        for history in self.touched:
            wanted.append(clock(self.survey, history))
            if self.field is not None:
                wanted.append(f"{history}.{self.field}")
        if self.field is not None:
            wanted.append(self.field)
        wanted = list(dict.fromkeys(wanted))
        for name in wanted:
            self.survey.path(name)  # raises NoSuchColumn, with the names that are near
        return wanted

    def frame(self, table: Table) -> pd.DataFrame:
        """The frame: `reads`, then `candid` and `objectId`, in row order.

        table: has the columns of `self.columns`, raw. Columns of an older schema may be all null.
        Scalars: floats and 32-bit integers are float64 with NaN, 64-bit integers "Int64" (`candid` plain
        int64), strings "str". Histories: one list column a field (ArrowDtype of large_list), numbers as
        double. Raises NoSuchColumn when the table lacks a column, CorruptValue for an alert without `candid`.
        """
        batch = _Batch(table, self.survey, self.field)
        columns: dict[str, Any] = self._external_columns(batch)
        for name in self.reads:
            if name not in columns:
                columns[name] = self._parts[name].column(batch)
        ordered = {name: columns[name] for name in self.reads}
        return pd.DataFrame(ordered, index=pd.RangeIndex(table.num_rows), copy=False)

    def _external_columns(self, batch: "_Batch") -> dict[str, Any]:
        if not self._outside or self._external is None:
            return {}
        ra, dec, jd = (np.asarray(self._parts[name].column(batch), float) for name in PLACE)
        objects = self._parts[_OBJECT].column(batch)
        return dict(self._external.columns(self._outside, ra, dec, jd, objects))

    def of_packets(self, packets: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """The frame of packets as plain dictionaries. A field that a packet lacks is missing, as in a batch.

        Raises CorruptValue for a value that does not fit the survey's schema.
        """
        return self.frame(self.table_of_packets(packets))

    def table_of_packets(self, packets: Sequence[Mapping[str, Any]]) -> pa.Table:
        """The raw Arrow columns of `self.columns`, one row a packet. Raises CorruptValue."""
        columns = {}
        for name in self.columns:
            kind = self.survey.arrow_type(name)
            try:
                columns[name] = fitted([_value(packet, name, self.survey) for packet in packets], kind)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise CorruptValue(f"{name} does not fit {kind}: {error}") from error
        return pa.table(columns)


_EXTERNAL = re.compile(r"[a-z][a-z0-9_]{0,90}")


def may_be_external(name: str) -> bool:
    """Whether a name is no survey's own and looks like that of a catalogue, region or sky map.

    A name that is nearly a history or record of some survey counts as misspelt ("prv_candidate.jd").
    """
    head, dot, _ = name.partition(".")
    if not dot or is_annotation(name) or not _EXTERNAL.fullmatch(head):
        return False
    surveys = SURVEYS.values()
    if any(head in survey.names() for survey in surveys):
        return False
    records = {record for survey in surveys for record in survey.records}
    return not difflib.get_close_matches(head, records, n=1, cutoff=0.75)


@lru_cache(maxsize=256)
def _maker(reads: tuple[str, ...], survey: str, public: bool, external: External | None) -> FrameMaker:
    return FrameMaker(reads, survey, public, external=external)


def frame_maker(
    reads: Sequence[str], survey: str, public: bool = False, external: External | None = None
) -> FrameMaker:
    """The cached `FrameMaker` for these columns.

    Parameters
    ----------
    reads
        The columns to show, stored or computed.
    survey
        Whose alerts.
    public
        Leave out the history rows that are not public.
    external
        Where columns come from that are not the survey's; None: there are none.

    Raises
    ------
    NoSuchColumn
        For a name that the survey does not have.
    """
    return _maker(tuple(reads), survey, public, external)


def computed_column(table: Table, name: str, survey: str) -> Any:
    """One column of alerts, as a frame shows it.

    Parameters
    ----------
    table
        The raw columns that it is made from, one row an alert.
    name
        The column.
    survey
        Whose alerts.

    Raises
    ------
    NoSuchColumn
        For a name that the survey or the table does not have.
    """
    of = survey_named(survey)
    return _Part(of, name).column(_Batch(table, of, None))


def value_in_packet(packet: Mapping[str, Any], name: str) -> Any:
    """A column of a packet of any survey as a plain dictionary; None where it has no such thing.

    Raises NoSuchColumn for a name that its survey does not have, CorruptValue for a value of another type.
    """
    survey = survey_of_packet(packet)
    if survey is None:
        return strangers.values(packet, [name])[name]
    maker = FrameMaker([name], survey.name, identity=())
    table = maker.table_of_packets([packet])
    value = table.column(name)[0].as_py() if survey.how(name) is None else maker.frame(table)[name].iloc[0]
    return None if pd.isna(value) else value


def clock(survey: Survey, history: str) -> str:
    """The stored column that each row of a history has: its time."""
    return survey.inputs(f"{history}.jd")[0]


def is_public(table: Table, survey: Survey) -> np.ndarray:
    """Whether each row's own record is public (bool); needs the survey's `public.field`."""
    rule = survey.public
    if rule.field is None:
        return np.ones(table.num_rows, bool)
    program = table.column(rule.field)
    public: np.ndarray = pc.fill_null(pc.equal(program, rule.value), False).to_numpy(zero_copy_only=False)
    return public


class _Part:
    """One column of the frames: from which stored columns, and how."""

    def __init__(self, survey: Survey, name: str) -> None:
        self.name, self._survey = name, survey
        self._history, self._field = survey.split(name)
        self._how, self._inputs = survey.how(name), survey.inputs(name)
        self._prefix = f"{self._history}." if self._history else ""

    def column(self, batch: "_Batch") -> Any:
        if self._history is None:
            return self._scalar({name: batch.raw(name) for name in self._inputs})
        layout = batch.layout(self._history)
        stored = {name: layout.values(batch.raw(name), name) for name in self._inputs}
        if self._how is None:
            return layout.lists(_list_values(self.name, stored[self.name], self._survey))
        return layout.lists(self._how.make(stored, self._prefix))

    def _scalar(self, stored: dict[str, pa.Array]) -> Any:
        if self._how is None:
            return _scalar(self.name, stored[self.name], self._survey)
        made = self._how.make(stored, "")
        return _typed(made) if isinstance(made, pa.Array) else made


class _Batch:
    """One table; what several columns share (a history's layout) is made once."""

    def __init__(self, table: Table, survey: Survey, field: str | None) -> None:
        self.table, self.survey, self._field = table, survey, field
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

    def layout(self, history: str) -> "_Layout":
        if history not in self.layouts:
            layout = _Layout(self.raw(clock(self.survey, history)))
            if self._field is not None:
                name = f"{history}.{self._field}"
                program = floats(layout.values(self.raw(name), name))
                layout.keep_only(program == self.survey.public.value)
            self.layouts[history] = layout
        return self.layouts[history]


def _value(packet: Mapping[str, Any], name: str, survey: Survey) -> Any:
    """A stored column's value in a packet as a dictionary; a list for a history's field."""
    history, _ = survey.split(name)
    for place in survey.places(name):
        steps = place.split(".")
        if history:
            rows = packet.get(steps[0]) or []
            if len(steps) == 2 and (not rows or any(steps[1] in row for row in rows)):
                return [row.get(steps[1]) for row in rows]
            continue
        value: Any = packet
        for step in steps:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return [None] * len(packet.get(history) or []) if history else None


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
            raise CorruptValue(f"row {row}: {name} has {have[row]} values, its history {want[row]} rows")
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
    missing = survey.sentinel(name)
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
    return _typed(_without_sentinel(name, column, survey))


def _typed(column: pa.Array) -> Any:
    """A column that is no float as pandas has it."""
    kind = column.type
    if pa.types.is_integer(kind):
        return as_pandas(pd.Int64Dtype(), column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return as_pandas(TEXT, column)
    if pa.types.is_boolean(kind):
        return pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return as_pandas(pd.ArrowDtype(kind), column)


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
    missing = survey.sentinel(name)
    if missing is None or len(column) == 0:
        return column
    textual = not pa.types.is_integer(column.type)
    if textual != isinstance(missing, str):
        return column  # fp_hists has one number for all its numbers, and none for its words
    here = pc.equal(column, pa.scalar(missing if textual else int(missing), column.type))
    return pc.if_else(pc.fill_null(here, False), pa.scalar(None, column.type), column)
