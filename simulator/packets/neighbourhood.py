"""Catalogue columns of the alerts of a quadrant: PS1, Gaia and the reference image's nearest sources."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.identity import MISSING
from simulator.measure.catalogue import GAIA_BRIGHT, GAIA_DEPTH, PS1_DEPTH, REACH, REFERENCE_DEPTH, nearest
from simulator.packets.quadrant import Quadrant
from simulator.sky.telescope import PIXEL_SCALE

PS1_RADIUS = 30.0  # arcsec, as the survey matches
_SURE = 22.2  # r beyond which PS1's star/galaxy score knows nothing: 0.5
_FORCED_REACH = 5.0  # arcsec: forced photometry names no reference source farther away
FORCED_MISSING = -99999.0  # DEFINITIONS.md: any value of fp_hists

Columns = dict[str, Any]


class Neighbourhood:
    """Who is near the sources of a quadrant. Offsets are arcsec east and north of a source's true place."""

    def __init__(self, cell: Quadrant) -> None:
        self._cell = cell
        c, counts = cell.catalogue, np.diff(cell.near_starts)
        owner = np.repeat(np.arange(len(counts)), counts)
        ra, dec = (np.array([getattr(s.place, n) for s in cell.sources])[owner] for n in ("ra", "dec"))
        self._east = ((c.ra[cell.near] - ra + 180) % 360 - 180) * np.cos(np.radians(dec)) * 3600
        self._north = (c.dec[cell.near] - dec) * 3600
        self._ps1 = np.any(c.mags < np.array(PS1_DEPTH), axis=1)[cell.near]
        gaia = c.gaia[cell.near]
        self._gaia, self._bright = gaia < GAIA_DEPTH, gaia < GAIA_BRIGHT
        distance = np.hypot(self._east, self._north)
        found, _ = _nearest(distance, cell.near_starts, c.mags[cell.near, 1] < REFERENCE_DEPTH, 1, 1e9)
        if (found < 0).any():
            raise ValueError("cannot find a reference source within 95 pixels of an object: no such sky")
        self._reference = found[:, 0]

    def columns(self, d: np.ndarray) -> Columns:
        """PS1 and Gaia columns of some detections."""
        cell = self._cell
        owner = cell.seen.owner[d]
        starts = cell.near_starts
        counts = starts[owner + 1] - starts[owner]
        ends = np.concatenate([[0], np.cumsum(counts)])
        flat = np.arange(ends[-1]) - np.repeat(ends[:-1] - starts[owner], counts)
        east, north = (np.repeat(cell.measured[name][d], counts) for name in ("east", "north"))
        distance = np.hypot(self._east[flat] - east, self._north[flat] - north)
        found, count = _nearest(distance, ends, self._ps1[flat], 3, PS1_RADIUS)
        columns = {"nmtchps": count} | self._ps1_columns(found, distance, flat)
        for name, usable in (("", self._gaia), ("bright", self._bright)):
            star, _ = _nearest(distance, ends, usable[flat], 1, REACH)
            there, k = star[:, 0] >= 0, star[:, 0]
            columns[f"neargaia{name}"] = np.where(there, distance[k], MISSING)
            columns[f"maggaia{name}"] = np.where(there, cell.catalogue.gaia[cell.near[flat[k]]], MISSING)
        return columns

    def _ps1_columns(self, found: np.ndarray, distance: np.ndarray, flat: np.ndarray) -> Columns:
        """Ranked matches; everything of one that is absent is −999 (DEFINITIONS.md)."""
        columns: Columns = {}
        c = self._cell.catalogue
        for rank in range(3):
            k, there = found[:, rank], found[:, rank] >= 0
            source = self._cell.near[flat[k]]
            for j, (name, depth) in enumerate(zip(("sg", "sr", "si", "sz"), PS1_DEPTH, strict=True)):
                mag = c.mags[source, j]
                columns[f"{name}mag{rank + 1}"] = np.where(there & (mag < depth), np.round(mag, 4), MISSING)
            score = np.where(c.mags[source, 1] < _SURE, c.score[source], 0.5)
            columns[f"sgscore{rank + 1}"] = np.where(there, score, MISSING)
            columns[f"distpsnr{rank + 1}"] = np.where(there, distance[k], MISSING)
            columns[f"objectidps{rank + 1}"] = np.where(there, c.ident[source], int(MISSING))
        return columns

    def reference(self, owner: np.ndarray, fid: np.ndarray) -> Columns:
        """The reference image's source nearest to some sources, as a band shows it."""
        cell = self._cell
        source = cell.near[self._reference[owner]]
        c = cell.catalogue
        mag = c.mags[source, fid - 1]
        extended = (c.radius[source] > 0) & (mag < 21.5)
        spread = (c.ident[source] % 97) / 97, (c.ident[source] % 89) / 89
        return {
            "ranr": np.round(c.ra[source], 7),
            "decnr": np.round(c.dec[source], 7),
            "magnr": np.round(mag, 3),
            "sigmagnr": np.round(np.minimum(0.012 + 0.3 * 10 ** (0.4 * (mag - 23.1)), 0.36), 3),
            "chinr": np.round(np.where(extended, 2.0, 0.5) + 0.5 * spread[0], 3),
            "sharpnr": np.round(np.where(extended, 0.3, -0.05) + 0.15 * spread[1], 3),
        }

    def reference_pixels(self, d: np.ndarray) -> np.ndarray:
        """`distnr` of some detections: pixels to the reference source."""
        k = self._reference[self._cell.seen.owner[d]]
        measured = self._cell.measured
        away = np.hypot(self._east[k] - measured["east"][d], self._north[k] - measured["north"][d])
        return away / PIXEL_SCALE

    def forced_reference(self, owner: np.ndarray, fid: np.ndarray) -> Columns:
        """The same for rows of forced photometry: arcsec, unlike the candidate's pixels, and nothing beyond
        five of them."""
        k = self._reference[owner]
        distance = np.hypot(self._east[k], self._north[k])
        columns = {"distnr": distance} | self.reference(owner, fid)
        return {n: np.where(distance > _FORCED_REACH, FORCED_MISSING, v) for n, v in columns.items()}


def _nearest(
    distance: np.ndarray, starts: np.ndarray, usable: np.ndarray, most: int, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    found = np.full((len(starts) - 1, most), -1, np.int64)
    count = np.zeros(len(starts) - 1, np.int64)
    nearest(distance, starts, usable, most, limit, found, count)
    return found, count
