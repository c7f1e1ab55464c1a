"""Error circles and ellipses of neutrinos and gamma-ray bursts, as sky maps.

Notices in the unified JSON of GCN (IceCube, Fermi, Swift, …) give a place and the radius that holds a share
of the probability. That is a normal distribution on the sky, which becomes a map of small cells: then
updates, retractions and the columns are those of every sky map.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude, SkyCoord
from astropy.io import fits
from cdshealpix.nested import cone_search, elliptical_cone_search, healpix_to_lonlat

from filters.regions.skymap import BadSkyMap, Notice, julian_date, read_fits

USUAL_SHARE = 0.9
"""What a radius holds where a notice does not say. (Source: GCN schema, core/Localization.)"""
_REAL = ("", "current", "archival")
_CELLS_A_SIGMA, _SIGMAS, _DEEPEST = 6, 5.0, 27
_HALF_SKY = 89.0  # degrees
_CELL_OF_ORDER_0 = 58.6  # degrees, the side


@dataclass(frozen=True)
class Ellipse:
    """A normal distribution on the sky.

    ra, dec: of its middle, degrees. a, b: standard deviations along its axes, degrees. angle: of the axis
    `a`, degrees from north to east.
    """

    ra: float
    dec: float
    a: float
    b: float
    angle: float = 0.0

    def density(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Probability density at some places, relative to the middle.

        Parameters
        ----------
        ra, dec
            (n,) degrees.
        """
        middle = SkyCoord(self.ra, self.dec, unit="deg")
        places = SkyCoord(ra, dec, unit="deg")
        apart = middle.separation(places).deg
        turned = middle.position_angle(places).rad - math.radians(self.angle)
        along, across = apart * np.cos(turned), apart * np.sin(turned)
        density: np.ndarray = np.exp(-0.5 * ((along / self.a) ** 2 + (across / self.b) ** 2))
        return density


def map_of(ellipse: Ellipse, event: str, jd: float) -> bytes:
    """A multi-order sky map (FITS) of an ellipse: cells of a sixth of its smaller sigma, out to five.

    Parameters
    ----------
    ellipse
        The ellipse.
    event
        Name of the event.
    jd
        Of the event, days UTC.
    """
    side = min(ellipse.a, ellipse.b) / _CELLS_A_SIGMA
    depth = min(max(math.ceil(math.log2(_CELL_OF_ORDER_0 / side)), 3), _DEEPEST)
    cell = _cells(ellipse, depth)
    lon, lat = healpix_to_lonlat(cell, depth)
    density = ellipse.density(lon.to_value(u.deg), lat.to_value(u.deg))
    density /= density.sum() * math.pi / 3 / 4.0**depth
    uniq = cell.astype(np.int64) + np.int64(4) * 4**depth
    return _written(uniq, density, event, jd)


def _cells(ellipse: Ellipse, depth: int) -> np.ndarray:
    """The numbers of the HEALPix cells within five sigma, (n,) uint64."""
    a, b = _SIGMAS * ellipse.a, _SIGMAS * ellipse.b
    middle = Longitude(ellipse.ra, u.deg), Latitude(ellipse.dec, u.deg)
    if a == b or max(a, b) >= _HALF_SKY:
        cell, _, _ = cone_search(*middle, min(max(a, b), 2 * _HALF_SKY) * u.deg, depth, flat=True)
        return np.asarray(cell)
    angle = ellipse.angle if a > b else ellipse.angle + 90
    axes = max(a, b) * u.deg, min(a, b) * u.deg
    cell, _, _ = elliptical_cone_search(*middle, *axes, angle % 180 * u.deg, depth, flat=True)
    return np.asarray(cell)


def _written(uniq: np.ndarray, density: np.ndarray, event: str, jd: float) -> bytes:
    columns = [
        fits.Column("UNIQ", "K", array=uniq),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=density),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C", "OBJECT": event})
    table.header["DATE-OBS"] = str(np.datetime64(round((jd - 2440587.5) * 86_400_000), "ms"))
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(stream)
    return stream.getvalue()


def read_gcn(text: bytes, number: int = 0, tests: bool = False) -> Notice | None:
    """A notice of GCN's unified schema: a map, a place with its error, or that the event is void.

    None for JSON of another form.

    Parameters
    ----------
    text
        The JSON.
    number
        Which of the event's updates this is.
    tests
        Take what is no real event too (`alert_tense` other than current and archival).

    Raises
    ------
    BadSkyMap
        When it has no place, or is a test.

    Source
    ------
    https://github.com/nasa-gcn/gcn-schema: core/Alert, core/Event, core/Localization. The position angle is
    taken from north to east.
    """
    try:
        notice = json.loads(text)
        if not isinstance(notice, dict) or not {"mission", "id", "trigger_time"} <= notice.keys():
            return None
        return _read(notice, number, tests)
    except BadSkyMap:
        raise
    except (ValueError, TypeError, IndexError, OSError) as error:
        raise BadSkyMap(f"this is no notice of an event: {error!r}") from error


def _read(notice: Mapping[str, Any], number: int, tests: bool) -> Notice:
    event, kind = _event(notice), str(notice.get("alert_type", "initial"))
    tense = str(notice.get("alert_tense", ""))
    if tense not in _REAL and not tests:
        raise BadSkyMap(f"{event} is no event of the sky: its alert_tense is {tense}")
    jd = julian_date(str(notice["trigger_time"]))
    if kind == "retraction":
        return Notice(event, kind, jd, None)
    if "healpix_file" in notice:
        content = _unpacked(base64.b64decode(notice["healpix_file"]))
    else:
        content = map_of(_ellipse(notice, event), event, jd)
    return Notice(event, kind, jd, read_fits(content, event, number, jd), content)


def _event(notice: Mapping[str, Any]) -> str:
    """Its name: the mission and the first of its identifiers, which all its notices share."""
    mission = re.sub(r"\s*\(.*\)", "", str(notice["mission"]))
    mission = mission.capitalize() if mission.isupper() else mission
    names = notice["id"] if isinstance(notice["id"], list) else [notice["id"]]
    return f"{mission} {names[0]}"


def _ellipse(notice: Mapping[str, Any], event: str) -> Ellipse:
    error = notice.get("ra_dec_error", notice.get("position_a_error"))
    if error is None or notice.get("ra") is None or notice.get("dec") is None:
        raise BadSkyMap(f"{event} has no place with an error yet")
    axes = [*error] if isinstance(error, list) else [error, notice.get("position_b_error", error)]
    a, b = float(axes[0]), float(axes[1] if len(axes) > 1 else axes[0])
    angle = float(axes[2] if len(axes) > 2 else notice.get("position_error_pa", 0.0))
    share = float(notice.get("containment_probability", USUAL_SHARE))
    if not (a > 0 and b > 0 and 0 < share < 1):
        raise BadSkyMap(f"{event}: an error of {a} by {b} degrees that holds {share} is none")
    sigmas = math.sqrt(-2 * math.log(1 - share))  # in that many lies the share, in two dimensions
    return Ellipse(float(notice["ra"]) % 360, float(notice["dec"]), a / sigmas, b / sigmas, angle)


def _unpacked(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
