"""What the simulation knows of an object (a place with a light curve), and what random draws depend on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simulator.identity import Chance, Neighbour, galaxy, star
from simulator.sky import lightcurves as lc
from simulator.sky.heavens import galactic_latitude
from simulator.sky.telescope import HISTORY_DAYS, NIGHT_ZERO, QUADRANT_SHAPE, Survey, Visits

Parameters = dict[str, float | str | None]
_HUBBLE, _LIGHT, _DECELERATION = 70.0, 299792.458, -0.55  # km/s/Mpc, km/s; flat, Ωm = 0.3


@dataclass(frozen=True)
class Place:
    """A pixel of a quadrant of a field, and its coordinates (deg)."""

    field: int
    rcid: int
    x: float
    y: float
    ra: float
    dec: float


@dataclass(frozen=True)
class Source:
    """Something at a place that changes.

    artefact: what it is if nothing in the sky; angle (rad): the direction of a trail on the detector, and
    trail (pixels) its length; designation: of a known solar-system object; fixed: it sits on the detector,
    not in the sky.
    """

    kind: str
    place: Place
    curve: lc.Curve
    counterpart: Neighbour | None = None
    artefact: str | None = None
    angle: float = 0.0
    trail: float = 0.0
    designation: str | None = None
    fixed: bool = False
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Sky:
    """What random draws depend on: the survey, the nights (nid) that will be emitted, and where to draw.

    cell: (field index, rcid) to draw in, None for anywhere. staged: a demonstration, whose transients are
    near and half of them young. observed: type Ia supernovae have observed light curves, not the template's.
    """

    survey: Survey
    nights: range
    cell: tuple[int, int] | None = None
    staged: bool = False
    observed: bool = False

    @property
    def dawn(self) -> float:
        """The end of the last night (jd)."""
        return NIGHT_ZERO + self.nights.stop - 0.45

    @property
    def latitude(self) -> float:
        """Degrees between the cell's middle and the galactic plane."""
        number, rcid = self.cell or (0, 0)
        ra, dec = self.survey.position(number, rcid, QUADRANT_SHAPE[1] / 2, QUADRANT_SHAPE[0] / 2)
        return abs(galactic_latitude(float(ra), float(dec)))

    def begins(self, rng: np.random.Generator, life: float, youth: float = 5.5) -> float:
        """When (Julian date, days) a transient begins, so that an emitted night may see it.

        In a demonstration it begins recently half of the time.

        Parameters
        ----------
        rng
            Source of random numbers.
        life
            Days for which it can be seen.
        youth
            In a demonstration, half of them begin 0.8 to so many days before the end of the last night.
        """
        if self.staged and rng.random() < 0.5:
            return self.dawn - float(rng.uniform(0.8, youth))
        return float(rng.uniform(NIGHT_ZERO + self.nights.start - life, self.dawn))

    def place(self, rng: np.random.Generator) -> Place:
        """A random pixel; some lie at an edge, where a stamp is cut."""
        number, rcid = self.cell if self.cell is not None else self._any_cell(rng)
        rows, columns = QUADRANT_SHAPE
        margin = 12 if rng.random() < 0.3 else 40
        return self.at(
            number, rcid, rng.uniform(margin, columns - margin), rng.uniform(margin, rows - margin)
        )

    def _any_cell(self, rng: np.random.Generator) -> tuple[int, int]:
        number = int(rng.integers(len(self.survey.fields)))
        return number, int(rng.choice(self.survey.fields[number].quadrants))

    def at(self, number: int, rcid: int, x: float, y: float) -> Place:
        """The place of a pixel.

        Parameters
        ----------
        number
            Index of the field.
        rcid
            The quadrant.
        x, y
            Column and row, pixels.
        """
        ra, dec = self.survey.position(number, rcid, x, y)
        return Place(number, rcid, float(x), float(y), float(ra), float(dec))

    def visits(self, place: Place) -> Visits:
        """All exposures of a place's quadrant."""
        return self.survey.visits(place.field, place.rcid)

    def emitted(self, place: Place) -> np.ndarray:
        """The indices of the visits of a place's quadrant in the emitted nights."""
        return np.flatnonzero(self.visits(place).night >= self.nights.start)

    def some_exposure(self, place: Place, rng: np.random.Generator) -> float | None:
        """The jd of one of the emitted exposures, or None where there are none."""
        emitted = self.emitted(place)
        return float(self.visits(place).jd[rng.choice(emitted)]) if len(emitted) else None


Draw = Callable[[Sky, np.random.Generator], list[Source]]


def offset(rng: np.random.Generator, scale: float) -> tuple[float, float]:
    """A random offset (arcsec east, north) with exponential distance of mean `scale`."""
    distance, angle = rng.exponential(scale), rng.uniform(0, 2 * math.pi)
    return distance * math.cos(angle), distance * math.sin(angle)


def point(rng: np.random.Generator, r: float, g_r: float) -> tuple[Neighbour, lc.Bands]:
    """A star that is itself the object: its catalogue entry and its magnitudes in g, r, i.

    Parameters
    ----------
    rng
        Source of random numbers.
    r
        Magnitude in r.
    g_r
        Colour g − r, mag.
    """
    entry = star(*offset(rng, 0.1), r, g_r, Chance.draw(rng))
    return entry, entry.mags[:3]


def luminosity_distance(redshift: float) -> float:
    """Mpc, to second order in redshift: within a percent of flat ΛCDM below 0.15."""
    return _LIGHT * redshift / _HUBBLE * (1 + (1 - _DECELERATION) * redshift / 2)


def distance_modulus(redshift: float) -> float:
    """Apparent minus absolute magnitude."""
    return 5 * math.log10(luminosity_distance(redshift)) + 25


def comoving_volume(redshift: float) -> float:
    """Mpc³ of the whole sky within a redshift."""
    return 4 / 3 * math.pi * (luminosity_distance(redshift) / (1 + redshift)) ** 3


def redshift_within(rng: np.random.Generator, limit: float) -> float:
    """A redshift drawn uniformly in volume."""
    return float(max(limit * rng.random() ** (1 / 3), 0.002))


def host(rng: np.random.Generator, redshift: float, spread: float = 3.0) -> Neighbour:
    """The host galaxy of a transient, of absolute magnitude −20.5 ± 1.1 in r.

    Parameters
    ----------
    rng
        Source of random numbers.
    redshift
        Of the galaxy.
    spread
        Mean distance of the transient from its centre, kpc.
    """
    kpc = luminosity_distance(redshift) / (1 + redshift) ** 2 * 1000 * math.pi / 648000  # one arcsec
    r = float(np.clip(distance_modulus(redshift) + rng.normal(-20.5, 1.1), 13.0, 22.4))
    return galaxy(*offset(rng, spread / kpc), r, rng.normal(0.65, 0.12), Chance.draw(rng))


def window_days(nights: range) -> float:
    """Days that the histories of the emitted nights look back on, those nights included."""
    return len(nights) + HISTORY_DAYS
