"""How many alerts an exposure of each quadrant usually has: the median over the last nights of the
archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archive.read.archive import Archive
from filters.errors import FilterError
from filters.tables.tables import MOST, WHOLE_EXPOSURES, columns_of, key_of


def usual_alerts(
    archive: Archive,
    nights: str | Sequence[str] | None = None,
    by: str = "rcid",
    exposures: int = 3,
    public: bool = False,
) -> dict[str, Any]:
    """A table for a parameter: by quadrant the median number of alerts of an exposure, else that of all.

    Parameters
    ----------
    archive
        The survey's part of an archive.
    nights
        Which nights, as `Archive.alerts` takes them; None: all.
    by
        The column that tells quadrants apart, or several: "rcid+band"; "field" for what depends on the sky.
    exposures
        A quadrant with fewer exposures has no entry of its own.
    public
        Count what a public channel sees: alerts that are public.

    Raises
    ------
    FilterError
        For a column that is not the same for all alerts of an exposure, or an archive without alerts.
    """
    columns = list(columns_of({"by": by}))
    if wrong := [name for name in columns if name not in WHOLE_EXPOSURES]:
        known = ", ".join(WHOLE_EXPOSURES)
        raise FilterError(f"{wrong[0]} is not the same for all alerts of an exposure: {known}")
    alerts = archive.alerts(nights=nights, columns=["exposure", *columns], public=public).compute()
    if alerts.empty:
        raise FilterError("the archive has no alerts of these nights")
    first = {name: (name, "first") for name in columns}
    counts = alerts.groupby("exposure").agg(**first, alerts=("exposure", "size"))
    groups = counts.groupby(columns)["alerts"]
    sizes = groups.size().sort_values(ascending=False, kind="stable")
    enough = sizes.index[sizes >= exposures][:MOST]  # of very many, those that are seen most
    medians = groups.median()
    table = {key_of(key if isinstance(key, tuple) else (key,)): float(medians[key]) for key in enough}
    return {"by": by, **dict(sorted(table.items())), "else": float(counts["alerts"].median())}


def nights_before(archive: Archive, night: str, number: int) -> list[str]:
    """The last so many nights of the archive that are earlier than a night.

    Parameters
    ----------
    archive
        The survey's part of an archive.
    night
        "2023-10-12".
    number
        How many at most.
    """
    return [there for there in sorted(archive.nights()["night"]) if there < night][-number:]
