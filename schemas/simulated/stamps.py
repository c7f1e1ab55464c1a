"""Stamps: 63 × 63 pixel pictures of science, reference and difference image, as gzipped FITS.

The bytes are written directly: a header of a dozen cards, then big-endian float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from isal import igzip

from schemas.simulated.identity import Neighbour
from schemas.simulated.lightcurves import flux_of
from schemas.simulated.survey import PIXEL_SCALE, QUADRANT_SHAPE, pixel_noise

SIDE = 63
_CENTRE = SIDE // 2
_BLOCK = 2880
_GRID = np.arange(SIDE, dtype=np.float32)
_REFERENCE_FWHM = 2.05  # pixels
_REFERENCE_NOISE = 0.25  # of the science image's
_WINGS = 1.12  # real profiles are so much wider than a Gaussian of their listed width
_DEEPER = np.float32(2.2)  # a source has so many more DN in the reference than in the science image
_GAIN = 6.2  # electrons per DN
_LEVEL = 1  # isal's level: the real stamps are not compressed harder either
NAMES = ("Science", "Template", "Difference")
_SUFFIX = {
    True: ("targ_sci", "ref", "targ_scimref"),
    False: ("targ_sci", "ref", "targ_refmsci"),  # a negative difference is shown as reference minus science
}


def stamp_names(candid: int, pid: int, positive: bool) -> tuple[str, str, str]:
    """File names of the three stamps, as the survey gives them."""
    science, reference, difference = _SUFFIX[positive]
    return (
        f"candid{candid}_pid{pid}_{science}.fits.gz",
        f"candid{candid}_{reference}.fits.gz",
        f"candid{candid}_pid{pid}_{difference}.fits.gz",
    )


@dataclass(frozen=True)
class View:
    """What a stamp shows: a detection at `ra`, `dec` (deg), pixel `xpos`, `ypos`, which lies `east`, `north`
    arcsec from the object's true place, in an image of seeing `fwhm` (pixels) and `sky` level (DN).

    `flux` (DN) has its sign; `artefact` and its `angle` (rad) change what the change looks like.
    """

    ra: float
    dec: float
    xpos: float
    ypos: float
    fid: int
    east: float
    north: float
    fwhm: float
    zeropoint: float
    sky: float
    flux: float
    artefact: str | None = None
    angle: float = 0.0

    @property
    def shift(self) -> tuple[float, float]:
        """Where the detection lies from the middle of the stamp's middle pixel (x, y; at most half)."""
        return self.xpos - round(self.xpos), self.ypos - round(self.ypos)


def draw_stamps(
    near: Sequence[Neighbour], view: View, unixtime: int, rng: np.random.Generator
) -> tuple[bytes, bytes, bytes]:
    """Science, template and difference stamp of one detection, among the sources around its true place.

    `unixtime` goes into the gzip headers. The difference of a negative detection is reversed, so that the
    change is bright.
    """
    noise = float(pixel_noise(view.sky))
    static, deep = _scene(near, view)
    change = _change(view)
    light = np.maximum(static, 0)
    grain = rng.standard_normal((3, SIDE, SIDE), np.float32)
    shot = np.sqrt(np.float32(noise**2) + light / np.float32(_GAIN))
    science = static + change + np.float32(view.sky) + grain[0] * shot
    template = deep + np.float32(view.sky)
    template += grain[1] * np.sqrt(np.float32((_REFERENCE_NOISE * noise) ** 2) + light / 60)
    # What a subtraction leaves at bright stars: their edges, brighter on one side.
    residual = (np.roll(static, 1, int(rng.integers(2))) - static) * np.float32(0.03 * rng.normal())
    difference = change + residual + grain[2] * shot
    if view.flux < 0:
        difference = -difference
    mask, header = _outside(view.xpos, view.ypos), _header(view)
    science_gz, template_gz, difference_gz = (
        _fits_gz(image, mask, header, unixtime) for image in (science, template, difference)
    )
    return science_gz, template_gz, difference_gz


def _scene(near: Sequence[Neighbour], view: View) -> tuple[np.ndarray, np.ndarray]:
    """What does not change, at the seeing of the science image and, deeper, at that of the reference."""
    dx, dy = view.shift
    x = np.array([_CENTRE + dx - (n.east - view.east) / PIXEL_SCALE for n in near], np.float32)
    y = np.array([_CENTRE + dy + (n.north - view.north) / PIXEL_SCALE for n in near], np.float32)
    light = flux_of([n.mags[view.fid - 1] for n in near]) * 10 ** (0.4 * (view.zeropoint - 25))
    cored = light * np.array([n.core if n.radius else 1.0 for n in near])
    # Discs are soft already: one picture of them serves both seeings.
    discs = _galaxies(near, x, y, light - cored, 0.5 * (view.fwhm + _REFERENCE_FWHM))
    return _stars(x, y, cored, view.fwhm) + discs, _DEEPER * (_stars(x, y, cored, _REFERENCE_FWHM) + discs)


