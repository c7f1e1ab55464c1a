"""Stamps: 63 × 63 pixel pictures of science, reference and difference image, as gzipped FITS.

The bytes are written directly: a header of a dozen cards, then big-endian float32. Noise is cut at random
from a fixed pool of normal numbers: drawing 12,000 new ones for each alert would take longer than all the
rest.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from isal import igzip

from simulator.measure.catalogue import hashed
from simulator.packets.pixels import SIDE, compose, paint_galaxies, paint_stars
from simulator.sky.lightcurves import flux_of
from simulator.sky.telescope import PIXEL_SCALE, QUADRANT_SHAPE, pixel_noise

CENTRE = SIDE // 2
_BLOCK = 2880
_REFERENCE_FWHM = 2.05  # pixels
_REFERENCE_NOISE = 0.25  # of the science image's
_WINGS = 1.12 / 2.355  # real profiles are wider by this factor than a Gaussian of their listed width
_DEEPER = 2.2  # a source has so many more DN in the reference than in the science image
_POOL = 1 << 18
_LEVEL = 1  # isal's level: similar to the compression of real stamps
NAMES = ("Science", "Template", "Difference")
_SUFFIX = {
    True: ("targ_sci", "ref", "targ_scimref"),
    False: ("targ_sci", "ref", "targ_refmsci"),  # a negative difference is shown as reference minus science
}

Points = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def stamp_names(candid: int, pid: int, positive: bool) -> tuple[str, str, str]:
    """File names of the three stamps, as the survey gives them.

    Parameters
    ----------
    candid
        The alert.
    pid
        Its quadrant exposure.
    positive
        Whether it is brighter than the reference.
    """
    science, reference, difference = _SUFFIX[positive]
    return (
        f"candid{candid}_pid{pid}_{science}.fits.gz",
        f"candid{candid}_{reference}.fits.gz",
        f"candid{candid}_pid{pid}_{difference}.fits.gz",
    )


class Scene(NamedTuple):
    """The sources around: places in pixels from the object's true place, light (DN) in the science image."""

    x: np.ndarray
    y: np.ndarray
    light: np.ndarray
    core: np.ndarray
    radius: np.ndarray
    ratio: np.ndarray
    angle: np.ndarray


@dataclass(frozen=True)
class View:
    """What a stamp shows: a detection at `ra`, `dec` (deg), pixel `xpos`, `ypos`, which lies `east`, `north`
    arcsec from the object's true place, on a detector turned by `turn` (rad), in an image of seeing `fwhm`
    (pixels) and `sky` level (DN).

    `flux` (DN) has its sign; `artefact`, `angle` (rad) and `trail` (pixels) say what the change looks like.
    """

    candid: int
    ra: float
    dec: float
    xpos: float
    ypos: float
    east: float
    north: float
    turn: float
    fwhm: float
    sky: float
    flux: float
    artefact: str | None = None
    angle: float = 0.0
    trail: float = 0.0

    @property
    def shift(self) -> tuple[float, float]:
        """Where the detection lies from the middle of the stamp's middle pixel (x, y; at most half)."""
        return self.xpos - round(self.xpos), self.ypos - round(self.ypos)


def draw_stamps(scene: Scene, view: View, unixtime: int, seed: int) -> list[bytes]:
    """Science, template and difference stamp of one detection, as gzipped FITS files.

    The difference of a negative detection is reversed, so that the change is bright. Pixels off the detector
    are NaN.

    Parameters
    ----------
    scene
        The sources around its true place.
    view
        What the stamps show.
    unixtime
        Time in the gzip headers, s.
    seed
        Of the noise.
    """
    images = _pictures(scene, view, seed)
    outside = _outside(view.xpos, view.ypos)
    if outside is not None:
        images[:, ~outside] = np.nan
    data, header = images.astype(">f4"), _header(view)
    padding = bytes(-(len(header) + data[0].nbytes) % _BLOCK)
    return [
        igzip.compress(b"".join((header, picture.tobytes(), padding)), _LEVEL, mtime=unixtime)
        for picture in data
    ]


def _pictures(scene: Scene, view: View, seed: int) -> np.ndarray:
    """(3, SIDE, SIDE) float32: science, template, difference."""
    dx, dy = view.shift
    x = scene.x + (CENTRE + dx + view.east / PIXEL_SCALE)
    y = scene.y + (CENTRE + dy + view.north / PIXEL_SCALE)
    noise = float(pixel_noise(view.sky))
    faint = 0.02 * noise
    static, deep, discs, change = np.zeros((4, SIDE, SIDE), np.float32)
    stars = scene.light * scene.core
    paint_stars(static, x, y, stars, _WINGS * view.fwhm, faint)
    paint_stars(deep, x, y, stars, _WINGS * _REFERENCE_FWHM, faint)
    # Discs are soft already: one picture of them serves both seeings.
    soft = 0.5 * (view.fwhm + _REFERENCE_FWHM) / 2.355
    shape = (scene.radius / (1.68 * PIXEL_SCALE), scene.ratio, -(scene.angle + view.turn))
    paint_galaxies(discs, x, y, scene.light - stars, *shape, soft)
    for px, py, light, fwhm in _change(view):
        paint_stars(change, px, py, light, _WINGS * fwhm, faint)
    where, sign, slant = hashed(seed, 50, view.candid, np.arange(3))
    return compose(
        *(static, deep, discs, change, _pool(), int(where * _POOL)),
        *(view.sky, noise, _REFERENCE_NOISE * noise, _DEEPER),
        *(0.06 * (sign - 0.5), slant < 0.5, view.flux < 0),
    )


