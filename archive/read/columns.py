"""Columns of a piece of the archive as Arrow tables, and how many bytes that took.

Row groups that cannot hold what is asked for are left out by their statistics; the bytes counted are those of
the column chunks that were read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.layout import HEALPIX, NIGHT, kept_computed, table_schema
from archive.read.cones import overlaps
from archive.read.fragments import WHOLE, Piece
from archive.read.where import Condition
from archive.tables.store import filesystem_of
from schemas.surveys.registry import survey_named

BATCH_ROWS = 32_768  # with twice as many, arrays of history rows cause twice the page faults
_FOOTERS = 256  # of files remembered: each is a few hundred kB to read and take apart


@dataclass
class Tally:
    """How much was read: rows and bytes of column chunks; `available`: bytes of all files that were
    candidates. groups: each row group opened, once, however often it was read: path, number."""

    groups: set[tuple[str, int]] = field(default_factory=set)
    rows: int = 0
    bytes: int = 0
    available: int = 0
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def files(self) -> int:
        """Files opened, each once."""
        return len({path for path, _ in self.groups})

    @property
    def row_groups(self) -> int:
        """Row groups opened, each once."""
        return len(self.groups)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        with self._lock:
            self.groups |= other.groups
            self.rows += other.rows
            self.bytes += other.bytes
            self.available += other.available

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def __str__(self) -> str:
        share = f" of {size(self.available)}" if self.available else ""
        return f"{size(self.bytes)}{share} in {self.row_groups} row groups of {self.files} files"


def size(count: float) -> str:
    """Bytes for people: "1.4 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


class Footer:
    """What the end of a data file says: its columns, and where each row group begins."""

    def __init__(self, metadata: pq.FileMetaData) -> None:
        self.metadata = metadata
        paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
        self.columns: dict[str, list[int]] = {}
        for number, path in enumerate(paths):
            self.columns.setdefault(_name(path), []).append(number)
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def limits(self, group: int, name: str) -> tuple[Any, Any]:
        """Least and greatest raw value of a column in a row group; None where not known."""
        numbers = self.columns.get(name, ())
        if len(numbers) != 1:
            return None, None
        found = self.metadata.row_group(group).column(numbers[0]).statistics
        return (found.min, found.max) if found is not None and found.has_min_max else (None, None)

    def only(self, group: int, name: str, value: int) -> int | None:
        """How many values a column has in a row group, if all of them equal `value`; None if not, or if
        unknown.

        Parameters
        ----------
        group
            Number of the row group.
        name
            Name of the column.
        value
            The value that all must have; nulls are ignored.

        Source
        ------
        Parquet format, "Statistics".
        """
        numbers = self.columns.get(name, ())
        chunk = self.metadata.row_group(group).column(numbers[0]) if len(numbers) == 1 else None
        found = chunk.statistics if chunk is not None else None
        if chunk is None or found is None or not found.has_null_count:
            return None
        there = chunk.num_values - found.null_count
        if there == 0:
            return 0
        return there if found.has_min_max and found.min == found.max == value else None

    def bytes(self, group: int, names: Sequence[str]) -> int:
        """Size of the column chunks of these columns."""
        chunks = self.metadata.row_group(group)
        return sum(
            chunks.column(i).total_compressed_size for name in names for i in self.columns.get(name, ())
        )


def _name(path: str) -> str:
    """The column that a leaf belongs to: "prv_candidates.jd" of "prv_candidates.jd.list.element"."""
    return path.partition(".list.")[0]


@lru_cache(maxsize=_FOOTERS)
def _footer(root: str, path: str) -> Footer:
    with _source(root, path) as source:
        return Footer(pq.read_metadata(source))


@lru_cache(maxsize=16)
def _store(root: str) -> tuple[Any, str]:
    return filesystem_of(root)


def _source(root: str, path: str) -> Any:
    """A data file, opened; on this machine mapped into memory."""
    if "://" not in root:
        return pa.memory_map(f"{root}/{path}")
    filesystem, place = _store(root)
    return filesystem.open_input_file(f"{place}/{path}")


