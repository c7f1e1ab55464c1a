"""What is in the sky: kinds of objects, how often each makes an alert, and how one is drawn.

A `Source` is a place with a light curve. A moving body is a list of sources, one for each exposure that
catches it, because the survey gives each of its sightings a name of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from schemas.simulated import lightcurves as lc
from schemas.simulated.identity import Chance, Neighbour, galaxy, star
from schemas.simulated.survey import LAST_NIGHT, NIGHT_ZERO, PIXEL_SCALE, QUADRANT_SHAPE, Survey, Visits

Parameters = dict[str, float | str | bool | None]


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
    """Something at a place that changes."""

    kind: str
    place: Place
    curve: lc.Curve
    counterpart: Neighbour | None = None
    artefact: str | None = None
    angle: float = 0.0  # direction of a streak on the detector (rad)
    designation: str | None = None  # of a known solar-system object
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class Sky:
    """What a draw may look at: the survey and the nights (nid) that will be emitted."""

    survey: Survey
    nights: range

    @property
    def now(self) -> float:
        """The middle of the last night (jd)."""
        return NIGHT_ZERO + LAST_NIGHT + 0.3

    def place(self, rng: np.random.Generator) -> Place:
        """A random pixel of a filled quadrant; some lie at an edge, where a stamp is cut."""
        number = int(rng.integers(len(self.survey.fields)))
        rcid = int(rng.choice(self.survey.fields[number].quadrants))
        rows, columns = QUADRANT_SHAPE
        margin = 12 if rng.random() < 0.3 else 40
        return self.at(
            number, rcid, rng.uniform(margin, columns - margin), rng.uniform(margin, rows - margin)
        )

    def at(self, number: int, rcid: int, x: float, y: float) -> Place:
        ra, dec = self.survey.position(number, rcid, x, y)
        return Place(number, rcid, float(x), float(y), ra, dec)

    def tonight(self, place: Place, rng: np.random.Generator) -> Visits | None:
        """The visits of a place's quadrant in one emitted night, or None where there are none."""
        visits = self.survey.visits(place.field, place.rcid)
        night = int(rng.choice(self.nights))
        keep = np.flatnonzero(visits.night == night)
        if not len(keep):
            return None
        return Visits(**{name: getattr(visits, name)[keep] for name in visits.__dataclass_fields__})


Draw = Callable[[Sky, np.random.Generator], list[Source]]


def _offset(rng: np.random.Generator, scale: float) -> tuple[float, float]:
    """A random offset (arcsec east, north) with exponential distance of mean `scale`."""
    distance, angle = rng.exponential(scale), rng.uniform(0, 2 * math.pi)
    return distance * math.cos(angle), distance * math.sin(angle)


def _point(rng: np.random.Generator, r: float, g_r: float) -> tuple[Neighbour, lc.Bands]:
    """A star that is itself the object: its catalogue entry and its g, r, i."""
    entry = star(*_offset(rng, 0.1), r, g_r, Chance.draw(rng))
    return entry, entry.mags[:3]


def _draw_supernova(sky: Sky, rng: np.random.Generator) -> list[Source]:
    kind = str(rng.choice(["SN Ia", "SN II", "SN Ibc"], p=[0.62, 0.28, 0.10]))
    young = bool(rng.random() < 0.5)
    age = rng.uniform(0.8, 5.5) if young else rng.uniform(6, 75)
    brightest = 15.2 if young and kind != "SN II" else 16.6
    peak_r = float(rng.triangular(brightest, brightest + 1.5, 19.4 if not young else brightest + 2.6))
    colour = {"SN Ia": (0.0, 0.05, 0.35), "SN II": (0.05, 0.0, 0.15), "SN Ibc": (0.35, 0.0, 0.05)}[kind]
    peak = (peak_r + colour[0], peak_r + colour[1], peak_r + colour[2])
    host = None
    if rng.random() < 0.9:
        host = galaxy(
            *_offset(rng, 2.2), peak_r + rng.normal(0.3, 1.3), rng.normal(0.65, 0.12), Chance.draw(rng)
        )
    explosion = sky.now - age
    curve = lc.supernova(kind, explosion, peak, float(rng.normal(1, 0.06)))
    parameters: Parameters = {
        "t0": explosion,
        "peak_r": peak_r,
        "host_offset": host.distance if host else None,
    }
    return [Source(kind, sky.place(rng), curve, host, parameters=parameters)]


