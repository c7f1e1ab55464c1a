"""Who is near: the stars and galaxies around a position, as PS1, Gaia and the reference list them; names.

One list of neighbours feeds the catalogue columns and the stamps, so that the pictures and the numbers agree.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MISSING = -999.0  # DEFINITIONS.md: PS1 and Gaia columns without a source
PS1_RADIUS = 30.0  # arcsec, as the survey matches
BOX = 72.0  # arcsec, side of the patch that is filled: a stamp and its margin
_PS1_DEPTH = (22.6, 22.4, 22.2, 21.6)  # g, r, i, z beyond which a magnitude is missing
_REFERENCE_DEPTH = 23.3
_GAIA_DEPTH, _GAIA_BRIGHT, _GAIA_RADIUS = 20.9, 14.0, 90.0


@dataclass(frozen=True)
class Neighbour:
    """A catalogued source: offset from the object (arcsec east, north), AB magnitudes in g, r, i, z.

    `radius` (arcsec, half light) is zero for stars; `score` is PS1's star/galaxy score (1 is a star).
    """

    east: float
    north: float
    mags: tuple[float, float, float, float]
    score: float
    radius: float = 0.0
    ratio: float = 1.0
    angle: float = 0.0
    core: float = 0.0  # share of a galaxy's light in its unresolved nucleus

    @property
    def distance(self) -> float:
        return math.hypot(self.east, self.north)


class Chance(NamedTuple):
    """The random part of a catalogue entry: doubt of its class, size and shape."""

    doubt: float  # exponential, mean 1
    size: float  # normal
    ratio: float  # uniform
    angle: float  # uniform

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Chance":
        return cls(rng.exponential(), rng.normal(), rng.random(), rng.random())


def star(east: float, north: float, r: float, g_r: float, chance: Chance) -> Neighbour:
    """A star of magnitude r and colour g − r; bright ones are surely stars, faint ones are not sure."""
    r_i = 0.42 * g_r + 0.02 if g_r < 1.2 else 0.5 + 1.1 * (g_r - 1.2)
    doubt = chance.doubt * (0.004 if r < 19 else 0.04 * (r - 18.5))
    return Neighbour(east, north, (r + g_r, r, r - r_i, r - 1.5 * r_i), _score(1 - doubt))


def galaxy(east: float, north: float, r: float, g_r: float, chance: Chance, core: float = 0.0) -> Neighbour:
    """A galaxy of total magnitude r with an exponential disc and, where it is active, a bright core."""
    return Neighbour(
        east,
        north,
        (r + g_r, r, r - 0.35, r - 0.6),
        _score(chance.doubt * (0.01 if r < 20 else 0.06 * (r - 19.8))),
        radius=min(max(1.8 * 10 ** (-0.16 * (r - 19.5)) * math.exp(0.25 * chance.size), 0.7), 12.0),
        ratio=0.3 + 0.65 * chance.ratio,
        angle=math.pi * chance.angle,
        core=core,
    )


def _score(value: float) -> float:
    return float(min(max(value, 0.0), 1.0))


def surroundings(ra: float, dec: float, rng: np.random.Generator) -> list[Neighbour]:
    """Random field sources within the box; more of them, and more stars, near the galactic plane."""
    latitude = galactic_latitude(ra, dec)
    density = 5 + 20 * math.exp(-abs(latitude) / 14)
    count = int(rng.poisson(density))
    place = rng.uniform(-BOX / 2, BOX / 2, (2, count))
    r = np.maximum(22.9 - rng.exponential(1.7, count), 13.2)
    is_star = rng.random(count) < np.clip(0.95 - 0.09 * (r - 17), 0.25, 0.97)
    colour = np.where(is_star, np.where(rng.random(count) < 0.6, 0.45, 1.35), 0.7) + rng.normal(
        0, 0.15, count
    )
    chances = [rng.exponential(1, count), rng.normal(0, 1, count), *rng.random((2, count))]
    drawn = zip(
        is_star.tolist(), *place.tolist(), r.tolist(), colour.tolist(), _chances(*chances), strict=True
    )
    return [(star if stellar else galaxy)(*entry) for stellar, *entry in drawn]


def _chances(*columns: np.ndarray) -> list[Chance]:
    return [Chance(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def galactic_latitude(ra: float, dec: float) -> float:
    """Degrees from the galactic plane (J2000 pole at 192.859, 27.128)."""
    a, d, pole = math.radians(ra - 192.859), math.radians(dec), math.radians(27.128)
    return math.degrees(math.asin(math.sin(d) * math.sin(pole) + math.cos(d) * math.cos(pole) * math.cos(a)))


def ps1_columns(
    near: list[Neighbour], east: float, north: float, ra: float, dec: float
) -> dict[str, float | int]:
    """The PS1 columns of an alert measured at offset (`east`, `north`) arcsec of the object's true place."""
    ranked = sorted((math.hypot(n.east - east, n.north - north), i) for i, n in enumerate(near))
    ranked = [(d, i) for d, i in ranked if d <= PS1_RADIUS]
    found: dict[str, float | int] = {"nmtchps": len(ranked)}
    for rank in (1, 2, 3):
        if rank > len(ranked):
            found |= {f"{name}{rank}": MISSING for name in ("sgmag", "srmag", "simag", "szmag")}
            found |= {f"sgscore{rank}": MISSING, f"distpsnr{rank}": MISSING, f"objectidps{rank}": -999}
            continue
        distance, index = ranked[rank - 1]
        source = near[index]
        for name, mag, depth in zip(("sg", "sr", "si", "sz"), source.mags, _PS1_DEPTH, strict=True):
            found[f"{name}mag{rank}"] = round(mag, 4) if mag < depth else MISSING
        found[f"sgscore{rank}"] = source.score if source.mags[1] < 22.2 else 0.5
        found[f"distpsnr{rank}"] = distance
        found[f"objectidps{rank}"] = _ps1_identifier(
            ra + source.east / 3600 / math.cos(math.radians(dec)), dec + source.north / 3600
        )
    return found


