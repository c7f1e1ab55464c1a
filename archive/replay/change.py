"""What another version of a filter gains and loses on past nights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from archive.read.archive import Archive
from archive.replay.backtest import NothingToTry
from archive.replay.replay import replay
from archive.tables.store import surveys_in
from filters import Filter
from filters.external.externals import Externals

_COLUMNS = ["candid", "objectId", "night"]


@dataclass(frozen=True)
class Seeing:
    """A filter, and whether it sees what a public channel sees, or all."""

    filter: Filter
    public: bool


@dataclass(frozen=True)
class Change:
    """What the newer one passes and the older does not (gained), and the other way round (lost).

    gained, lost: candid, objectId, night. kept: alerts that pass both. unjudged: alerts that one of them
    gave no answer for. nights: those looked at.
    """

    nights: tuple[str, ...]
    gained: pd.DataFrame
    lost: pd.DataFrame
    kept: int
    unjudged: int


def change(
    older: Seeing,
    newer: Seeing,
    path: str | Path,
    nights: Iterable[str] | None = None,
    externals: Externals | None = None,
) -> Change:
    """Compare two filters on nights of an archive.

    Parameters
    ----------
    older, newer
        The filters; they may see different alerts.
    path
        Address of the archive.
    nights
        None: the last week that the archive has.
    externals
        Where catalogues, regions and sky maps come from; the usual folder where left out.

    Raises
    ------
    NoSuchArchive
        When there is no such archive.
    NothingToTry
        When it has no alerts that both are for.
    FilterError
        For a filter that cannot be replayed.
    """
    both = [name for name in older.filter.surveys if name in newer.filter.surveys]
    there = [name for name in surveys_in(str(path)) if name in both] or both
    if not there:
        raise NothingToTry(f"{older.filter.name} and {newer.filter.name} are for different surveys")
    archive = Archive(path, survey=there[0])
    wanted = list(nights) if nights is not None else last_week(archive)
    found = [
        replay(one.filter, archive, wanted, public=one.public, externals=externals) for one in (older, newer)
    ]
    before, after = (one.matches[_COLUMNS] for one in found)
    kept = after["candid"].isin(before["candid"])
    lost = before[~before["candid"].isin(after["candid"])]
    unjudged = max(one.unjudged[0] for one in found)
    return Change(tuple(wanted), after[~kept], lost, int(kept.sum()), unjudged)


def last_week(archive: Archive) -> list[str]:
    """The nights of the seven days that end with the archive's last night. Raises NothingToTry for none."""
    there = sorted(night for night in archive.nights()["night"] if night != "None")
    if not there:
        raise NothingToTry(f"the archive at {archive.path} has no night yet")
    first = date.fromisoformat(there[-1]) - timedelta(days=6)
    return [night for night in there if date.fromisoformat(night) >= first]