def _draw_tde(sky: Sky, rng: np.random.Generator) -> list[Source]:
    rise, decay, peak_g = rng.uniform(15, 30), rng.uniform(30, 60), rng.uniform(17.0, 18.8)
    start = sky.now - rng.uniform(0.4, 3) * rise
    host = galaxy(*_offset(rng, 0.1), rng.uniform(16.5, 19), rng.normal(0.6, 0.1), Chance.draw(rng))
    curve = lc.tidal_disruption(start, (peak_g, peak_g + 0.25, peak_g + 0.45), rise, decay)
    return [Source("TDE", sky.place(rng), curve, host, parameters={"t0": start, "peak_g": peak_g})]


def _draw_agn(sky: Sky, rng: np.random.Generator) -> list[Source]:
    r = float(rng.triangular(15.8, 18.2, 19.3))
    amplitude = float(rng.lognormal(np.log(0.22), 0.35))
    shape = lc.red_noise(rng, (1.2 * amplitude, amplitude, 0.8 * amplitude))
    g_r = float(rng.normal(0.35, 0.2))
    offset, chance = _offset(rng, 0.1), Chance.draw(rng)
    host = (
        star(*offset, r, g_r, chance) if rng.random() < 0.35 else galaxy(*offset, r, g_r, chance, core=0.75)
    )
    curve = lc.periodic(shape, host.mags[:3])
    return [Source("AGN", sky.place(rng), curve, host, parameters={"r": r, "amplitude": amplitude})]


def _draw_rr_lyrae(sky: Sky, rng: np.random.Generator) -> list[Source]:
    period, r, amplitude = rng.uniform(0.44, 0.68), rng.triangular(14.8, 17.8, 19.6), rng.uniform(0.5, 1.2)
    entry, mean = _point(rng, float(r), rng.normal(0.22, 0.06))
    shape = lc.sawtooth(period, sky.now - rng.random(), (amplitude, 0.72 * amplitude, 0.57 * amplitude))
    parameters: Parameters = {"period": period, "r": float(r), "amplitude": amplitude}
    return [Source("RR Lyrae", sky.place(rng), lc.periodic(shape, mean), entry, parameters=parameters)]


def _draw_eclipsing(sky: Sky, rng: np.random.Generator) -> list[Source]:
    period, r, depth = 10 ** rng.uniform(-0.55, 0.7), rng.triangular(14.3, 17, 18.8), rng.uniform(0.25, 0.9)
    width = rng.uniform(0.04, 0.11)
    entry, mean = _point(rng, float(r), rng.normal(0.6, 0.2))
    curve = lc.periodic(lc.eclipses(period, sky.now - period * rng.random(), depth, width), mean)
    parameters: Parameters = {"period": period, "r": float(r), "amplitude": depth}
    return [Source("eclipsing binary", sky.place(rng), curve, entry, parameters=parameters)]


def _draw_long_period(sky: Sky, rng: np.random.Generator) -> list[Source]:
    period, r, amplitude = rng.uniform(80, 420), rng.triangular(14, 16.2, 18.6), rng.uniform(0.4, 3.0)
    entry, mean = _point(rng, float(r), rng.normal(1.6, 0.2))
    shape = lc.sine(period, sky.now - period * rng.random(), (amplitude, 0.7 * amplitude, 0.45 * amplitude))
    parameters: Parameters = {"period": period, "r": float(r), "amplitude": amplitude}
    return [
        Source("long-period variable", sky.place(rng), lc.periodic(shape, mean), entry, parameters=parameters)
    ]


def _draw_spotted(sky: Sky, rng: np.random.Generator) -> list[Source]:
    period, r, amplitude = (
        10 ** rng.uniform(-0.3, 1.3),
        rng.triangular(13.6, 14.6, 16.5),
        rng.uniform(0.1, 0.35),
    )
    entry, mean = _point(rng, float(r), rng.normal(1.1, 0.2))
    shape = lc.sine(period, sky.now - period * rng.random(), (1.1 * amplitude, amplitude, 0.7 * amplitude))
    parameters: Parameters = {"period": period, "r": float(r), "amplitude": amplitude}
    return [Source("spotted star", sky.place(rng), lc.periodic(shape, mean), entry, parameters=parameters)]


def _draw_dwarf_nova(sky: Sky, rng: np.random.Generator) -> list[Source]:
    r, amplitude = rng.uniform(19.2, 21.6), rng.uniform(2.6, 5.5)
    plateau = rng.uniform(2.5, 9)
    start = sky.now - rng.uniform(0.5, plateau + 1.0)
    every = rng.uniform(25, 120)
    entry, quiet = _point(rng, float(r), rng.normal(0.18, 0.14))
    curve = lc.dwarf_nova(start, quiet, amplitude, plateau, max(every, plateau + 1.6 * amplitude + 8))
    parameters: Parameters = {"t0": start, "r": float(r), "amplitude": amplitude, "period": every}
    return [Source("dwarf nova", sky.place(rng), curve, entry, parameters=parameters)]