def _ps1_identifier(ra: float, dec: float) -> int:
    """PS1's objID: declination zone of half an arcminute, right ascension in microdegrees, a tail."""
    zone = int((dec + 90) * 120)
    return zone * 10**13 + int((ra % 360) * 1e6) * 10**4 + int((dec + 90) * 1e7) % 10**4


def gaia_columns(
    near: list[Neighbour], east: float, north: float, far: tuple[float, float]
) -> dict[str, float]:
    """The nearest Gaia source and the nearest bright one within 90″ of the place measured at offset (`east`,
    `north`); `far` are distances of sources beyond the patch."""
    stars = [
        (math.hypot(n.east - east, n.north - north), _gaia_mag(n))
        for n in near
        if n.radius == 0 and _gaia_mag(n) < _GAIA_DEPTH
    ]
    nearest = min(stars) if stars else (far[0], 19.5)
    brightest = min((s for s in stars if s[1] < _GAIA_BRIGHT), default=(far[1], 13.3))
    found: dict[str, float] = {}
    for name, (distance, mag) in (("", nearest), ("bright", brightest)):
        within = distance < _GAIA_RADIUS
        found |= {
            f"neargaia{name}": distance if within else MISSING,
            f"maggaia{name}": mag if within else MISSING,
        }
    return found


def _gaia_mag(source: Neighbour) -> float:
    g, r = source.mags[0], source.mags[1]
    return r - 0.1 - 0.15 * max(g - r - 0.6, 0)


def reference_source(near: list[Neighbour], rng: np.random.Generator) -> Neighbour:
    """The source nearest in the reference image (`distnr`, `magnr`): one always exists, if faint and far."""
    seen = [n for n in near if n.mags[1] < _REFERENCE_DEPTH]
    if seen:
        return min(seen, key=lambda n: n.distance)
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(8, 20)
    return Neighbour(distance * math.cos(angle), distance * math.sin(angle), (23.1, 22.9, 22.6, 22.4), 0.5)


def object_name(year: int, serial: int) -> str:
    """`ZTF` + two digits of the year of first detection + seven letters, as the survey names its objects."""
    letters = ""
    for _ in range(7):
        serial, rest = divmod(serial, 26)
        letters = chr(97 + rest) + letters
    return f"ZTF{year % 100:02d}{letters}"
