"""How many alerts an exposure of each quadrant usually has: the median over the last nights of the
archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from archive.read.archive import Archive
from filters.errors import FilterError
from filters.tables.tables import WHOLE_EXPOSURES


def usual_alerts(
    archive: Archive, nights: str | Sequence[str] | None = None, by: str = "rcid", exposures: int = 3
) -> dict[str, Any]:
    """A table for a parameter: by quadrant the median number of alerts of an exposure, else that of all.

    Parameters
    ----------
    archive
        The survey's part of an archive.
    nights
        Which nights, as `Archive.alerts` takes them; None: all.
    by
        The column that tells quadrants apart; "field" for what depends on the sky.
    exposures
        A quadrant with fewer exposures has no entry of its own.

    Raises
    ------
    FilterError
        For a column that is not the same for all alerts of an exposure, or an archive without alerts.
    """
    if by not in WHOLE_EXPOSURES:
        raise FilterError(f"{by} is not the same for all alerts of an exposure: {', '.join(WHOLE_EXPOSURES)}")
    alerts = archive.alerts(nights=nights, columns=["exposure", by]).compute()
    if alerts.empty:
        raise FilterError("the archive has no alerts of these nights")
    counts = alerts.groupby("exposure").agg(**{by: (by, "first"), "alerts": (by, "size")})
    groups = counts.groupby(by)["alerts"]
    enough = groups.median()[groups.size() >= exposures]
    table = {
        str(int(key) if isinstance(key, float) else key): float(median) for key, median in enough.items()
    }
    return {"by": by, **table, "else": float(counts["alerts"].median())}
