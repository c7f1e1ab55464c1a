"""From light to measurement: noise, the five sigma rule, and the columns that the pipeline measures.

Noise of a difference: the exposure's own (its limit is five sigma), photon noise of star and change at
6.2 electrons a DN, and half a percent of a reference star's flux that the subtraction leaves.
"""

from dataclasses import dataclass, field

import numpy as np

from schemas.simulated.identity import Neighbour
from schemas.simulated.lightcurves import flux_of
from schemas.simulated.population import Source
from schemas.simulated.survey import PIXEL_SCALE, QUADRANT_SHAPE, Visits

THRESHOLD = 5.0  # sigma; the survey alerts on |scorr| >= 5 of either sign
GAIN = 6.2  # electrons per DN
_SUBTRACTION = 0.005
_BRIGHTEST = 12.5  # saturation

Columns = dict[str, np.ndarray]


@dataclass
class Observation:
    """What the survey made of one source: arrays of one length, a value for each visit of its quadrant.

    `flux` and `sigma` are in DN, `detected` applies the five sigma rule, `candid` is filled in when the whole
    sky is known (0 where there is no detection).
    """

    source: Source
    serial: int
    visits: Visits
    flux: np.ndarray
    sigma: np.ndarray
    detected: np.ndarray
    candid: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    tblid: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    objectId: str = ""


def observe(source: Source, serial: int, visits: Visits, rng: np.random.Generator) -> Observation:
    """The noisy difference flux of a source in every visit, and which visits detect it."""
    scale = 10 ** (0.4 * (visits.zeropoint - 25))
    true = source.curve(visits.jd, visits.fid) * scale
    true = np.clip(true, -np.inf, flux_of(_BRIGHTEST) * scale)
    background = 10 ** (0.4 * (visits.zeropoint - visits.maglim)) / THRESHOLD
    star = reference_flux(source.counterpart, visits, scale)
    sigma = np.sqrt(background**2 + (star + np.abs(true)) / GAIN + (_SUBTRACTION * star) ** 2)
    flux = true + rng.normal(0, 1, len(visits)) * sigma
    # A limit means that nothing was found above it: chance peaks of empty places are no alerts.
    detected = (np.abs(flux) >= THRESHOLD * sigma) & (np.abs(true) > 2 * sigma)
    return Observation(source, serial, visits, flux, sigma, detected)


def reference_flux(counterpart: Neighbour | None, visits: Visits, scale: np.ndarray) -> np.ndarray:
    """Flux (DN) of the star under the object in the reference image; a galaxy's core counts a tenth."""
    if counterpart is None or counterpart.distance > 3:
        return np.zeros(len(visits))
    share = 1.0 if counterpart.radius == 0 else 0.1
    return share * flux_of(np.asarray(counterpart.mags[:3])[visits.fid - 1]) * scale


def measure(seen: Observation, at: np.ndarray, rng: np.random.Generator) -> Columns:
    """Measured columns (candidate and history alike) of the detections `at` (indices of visits)."""
    count = len(at)
    visits, place = seen.visits, seen.source.place
    flux, sigma = seen.flux[at], seen.sigma[at]
    snr = np.abs(flux) / sigma
    zeropoint, limit = visits.zeropoint[at], visits.maglim[at]
    magpsf = zeropoint - 2.5 * np.log10(np.abs(flux))
    shape = _shape(seen.source.artefact, visits.fwhm[at], snr, rng)
    sigmagap = 1.0857 / snr * rng.lognormal(-0.1, 0.25, count)
    magap = magpsf + shape.pop("magdiff") + rng.normal(0, 0.35, count) * np.minimum(sigmagap, 0.3)
    wobble = 0.05 + shape["fwhm"] * PIXEL_SCALE / (2.355 * snr) * 0.7
    east, north = rng.normal(0, 1, (2, count)) * np.minimum(wobble, 0.8)
    # Pointings repeat to a few pixels, so an object wanders over the detector.
    dither = np.clip(rng.normal(0, 3.0, (2, count)), -8, 8) if count > 1 else np.zeros((2, 1))
    x = np.clip(place.x - east / PIXEL_SCALE + dither[0], 6, QUADRANT_SHAPE[1] - 6)
    y = np.clip(place.y + north / PIXEL_SCALE + dither[1], 6, QUADRANT_SHAPE[0] - 6)
    edge = np.minimum.reduce([x, y, QUADRANT_SHAPE[1] - x, QUADRANT_SHAPE[0] - y])
    return shape | {
        "isdiffpos": np.where(flux > 0, "t", "f"),
        "xpos": x,
        "ypos": y,
        "east": east,
        "north": north,
        "ra": np.round((place.ra + east / 3600 / np.cos(np.radians(place.dec))) % 360, 7),
        "dec": np.round(place.dec + north / 3600, 7),
        "magpsf": magpsf,
        "sigmapsf": np.maximum(1.0857 / snr, 0.015),
        "magap": np.round(magap, 4),
        "sigmagap": np.round(sigmagap, 4),
        "magapbig": np.round(magap + rng.normal(-0.02, 0.8, count) * sigmagap, 4),
        "sigmagapbig": np.round(sigmagap * rng.uniform(1.1, 1.35, count), 4),
        "magdiff": np.round(magap, 4) - magpsf,
        "magfromlim": limit - np.round(magap, 4),
        "mindtoedge": edge,
        "sky": rng.normal(0, 0.4, count),
        "scorr": np.round(snr * rng.normal(1.04, 0.02, count).clip(1.0), 12),
    }


