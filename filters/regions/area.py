"""A region of the sky, as ranges of HEALPix cells: a cone, a polygon or any MOC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, Latitude, Longitude, SkyCoord
from mocpy import MOC

from filters.catalogues.match import healpix
from filters.errors import FilterError

DEPTH = 16
"""HEALPix order of the edge of a cone or polygon: cells of 3.2 arcsec."""


class BadRegion(FilterError):
    """A text or file that is no region of the sky."""


class Area:
    """Cells of the sky that are inside. ranges: (n, 2) int64, of order 29, sorted, apart."""

    def __init__(self, ranges: np.ndarray) -> None:
        self.ranges = np.ascontiguousarray(ranges, np.int64)
        self._begins, self._ends = self.ranges[:, 0].copy(), self.ranges[:, 1].copy()

    @classmethod
    def of(cls, moc: MOC) -> Area:
        """The area of a MOC."""
        return cls(np.asarray(moc.to_depth29_ranges, np.int64).reshape(-1, 2))

    @property
    def square_degrees(self) -> float:
        """Its size."""
        cells = float((self._ends - self._begins).sum())
        return cells / (12 * 4.0**29) * 4 * np.pi * (180 / np.pi) ** 2

    def holds(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Which places (degrees) are inside (bool); a place that is missing or impossible is not."""
        usable = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        inside = np.zeros(len(ra), bool)
        if usable.any() and len(self._begins):
            index = healpix(ra[usable], dec[usable])
            number = np.searchsorted(self._begins, index, side="right") - 1
            inside[usable] = (number >= 0) & (index < self._ends[np.maximum(number, 0)])
        return inside


def read_area(text: str) -> Area:
    """A region as people write it.

    Parameters
    ----------
    text
        "cone RA DEC RADIUS" or "polygon RA DEC RA DEC RA DEC …" (degrees; the radius with a unit such as
        "3 arcmin" or in degrees), or a MOC file in FITS or JSON.

    Raises
    ------
    BadRegion
        For anything else, with what was expected.
    """
    word, _, rest = text.strip().partition(" ")
    try:
        if word == "cone":
            return _cone(rest)
        if word == "polygon":
            return _polygon(rest)
        path = Path(text)
        if path.is_file():
            return Area.of(MOC.load(str(path), format="json" if path.suffix == ".json" else "fits"))
    except Exception as error:  # whatever astropy or mocpy raises about somebody's text or file
        why = str(error).splitlines()[0] if str(error) else repr(error)
        raise BadRegion(f"{text!r} is no region: {why}") from error
    usage = "write 'cone RA DEC RADIUS' or 'polygon RA DEC RA DEC RA DEC …', or name a MOC file"
    raise BadRegion(f"{text!r} is no region: {usage}")


def _cone(rest: str) -> Area:
    ra, dec, radius = rest.split(maxsplit=2)
    size = Angle(radius if re.search("[a-z\"']", radius) else float(radius) * u.deg)
    lon, lat = Longitude(float(ra), u.deg), Latitude(float(dec), u.deg)
    return Area.of(MOC.from_cone(lon, lat, radius=size, max_depth=DEPTH))


def _polygon(rest: str) -> Area:
    numbers = [float(number) for number in rest.replace(",", " ").split()]
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError("a polygon has three corners or more, RA and DEC of each")
    corners = SkyCoord(numbers[::2], numbers[1::2], unit="deg")
    return Area.of(MOC.from_polygon_skycoord(corners, max_depth=DEPTH))


COLUMNS: dict[str, tuple[str, str, str]] = {"inside": ("flag", "", "whether the alert lies in the region")}
"""Column -> kind, unit, meaning."""


def columns(area: Area, names: Sequence[str], ra: np.ndarray, dec: np.ndarray) -> dict[str, Any]:
    """The columns that a filter sees of a region, (n,) bool each.

    Parameters
    ----------
    area
        The region.
    names
        Columns of `COLUMNS`.
    ra
        Right ascension of the alerts, (n,) degrees.
    dec
        Declination, (n,) degrees.
    """
    return {name: area.holds(ra, dec) for name in names}
