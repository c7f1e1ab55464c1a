"""What of a list was seen on past nights: the archive, replayed with the list as a filter."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pandas as pd

from filters.external.externals import Externals

_MOST_COLUMNS = 20


def seen(
    name: str, archive: str, externals: Externals, *, nights: str = "", days: int = 30, public: bool = True
) -> pd.DataFrame:
    """The alerts of a list's places or objects, the newest first.

    Columns: candid, objectId, night, jd, ra, dec, band, mag, magerr, and the list's own as `name.column`.

    Parameters
    ----------
    name
        Of the list, as filters call it.
    archive
        Address of the archive.
    externals
        Where the list is.
    nights
        "A..B", as for `zads replay`; "": the last ones.
    days
        How many of these, back from the newest night that there is.
    public
        Of the alerts that are public alone.

    Raises
    ------
    NoSuchExternal
        For a list that is not there.
    NoSuchArchive, BadNights
        For nights that are not there.
    """
    from archive.read.archive import Archive
    from archive.replay.replay import replay
    from archive.tables.store import surveys_in
    from filters import expression

    carried = _columns(name, externals)
    found = []
    for survey in surveys_in(archive) or ["ztf"]:
        part = Archive(archive, survey)
        wanted = nights or _last(part, days)
        chosen = expression(f"{name}.match", survey)
        made = replay(chosen, part, wanted, public=public, externals=externals, values=carried)
        found.append(made.matches)
    shown = ["candid", "objectId", "night", "jd", "ra", "dec", "band", "mag", "magerr", *carried]
    whole = pd.concat([one[[c for c in shown if c in one]] for one in found], ignore_index=True)
    return whole.sort_values("jd", ascending=False, ignore_index=True)


def _columns(name: str, externals: Externals) -> list[str]:
    """What each match tells of the list's row."""
    kinds: Any = externals.opened(name).kinds
    own = [column for column in kinds if column not in ("match", "count", "covered")]
    return [f"{name}.{column}" for column in own[:_MOST_COLUMNS]]


def _last(part: Any, days: int) -> str:
    nights = part.nights()["night"]
    newest = date.fromisoformat(str(nights.max())[:10])
    return f"{newest - timedelta(days=days - 1)}..{newest}"
