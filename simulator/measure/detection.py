"""From light to measurement: noise, the five sigma rule, and the columns that the pipeline measures.

Noise of a difference: the exposure's own (its limit is five sigma), photon noise of star and change at
6.2 electrons a DN, half a percent of a reference star's flux that the subtraction leaves, and two percent of
the change itself (the point spread function is known no better), so that no signal exceeds fifty sigma.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.identity import Neighbour
from simulator.sky.lightcurves import flux_of
from simulator.sky.population import Source
from simulator.sky.telescope import PIXEL_SCALE, QUADRANT_SHAPE, Visits

THRESHOLD = 5.0  # sigma; the survey alerts on |scorr| >= 5 of either sign
GAIN = 6.2  # electrons per DN
_SUBTRACTION, _PROFILE = 0.005, 0.02
_BRIGHTEST = 12.5  # saturation
_LEAST_EDGE = 1.0  # pixels from the detector's edge

Columns = dict[str, np.ndarray]


class Photometry(NamedTuple):
    """The difference flux (DN) of a source in every visit of its quadrant: true, measured, and its error."""

    true: np.ndarray
    flux: np.ndarray
    sigma: np.ndarray

    @property
    def detected(self) -> np.ndarray:
        """The five sigma rule.

        A limit means that nothing was found above it: noise peaks without a source are no alerts.
        """
        return (np.abs(self.flux) >= THRESHOLD * self.sigma) & (np.abs(self.true) > 2 * self.sigma)


def photometry(source: Source, visits: Visits, key: Sequence[int]) -> Photometry:
    """What every visit measures at a source's place.

    Parameters
    ----------
    source
        The source.
    visits
        All visits of its quadrant.
    key
        Seed of the noise: the same key gives the same noise.
    """
    scale = 10 ** (0.4 * (visits.zeropoint - 25))
    true = source.curve(visits.jd, visits.fid) * scale
    true = np.clip(true, -np.inf, flux_of(_BRIGHTEST) * scale)
    background = 10 ** (0.4 * (visits.zeropoint - visits.maglim)) / THRESHOLD
    star = reference_flux(source.counterpart, visits, scale)
    sigma = np.sqrt(
        background**2 + (star + np.abs(true)) / GAIN + (_SUBTRACTION * star) ** 2 + (_PROFILE * true) ** 2
    )
    noise = np.random.default_rng(key).normal(0, 1, len(visits))
    return Photometry(true, true + noise * sigma, sigma)


def reference_flux(counterpart: Neighbour | None, visits: Visits, scale: np.ndarray) -> np.ndarray:
    """Flux (DN) of the star under the object in the reference image; of a galaxy a tenth counts.

    Parameters
    ----------
    counterpart
        The object's catalogue entry; one farther than 3 arcsec, or None, gives 0.
    visits
        The visits, n.
    scale
        (n,): DN of one flux unit of zero point 25 in each visit.
    """
    if counterpart is None or counterpart.distance > 3:
        return np.zeros(len(visits))
    share = 1.0 if counterpart.radius == 0 else 0.1
    return share * flux_of(np.asarray(counterpart.mags[:3])[visits.fid - 1]) * scale


@dataclass
class Observation:
    """One source and the visits that detect it (indices into its quadrant's visits, ascending).

    `key` seeds its noise: `photometry` with it gives every visit's flux again. `candid`, `tblid`: one for
    each detection, once they are numbered.
    """

    source: Source
    key: tuple[int, ...]
    detections: np.ndarray
    positive: np.ndarray
    candid: np.ndarray
    tblid: np.ndarray
    objectId: str = ""


def observe(source: Source, visits: Visits, key: tuple[int, ...]) -> Observation:
    """Which visits detect a source.

    Parameters
    ----------
    source
        The source.
    visits
        All visits of its quadrant.
    key
        Seed of the noise.
    """
    seen = photometry(source, visits, key)
    found = np.flatnonzero(seen.detected)
    none = np.zeros(len(found), np.int64)
    return Observation(source, key, found, seen.flux[found] > 0, none, none)


@dataclass(frozen=True)
class Detections:
    """The detections of several sources, one after the other, as arrays of one length.

    owner, visit: of which source and in which visit; fluxes in DN, places in pixels and deg."""

    owner: np.ndarray
    visit: np.ndarray
    true: np.ndarray
    flux: np.ndarray
    sigma: np.ndarray
    zeropoint: np.ndarray
    maglim: np.ndarray
    fwhm: np.ndarray
    dither_x: np.ndarray
    dither_y: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    artefact: np.ndarray
    fixed: np.ndarray
    trail: np.ndarray

    @property
    def snr(self) -> np.ndarray:
        return np.abs(self.flux) / self.sigma


def detections_of(
    sources: Sequence[Source], visits: Visits, kept: Sequence[tuple[np.ndarray, Photometry]]
) -> Detections:
    """Some detections of several sources as one table of columns.

    Parameters
    ----------
    sources
        The sources.
    visits
        All visits of their quadrant.
    kept
        For each source the indices of the visits to take, and its photometry in all visits.
    """
    count = [len(index) for index, _ in kept]
    visit = np.concatenate([index for index, _ in kept])
    owner = np.repeat(np.arange(len(sources)), count)
    flux = {
        name: np.concatenate([getattr(seen, name)[index] for index, seen in kept])
        for name in Photometry._fields
    }
    of_visit = {n: getattr(visits, n)[visit] for n in ("zeropoint", "maglim", "fwhm", "dither_x", "dither_y")}
    of_place = {n: np.array([getattr(s.place, n) for s in sources])[owner] for n in ("x", "y", "ra", "dec")}
    artefact = np.array([s.artefact or "" for s in sources])[owner]
    fixed, trail = (np.array([getattr(s, n) for s in sources])[owner] for n in ("fixed", "trail"))
    return Detections(
        owner=owner, visit=visit, **flux, **of_visit, **of_place, artefact=artefact, fixed=fixed, trail=trail
    )


class Look(NamedTuple):
    """How an artefact measures beside a star: its width (times the seeing, or pixels where `sharp`), extra
    elongation and its spread, excess of chi (in e-folds), scores, scatter of magdiff."""

    width: tuple[float, float]
    elong: tuple[float, float]
    chi: float
    rb: float
    drb: float
    magdiff: float
    sharp: bool = False


_LOOKS = {
    "cosmic ray": Look((0.95, 1.6), (0.0, 0.25), 1.2, -0.5, -1.6, 0.3, sharp=True),
    "residual": Look((0.8, 1.3), (0.0, 0.14), 1.5, -0.1, -0.8, 0.3),
    "streak": Look((1.1, 2.2), (0.3, 0.5), 0.8, -0.5, -1.6, 0.15),
    "bleed trail": Look((0.9, 1.8), (0.2, 0.4), 2.0, -0.6, -2.0, 0.4),
    "ghost": Look((1.8, 4.0), (0.05, 0.15), 0.3, -0.3, -1.2, 0.5),
    "edge": Look((0.8, 2.0), (0.1, 0.3), 1.5, -0.7, -2.0, 0.4),
    "hot pixel": Look((0.8, 1.1), (0.0, 0.08), 1.0, 0.0, -0.6, 0.25, sharp=True),
    "hot column": Look((0.8, 1.3), (0.4, 0.4), 1.3, -0.5, -1.4, 0.3, sharp=True),
}
_REAL = Look((1.0, 1.0), (0.0, 0.0), 0.0, 1.2, 5.2, 0.06)


def measure(seen: Detections, rng: np.random.Generator) -> Columns:
    """Measured columns that candidate and history share, a value for each detection.

    `east` and `north` (arcsec) say where the measurement fell relative to the true place.
    """
    count, snr = len(seen.flux), seen.snr
    magpsf = seen.zeropoint - 2.5 * np.log10(np.abs(seen.flux))
    shape = _shape(seen, rng)
    sigmagap = np.round(1.0857 / snr * rng.lognormal(-0.1, 0.25, count), 4)
    magap = magpsf + shape.pop("magdiff") + rng.normal(0, 0.35, count) * np.minimum(sigmagap, 0.3)
    magap = np.round(magap, 4)
    return {
        **shape,
        **_astrometry(seen, shape["fwhm"], rng),
        "magpsf": magpsf,
        "sigmapsf": np.hypot(1.0857 / snr, 0.015),
        "magap": magap,
        "sigmagap": sigmagap,
        "magapbig": np.round(magap + rng.normal(-0.02, 0.8, count) * sigmagap, 4),
        "sigmagapbig": np.round(sigmagap * rng.uniform(1.1, 1.35, count), 4),
        "magdiff": magap - magpsf,
        "magfromlim": seen.maglim - magap,
        "sky": rng.normal(0, 0.4, count),
        "scorr": np.round(snr * rng.uniform(1.0, 1.5, count), 12),
    }


def _astrometry(seen: Detections, fwhm: np.ndarray, rng: np.random.Generator) -> Columns:
    """Places: scatter falls with signal; objects wander over the detector as the pointing does, defects of
    the detector stay where they are."""
    count = len(seen.flux)
    scatter = np.minimum(0.05 + fwhm * PIXEL_SCALE / (2.355 * seen.snr) * 0.7, 0.8)
    east, north = rng.normal(0, 1, (2, count)) * np.where(seen.fixed, 0.1, scatter)
    wander = ~seen.fixed & (seen.artefact != "edge")
    rows, columns = QUADRANT_SHAPE
    x = np.clip(seen.x - east / PIXEL_SCALE + wander * seen.dither_x, _LEAST_EDGE, columns - _LEAST_EDGE)
    y = np.clip(seen.y - north / PIXEL_SCALE + wander * seen.dither_y, _LEAST_EDGE, rows - _LEAST_EDGE)
    return {
        "xpos": x,
        "ypos": y,
        "mindtoedge": np.minimum.reduce([x, y, columns - x, rows - y]),
        "east": east,
        "north": north,
        "ra": np.round((seen.ra + east / 3600 / np.cos(np.radians(seen.dec))) % 360, 7),
        "dec": np.round(seen.dec + north / 3600, 7),
    }


def _looks(seen: Detections) -> dict[str, np.ndarray]:
    """The columns of Look for each detection."""
    names, index = np.unique(seen.artefact, return_inverse=True)
    looks = [_LOOKS.get(str(name), _REAL) for name in names]
    return {field: np.array([getattr(look, field) for look in looks])[index] for field in Look._fields}


def _shape(seen: Detections, rng: np.random.Generator) -> Columns:
    """Columns that tell a star-like change from an artefact; their distributions overlap, as in real data.

    rb and drb: Mahabal et al. (2019, PASP 131, 038002) and Duev et al. (2019) show the overlap.
    """
    count, snr, look = len(seen.flux), seen.snr, _looks(seen)
    bogus = seen.artefact != ""
    low, high = look["width"].T
    width = low + (high - low) * rng.random(count)
    fwhm = np.where(look["sharp"], width, seen.fwhm * width * rng.lognormal(0, 0.07, count))
    trail = np.where(bogus, 0.0, seen.trail) / np.maximum(seen.fwhm, 1)
    fwhm = np.round(fwhm * np.sqrt(1 + 0.3 * trail**2), 2)
    extra, spread = look["elong"].T
    spread = np.where(bogus, spread, 0.45 / np.sqrt(snr + 12))
    elong = 1 + extra + 0.5 * trail + rng.gamma(2.0, 1.0, count) * spread
    chipsf = rng.lognormal(0.15 + look["chi"], np.where(bogus, 0.6, 0.3)) * (1 + (snr / 16) ** 2)
    minor = np.round(0.36 * fwhm * rng.lognormal(0, 0.07, count) / np.sqrt(elong), 3)
    major = np.round(minor * elong, 3)
    score = look["rb"] + np.where(bogus, 0.0, 0.9 * np.log10(snr) - 0.5 * np.minimum(trail, 3))
    rb = 1 / (1 + np.exp(-rng.normal(score, 1.1)))
    residual, sharp = seen.artefact == "residual", look["sharp"]
    return {
        "fwhm": fwhm,
        "elong": major / minor,
        "aimage": major,
        "bimage": minor,
        "aimagerat": major / fwhm,
        "bimagerat": minor / fwhm,
        "seeratio": np.clip(fwhm / 2.0, 0.5, 2.0),
        "classtar": np.round(np.where(bogus, rng.beta(2, 1.5, count), rng.beta(14, 0.6, count)), 3),
        "chipsf": chipsf,
        "nneg": rng.poisson(np.clip(6 - snr / 4, 0.3, 5) + 4 * residual),
        "nbad": sharp * (rng.random(count) < 0.3) * rng.integers(1, 5, count),
        "sumrat": np.clip(1 - rng.exponential(np.where(bogus, 0.35, 0.02)), 0.3, 1.0),
        "magdiff": rng.normal(0.01, look["magdiff"]) + sharp * rng.exponential(0.25, count),
        "rb": np.round(rb * 700) / 700,  # votes of a forest of trees: steps of 1/700 in the real packets
        "drb": 1 / (1 + np.exp(-rng.normal(look["drb"] + np.where(bogus, 0, 0.03 * snr), 2.6))),
    }