class PieceReader:
    """Reads columns of one piece of a data file.

    `ranges` and `asked` only choose row groups: the caller must check the rows themselves.

    Parameters
    ----------
    piece
        The piece.
    ranges
        (n, 2) int64, HEALPix cells of order 29: no row outside is wanted. None: the whole sky.
    asked
        Conditions that all rows must fulfil.
    survey
        Whose table.
    public
        The histories of which only public rows are wanted -> the column that each of their rows has.
    """

    def __init__(
        self,
        piece: Piece,
        ranges: np.ndarray | None = None,
        asked: Sequence[Condition] = (),
        survey: str = "ztf",
        public: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.piece, self.survey, self.public = piece, survey, public
        self._rule = survey_named(survey).public
        self.footer = _footer(piece.root, piece.path)
        self.tally = Tally()
        count = self.footer.metadata.num_row_groups
        own = range(piece.part * count // piece.parts, (piece.part + 1) * count // piece.parts)
        self.groups = [group for group in own if self._wanted(group, ranges, asked)]

    def _wanted(self, group: int, ranges: np.ndarray | None, asked: Sequence[Condition]) -> bool:
        if ranges is not None and not overlaps(ranges, *self.footer.limits(group, HEALPIX)):
            return False
        raw = [condition.column for condition in asked if self._is_raw(condition.column)]
        limits = {name: self.footer.limits(group, name) for name in raw}
        return all(condition.possible(limits) for condition in asked)

    def _is_raw(self, name: str) -> bool:
        """Whether the file holds the values that a filter sees, but for those that mean "missing"."""
        return survey_named(self.survey).how(name) is None or name in kept_computed(self.survey)

    def cost(self, names: Sequence[str]) -> Tally:
        """What reading these columns takes, from the footer alone."""
        rows = sum(self._rows_of(group) for group in self.groups)
        stored = self._stored(names)
        read = sum(self.footer.bytes(group, stored) for group in self.groups)
        return Tally({(self.piece.path, group) for group in self.groups}, rows, read)

    def batches(self, names: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """Tables of about `rows` rows with these columns in this order, and each row's number in the file.

        Columns that the file lacks are null; rows to skip are left out. The histories of `public` have their
        column that says whose each row is as well, unless the statistics say that all of them are public.
        """
        stored = self._stored(names)
        if not self.groups:
            return
        with _source(self.piece.root, self.piece.path) as source:
            file = pq.ParquetFile(source, metadata=self.footer.metadata, pre_buffer="://" in self.piece.root)
            for groups in self._runs(rows):
                table = file.read_row_groups(groups, columns=stored, use_threads=False)
                self._count(groups, stored)
                more = [name for name in self._programs(groups, table) if name not in names]
                if more:
                    others = file.read_row_groups(groups, columns=self._stored(more), use_threads=False)
                    self.tally.add(Tally(bytes=sum(self.footer.bytes(g, self._stored(more)) for g in groups)))
                    for name in others.schema.names:
                        table = table.append_column(name, others.column(name))
                yield self._finished(table, groups, [*names, *more])

    def _programs(self, groups: Sequence[int], table: pa.Table) -> list[str]:
        """The columns that say which history rows are public; none when all of them are.

        A third of the time of most filters on histories goes into these columns, and the histories of
        packets that were made public are clean.
        """
        there = {history: clock for history, clock in self.public.items() if clock in table.schema.names}
        clean = (self._all_public(history, groups, table.column(clock)) for history, clock in there.items())
        return [] if all(clean) else [f"{history}.{self._rule.field}" for history in self.public]

    def _all_public(self, history: str, groups: Sequence[int], clock: pa.ChunkedArray) -> bool:
        """Whether every row of the history is public. clock: a column of which each row has a value."""
        rows = pc.sum(pc.list_value_length(clock)).as_py() or 0
        name = f"{history}.{self._rule.field}"
        counts = [self.footer.only(group, name, self._rule.value) for group in groups]
        return None not in counts and sum(count or 0 for count in counts) == rows

    def read(self, names: Sequence[str]) -> tuple[pa.Table, np.ndarray]:
        """All of it as one table, and the rows' numbers in the file."""
        parts = list(self.batches(names, rows=WHOLE))
        if not parts:
            return pa.table({name: pa.nulls(0, self._type(name)) for name in names}), np.zeros(0, np.int64)
        return parts[0]

    def take(self, names: Sequence[str], rows: np.ndarray) -> list[pa.Table]:
        """The rows with these numbers in the file (sorted), a table a row group that has some."""
        groups = np.searchsorted(self.footer.starts, rows, "right") - 1
        stored, tables = self._stored(names), []
        with _source(self.piece.root, self.piece.path) as source:
            file = pq.ParquetFile(source, metadata=self.footer.metadata, pre_buffer=False)
            for group in np.unique(groups).tolist():
                table = file.read_row_groups([group], columns=stored, use_threads=False)
                self._count([group], stored)
                own = pa.array(rows[groups == group] - self.footer.starts[group])
                arrays = [
                    table.column(n).take(own) if n in stored else self._made(n, len(own)) for n in names
                ]
                tables.append(pa.table(arrays, names=list(names)))
        return tables

    def _runs(self, rows: int) -> Iterator[list[int]]:
        run: list[int] = []
        filled = 0
        for group in self.groups:
            count = self._rows_of(group)
            if run and filled + count > rows:
                yield run
                run, filled = [], 0
            run.append(group)
            filled += count
        if run:
            yield run

    def _rows_of(self, group: int) -> int:
        return int(self.footer.starts[group + 1] - self.footer.starts[group])

    def _stored(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.footer.columns]

    def _count(self, groups: list[int], stored: Sequence[str]) -> None:
        rows = sum(self._rows_of(group) for group in groups)
        read = sum(self.footer.bytes(group, stored) for group in groups)
        self.tally.add(Tally({(self.piece.path, group) for group in groups}, rows, read))

    def _finished(
        self, table: pa.Table, groups: list[int], names: Sequence[str]
    ) -> tuple[pa.Table, np.ndarray]:
        starts = self.footer.starts
        rows = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups])
        arrays = [table.column(n) if n in table.schema.names else self._made(n, len(rows)) for n in names]
        table = pa.table(arrays, names=list(names))
        if not len(self.piece.skip):
            return table, rows
        keep = ~np.isin(rows, self.piece.skip)
        return (table, rows) if keep.all() else (table.filter(pa.array(keep)), rows[keep])

    def _made(self, name: str, rows: int) -> pa.Array:
        """A column that is not in the file: its partition's value, or null."""
        kind = self._type(name)
        value = {self._rule.field: self.piece.program, NIGHT: self.piece.night}.get(name)
        return pa.nulls(rows, kind) if value is None else pa.repeat(pa.scalar(value, kind), rows)

    def _type(self, name: str) -> pa.DataType:
        columns: Mapping[str, pa.DataType] = _types(self.survey)
        return columns[name] if name in columns else survey_named(self.survey).arrow_type(name)


@lru_cache(maxsize=8)
def _types(survey: str) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in table_schema(survey)}
