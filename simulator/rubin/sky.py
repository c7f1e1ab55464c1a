"""The sources of Rubin's simulated sky, with the light curves of ZTF's simulated sky.

The curves know three bands (g, r, i). Here u follows g, z and y follow i, with the colours of COLOUR: rough,
and the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simulator.rubin.visits import FIELDS, RADIUS
from simulator.sky import lightcurves as curves

NJY = 10 ** ((31.4 - 25) / 2.5)
"""nJy of one unit of the curves' flux, whose zero point is magnitude 25."""

FID = np.array([1, 1, 2, 3, 3, 3])
"""Band of the curves (g, r, i = 1, 2, 3) for each of ugrizy."""

COLOUR = np.array([0.4, 1.0, 1.0, 1.0, 1.0, 0.9])
"""Flux in each of ugrizy over that of its curve."""


@dataclass(frozen=True)
class Object:
    """One source. field: index in FIELDS; curve: signed difference flux; parameters: for the truth.

    moving: seen at one visit only, elsewhere at the next; known: has an ssObjectId.
    """

    kind: str
    field: int
    ra: float
    dec: float
    curve: curves.Curve
    parameters: dict[str, float]
    moving: bool = False
    known: bool = False


Draw = Callable[[np.random.Generator, float], tuple[curves.Curve, dict[str, float]]]


def _bands(rng: np.random.Generator, magnitude: float) -> curves.Bands:
    return magnitude + 0.4, magnitude, magnitude - 0.1 + 0.1 * float(rng.normal())


def _supernova(kind: str) -> Draw:
    def draw(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
        explosion, peak = last - float(rng.uniform(1, 60)), float(rng.uniform(19, 23))
        return curves.supernova(kind, explosion, _bands(rng, peak)), {"t0": explosion, "peak_r": peak}

    return draw


def _type_ia(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
    peak_jd, peak = last - float(rng.uniform(-15, 45)), float(rng.uniform(19, 22.5))
    redshift = float(rng.uniform(0.02, 0.15))
    curve = curves.type_ia(peak_jd, peak, redshift, 1.0, (0.0, 0.0, 0.0))
    return curve, {"t0": peak_jd - 18, "peak_jd": peak_jd, "redshift": redshift, "peak_b": peak}


def _disruption(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
    start, peak = last - float(rng.uniform(5, 90)), float(rng.uniform(18.5, 21.5))
    curve = curves.tidal_disruption(start, (peak, peak + 0.2, peak + 0.3), 25.0, 40.0)
    return curve, {"t0": start, "peak_g": peak}


def _dwarf_nova(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
    start, quiet = last - float(rng.uniform(0, 6)), float(rng.uniform(21, 23.5))
    return curves.dwarf_nova(start, _bands(rng, quiet), float(rng.uniform(2, 4)), 6.0, 80.0), {"t0": start}


def _rr_lyrae(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
    period, mean = float(rng.uniform(0.4, 0.7)), float(rng.uniform(16.5, 21.5))
    shape = curves.sawtooth(period, float(rng.uniform(0, 1)), (1.0, 0.75, 0.6))
    return curves.periodic(shape, _bands(rng, mean)), {"period": period, "mag": mean}


def _long_period(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
    period, mean = float(rng.uniform(80, 400)), float(rng.uniform(16.5, 20))
    shape = curves.sine(period, float(rng.uniform(0, period)), (2.2, 1.6, 1.0))
    return curves.periodic(shape, _bands(rng, mean)), {"period": period, "mag": mean}


def _sighting(brightest: float, faintest: float) -> Draw:
    """Seen once: the flux belongs to the visit."""

    def draw(rng: np.random.Generator, last: float) -> tuple[curves.Curve, dict[str, float]]:
        magnitude = float(rng.uniform(brightest, faintest))
        flux = float(curves.flux_of(magnitude))
        return (lambda jd, fid: np.full(np.shape(jd), flux)), {"mag": magnitude}

    return draw


KINDS: dict[str, tuple[float, Draw]] = {
    "asteroid": (0.24, _sighting(18, 23)),
    "unknown asteroid": (0.05, _sighting(19, 23)),
    "RR Lyrae": (0.18, _rr_lyrae),
    "long-period variable": (0.09, _long_period),
    "SN Ia": (0.12, _type_ia),
    "SN II": (0.07, _supernova("SN II")),
    "SN Ibc": (0.04, _supernova("SN Ibc")),
    "TDE": (0.03, _disruption),
    "dwarf nova": (0.04, _dwarf_nova),
    "bogus": (0.14, _sighting(19, 23.3)),
}
"""Kind -> share of the objects, and what draws one."""


def objects(seed: int, number: int, last: float) -> list[Object]:
    """Random objects, spread over the fields.

    Parameters
    ----------
    seed
        Of the simulated sky.
    number
        How many objects.
    last
        Julian date of the emitted night, days.
    """
    rng = np.random.default_rng([seed, 2])
    names, shares = list(KINDS), np.array([share for share, _ in KINDS.values()])
    made = []
    for kind in rng.choice(names, number, p=shares / shares.sum()):
        field = int(rng.integers(len(FIELDS)))
        away, angle = RADIUS * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        ra_0, dec_0 = FIELDS[field]
        dec = dec_0 + away * np.sin(angle)
        ra = (ra_0 + away * np.cos(angle) / np.cos(np.radians(dec))) % 360
        curve, parameters = KINDS[str(kind)][1](rng, last)
        moving = kind in ("asteroid", "unknown asteroid", "bogus")
        made.append(
            Object(str(kind), field, float(ra), float(dec), curve, parameters, moving, kind == "asteroid")
        )
    return made
