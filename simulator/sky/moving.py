"""Bodies of the solar system: straight lines across the detector, a new object at each sighting.

The survey matches sightings by position, so a body that moves is as many objects as it is seen times.
"""

import math

import numpy as np

from simulator.sky import lightcurves as lc
from simulator.sky.population import Draw, Parameters, Sky, Source
from simulator.sky.telescope import PIXEL_SCALE, QUADRANT_SHAPE

_EDGE = 12
_EXPOSURE = 30.0 / 3600  # hours
_COLOUR = np.array([0.0, 0.55, -0.2, -0.35])  # of sunlight on rock: g, r, i from their mean
_DAYS_ACROSS, _DAYS_ACROSS_NEAR = 3.2, 0.3  # a body's mean stay on a quadrant, by its speed


def passing(sky: Sky, near: bool) -> float:
    """How many bodies cross a quadrant in the emitted nights for each that is on it at one time."""
    return 1 + len(sky.nights) / (_DAYS_ACROSS_NEAR if near else _DAYS_ACROSS)


def draw_asteroid(known: bool) -> Draw:
    """Main-belt asteroids: 12 to 48 arcsec/h near opposition, westward along the ecliptic; brightness counts
    rise by a factor 2 a magnitude (Gladman et al. 2009, Icarus 202, 104)."""

    def draw(sky: Sky, rng: np.random.Generator) -> list[Source]:
        mag = float(20.4 - rng.exponential(1 / (0.30 * math.log(10))))
        rate, angle = float(rng.uniform(12, 48)), float(rng.normal(0.2, 0.35))
        number = int(10 ** rng.uniform(2.3, 5.8)) if known else int(rng.integers(700_000, 10**7))
        kind = "asteroid" if known else "unknown asteroid"
        return _sightings(sky, rng, kind, (mag, rate, angle), str(number) if known else None, f"{number}")

    return draw


def draw_near_earth(sky: Sky, rng: np.random.Generator) -> list[Source]:
    """Near-Earth asteroids: up to a degree in four hours, so that they leave trails in 30 s."""
    mag = float(20.2 - rng.exponential(0.8))
    rate, angle = float(10 ** rng.uniform(2.0, 2.95)), float(rng.uniform(0, 2 * math.pi))
    name = f"20{int(rng.integers(10, 26))} X{chr(65 + int(rng.integers(26)))}{int(rng.integers(1, 400))}"
    return _sightings(sky, rng, "near-Earth asteroid", (mag, rate, angle), None, name)


def _sightings(
    sky: Sky,
    rng: np.random.Generator,
    kind: str,
    orbit: tuple[float, float, float],
    designation: str | None,
    name: str,
) -> list[Source]:
    """A source for each emitted exposure that has the body on its quadrant."""
    mag, rate, angle = orbit
    place, tumble = sky.place(rng), float(rng.uniform(0.02, 0.25))
    visits = sky.visits(place)
    emitted = sky.emitted(place)
    if not len(emitted):
        return []
    jd = visits.jd[emitted]
    step = rate * 24 / PIXEL_SCALE * (jd - rng.choice(jd))
    xs, ys = place.x + step * math.cos(angle), place.y + step * math.sin(angle)
    seen = mag + _COLOUR[visits.fid[emitted]] + tumble * np.sin(40 * jd)
    trail = rate * _EXPOSURE / PIXEL_SCALE
    rows, columns = QUADRANT_SHAPE
    inside = (xs > _EDGE) & (xs < columns - _EDGE) & (ys > _EDGE) & (ys < rows - _EDGE)
    found = []
    for i in np.flatnonzero(inside):
        parameters: Parameters = {
            "designation": f"({name})" if designation else f"new {name}",
            "rate": rate,
            "mag": float(seen[i]),
        }
        found.append(
            Source(
                kind,
                sky.at(place.field, place.rcid, float(xs[i]), float(ys[i])),
                lc.once(float(jd[i]), float(lc.flux_of(seen[i]))),
                angle=angle,
                trail=trail,
                designation=designation,
                parameters=parameters,
            )
        )
    return found