@cache
def _pool() -> np.ndarray:
    return np.random.default_rng(20171101).standard_normal(_POOL + 3 * SIDE * SIDE, np.float32)


def _change(view: View) -> list[Points]:
    """The change itself, as groups of points (columns, rows, DN, full width): a star's image, its trail when
    it moves, or what an artefact looks like."""
    dx, dy = view.shift
    x, y, flux = np.array([CENTRE + dx]), np.array([CENTRE + dy]), np.array([view.flux])
    cos, sin = math.cos(view.angle), math.sin(view.angle)
    if view.artefact is None:
        if view.trail < 1.5:
            return [(x, y, flux, view.fwhm)]
        along = np.linspace(-0.5, 0.5, max(3, int(2 * view.trail))) * view.trail
        return [(x + cos * along, y + sin * along, np.full(len(along), view.flux / len(along)), view.fwhm)]
    if view.artefact == "residual":  # a star out of place: a dipole
        return [(x, y, 1.8 * flux, view.fwhm), (x + 1.8 * cos, y + 1.8 * sin, -0.9 * flux, view.fwhm)]
    if view.artefact == "cosmic ray":
        return [(x, y, 0.7 * flux, 0.9), (x + 1.1 * cos, y + 1.1 * sin, 0.3 * flux, 0.9)]
    if view.artefact == "streak":
        along = np.arange(-60.0, 61.0)
        return [(x + cos * along, y + sin * along, np.full(len(along), view.flux / 8), view.fwhm)]
    return _detector(view, x, y, flux)


def _detector(view: View, x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> list[Points]:
    """Defects of detector and optics."""
    column = np.arange(-40.0, 41.0)
    if view.artefact == "bleed trail":  # a column of alternating sign, widest where the star is
        light = view.flux / 10 * np.where(column % 7 < 4, 1.0, -0.5)
        return [(np.full(len(column), x[0]), y + column, light, 1.8), (x, y, flux, view.fwhm)]
    if view.artefact == "ghost":  # a piece of a wide ring, brighter where it was detected
        around = np.linspace(0, 2 * np.pi, 90)
        middle = (x[0] - view.trail * math.cos(view.angle), y[0] - view.trail * math.sin(view.angle))
        ring = (middle[0] + view.trail * np.cos(around), middle[1] + view.trail * np.sin(around))
        return [(*ring, np.full(len(around), view.flux / 3), 9.0), (x, y, 0.5 * flux, 5.0)]
    if view.artefact == "edge":  # the border of the reference: a ridge along the detector's edge
        upright = view.xpos < 32 or view.xpos > QUADRANT_SHAPE[1] - 32
        across = np.zeros(len(column))
        ridge = (x + across, y + column) if upright else (x + column, y + across)
        return [(*ridge, np.full(len(column), view.flux / 9), 2.4), (x, y, flux / 2, view.fwhm)]
    if view.artefact == "hot column":
        return [(np.full(len(column), x[0]), y + column, np.full(len(column), view.flux / 6), 0.8)]
    return [(x, y, flux, 0.8)]  # a hot pixel


def _outside(xpos: float, ypos: float) -> np.ndarray | None:
    """Which pixels lie on the detector, or None when all of them do."""
    column, row = round(xpos) - CENTRE, round(ypos) - CENTRE
    rows, columns = QUADRANT_SHAPE
    if column >= 0 and row >= 0 and column + SIDE <= columns and row + SIDE <= rows:
        return None
    x, y = column + np.arange(SIDE), (row + np.arange(SIDE))[:, None]
    return (x >= 0) & (x < columns) & (y >= 0) & (y < rows)


def _header(view: View) -> bytes:
    """Cards: image, unit, and a tangent-plane WCS of the turned detector."""
    step = PIXEL_SCALE / 3600
    dx, dy = view.shift
    cos, sin = step * math.cos(view.turn), step * math.sin(view.turn)
    cards = (
        *(
            "SIMPLE  =                    T",
            "BITPIX  =                  -32",
            "NAXIS   =                    2",
        ),
        *(f"NAXIS1  = {SIDE:20d}", f"NAXIS2  = {SIDE:20d}", "BUNIT   = 'DN      '"),
        *("CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'"),
        *(f"CRVAL1  = {view.ra:20.7f}", f"CRVAL2  = {view.dec:20.7f}"),
        *(f"CRPIX1  = {CENTRE + 1 + dx:20.4f}", f"CRPIX2  = {CENTRE + 1 + dy:20.4f}"),
        *(f"CD1_1   = {-cos:20.12f}", f"CD1_2   = {sin:20.12f}"),
        *(f"CD2_1   = {-sin:20.12f}", f"CD2_2   = {-cos:20.12f}", "END"),
    )
    return "".join([card.ljust(80) for card in cards]).ljust(_BLOCK).encode("ascii")


def light_of(mags: np.ndarray, zeropoint: float) -> np.ndarray:
    """DN of sources in an image."""
    return flux_of(mags) * 10 ** (0.4 * (zeropoint - 25))


def unix_time(jd: float) -> int:
    """Seconds since 1970."""
    return int((jd - 2440587.5) * 86400)


__all__ = ["CENTRE", "NAMES", "SIDE", "Scene", "View", "draw_stamps", "light_of", "stamp_names", "unix_time"]
