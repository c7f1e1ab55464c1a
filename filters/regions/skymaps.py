"""Several sky maps at once: for each alert the map that holds it best, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from filters.regions.skymap import SkyMap

WINDOW = 30.0
"""days after an event in which its map is used, by default."""
COLUMNS: dict[str, tuple[str, str, str]] = {
    "level": ("number", "", "credible level of the place, 0 to 1; missing where no map reaches"),
    "event": ("text", "", "the event whose map holds the place at the lowest level"),
    "days": ("number", "d", "time since that event"),
    "distance": ("number", "Mpc", "mean distance of that event in this direction"),
    "spread": ("number", "Mpc", "its standard deviation"),
}
"""Column -> kind, unit, meaning."""


class SkyMaps:
    """The maps in force: of each event the newest, none of an event that was retracted.

    window: days after an event in which its map counts.
    """

    def __init__(self, maps: Iterable[SkyMap] = (), window: float = WINDOW) -> None:
        self.window = window
        newest: dict[str, SkyMap] = {}
        for one in maps:
            if one.event not in newest or newest[one.event].number <= one.number:
                newest[one.event] = one
        self.maps = tuple(newest.values())

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> dict[str, Any]:
        """Columns about the event whose map holds each alert at the lowest credible level.

        Parameters
        ----------
        names
            Of COLUMNS.
        ra, dec
            (n,) degrees.
        jd
            (n,) days UTC, of the alerts: an event counts from its own time to `window` days later.
        """
        n = len(ra)
        best, which = np.full(n, np.nan), np.full(n, -1, np.int64)
        cells = np.full(n, -1, np.int64)
        for number, one in enumerate(self.maps):
            near = (jd >= one.jd) & (jd <= one.jd + self.window)
            if not near.any():
                continue
            cell = np.full(n, -1, np.int64)
            cell[near] = one.cell(ra[near], dec[near])
            level = np.where(cell >= 0, one.level[np.maximum(cell, 0)], np.nan)
            better = (cell >= 0) & ~(level >= best)  # NaN: none yet
            best[better], which[better], cells[better] = level[better], number, cell[better]
        made: dict[str, Any] = {"level": best}
        for name in ("days", "distance", "spread"):
            made[name] = np.full(n, np.nan)
        made["event"] = np.full(n, None, object)
        for number, one in enumerate(self.maps):
            here = which == number
            made["event"][here] = one.event
            made["days"][here] = jd[here] - one.jd
            made["distance"][here] = one.distance[cells[here]]
            made["spread"][here] = one.spread[cells[here]]
        return {name: made[name] for name in names}
