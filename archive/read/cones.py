"""Cones on the sky: the HEALPix ranges that cover one (coarse), and which alerts are really inside (fine)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude, SkyCoord
from cdshealpix.nested import cone_search

from archive.layout import HEALPIX_ORDER
from schemas.errors import ZadsError

_CELL_AT_ORDER_0 = 58.6
"""Degrees: side of a HEALPix base cell (Gorski et al. 2005); each order halves it."""


class BadCone(ZadsError):
    """What was given is no circle on the sky."""


@dataclass(frozen=True)
class Cone:
    """A circle on the sky: centre and radius in degrees, ICRS."""

    ra: float
    dec: float
    radius: float

    def ranges(self) -> np.ndarray:
        """int64 (n, 2): sorted half-open ranges of order-29 nested cells that together hold the cone."""
        order = int(
            np.clip(np.ceil(np.log2(_CELL_AT_ORDER_0 / max(self.radius, 1e-7))), 0, HEALPIX_ORDER - 2)
        )
        cells, depths, _ = cone_search(
            Longitude(self.ra, u.deg), Latitude(self.dec, u.deg), self.radius * u.deg, order, depth_delta=2
        )
        shift = 2 * (HEALPIX_ORDER - depths.astype(np.int64))
        starts = cells.astype(np.int64) << shift
        return _merged(starts, starts + (np.int64(1) << shift))

    def holds(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Boolean, for each position in degrees: within the radius, its edge included; NaN is outside."""
        ra0, dec0, lon, lat = np.radians(self.ra), np.radians(self.dec), np.radians(ra), np.radians(dec)
        with np.errstate(invalid="ignore"):  # a missing position is in no cone
            half = np.sin((lat - dec0) / 2) ** 2 + np.cos(dec0) * np.cos(lat) * np.sin((lon - ra0) / 2) ** 2
        distance = 2 * np.arcsin(np.sqrt(np.minimum(half, 1.0)))
        return np.asarray(distance <= np.radians(self.radius))


def cone_of(given: Any) -> Cone:
    """A Cone from (ra, dec, radius): degrees, or words or astropy quantities such as "1 arcmin".

    Raises BadCone.
    """
    if isinstance(given, Cone):
        return given
    try:
        ra, dec, radius = _of_words(given) if isinstance(given, str) else _of_values(given)
    except (TypeError, ValueError, AttributeError, u.UnitsError) as error:
        raise BadCone(
            f"{given!r} is no cone: {error}",
            hint='write "10.5 -3.2 1arcmin", "12:34:56.7 -01:23:45 30arcsec" or (ra, dec, radius) in degrees',
        ) from error
    if not (np.isfinite([ra, dec, radius]).all() and -90 <= dec <= 90 and 0 < radius <= 180):
        raise BadCone(f"no cone at ra {ra}, dec {dec} with radius {radius} degrees")
    return Cone(ra % 360.0, dec, radius)


_RADIUS = re.compile(r"^(.*?[\s,])\s*([\d.]+(?:[eE][-+]?\d+)?)\s*([a-z°′″'\"]*)\s*$")
_UNITS = {"": "deg", "d": "deg", "°": "deg", "'": "arcmin", "′": "arcmin", '"': "arcsec", "″": "arcsec"}


def _of_words(text: str) -> tuple[float, float, float]:
    """ "RA DEC RADIUS": the place in degrees or sexagesimal (hours and degrees), the radius with its unit."""
    parts = _RADIUS.match(text.strip())
    if parts is None:
        raise ValueError("it has no radius")
    place, number, unit = parts.groups()
    return (*_place(place), _degrees(f"{number} {_UNITS.get(unit, unit)}"))


def _of_values(given: Any) -> tuple[float, float, float]:
    """(ra, dec, radius) or (SkyCoord, radius); text in any of the forms."""
    values = list(given)
    if len(values) == 2:
        place = values[0]
        ra, dec = _place(place) if isinstance(place, str) else (place.icrs.ra.deg, place.icrs.dec.deg)
        return float(ra), float(dec), _degrees(values[1])
    if isinstance(values[0], str) and isinstance(values[1], str):
        return (*_place(f"{values[0]} {values[1]}"), _degrees(values[2]))
    ra, dec, radius = (_degrees(value) for value in values)
    return ra, dec, radius


def _place(text: str) -> tuple[float, float]:
    """Right ascension and declination in degrees, of "10.5 -3.2", "12:34:56 -01:23:45" or "12h34m -1d23m"."""
    words = text.replace(",", " ").replace("°", "d").split()
    try:
        ra, dec = (_degrees(word) for word in words)
    except (TypeError, ValueError):
        place = SkyCoord(" ".join(words), unit=(u.hourangle, u.deg))
        return float(place.ra.deg), float(place.dec.deg)
    return ra, dec


def _degrees(value: Any) -> float:
    return float(u.Quantity(value, u.deg).value) if isinstance(value, (str, u.Quantity)) else float(value)


def _merged(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Ranges that touch become one."""
    order = np.argsort(starts)
    starts, ends = starts[order], ends[order]
    first = np.append(True, starts[1:] > ends[:-1])
    last = np.append(np.flatnonzero(first)[1:] - 1, len(ends) - 1)
    return np.column_stack([starts[first], ends[last]])


def overlaps(ranges: np.ndarray, low: int | None, high: int | None) -> bool:
    """Whether cells from `low` to `high` may be in the ranges.

    Parameters
    ----------
    ranges
        (n, 2) int64: HEALPix cells of order 29, nested; the second is not included.
    low
        First cell; None: unknown, which may overlap.
    high
        Last cell, included; None: unknown, which may overlap.
    """
    if low is None or high is None:
        return True
    return bool(np.any((ranges[:, 0] <= high) & (ranges[:, 1] > low)))
