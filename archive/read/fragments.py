"""Which data files hold what is asked for: nights, programs, a part of the sky; from the Delta log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np

from archive.read.cones import overlaps
from archive.read.where import Condition
from archive.tables.files import DataFile
from schemas.errors import ZadsError
from schemas.surveys.survey import Public

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
    program: int | None
    rows: int
    part: int = 0
    parts: int = 1
    skip: np.ndarray = field(default_factory=lambda: NO_ROWS, repr=False, compare=False)


def chosen(
    every: Iterable[DataFile],
    nights: Nights,
    rule: Public | None = None,
    ranges: np.ndarray | None = None,
    asked: Sequence[Condition] = (),
) -> list[DataFile]:
    """The files that may hold what is asked for.

    Parameters
    ----------
    every
        The files of a table.
    nights
        Only files of these nights.
    rule
        Only files whose data this rule calls public; None: all.
    ranges
        (n, 2) int64, HEALPix cells of order 29: only files with cells among them; None: all.
    asked
        Conditions that rows must fulfil; a file whose limits exclude them is left out.
    """
    return [
        file
        for file in every
        if nights.holds(file.night)
        and (rule is None or rule.holds(file.program))
        and _may_hold(file, ranges, asked)
    ]


def _may_hold(file: DataFile, ranges: np.ndarray | None, asked: Sequence[Condition]) -> bool:
    """Whether a row within the HEALPix ranges may fulfil the conditions."""
    inside = ranges is None or overlaps(ranges, *(file.cells or (None, None)))
    return inside and all(condition.possible(file.limits) for condition in asked)


def pieces(root: str, files: Iterable[DataFile], rows: int, skip: Mapping[str, np.ndarray]) -> list[Piece]:
    """Divide files into pieces of about `rows` rows.

    Parameters
    ----------
    root
        Address of the table.
    files
        The files.
    rows
        Rows of a piece, about.
    skip
        For a file's path, the numbers of its rows that are not shown.
    """
    return [
        Piece(root, f.path, f.night, f.program, f.rows, part, parts, skip.get(f.path, NO_ROWS))
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
