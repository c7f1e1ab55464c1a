"""Sky maps of gravitational-wave events: multi-order HEALPix FITS, as LIGO, Virgo and KAGRA publish them.

The credible level of a place is the probability of all cells that are at least as dense as its own: sort the
cells by density, sum up density times area. The 90 % area is where the level is at most 0.9.
(Source: IGWN public alerts user guide, "Most probable sky location"; Singer & Price 2016.)
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from astropy.io import fits

from filters.catalogues.match import healpix
from filters.errors import FilterError
from filters.regions.area import Area

JD_1970 = 2440587.5
"""JD of 1970-01-01T00:00 UTC."""


class BadSkyMap(FilterError):
    """A file or message that is no sky map."""


@dataclass(frozen=True)
class SkyMap:
    """One map of one event.

    event: "S231012a". jd: of the event, days UTC. number: of its updates, the newest supersedes. begins,
    ends: (n,) int64, HEALPix ranges of the cells at order 29, sorted. density: per steradian. distance,
    spread: Mpc, NaN where the map has none.
    """

    event: str
    jd: float
    begins: np.ndarray = field(repr=False)
    ends: np.ndarray = field(repr=False)
    density: np.ndarray = field(repr=False)
    distance: np.ndarray = field(repr=False)
    spread: np.ndarray = field(repr=False)
    number: int = 0

    @cached_property
    def level(self) -> np.ndarray:
        """The credible level of each cell, 0 to 1."""
        area = (self.ends - self.begins) / (12 * 4.0**29) * 4 * np.pi
        order = np.argsort(-self.density, kind="stable")
        level = np.empty(len(order))
        level[order] = np.cumsum(self.density[order] * area[order])
        return np.minimum(level, 1.0)

    def cell(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The number of the cell of each place (degrees); −1 where the map says nothing."""
        usable = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
        number = np.full(len(ra), -1, np.int64)
        if usable.any():
            index = healpix(ra[usable], dec[usable])
            at = np.searchsorted(self.begins, index, side="right") - 1
            number[usable] = np.where((at >= 0) & (index < self.ends[np.maximum(at, 0)]), at, -1)
        return number

    def levels(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The credible level at each place; NaN where the map says nothing."""
        cell = self.cell(ra, dec)
        return np.where(cell >= 0, self.level[np.maximum(cell, 0)], np.nan)

    def area(self, level: float) -> Area:
        """Where the credible level is at most `level`."""
        inside = self.level <= level
        return Area(np.column_stack([self.begins[inside], self.ends[inside]]))


def read_fits(content: bytes, event: str = "", number: int = 0, jd: float | None = None) -> SkyMap:
    """A map from a multi-order FITS file (UNIQ, PROBDENSITY, and DISTMU, DISTSIGMA where it has them).

    Parameters
    ----------
    content
        The file.
    event
        The event's name, where the file's own OBJECT is not to be used.
    number
        Which of its updates this is.
    jd
        When the event was, days UTC; the file's own DATE-OBS where left out.

    Raises
    ------
    BadSkyMap
        For anything else.
    """
    try:
        with fits.open(io.BytesIO(content)) as file:
            table, header = file[1].data, file[1].header
            names = set(table.names)
            uniq, density = (np.asarray(table[name]) for name in ("UNIQ", "PROBDENSITY"))
            far = [
                np.asarray(table[name], float) if name in names else np.full(len(uniq), np.nan)
                for name in ("DISTMU", "DISTSIGMA")
            ]
            when = julian_date(header["DATE-OBS"]) if jd is None else jd
            name = event or str(header.get("OBJECT", ""))
    except Exception as error:  # whatever astropy raises about somebody's file
        raise BadSkyMap(f"this is no multi-order sky map: {str(error) or type(error).__name__}") from error
    order = (63 - _leading_zeros(uniq.astype(np.uint64))) // 2 - 1
    shift = 2 * (29 - order)
    begins = (uniq.astype(np.int64) - (np.int64(4) << (2 * order))) << shift
    sort = np.argsort(begins)
    ends = begins + (np.int64(1) << shift)
    distance, spread = (np.where(np.isfinite(values), values, np.nan)[sort] for values in far)
    return SkyMap(name, when, begins[sort], ends[sort], density.astype(float)[sort], distance, spread, number)


def _leading_zeros(numbers: np.ndarray) -> np.ndarray:
    """Of 64-bit numbers, exactly (a logarithm is not, near powers of two)."""
    zeros = np.zeros(len(numbers), np.int64)
    rest = numbers.copy()
    for step in (32, 16, 8, 4, 2, 1):
        small = rest < (np.uint64(1) << np.uint64(64 - step))
        zeros[small] += step
        rest[small] <<= np.uint64(step)
    return zeros


def julian_date(iso: str) -> float:
    """Days UTC, of an ISO time; UTC where it names no zone. Raises ValueError."""
    when = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return when.timestamp() / 86_400 + JD_1970


@dataclass(frozen=True)
class Notice:
    """A message of the IGWN alert stream: a map, or that an event is void.

    map: None for a retraction. content: the map as a FITS file, empty for a retraction.
    """

    event: str
    kind: str
    jd: float
    map: SkyMap | None
    content: bytes = field(default=b"", repr=False)


def read_notice(text: bytes, number: int = 0) -> Notice:
    """A notice as JSON, its map embedded (base64). Raises BadSkyMap.

    (Source: IGWN public alerts user guide, "Notice contents".)
    """
    try:
        notice: dict[str, Any] = json.loads(text)
        event, kind = str(notice["superevent_id"]), str(notice["alert_type"])
        if kind == "RETRACTION":
            return Notice(event, kind, julian_date(notice["time_created"]), None)
        details = notice["event"]
        content = base64.b64decode(details["skymap"])
        made = read_fits(content, event, number)
        return Notice(event, kind, julian_date(details["time"]), made, content)
    except BadSkyMap:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise BadSkyMap(f"this is no notice of an event: {error!r}") from error
