"""Stamps: 63 × 63 pixel pictures of science, reference and difference image, as gzipped FITS.

The bytes are written directly: a header of a dozen cards, then big-endian float32.
"""

import math
from collections.abc import Sequence

import numpy as np
from isal import igzip

from schemas.simulated.identity import Neighbour
from schemas.simulated.lightcurves import flux_of
from schemas.simulated.survey import PIXEL_SCALE, QUADRANT_SHAPE

SIDE = 63
_CENTRE = SIDE // 2
_BLOCK = 2880
_GRID = np.arange(SIDE, dtype=np.float32)
_REFERENCE_FWHM = 2.05  # pixels
_REFERENCE_NOISE = 1.25  # DN
_DEEPER = 2.2  # a source has so many more DN in the reference than in the science image
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


def draw_stamps(
    *,
    near: Sequence[Neighbour],
    east: float,
    north: float,
    ra: float,
    dec: float,
    xpos: float,
    ypos: float,
    fid: int,
    fwhm: float,
    zeropoint: float,
    sky: float,
    noise: float,
    flux: float,
    artefact: str | None,
    unixtime: int,
    rng: np.random.Generator,
) -> tuple[bytes, bytes, bytes]:
    """Science, template and difference stamp of one detection.

    `near` are the sources around the object's true place, and (`east`, `north`) arcsec the measured place
    relative to it; `ra`, `dec` (deg) and pixel `xpos`, `ypos` are measured. `fwhm` in pixels, `sky` and pixel
    `noise` in DN, `flux` (DN) with its sign. The stamp is centred on the pixel of the measurement.
    """
    dx, dy = xpos - round(xpos), ypos - round(ypos)
    x = np.array([_CENTRE + dx - (n.east - east) / PIXEL_SCALE for n in near], np.float32)
    y = np.array([_CENTRE + dy + (n.north - north) / PIXEL_SCALE for n in near], np.float32)
    light = np.array([flux_of(n.mags[fid - 1]) for n in near]) * 10 ** (0.4 * (zeropoint - 25))
    point = np.array([n.radius == 0 for n in near], bool)
    change = _spot(_CENTRE + dx, _CENTRE + dy, fwhm, flux, artefact)
    # Discs are soft already: one picture of them serves both seeings.
    discs = _galaxies(near, x, y, light, 0.5 * (fwhm + _REFERENCE_FWHM))
    static = _stars(x[point], y[point], light[point], fwhm) + discs
    template = np.float32(_DEEPER) * (_stars(x[point], y[point], light[point], _REFERENCE_FWHM) + discs)
    template += np.float32(sky)
    grain = rng.standard_normal((3, SIDE, SIDE), np.float32)
    science = static + change + np.float32(sky)
    science += grain[0] * np.sqrt(noise**2 + np.maximum(static, 0) / 6.2).astype(np.float32)
    template += grain[1] * np.sqrt(_REFERENCE_NOISE**2 + np.maximum(static, 0) / 60).astype(np.float32)
    # What a subtraction leaves at bright stars: their edges, brighter on one side.
    residual = 0.03 * (np.roll(static, 1, int(rng.integers(2))) - static) * float(rng.normal(0, 1))
    difference = (
        change
        + residual
        + grain[2] * np.sqrt(noise**2 * 1.08 + np.maximum(static, 0) / 6.2).astype(np.float32)
    )
    if flux < 0:
        difference = -difference
    mask = _outside(xpos, ypos)
    header = _header(ra, dec, dx, dy)
    return tuple(_fits_gz(image, mask, header, unixtime) for image in (science, template, difference))  # type: ignore[return-value]


def _stars(x: np.ndarray, y: np.ndarray, light: np.ndarray, fwhm: float) -> np.ndarray:
    """Sum of round Gaussians: a product of two thin matrices."""
    width = np.float32(fwhm / 2.355)
    rows = np.exp(-0.5 * ((_GRID - y[:, None]) / width) ** 2)
    columns = np.exp(-0.5 * ((_GRID - x[:, None]) / width) ** 2)
    height = (light / (2 * math.pi * width * width)).astype(np.float32)
    return (rows * height[:, None]).T @ columns


def _galaxies(
    near: Sequence[Neighbour], x: np.ndarray, y: np.ndarray, light: np.ndarray, fwhm: float
) -> np.ndarray:
    """Sum of inclined exponential discs, softened by the seeing."""
    image = np.zeros((SIDE, SIDE), np.float32)
    for i, source in enumerate(near):
        if source.radius == 0 or max(abs(x[i] - _CENTRE), abs(y[i] - _CENTRE)) > _CENTRE + 8:
            continue
        scale = source.radius / 1.68 / PIXEL_SCALE
        soft = fwhm / 2.355
        cos, sin = math.cos(source.angle), math.sin(source.angle)
        across, along = _GRID - x[i], (_GRID - y[i])[:, None]
        major, minor = across * cos + along * sin, (along * cos - across * sin) / source.ratio
        profile = np.exp(-np.sqrt(major**2 + minor**2 + soft**2) / math.hypot(scale, 0.6 * soft))
        total = float(profile.sum()) or 1.0
        inside = 1.0 if max(abs(x[i] - _CENTRE), abs(y[i] - _CENTRE)) < _CENTRE - 6 else 0.3
        image += np.float32(light[i] * inside / total) * profile.astype(np.float32)
    return image


def _spot(x: float, y: float, fwhm: float, flux: float, artefact: str | None) -> np.ndarray:
    """The change itself: a star's image, or what an artefact looks like."""
    one = np.ones(1, np.float32)
    here = _stars(x * one, y * one, flux * one, fwhm)
    if artefact == "residual":  # a star out of place: a dipole
        return 1.8 * here - 0.9 * _stars((x + 1.6) * one, (y - 0.8) * one, flux * one, fwhm)
    if artefact == "cosmic ray":
        return _stars(
            np.array([x, x + 0.8], np.float32),
            np.array([y, y + 0.5], np.float32),
            np.array([0.7, 0.3]) * flux,
            0.9,
        )
    if artefact == "streak":
        along = np.arange(-60, 61, dtype=np.float32)
        return _stars(x + 0.8 * along, y + 0.6 * along, np.full(len(along), flux / 8), fwhm)
    return here


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


def _header(ra: float, dec: float, dx: float, dy: float) -> bytes:
    """Cards: image, unit, and a tangent-plane WCS with north up and east left."""
    step = PIXEL_SCALE / 3600
    cards = (
        *(
            "SIMPLE  =                    T",
            "BITPIX  =                  -32",
            "NAXIS   =                    2",
        ),
        *(f"NAXIS1  = {SIDE:20d}", f"NAXIS2  = {SIDE:20d}", "BUNIT   = 'DN      '"),
        *("CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'"),
        *(f"CRVAL1  = {ra:20.7f}", f"CRVAL2  = {dec:20.7f}"),
        *(f"CRPIX1  = {_CENTRE + 1 + dx:20.4f}", f"CRPIX2  = {_CENTRE + 1 + dy:20.4f}"),
        *(f"CDELT1  = {-step:20.12f}", f"CDELT2  = {step:20.12f}", "END"),
    )
    return "".join(card.ljust(80) for card in cards).ljust(_BLOCK).encode("ascii")
