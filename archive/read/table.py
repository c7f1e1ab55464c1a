"""The files of one survey's table: which there are, and which may hold the rows wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from deltalake import DeltaTable

from archive.layout import table_of
from archive.read.columns import Tally
from archive.read.fragments import Piece, chosen, nights_of, pieces
from archive.read.versions import superseded
from archive.read.view import View
from archive.tables.files import DataFile, data_files
from archive.tables.store import NoSuchArchive, open_table, surveys_in
from schemas.errors import ZadsError
from schemas.surveys.registry import survey_named

Versions = Literal["newest", "all"]
PARTITION_ROWS = 131_072


class Table:
    """One survey's part of an archive, as it is now or as it was. Pickles as its address.

    Parameters
    ----------
    path
        Folder or object-store address of the archive.
    survey
        Whose table; None: that of the only survey whose alerts are there, ZTF's where several are or none.
    version
        Version of the table; None: the newest.

    Raises
    ------
    NoSuchArchive
        When it is first read and does not exist.
    """

    def __init__(self, path: str | Path, survey: str | None = None, version: int | None = None) -> None:
        self.path, self.version = str(path), version
        self.survey = survey_named(survey or self._only_survey()).name
        self.read = Tally()
        self._table: DeltaTable | None = None
        self._files: tuple[int, list[DataFile]] | None = None

    def _only_survey(self) -> str:
        try:
            there = surveys_in(self._where)
        except NoSuchArchive:
            there = []
        return there[0] if len(there) == 1 else "ztf"

    def __repr__(self) -> str:
        at = "" if self.version is None else f", version={self.version}"
        return f"Archive({self.path!r}, survey={self.survey!r}{at})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.survey, self.version)

    @property
    def root(self) -> str:
        """The address of the survey's table."""
        return table_of(self._where, self.survey)

    @property
    def _where(self) -> str:
        return self.path if "://" in self.path else str(Path(self.path).absolute())

    def files(self) -> list[DataFile]:
        """Every data file, by night, program and sky; of the newest version unless one was named."""
        if self._table is None:
            self._table = open_table(self.root)
            if self.version is not None:
                self._table.load_as_version(self.version)
        elif self.version is None:
            self._table.update_incremental()
        if self._files is None or self._files[0] != self._table.version():
            self._files = self._table.version(), data_files(self._table, self.root)
        return self._files[1]

    @property
    def table_version(self) -> int:
        """The version of the table that was read last."""
        self._files or self.files()
        assert self._files is not None
        return self._files[0]

    def select(
        self,
        view: View,
        nights: Any = None,
        versions: Versions = "newest",
        rows: int = PARTITION_ROWS,
        tally: Tally | None = None,
    ) -> list[Piece]:
        """The pieces of data files that may hold rows of a view.

        Parameters
        ----------
        view
            Which rows and columns.
        nights
            As for `Archive.alerts`; None: all.
        versions
            "newest" leaves out rows that a newer one of the same candid replaces, among these nights and, for
            a cone, among the files that it touches. "all" shows every source record.
        rows
            Rows of a piece, about.
        tally
            Counts what is read to find the newest, and how many bytes the nights have.

        Raises
        ------
        ZadsError
            For an unknown `versions`.
        NoSuchColumn
            For a column that the view asks for and the survey does not have.
        BadNights
            For nights that cannot be understood.
        """
        if versions not in ("newest", "all"):
            raise ZadsError(f'versions is "newest" or "all", not {versions!r}')
        view.stored  # noqa: B018  # a wrong name raises before anything is read
        spans = nights_of(nights)
        ranges = view.cone.ranges() if view.cone is not None else None
        every = chosen(self.files(), spans)
        near = chosen(every, spans, ranges=ranges)
        skip: Mapping[str, np.ndarray] = superseded(self.root, near, tally) if versions == "newest" else {}
        wanted = chosen(near, spans, view.rule, ranges, view.conditions)
        if tally is not None:
            tally.available += sum(f.bytes for f in every)
        return pieces(self.root, wanted, rows, skip)
