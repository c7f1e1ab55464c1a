"""What is seen of each piece of an archive: the columns of a filter, on rows that fulfil the conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from archive.layout import BODY, SCHEMA, table_schema
from archive.read.bodies import ROWS, in_bodies, with_bodies
from archive.read.columns import BATCH_ROWS, PieceReader
from archive.read.cones import Cone
from archive.read.fragments import WHOLE, Piece
from archive.read.where import Condition
from filters.external.externals import Externals, frames_of
from schemas.errors import NoSuchColumn
from schemas.frame import IDENTITY, FrameMaker
from schemas.surveys.registry import survey_named
from schemas.surveys.survey import Public

_SKY = ("ra", "dec")


@dataclass(frozen=True)
class View:
    """How rows become the frame that a filter sees.

    columns: names that a filter may read, and the archive's own ("_topic", "_healpix_29", ...). public: only
    alerts and history rows that are public. cone, conditions: which rows. externals: where
    columns of catalogues, regions and sky maps come from.
    """

    columns: tuple[str, ...]
    survey: str = "ztf"
    public: bool = False
    cone: Cone | None = None
    conditions: tuple[Condition, ...] = ()
    externals: Externals | None = None

    @property
    def own(self) -> list[str]:
        """The archive's own columns among those asked for."""
        return [name for name in self.columns if name.startswith("_")]

    @property
    def reads(self) -> list[str]:
        """The filter's columns, and those that the conditions and the cone look at."""
        asked = [condition.column for condition in self.conditions]
        sky = _SKY if self.cone is not None else ()
        return [n for n in dict.fromkeys([*self.columns, *asked, *sky]) if not n.startswith("_")]

    @property
    def stored(self) -> list[str]:
        """The columns to read. Raises NoSuchColumn."""
        known = table_schema(self.survey).names
        for name in self.own:
            if name not in known:
                raise NoSuchColumn(name, [n for n in known if n.startswith("_")])
        bodies = (SCHEMA, BODY) if self.in_bodies else ()
        return list(dict.fromkeys([*self.maker.columns, *self.own, *bodies]))

    @property
    def in_bodies(self) -> list[str]:
        """The columns that only the packets' bodies have: stamps."""
        return in_bodies(self.maker.columns, self.survey)

    @property
    def maker(self) -> FrameMaker:
        """Makes the frames, with all rows of histories."""
        return frames_of(self.reads, self.survey, externals=self.externals)

    @property
    def rule(self) -> Public | None:
        """What is public, for a view of that only."""
        return survey_named(self.survey).public if self.public else None

    @property
    def checked(self) -> dict[str, str]:
        """The histories read of which only public rows are wanted -> the column that each row has."""
        rule, survey = self.rule, survey_named(self.survey)
        if rule is None or rule.everything:
            return {}
        return {history: survey.inputs(f"{history}.jd")[0] for history in self.maker.touched}

    def reader(self, piece: Piece) -> PieceReader:
        """Reads the row groups of the piece that may hold rows of this view."""
        ranges = self.cone.ranges() if self.cone is not None else None
        return PieceReader(piece, ranges, self.conditions, self.survey, self.checked)

    def batches(
        self,
        piece: Piece,
        rows: int = BATCH_ROWS,
        reader: PieceReader | None = None,
        extra: Sequence[str] = (),
    ) -> Iterator[tuple[pd.DataFrame, pa.Table, np.ndarray]]:
        """Frames of a piece, each with its raw table and the numbers of its rows in the file.

        Parameters
        ----------
        piece
            A piece of a data file.
        rows
            Rows of a frame, about.
        reader
            The piece's reader, to count what it reads; a new one where left out.
        extra
            More stored columns for the raw table.
        """
        if self.rule is not None and not self.rule.holds(piece.program):
            return
        reader = reader or self.reader(piece)
        names, bodies = list(dict.fromkeys([*self.stored, *extra])), self.in_bodies
        for table, numbers in reader.batches(names, min(rows, ROWS) if bodies else rows):
            if bodies:
                table = with_bodies(table, bodies, piece.root.rpartition("/")[0], self.survey)
            frame = self._frame(table)
            keep = self._mask(frame)
            if keep is not None and not keep.all():
                table, numbers = table.filter(pa.array(keep)), numbers[keep]
                frame = self._frame(table)
            yield self._shown(frame, table), table, numbers

    def _frame(self, table: pa.Table) -> pd.DataFrame:
        """Without the rows that are not public, where the reader has found some."""
        names, rule = table.schema.names, self.rule
        told = [f"{history}.{rule.field}" in names for history in self.checked] if rule is not None else []
        mixed = bool(told) and all(told)  # some are there when only the filter reads them, and all is public
        maker = frames_of(self.reads, self.survey, True, self.externals) if mixed else self.maker
        return maker.frame(table)

    def _mask(self, frame: pd.DataFrame) -> np.ndarray | None:
        masks = [condition.mask(frame) for condition in self.conditions]
        if self.cone is not None:
            masks.append(self.cone.holds(*(frame[name].to_numpy() for name in _SKY)))
        return np.logical_and.reduce(masks) if masks else None

    def _shown(self, frame: pd.DataFrame, table: pa.Table) -> pd.DataFrame:
        """The columns asked for, in the order asked for, then the identity."""
        if list(frame.columns) == list(dict.fromkeys([*self.columns, *IDENTITY])):
            return frame
        made = {n: frame[n] if n in frame.columns else _plain(table[n]) for n in self.columns}
        rest = {n: frame[n] for n in IDENTITY if n not in made}
        return pd.DataFrame({**made, **rest}, index=frame.index, copy=False)

    def empty(self) -> pd.DataFrame:
        """A frame without rows: Dask's meta."""
        survey, types = survey_named(self.survey), table_schema(self.survey)
        kinds = [types.field(n).type if n.startswith("_") else survey.arrow_type(n) for n in self.stored]
        table = pa.table([pa.array([], kind) for kind in kinds], names=self.stored)
        return self._shown(self.maker.frame(table), table)

    def __call__(self, share: Sequence[Piece]) -> pd.DataFrame:
        """The frame of some pieces: a partition of the Dask dataframe."""
        frames = [frame for piece in share for frame, _, _ in self.batches(piece, rows=WHOLE)]
        if len(frames) == 1:
            return frames[0]
        return pd.concat(frames, ignore_index=True) if frames else self.empty()


def _plain(column: pa.ChunkedArray) -> pd.Series:
    """One of the archive's own columns, for pandas."""
    return pd.Series(column.combine_chunks(), dtype=pd.ArrowDtype(column.type))
