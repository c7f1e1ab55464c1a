"""Which data files hold what is asked for: nights, programs, a part of the sky; from the Delta log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from urllib.parse import unquote

import numpy as np
from deltalake import DeltaTable

from archive.layout import HEALPIX
from archive.read.cones import overlaps
from archive.read.where import Condition
from schemas.errors import ZadsError
from schemas.surveys.definitions import PUBLIC_PROGRAMID

_NIGHT = re.compile(r"\d{4}-\d\d-\d\d")
NO_ROWS = np.zeros(0, np.int64)


class BadNights(ZadsError):
    """Nights that cannot be understood."""


@dataclass(frozen=True)
class Nights:
    """A choice of nights: spans of UT dates, both ends included; None for an open end. Empty: all nights."""

    spans: tuple[tuple[date | None, date | None], ...] = ()

    def holds(self, night: date | None) -> bool:
        """Alerts without a date are in no night; they are among all nights."""
        if not self.spans or night is None:
            return not self.spans
        return any(
            (low is None or low <= night) and (high is None or night <= high) for low, high in self.spans
        )


def nights_of(given: Any) -> Nights:
    """From "2023-10-12", "2023-10-12..2023-10-14" (an end may be left out), dates, or a list of these.

    None is every night. Raises BadNights.
    """
    if given is None or isinstance(given, Nights):
        return given or Nights()
    if isinstance(given, (str, date, np.datetime64)):
        given = [given]
    try:
        spans = tuple(_span(one) for one in given)
    except (TypeError, ValueError) as error:
        raise BadNights(
            f"no nights: {given!r} ({error})", hint='write "2023-10-12", "2023-10-12..2023-10-14" or dates'
        ) from error
    if not spans:
        raise BadNights("an empty list of nights", hint="leave `nights` out for all of them")
    return Nights(spans)


def _span(given: Any) -> tuple[date | None, date | None]:
    if isinstance(given, datetime):
        return given.date(), given.date()
    if isinstance(given, date):
        return given, given
    if isinstance(given, np.datetime64):
        return _span(given.astype("datetime64[D]").item())
    low, dots, high = str(given).partition("..")
    ends = _date(low), _date(high) if dots else _date(low)
    if not dots and ends[0] is None:
        raise ValueError("an empty word")
    if ends[0] and ends[1] and ends[0] > ends[1]:
        raise ValueError(f"{low} is after {high}")
    return ends


def _date(word: str) -> date | None:
    word = word.strip()
    if word and not _NIGHT.fullmatch(word):
        raise ValueError(f"{word!r} is no date")
    return date.fromisoformat(word) if word else None


@dataclass(frozen=True)
class Fragment:
    """One data file: where it is, its partition, what the Delta log says of its rows.

    limits: column -> least and greatest raw value.
    """

    path: str
    night: date | None
    programid: int | None
    rows: int
    bytes: int
    limits: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def may_hold(self, ranges: np.ndarray | None, asked: Sequence[Condition]) -> bool:
        """Whether a row within the HEALPix ranges may fulfil the conditions."""
        inside = ranges is None or overlaps(ranges, *self.limits.get(HEALPIX, (None, None)))
        return inside and all(condition.possible(self.limits) for condition in asked)


WHOLE = 1 << 62
"""As a number of rows: all of a file, in one piece and one batch."""


@dataclass(frozen=True)
class Piece:
    """A share of one data file, the unit of work: its row groups from part/parts to (part+1)/parts.

    root: the table's address. skip: rows of the file that are not to be seen.
    """

    root: str
    path: str
    night: date | None
    programid: int | None
    rows: int
    part: int = 0
    parts: int = 1
    skip: np.ndarray = field(default_factory=lambda: NO_ROWS, repr=False, compare=False)


def fragments(table: DeltaTable) -> list[Fragment]:
    """Every data file of the table as it is, in the order of night, programid and sky."""
    actions = table.get_add_actions(flatten=True)
    names = actions.schema.names
    columns = {name: actions.column(i).to_pylist() for i, name in enumerate(names)}
    limited = [name[4:] for name in names if name.startswith("min.") and f"max.{name[4:]}" in columns]
    found = []
    for row, path in enumerate(columns["path"]):
        limits = {name: (columns[f"min.{name}"][row], columns[f"max.{name}"][row]) for name in limited}
        night, programid = (columns[f"partition.{key}"][row] for key in ("night", "programid"))
        rows, size = columns["num_records"][row], columns["size_bytes"][row]
        found.append(Fragment(unquote(path), night, programid, rows, size, limits))
    return sorted(found, key=_place)


def _place(fragment: Fragment) -> tuple[Any, ...]:
    lowest = fragment.limits.get(HEALPIX, (None, None))[0]
    return str(fragment.night), str(fragment.programid), lowest is None, lowest or 0, fragment.path


def chosen(
    every: Iterable[Fragment],
    nights: Nights,
    public: bool = False,
    ranges: np.ndarray | None = None,
    asked: Sequence[Condition] = (),
) -> list[Fragment]:
    """The files that may hold what is asked for."""
    return [
        fragment
        for fragment in every
        if nights.holds(fragment.night)
        and (not public or fragment.programid == PUBLIC_PROGRAMID)
        and fragment.may_hold(ranges, asked)
    ]


def pieces(root: str, files: Iterable[Fragment], rows: int, skip: Mapping[str, np.ndarray]) -> list[Piece]:
    """The files cut into pieces of about `rows` rows. skip: path -> rows that are not to be seen."""
    return [
        Piece(root, f.path, f.night, f.programid, f.rows, part, parts, skip.get(f.path, NO_ROWS))
        for f in files
        for parts in [max(1, -(-f.rows // rows))]
        for part in range(parts)
    ]


def shares(every: Iterable[Piece], rows: int) -> list[tuple[Piece, ...]]:
    """Small pieces of one night taken together, so that each share has about `rows` rows."""
    found: list[list[Piece]] = []
    filled = 0
    for piece in every:
        count = piece.rows // piece.parts
        if not found or found[-1][-1].night != piece.night or filled + count > rows:
            found.append([])
            filled = 0
        found[-1].append(piece)
        filled += count
    return [tuple(share) for share in found]
