"""All external information that filters read, each at one version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from filters.external import coordinates
from filters.external.opened import Opened, opened, series
from filters.external.store import NoSuchExternal, Store
from schemas.dictionary import EVERY_SURVEY, Word
from schemas.frame import FrameMaker, Table, frame_maker, may_be_external
from schemas.surveys.registry import survey_having


class Externals:
    """Makes external columns for frames (`schemas.frame.External`). Immutable; pickles as its arguments.

    root: the folder, ZADS_EXTERNAL, else `external` in ZADS_HOME, where it is left out. versions: name ->
    the version to use; what is not named is read in the version in use at that moment.
    """

    def __init__(self, root: str | Path | None = None, versions: Mapping[str, str] | None = None) -> None:
        self.store = Store(root)
        self.versions = MappingProxyType(dict(sorted((versions or {}).items())))

    def _key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        return str(self.store.root), tuple(self.versions.items())

    def __reduce__(self) -> tuple[Any, ...]:
        return Externals, (str(self.store.root), dict(self.versions))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Externals) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def opened(self, name: str) -> Opened:
        """One of them. Raises NoSuchExternal, ExternalError."""
        if name == coordinates.NAME:
            return coordinates.COORDINATES
        return opened(str(self.store.folder(name, self.versions.get(name, ""))))

    def pinned(self, names: Iterable[str]) -> Externals:
        """The same for these columns, at the versions in use now where none is named.

        Raises NoSuchExternal.
        """
        heads = dict.fromkeys(name.partition(".")[0] for name in names)
        versions = {
            head: self.versions.get(head) or self.store.current(head)
            for head in heads
            if head != coordinates.NAME
        }
        return Externals(self.store.root, versions)

    def have_moved(self) -> bool:
        """Whether another version of a name is in use now. A name that was removed does not count."""
        there = set(self.store.names())
        return any(name in there and self.store.current(name) != v for name, v in self.versions.items())

    def in_use(self) -> dict[str, str]:
        """Name -> the version in use now, of all that there are."""
        return {name: self.store.current(name) for name in self.store.names()}

    def check(self, names: Sequence[str]) -> None:
        """Raise NoSuchExternal or NoSuchColumn when one of these columns is not there."""
        nothing = np.zeros(0)
        self.columns(names, nothing, nothing, nothing)

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray, objects: Any = None
    ) -> Mapping[str, Any]:
        """The columns of some alerts, by dotted name.

        Parameters
        ----------
        names
            Dotted names of the columns: "galex.sep".
        ra
            Right ascension of the alerts, (n,) degrees.
        dec
            Declination, (n,) degrees.
        jd
            Time, (n,) days UTC.
        objects
            Their objectId, (n,) text, for lists of objects; None: they are of none.

        Raises
        ------
        NoSuchExternal
            For a catalogue, region or sky map that is not there.
        NoSuchColumn
            For a column that one does not have.
        """
        heads: dict[str, list[str]] = {}
        for name in names:
            head, _, column = name.partition(".")
            heads.setdefault(head, []).append(column)
        made: dict[str, Any] = {}
        for head, columns in heads.items():
            made |= series(head, self.opened(head), columns, (ra, dec, jd), objects)
        return made

    def words(self, names: Iterable[str] | None = None) -> list[Word]:
        """Every column that a filter may read of what is there, or of some of it by name, as `zads columns`
        lists them.

        Raises ExternalError for one that cannot be read, NoSuchExternal for one that is not there.
        """
        found = []
        for name in [coordinates.NAME, *self.store.names()] if names is None else names:
            for column, (kind, unit, meaning) in self.opened(name).kinds.items():
                words, missing = _KINDS[kind]
                found.append(
                    Word(f"{name}.{column}", EVERY_SURVEY, words, unit, meaning, "external", missing)
                )
        return found


_KINDS = {
    "number": ("number", "NaN"),
    "integer": ("whole number", "null"),
    "text": ("text", "null"),
    "flag": ("true or false", "false"),
}
"""Kind of an external column -> as the dictionary calls it, and how a filter sees that there is none."""


class Unchecked:
    """A placeholder for external information while a filter is declared: it may not exist yet."""

    def check(self, names: Sequence[str]) -> None:
        """Anything that may be external is fine."""

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray, objects: Any = None
    ) -> Mapping[str, Any]:
        """Never asked for: nothing is evaluated where a filter is only declared.

        Parameters
        ----------
        names
            Dotted names of the columns.
        ra
            Right ascension, (n,) degrees.
        dec
            Declination, (n,) degrees.
        jd
            Time, (n,) days UTC.
        objects
            Their objectId, (n,) text, for lists of objects; None: they are of none.

        Raises
        ------
        NoSuchExternal
            Always.
        """
        raise NoSuchExternal(f"{', '.join(names)} cannot be made here")


def external_names(reads: Iterable[str]) -> list[str]:
    """Those of the columns that are external."""
    return [name for name in reads if may_be_external(name)]


def frames_of(
    reads: Sequence[str], survey: str | None = None, public: bool = False, externals: Externals | None = None
) -> FrameMaker:
    """The cached `FrameMaker` for these columns, external ones included.

    Parameters
    ----------
    reads
        Columns of the survey, and such as "galex.sep".
    survey
        Whose alerts; None: told by the columns (`survey_having`).
    public
        Leave out rows of histories that are not public.
    externals
        Where external columns come from; by default the versions in use now in the usual folder.

    Raises
    ------
    NoSuchColumn
        For a name that nothing has.
    NoSuchExternal
        For a catalogue, region or sky map that is not there.
    """
    outside = external_names(reads)
    given = externals or Externals()
    of = survey or survey_having(reads)
    return frame_maker(reads, of, public, given.pinned(outside) if outside else None)


def stored_columns(reads: Sequence[str], survey: str | None = None, public: bool = False) -> list[str]:
    """What the reader (or the archive) must bring so that `to_frame` can show some columns.

    Parameters
    ----------
    reads
        The columns to show.
    survey
        Whose alerts; None: told by the columns, ZTF's where several surveys have them.
    public
        Leave out rows of histories that are not public.

    Raises
    ------
    NoSuchColumn
        For a name that nothing has.
    """
    return frames_of(reads, survey, public).columns


def to_frame(
    table: Table, reads: Sequence[str], survey: str | None = None, public: bool = False
) -> pd.DataFrame:
    """The frame that a filter with these `reads` sees, of a table with the columns of `stored_columns`.

    Parameters
    ----------
    table
        The raw columns, one row an alert.
    reads
        The columns to show, external ones too.
    survey
        Whose alerts these are; None: told by the columns, ZTF's where several surveys have them.
    public
        Leave out rows of histories that are not public.

    Raises
    ------
    NoSuchColumn
        When the table lacks a column.
    CorruptValue
        For an alert without `candid`.
    """
    return frames_of(reads, survey, public).frame(table)
