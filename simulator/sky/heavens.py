"""Sun and Moon over Palomar: when a night begins and ends, and how bright the Moon makes the sky.

Low-precision formulas (Astronomical Almanac, section C and D: Sun to 0.01 deg, Moon to 0.3 deg); the tests
hold them against astropy's ephemerides.
"""

import numpy as np

LONGITUDE, LATITUDE = -116.8597, 33.3573  # deg, Samuel Oschin telescope
_HORIZON = -12.0  # deg: the survey works from nautical twilight to nautical twilight
_BAND_GLOW = np.array([0.0, 1.0, 0.55, 0.25])  # moonlight is blue: its share in g, r, i

Angle = np.ndarray | float


def sun(jd: Angle) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination (deg) of the Sun."""
    longitude, tilt = _sun_longitude(jd), _tilt(jd)
    ra = np.degrees(np.arctan2(np.cos(tilt) * np.sin(longitude), np.cos(longitude)))
    return ra % 360, np.degrees(np.arcsin(np.sin(tilt) * np.sin(longitude)))


def moon(jd: Angle) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination (deg) of the Moon, seen from the Earth's centre."""
    t = (np.asarray(jd) - 2451545.0) / 36525

    def wave(amplitude: float, start: float, rate: float) -> np.ndarray:
        return amplitude * np.sin(np.radians(start + rate * t))

    longitude = 218.32 + 481267.881 * t
    for term in (
        *((6.29, 135.0, 477198.87), (-1.27, 259.3, -413335.36), (0.66, 235.7, 890534.22)),
        *((0.21, 269.9, 954397.74), (-0.19, 357.5, 35999.05), (-0.11, 186.5, 966404.03)),
    ):
        longitude = longitude + wave(*term)
    latitude = np.zeros_like(t)
    for term in (
        *((5.13, 93.3, 483202.02), (0.28, 228.2, 960400.89)),
        *((-0.28, 318.3, 6003.15), (-0.17, 217.6, -407332.21)),
    ):
        latitude = latitude + wave(*term)
    lon, lat, tilt = np.radians(longitude), np.radians(latitude), _tilt(jd)
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    ra = np.degrees(np.arctan2(np.cos(tilt) * y - np.sin(tilt) * z, x)) % 360
    return ra, np.degrees(np.arcsin(np.sin(tilt) * y + np.cos(tilt) * z))


def sidereal(jd: Angle) -> np.ndarray:
    """Local sidereal time at the telescope (deg)."""
    return (280.46062 + 360.98564737 * (np.asarray(jd) - 2451545.0) + LONGITUDE) % 360


def altitude(jd: Angle, ra: Angle, dec: Angle) -> np.ndarray:
    """Height above the telescope's horizon, degrees.

    Parameters
    ----------
    jd
        Julian date, days UTC.
    ra
        Right ascension, degrees.
    dec
        Declination, degrees.
    """
    hour = np.radians(sidereal(jd) - ra)
    phi, delta = np.radians(LATITUDE), np.radians(dec)
    return np.degrees(np.arcsin(np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.cos(hour)))


def separation(ra1: Angle, dec1: Angle, ra2: Angle, dec2: Angle) -> np.ndarray:
    """Angle between two directions, degrees.

    Parameters
    ----------
    ra1, dec1
        Right ascension and declination of the first, degrees.
    ra2, dec2
        Right ascension and declination of the second, degrees.
    """
    a, b, d = np.radians(dec1), np.radians(dec2), np.radians(np.asarray(ra1) - ra2)
    cosine = np.sin(a) * np.sin(b) + np.cos(a) * np.cos(b) * np.cos(d)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def night_hours(midnight: float) -> tuple[float, float]:
    """Dusk and dawn (jd) around the local midnight nearest to a jd, to a minute."""
    jd = midnight + np.arange(-480, 481) / 1440
    dark = np.flatnonzero(altitude(jd, *sun(jd)) < _HORIZON)
    return float(jd[dark[0]]), float(jd[dark[-1]])


def illumination(jd: Angle) -> np.ndarray:
    """The lit share of the Moon's disc."""
    return (1 - np.cos(np.radians(separation(*sun(jd), *moon(jd))))) / 2


def moonlight(jd: np.ndarray, ra: np.ndarray, dec: np.ndarray, fid: np.ndarray) -> np.ndarray:
    """How many magnitudes brighter the Moon makes the sky: 0 without it, about 3 in g near a full one.

    Parameters
    ----------
    jd
        Julian dates, (n,) days UTC.
    ra
        Right ascension, (n,) degrees.
    dec
        Declination, (n,) degrees.
    fid
        Band, (n,): 1, 2, 3 = g, r, i.

    Source
    ------
    The dependence on phase and distance is that of Krisciunas & Schaefer (1991, PASP 103, 1033), much
    simplified.
    """
    place = moon(jd)
    up = np.clip(np.sin(np.radians(altitude(jd, *place))) * 3, 0, 1)
    away = separation(ra, dec, *place)
    scatter = 0.5 + 1.06 * np.cos(np.radians(away)) ** 2 / 2 + 10 ** (0.6 - away / 40)
    return _BAND_GLOW[fid] * 3.2 * illumination(jd) ** 2.2 * up * scatter


def _sun_longitude(jd: Angle) -> np.ndarray:
    """Apparent ecliptic longitude (rad)."""
    days = np.asarray(jd) - 2451545.0
    anomaly = np.radians(357.528 + 0.9856003 * days)
    return np.radians(280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))


def _tilt(jd: Angle) -> np.ndarray:
    return np.radians(23.439 - 4e-7 * (np.asarray(jd) - 2451545.0))


def ecliptic_latitude(ra: float, dec: float) -> float:
    """Degrees from the ecliptic."""
    a, d, tilt = np.radians(ra), np.radians(dec), np.radians(23.439)
    return float(np.degrees(np.arcsin(np.sin(d) * np.cos(tilt) - np.cos(d) * np.sin(tilt) * np.sin(a))))


def galactic_latitude(ra: float, dec: float) -> float:
    """Degrees from the galactic plane (J2000 pole at 192.859, 27.128)."""
    a, d, pole = np.radians(ra - 192.859), np.radians(dec), np.radians(27.128)
    return float(np.degrees(np.arcsin(np.sin(d) * np.sin(pole) + np.cos(d) * np.cos(pole) * np.cos(a))))