def _shape(artefact: str | None, seeing: np.ndarray, snr: np.ndarray, rng: np.random.Generator) -> Columns:
    """Columns that tell a star-like change from an artefact; their distributions overlap, as in truth."""
    count = len(snr)
    fwhm = seeing * rng.lognormal(0, 0.07, count)
    elong = 1 + rng.gamma(2.2, 0.45 / np.sqrt(snr + 12), count)
    chipsf = rng.lognormal(0.15, 0.3, count) * (1 + (snr / 28) ** 2)
    nneg = rng.poisson(np.clip(6 - snr / 4, 0.3, 5))
    nbad = np.zeros(count, np.int64)
    magdiff = rng.normal(0.01, 0.06, count)
    score, deep = 1.05 + 0.9 * np.log10(snr), 5.2 + 0.03 * snr
    if artefact == "cosmic ray":
        fwhm, elong = rng.uniform(0.95, 1.6, count), 1 + rng.gamma(1.6, 0.25, count)
        chipsf, magdiff = chipsf * rng.lognormal(1.2, 0.6, count), magdiff + rng.exponential(0.25, count)
        nbad = (rng.random(count) < 0.3) * rng.integers(1, 5, count)
    elif artefact == "residual":
        chipsf, elong = chipsf * rng.lognormal(1.5, 0.7, count), 1 + rng.gamma(1.8, 0.14, count)
        nneg, magdiff = nneg + rng.poisson(4, count), magdiff + rng.normal(0, 0.3, count)
    elif artefact == "streak":
        fwhm, elong = fwhm * rng.uniform(1.1, 2.2, count), 1.3 + rng.gamma(2, 0.5, count)
        chipsf = chipsf * rng.lognormal(0.8, 0.5, count)
    if artefact:
        score, deep = np.full(count, -0.35), np.full(count, -1.2)
    minor = 0.36 * fwhm * rng.lognormal(0, 0.07, count) / np.sqrt(elong)
    rb = 1 / (1 + np.exp(-rng.normal(score, 0.85)))
    return {
        "fwhm": np.round(fwhm, 2),
        "elong": elong,
        "aimage": np.round(minor * elong, 3),
        "bimage": np.round(minor, 3),
        "aimagerat": np.round(minor * elong, 3) / np.round(fwhm, 2),
        "bimagerat": np.round(minor, 3) / np.round(fwhm, 2),
        "seeratio": np.clip(fwhm / 2.0, 0.5, 2.0),
        "classtar": np.round(np.where(bool(artefact), rng.beta(2, 1.5, count), rng.beta(14, 0.6, count)), 3),
        "chipsf": chipsf,
        "nneg": nneg,
        "nbad": nbad,
        "sumrat": np.clip(1 - rng.exponential(0.35 if artefact else 0.02, count), 0.3, 1.0),
        "magdiff": magdiff,
        "rb": np.round(rb * 700) / 700,  # votes of a forest of trees: steps of 1/700 in the real packets
        "drb": 1 / (1 + np.exp(-rng.normal(deep, 2.6))),
    }
