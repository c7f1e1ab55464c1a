"""The columns that a filter sees of a catalogue: `galex.sep`, `galex.nuv_mag`, `galex.covered`, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from filters.catalogues.description import MADE, CatalogueColumn, Description
from filters.catalogues.match import Nearest, healpix, nearest, within
from filters.catalogues.tiles import Tiles
from filters.external.types import TYPES
from schemas.errors import NoSuchColumn
from schemas.frame import TEXT


class Crossmatch:
    """One catalogue, ready to be matched with batches of alerts. Safe to share between threads.

    about: the catalogue's description; tiles: its cells in memory.
    """

    def __init__(self, about: Description, most_bytes: int = 1_000_000_000) -> None:
        self.about = about
        self.tiles = Tiles(about, most_bytes)
        self._footprint = None if about.footprint == "all" else np.load(about.path(about.footprint))

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray | None = None
    ) -> dict[str, pd.Series]:
        """Columns of the nearest source within the radius, missing where there is none.

        Parameters
        ----------
        names
            Without the catalogue's name: its own columns, or "sep" (arcsec), "count", "match", "covered".
        ra, dec
            (n,) degrees, of the alerts.
        jd
            (n,) days, for catalogues with proper motion.

        Returns
        -------
        dict
            A column for each name, of (n,) values.

        Raises
        ------
        NoSuchColumn
            For a name that the catalogue does not have.
        """
        for name in names:
            if name not in MADE and name not in self.about.columns:
                raise NoSuchColumn(
                    f"{self.about.name}.{name}", [f"{self.about.name}.{n}" for n in self.about.names()]
                )
        found: dict[str, Any] = {}
        if set(names) - {"count", "covered"}:
            near = nearest(self.tiles, ra, dec, self.about.radius, jd)
            found["sep"], found["match"] = near.separation, near.row >= 0
            own = [name for name in names if name not in MADE]
            found |= self._taken(near, own)
        if "count" in names:
            pairs = within(self.tiles, ra, dec, self.about.radius, jd)
            found["count"] = np.bincount(pairs.place, minlength=len(ra))
        if "covered" in names:
            found["covered"] = self.covers(ra, dec)
        return {name: pd.Series(found[name], dtype=TYPES[self.about.column(name).kind]) for name in names}

    def covers(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Whether places are inside the footprint (bool)."""
        usable = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        if self._footprint is None:
            return usable
        inside = np.zeros(len(ra), bool)
        begins, ends = self._footprint.T
        index = healpix(ra[usable], dec[usable])
        number = np.searchsorted(begins, index, side="right") - 1
        inside[usable] = (number >= 0) & (index < ends[np.maximum(number, 0)])
        return inside

    def _taken(self, near: Nearest, names: Sequence[str]) -> dict[str, Any]:
        """The nearest sources' own columns."""
        there = near.row >= 0
        arrays: dict[str, list[pa.Array]] = {name: [] for name in names}
        order: list[np.ndarray] = []
        for number in np.unique(near.cell[there]).tolist():
            places = np.flatnonzero(there & (near.cell == number))
            rows = pa.array(near.row[places])
            table = self.tiles.tile(number).table
            order.append(places)
            for name in names:
                arrays[name].append(table[name].combine_chunks().take(rows))
        places = np.concatenate(order) if order else np.zeros(0, np.int64)
        return {name: _column(self.about.columns[name], arrays[name], places, len(there)) for name in names}


def _column(kind: CatalogueColumn, parts: list[pa.Array], places: np.ndarray, n: int) -> Any:
    """Values at their places, missing elsewhere and where they are one of the column's nulls."""
    made = pd.Series(pd.NA, index=range(n), dtype=_WHILE_MADE[kind.kind])
    if parts:
        whole = {kind: pd.Int64Dtype() for kind in (pa.int64(), pa.int32(), pa.int16(), pa.int8())}
        values = pa.chunked_array(parts).to_pandas(types_mapper=whole.get)
        values = values.astype(_WHILE_MADE[kind.kind])
        values = values.mask(values.isin(list(kind.nulls)).fillna(False)) if kind.nulls else values
        made.iloc[places] = values.to_numpy() if kind.kind == "text" else values.array
    if kind.kind == "number":
        return made.to_numpy(dtype=float, na_value=np.nan)
    return made.fillna(False) if kind.kind == "flag" else made.array


_WHILE_MADE: dict[str, Any] = {"number": "Float64", "integer": "Int64", "text": TEXT, "flag": "boolean"}
