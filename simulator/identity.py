"""What an object has at its place: catalogue entries of its own star or host; and its name."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MISSING = -999.0  # DEFINITIONS.md: PS1 and Gaia columns without a source
PER_CELL = 60_000  # names in one quadrant of a field
_LETTERS = 26**7
_STEP = 2_654_435_761 % _LETTERS  # odd and no multiple of 13: every number below 26⁷ is met once


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
    core: float = 1.0  # share of the light in the unresolved nucleus

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
    """The catalogue entry of a star; the fainter it is, the less sure is its star-galaxy score.

    Parameters
    ----------
    east, north
        Offset from the object, arcsec.
    r
        Magnitude in r.
    g_r
        Colour g − r, mag.
    chance
        The random part.
    """
    r_i = 0.42 * g_r + 0.02 if g_r < 1.2 else 0.5 + 1.1 * (g_r - 1.2)
    doubt = chance.doubt * (0.004 if r < 19 else 0.04 * (r - 18.5))
    return Neighbour(east, north, (r + g_r, r, r - r_i, r - 1.5 * r_i), _score(1 - doubt))


def galaxy(east: float, north: float, r: float, g_r: float, chance: Chance, core: float = 0.0) -> Neighbour:
    """The catalogue entry of a galaxy with an exponential disc.

    Parameters
    ----------
    east, north
        Offset from the object, arcsec.
    r
        Total magnitude in r.
    g_r
        Colour g − r, mag.
    chance
        The random part.
    core
        Share of the light in an unresolved nucleus, 0 to 1.
    """
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


def object_name(year: int, serial: int) -> str:
    """`ZTF` + two digits of the year of first detection + seven letters, as the survey names its objects."""
    letters = ""
    for _ in range(7):
        serial, rest = divmod(serial, 26)
        letters = chr(97 + rest) + letters
    return f"ZTF{year % 100:02d}{letters}"


def serial_of(cell: int, rank: int) -> int:
    """A serial that no other object of any quadrant has: `cell` is 64 × field + rcid, `rank` counts in it.

    Raises ValueError when a quadrant has more objects than there are names for.
    """
    if rank >= PER_CELL:
        raise ValueError(
            f"more than {PER_CELL:,} objects in one quadrant: cannot name them; lower the density"
        )
    return (cell * PER_CELL + rank) * _STEP % _LETTERS
