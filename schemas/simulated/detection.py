"""From light to measurement: noise, the five sigma rule, and the columns that the pipeline measures.

Noise of a difference: the exposure's own (its limit is five sigma), photon noise of star and change at
6.2 electrons a DN, half a percent of a reference star's flux that the subtraction leaves, and two percent of
the change itself (the point spread function is known no better), so that no signal exceeds fifty sigma.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.simulated.identity import Neighbour
from schemas.simulated.lightcurves import flux_of
from schemas.simulated.population import Source
from schemas.simulated.survey import PIXEL_SCALE, QUADRANT_SHAPE, Visits

THRESHOLD = 5.0  # sigma; the survey alerts on |scorr| >= 5 of either sign
GAIN = 6.2  # electrons per DN
_SUBTRACTION, _PROFILE = 0.005, 0.02
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
    sigma = np.sqrt(
        background**2 + (star + np.abs(true)) / GAIN + (_SUBTRACTION * star) ** 2 + (_PROFILE * true) ** 2
    )
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


@dataclass(frozen=True)
class Detections:
    """The detections of several sources, one after the other, as arrays of one length."""

    flux: np.ndarray
    sigma: np.ndarray
    zeropoint: np.ndarray
    maglim: np.ndarray
    fwhm: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    artefact: np.ndarray

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> "Detections":
        kept = [o.detected for o in observations]
        counts = [int(k.sum()) for k in kept]
        places = [o.source.place for o in observations]

        def visits(name: str) -> np.ndarray:
            parts = [getattr(o.visits, name)[k] for o, k in zip(observations, kept, strict=True)]
            return np.concatenate(parts)

        return cls(
            flux=np.concatenate([o.flux[k] for o, k in zip(observations, kept, strict=True)]),
            sigma=np.concatenate([o.sigma[k] for o, k in zip(observations, kept, strict=True)]),
            zeropoint=visits("zeropoint"),
            maglim=visits("maglim"),
            fwhm=visits("fwhm"),
            x=np.repeat([p.x for p in places], counts),
            y=np.repeat([p.y for p in places], counts),
            ra=np.repeat([p.ra for p in places], counts),
            dec=np.repeat([p.dec for p in places], counts),
            artefact=np.repeat([o.source.artefact or "" for o in observations], counts),
        )

    @property
    def snr(self) -> np.ndarray:
        return np.abs(self.flux) / self.sigma


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
        "isdiffpos": np.where(seen.flux > 0, "t", "f"),
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
    """Places: scatter falls with signal; pointings repeat to a few pixels, so objects wander."""
    count = len(seen.flux)
    scatter = np.minimum(0.05 + fwhm * PIXEL_SCALE / (2.355 * seen.snr) * 0.7, 0.8)
    east, north = rng.normal(0, 1, (2, count)) * scatter
    dither = np.clip(rng.normal(0, 3.0, (2, count)), -8, 8)
    x = np.clip(seen.x - east / PIXEL_SCALE + dither[0], 6, QUADRANT_SHAPE[1] - 6)
    y = np.clip(seen.y + north / PIXEL_SCALE + dither[1], 6, QUADRANT_SHAPE[0] - 6)
    return {
        "xpos": x,
        "ypos": y,
        "mindtoedge": np.minimum.reduce([x, y, QUADRANT_SHAPE[1] - x, QUADRANT_SHAPE[0] - y]),
        "east": east,
        "north": north,
        "ra": np.round((seen.ra + east / 3600 / np.cos(np.radians(seen.dec))) % 360, 7),
        "dec": np.round(seen.dec + north / 3600, 7),
    }


def _shape(seen: Detections, rng: np.random.Generator) -> Columns:
    """Columns that tell a star-like change from an artefact; their distributions overlap, as in truth."""
    count, snr = len(seen.flux), seen.snr
    ray, residual, streak = (seen.artefact == a for a in ("cosmic ray", "residual", "streak"))
    bogus = ray | residual | streak
    fwhm = seen.fwhm * rng.lognormal(0, 0.07, count) * np.where(streak, rng.uniform(1.1, 2.2, count), 1.0)
    fwhm = np.where(ray, rng.uniform(0.95, 1.6, count), fwhm).round(2)
    spread = np.select([ray, residual, streak], [0.25, 0.14, 0.5], 0.45 / np.sqrt(snr + 12))
    elong = 1 + 0.3 * streak + rng.gamma(2.0, 1.0, count) * spread
    excess = np.select([ray, residual, streak], [1.2, 1.5, 0.8], 0.0)
    chipsf = rng.lognormal(0.15 + excess, np.where(bogus, 0.6, 0.3)) * (1 + (snr / 16) ** 2)
    minor = np.round(0.36 * fwhm * rng.lognormal(0, 0.07, count) / np.sqrt(elong), 3)
    major = np.round(minor * elong, 3)
    rb = 1 / (1 + np.exp(-rng.normal(np.where(bogus, -0.35, 1.05 + 0.9 * np.log10(snr)), 0.85)))
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
        "nbad": ray * (rng.random(count) < 0.3) * rng.integers(1, 5, count),
        "sumrat": np.clip(1 - rng.exponential(np.where(bogus, 0.35, 0.02)), 0.3, 1.0),
        "magdiff": rng.normal(0.01, np.where(residual, 0.3, 0.06)) + ray * rng.exponential(0.25, count),
        "rb": np.round(rb * 700) / 700,  # votes of a forest of trees: steps of 1/700 in the real packets
        "drb": 1 / (1 + np.exp(-rng.normal(np.where(bogus, -1.2, 5.2 + 0.03 * snr), 2.6))),
    }
