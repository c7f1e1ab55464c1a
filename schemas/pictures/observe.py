"""When a place on the sky can be observed from a site in a night; works without network."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import ZadsError, near_names

if TYPE_CHECKING:
    from astropy.coordinates import EarthLocation

SITES = {
    "palomar": (-116.8650, 33.3563, 1712.0),
    "pachon": (-70.7494, -30.2446, 2663.0),
    "mauna kea": (-155.4681, 19.8207, 4205.0),
    "la palma": (-17.8792, 28.7606, 2326.0),
    "paranal": (-70.4042, -24.6272, 2635.0),
}
"""Longitude (deg, east positive), latitude (deg), height (m). Source: astropy's list of sites."""

TWILIGHT = -18.0
"""Altitude of the Sun (deg) below which it is astronomically dark."""

LOWEST = 30.0
"""Altitude (deg) from which a place is counted as observable: airmass 2."""

_STEP = 5  # minutes
_ORDINAL_0 = 1721425
"""Julian date of noon of a day, less the day's ordinal number in Python."""


@dataclass(frozen=True)
class Observability:
    """A place in one night at a site.

    evening: the site's own date when the night begins, "2025-10-13". utc: moments every five minutes,
    datetime64 (n,). altitude, sun, moon: degrees (n,). separation: of the Moon from the place at the
    middle of the night, degrees. illuminated: share of the Moon's disc.
    """

    site: str
    evening: str
    utc: np.ndarray
    altitude: np.ndarray
    sun: np.ndarray
    moon: np.ndarray
    separation: float
    illuminated: float

    @property
    def dark(self) -> np.ndarray:
        """When it is astronomically dark: (n,) bool."""
        return self.sun < TWILIGHT

    @property
    def good(self) -> np.ndarray:
        """When it is dark and the place is higher than LOWEST: (n,) bool."""
        return self.dark & (self.altitude > LOWEST)

    def words(self) -> str:
        """When to observe, in a sentence."""
        if not self.dark.any():
            return f"it does not get dark at {self.site} this night"
        if not self.good.any():
            highest = self.altitude[self.dark].max()
            return f"not observable from {self.site} this night: at most {highest:.0f}° high while it is dark"
        at = np.flatnonzero(self.good)
        best = at[np.argmax(self.altitude[at])]
        first, last, top = (str(self.utc[i])[11:16] for i in (at[0], at[-1], best))
        return (
            f"from {self.site} {str(self.utc[at[0]])[:10]} {first} to {last} UTC higher than"
            f" {LOWEST:.0f}°, highest {top} UTC"
            f" ({self.altitude[best]:.0f}°); Moon {self.illuminated:.0%} lit, {self.separation:.0f}° away"
        )


def site_named(name: str) -> tuple[str, EarthLocation]:
    """A site of SITES, or "longitude latitude height" in degrees and metres. Raises ZadsError."""
    import astropy.units as u
    from astropy.coordinates import EarthLocation

    known = name.lower().replace("cerro ", "")
    if known in SITES:
        lon, lat, height = SITES[known]
        return name, EarthLocation(lon=lon * u.deg, lat=lat * u.deg, height=height * u.m)
    try:
        lon, lat, *rest = (float(word) for word in name.replace(",", " ").split())
    except ValueError:
        raise ZadsError(
            f"no site {name!r}; {near_names(known, SITES)}",
            hint='any other is "longitude latitude height": degrees, east positive, and metres',
        ) from None
    height = rest[0] if rest else 0.0
    return f"{lon:g} {lat:g}", EarthLocation(lon=lon * u.deg, lat=lat * u.deg, height=height * u.m)


def observability(ra: float, dec: float, site: str = "palomar", when: Any = None) -> Observability:
    """A place in one night at a site.

    Parameters
    ----------
    ra, dec : float
        Degrees, ICRS.
    site : str
        See `site_named`.
    when : optional
        A date ("2025-10-13"): the night that begins on the evening of this date at the site. A moment
        (anything that astropy's Time takes), or now where it is left out: the first night in which the place
        can still be observed after it; where it never can, the first that is still dark.

    Raises
    ------
    ZadsError
        For a site that is not known, or what is no date and no moment.
    """
    named, location = site_named(site)
    east = location.lon.deg / 360  # days that the site's own time is ahead of UTC
    evening = _date_of(when)
    if evening is not None:
        return _night(ra, dec, named, location, evening)
    moment = _moment(when)
    begun = float(np.floor(moment.jd + east))  # Julian days begin at noon
    tonight = _night(ra, dec, named, location, begun)
    if (tonight.utc[_wanted(tonight)] > moment.datetime64).any():
        return tonight
    return _night(ra, dec, named, location, begun + 1)


def _wanted(seen: Observability) -> np.ndarray:
    """What a night is looked at for: (n,) bool."""
    return next((times for times in (seen.good, seen.dark) if times.any()), seen.sun < 0)


def _date_of(when: Any) -> float | None:
    """The Julian date of noon of a day; None for what is no day."""
    text = when if isinstance(when, str) else str(when) if type(when) is date else ""
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d")
    except ValueError:
        return None
    return day.toordinal() + _ORDINAL_0


def _moment(when: Any) -> Any:
    from astropy.time import Time

    try:
        return (Time.now() if when is None else Time(when)).utc
    except ValueError:
        raise ZadsError(
            f"{when!r} is no date and no time", hint="write 2025-10-13, or 2025-10-13T08:30"
        ) from None


def _night(ra: float, dec: float, named: str, location: EarthLocation, noon: float) -> Observability:
    """The night after a noon of the site's own (solar) time, a Julian date."""
    import astropy.units as u
    from astropy.coordinates import AltAz, SkyCoord, get_body, get_sun
    from astropy.time import Time
    from astropy.utils import iers

    # Earth's rotation from the tables in the package: for a plot of altitudes old ones are good enough.
    with (
        iers.conf.set_temp("auto_download", False),
        iers.conf.set_temp("auto_max_age", None),
        iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
    ):
        begin = Time(noon - location.lon.deg / 360, format="jd", scale="utc")
        times = begin + np.arange(0, 24 * 60 + 1, _STEP) * u.min
        frame = AltAz(obstime=times, location=location)
        place = SkyCoord(ra, dec, unit="deg")
        sun, moon = get_sun(times), get_body("moon", times, location)
        middle = int(np.argmin(sun.transform_to(frame).alt.deg))
        apart = moon[middle].separation(place, origin_mismatch="ignore").deg
        elongation = moon[middle].separation(sun[middle], origin_mismatch="ignore").rad
        return Observability(
            named,
            Time(noon, format="jd").strftime("%Y-%m-%d"),
            times.datetime64,
            place.transform_to(frame).alt.deg,
            sun.transform_to(frame).alt.deg,
            moon.transform_to(frame).alt.deg,
            float(apart),
            float((1 - np.cos(elongation)) / 2),
        )