def _stars(x: np.ndarray, y: np.ndarray, light: np.ndarray, fwhm: float) -> np.ndarray:
    """Sum of round Gaussians: a product of two thin matrices."""
    width = np.float32(_WINGS * fwhm / 2.355)
    rows = np.exp(-0.5 * ((_GRID - y[:, None].astype(np.float32)) / width) ** 2)
    columns = np.exp(-0.5 * ((_GRID - x[:, None].astype(np.float32)) / width) ** 2)
    height = (light / (2 * math.pi * width * width)).astype(np.float32)
    return (rows * height[:, None]).T @ columns


def _galaxies(
    near: Sequence[Neighbour], x: np.ndarray, y: np.ndarray, light: np.ndarray, fwhm: float
) -> np.ndarray:
    """Sum of inclined exponential discs, softened by the seeing."""
    image = np.zeros((SIDE, SIDE), np.float32)
    soft = fwhm / 2.355
    for i, source in enumerate(near):
        if source.radius == 0:
            continue
        scale = math.hypot(source.radius / 1.68 / PIXEL_SCALE, 0.6 * soft)
        reach = 7 * scale
        rows, columns = _patch(y[i], reach), _patch(x[i], reach)
        across, along = _GRID[columns] - x[i], (_GRID[rows] - y[i])[:, None]
        cos, sin = math.cos(source.angle), math.sin(source.angle)
        major, minor = across * cos + along * sin, (along * cos - across * sin) * (1 / source.ratio)
        profile = np.exp(np.sqrt(major * major + minor * minor + soft * soft) * (-1 / scale))
        # An exponential disc of scale s, softened at its centre, holds 2π s² q (1 + a) e⁻ᵃ with a = soft / s.
        total = 2 * math.pi * scale**2 * source.ratio * (1 + soft / scale) * math.exp(-soft / scale)
        image[rows, columns] += profile * (light[i] / total)
    return image


def _patch(centre: float, reach: float) -> slice:
    """The pixels within `reach` of `centre` along one axis; empty when it lies off the stamp."""
    return slice(max(0, math.floor(centre - reach)), max(0, min(SIDE, math.ceil(centre + reach) + 1)))


def _change(view: View) -> np.ndarray:
    """The change itself: a star's image, or what an artefact looks like."""
    dx, dy = view.shift
    x, y, flux = np.array([_CENTRE + dx]), np.array([_CENTRE + dy]), np.array([view.flux])
    if view.artefact == "residual":  # a star out of place: a dipole
        return 1.8 * _stars(x, y, flux, view.fwhm) - 0.9 * _stars(x + 1.6, y - 0.8, flux, view.fwhm)
    if view.artefact == "cosmic ray":
        return _stars(x, y, 0.7 * flux, 0.9) + _stars(x + 0.8, y + 0.5, 0.3 * flux, 0.9)
    if view.artefact == "streak":
        along = np.arange(-60.0, 61.0)
        spread = np.full(len(along), view.flux / 8)
        return _stars(x + math.cos(view.angle) * along, y + math.sin(view.angle) * along, spread, view.fwhm)
    return _stars(x, y, flux, view.fwhm)


def _outside(xpos: float, ypos: float) -> tuple[slice, slice] | None:
    """The part of the stamp that lies on the detector, or None when all of it does."""
    column, row = round(xpos) - _CENTRE, round(ypos) - _CENTRE
    rows, columns = QUADRANT_SHAPE
    if column >= 0 and row >= 0 and column + SIDE <= columns and row + SIDE <= rows:
        return None
    return slice(max(0, -row), min(SIDE, rows - row)), slice(max(0, -column), min(SIDE, columns - column))


def _fits_gz(image: np.ndarray, inside: tuple[slice, slice] | None, header: bytes, unixtime: int) -> bytes:
    data = np.full((SIDE, SIDE), np.nan, ">f4")
    if inside is None:
        data[:] = image
    else:
        data[inside] = image[inside]
    raw = header + data.tobytes()
    return igzip.compress(raw + bytes(-len(raw) % _BLOCK), _LEVEL, mtime=unixtime)


def _header(view: View) -> bytes:
    """Cards: image, unit, and a tangent-plane WCS with north up and east left."""
    step = PIXEL_SCALE / 3600
    dx, dy = view.shift
    cards = (
        *(
            "SIMPLE  =                    T",
            "BITPIX  =                  -32",
            "NAXIS   =                    2",
        ),
        *(f"NAXIS1  = {SIDE:20d}", f"NAXIS2  = {SIDE:20d}", "BUNIT   = 'DN      '"),
        *("CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'"),
        *(f"CRVAL1  = {view.ra:20.7f}", f"CRVAL2  = {view.dec:20.7f}"),
        *(f"CRPIX1  = {_CENTRE + 1 + dx:20.4f}", f"CRPIX2  = {_CENTRE + 1 + dy:20.4f}"),
        *(f"CDELT1  = {-step:20.12f}", f"CDELT2  = {step:20.12f}", "END"),
    )
    return "".join(card.ljust(80) for card in cards).ljust(_BLOCK).encode("ascii")