def _draw_outburst(sky: Sky, rng: np.random.Generator) -> list[Source]:
    r, excess, amplitude = rng.uniform(15.2, 17.8), rng.uniform(0.3, 0.5), rng.uniform(1.0, 3.0)
    entry, quiet = _point(rng, float(r), rng.normal(1.1, 0.2))
    start = sky.now - rng.uniform(0.4, 1.4)
    curve = lc.outburst(start, quiet, excess, amplitude, rise=rng.uniform(0.3, 0.8))
    parameters: Parameters = {"t0": start, "r": float(r), "amplitude": amplitude}
    return [Source("stellar outburst", sky.place(rng), curve, entry, parameters=parameters)]


def _draw_flare(sky: Sky, rng: np.random.Generator) -> list[Source]:
    place = sky.place(rng)
    visits = sky.tonight(place, rng)
    if visits is None:
        return []
    peak = float(rng.choice(visits.jd)) - rng.uniform(0, 0.01)
    r, contrast, decay = rng.uniform(16.5, 20), rng.uniform(0.5, 3.5), 10 ** rng.uniform(-2, -0.9)
    entry, quiet = _point(rng, float(r), rng.normal(1.5, 0.06))
    curve = lc.flare(peak, quiet, contrast, decay)
    parameters: Parameters = {"t0": peak, "r": float(r), "amplitude": contrast}
    return [Source("flare star", place, curve, entry, parameters=parameters)]


def _draw_asteroid(known: bool) -> Draw:
    def draw(sky: Sky, rng: np.random.Generator) -> list[Source]:
        """A body that moves a few tens of arcsec an hour: a source for each of the night's exposures."""
        place = sky.place(rng)
        visits = sky.tonight(place, rng)
        if visits is None:
            return []
        number = int(rng.integers(700_000, 10**7)) if not known else int(10 ** rng.uniform(2.3, 5.8))
        designation, mag = str(number), float(19.9 - rng.exponential(0.9 if known else 0.5))
        rate, angle = rng.uniform(12, 45) if known else rng.uniform(12, 90), rng.normal(0.2, 0.35)
        step = rate * 24 / PIXEL_SCALE * (visits.jd - visits.jd[0])
        xs, ys = place.x + step * math.cos(angle), place.y + step * math.sin(angle)
        colour, tumble = (0.0, 0.55, -0.2, -0.35), rng.uniform(0.02, 0.25)
        parameters: Parameters = {
            "designation": f"({designation})" if known else f"new {designation}",
            "rate": rate,
        }
        found = []
        for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if not (12 < x < QUADRANT_SHAPE[1] - 12 and 12 < y < QUADRANT_SHAPE[0] - 12):
                continue
            seen = mag + colour[int(visits.fid[i])] + tumble * math.sin(40 * visits.jd[i])
            curve = lc.once(float(visits.jd[i]), float(lc.flux_of(seen)))
            kind = "asteroid" if known else "unknown asteroid"
            where = sky.at(place.field, place.rcid, x, y)
            found.append(
                Source(
                    kind,
                    where,
                    curve,
                    designation=designation if known else None,
                    parameters=parameters | {"mag": float(seen)},
                )
            )
        return found

    return draw


# Kind -> (share of a night's alerts, draw). Solar system, variable stars and artefacts make most of a real
# night; the rare kinds are raised, so that a demonstration of a few thousand alerts has some of each.
KINDS: dict[str, tuple[float, Draw]] = {
    "asteroid": (0.26, _draw_asteroid(known=True)),
    "unknown asteroid": (0.03, _draw_asteroid(known=False)),
    "RR Lyrae": (0.10, _draw_rr_lyrae),
    "eclipsing binary": (0.07, _draw_eclipsing),
    "long-period variable": (0.09, _draw_long_period),
    "spotted star": (0.04, _draw_spotted),
    "AGN": (0.07, _draw_agn),
    "supernova": (0.06, _draw_supernova),
    "TDE": (0.008, _draw_tde),
    "dwarf nova": (0.03, _draw_dwarf_nova),
    "stellar outburst": (0.025, _draw_outburst),
    "flare star": (0.01, _draw_flare),
}
