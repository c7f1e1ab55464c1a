"""Galactic and ecliptic coordinates of an alert: `coords.gal_lat` and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NAME = "coords"
_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [0.4941094278755837, -0.4448296299600112, 0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, 0.4559837761750669],
    ]
)
"""ICRS to galactic. Source: ESA 1997, The Hipparcos and Tycho Catalogues, vol. 1, section 1.5.3."""
_OBLIQUITY = np.radians(84381.448 / 3600)
"""Of the ecliptic at J2000 (Source: IAU 1976, as the Hipparcos catalogue uses it)."""
_ECLIPTIC = np.array(
    [
        [1.0, 0.0, 0.0],
        [0.0, np.cos(_OBLIQUITY), np.sin(_OBLIQUITY)],
        [0.0, -np.sin(_OBLIQUITY), np.cos(_OBLIQUITY)],
    ]
)
_FRAMES = {"gal": _GALACTIC, "ecl": _ECLIPTIC}


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Positions in degrees as (n, 3) unit vectors."""
    lon, lat = np.radians(ra), np.radians(dec)
    across = np.cos(lat)
    return np.column_stack([across * np.cos(lon), across * np.sin(lon), np.sin(lat)])


class Coordinates:
    """Makes the columns."""

    kinds: Mapping[str, tuple[str, str, str]] = {
        "gal_lat": ("number", "deg", "galactic latitude"),
        "gal_lon": ("number", "deg", "galactic longitude, 0 to 360"),
        "ecl_lat": ("number", "deg", "ecliptic latitude, J2000"),
        "ecl_lon": ("number", "deg", "ecliptic longitude, J2000, 0 to 360"),
    }

    def columns(
        self, names: Sequence[str], ra: np.ndarray, dec: np.ndarray, jd: np.ndarray
    ) -> Mapping[str, Any]:
        """The coordinates of alerts by name, (n,) degrees; NaN where there is no place.

        Parameters
        ----------
        names
            Columns to make: "gal_lat", "gal_lon", "ecl_lat", "ecl_lon".
        ra
            Right ascension (ICRS), (n,) degrees.
        dec
            Declination (ICRS), (n,) degrees.
        jd
            Not used: these frames do not move.
        """
        vectors = unit_vectors(ra, dec)
        made = {}
        for name in names:
            frame, _, which = name.partition("_")
            x, y, z = (vectors @ _FRAMES[frame].T).T
            if which == "lat":
                made[name] = np.degrees(np.arctan2(z, np.hypot(x, y)))
            else:
                made[name] = np.degrees(np.arctan2(y, x)) % 360
        return made


COORDINATES = Coordinates()
