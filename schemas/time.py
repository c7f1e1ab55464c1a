"""Dates: Julian dates (JD), Modified Julian Dates (MJD), TAI and UTC, Unix times, nights.

A moment inside zads is a Julian date in days UTC, float64: exact to about 40 microseconds.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

MINUTES = 1440.0
"""Minutes in a day."""

SECONDS = 86_400.0
"""Seconds in a day."""

MJD_0 = 2400000.5
"""JD of MJD 0."""

UNIX_0 = 2440587.5
"""JD of 1970-01-01T00:00 UTC."""

FIRST_NIGHT = date(2017, 1, 1)
"""The date of night 0."""

FIRST_NIGHT_JD = 2457754.5
"""JD of 2017-01-01T00:00 UTC, night 0: ZTF's `nid` = floor(jd - 2457754.5) on all 203 real packets."""

_LEAP_MJD = np.array([53736.0, 54832.0, 56109.0, 57204.0, 57754.0])
_LEAP_SECONDS = np.array([33.0, 34.0, 35.0, 36.0, 37.0])
"""TAI - UTC in seconds from these UTC dates (MJD) on; 32 s before. Source: IERS Bulletin C, 2006 to 2025."""


def tai_minus_utc(mjd_tai: Any) -> np.ndarray:
    """Leap seconds (s) at a moment given as MJD in TAI; right since 1999."""
    mjd = np.asarray(mjd_tai, float)
    # The steps are at UTC midnights, which in TAI come later by the new number of seconds.
    which = np.searchsorted(_LEAP_MJD + _LEAP_SECONDS / SECONDS, mjd, side="right")
    return np.concatenate([[32.0], _LEAP_SECONDS])[which]


def jd_of_tai(mjd_tai: Any) -> np.ndarray:
    """Julian date in days UTC of a Modified Julian Date in days TAI; NaN stays NaN."""
    mjd = np.asarray(mjd_tai, float)
    # First the leap seconds, while the number is small: this loses less to rounding.
    utc: np.ndarray = (mjd - tai_minus_utc(mjd) / SECONDS) + MJD_0
    return utc


def tai_of_jd(jd: Any) -> np.ndarray:
    """Modified Julian Date in days TAI of a Julian date in days UTC."""
    mjd = np.asarray(jd, float) - MJD_0
    which = np.searchsorted(_LEAP_MJD, mjd, side="right")
    tai: np.ndarray = mjd + np.concatenate([[32.0], _LEAP_SECONDS])[which] / SECONDS
    return tai


def night_of(jd: Any, shift: float = 0.0) -> Any:
    """Number of the night (days since 2017-01-01) of a Julian date in days UTC; NaN for a missing date.

    shift: days taken from UTC before the date is read: 0 where a night is a UT date, 0.5 for UTC - 12 h.
    """
    return np.floor(np.asarray(jd, float) - (FIRST_NIGHT_JD + shift))[()]


def night_date(number: int) -> date:
    """The date of a night. Raises OverflowError, ValueError for one that no calendar has."""
    return FIRST_NIGHT + timedelta(days=int(number))


def unix_of_jd(jd: float) -> float:
    """Unix time in seconds."""
    return (jd - UNIX_0) * SECONDS


def datetime_of_jd(jd: float) -> datetime:
    """The moment, rounded to a second. Raises OverflowError for one that no calendar has."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(unix_of_jd(jd)))
