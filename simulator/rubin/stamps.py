"""Rubin's cut-outs: plain FITS files of three images (nJy), turned by the angle of the visit.

The bytes are written directly: with astropy this would take longer than all the rest. Source: FITS standard
4.0, and the headers of real packets.
"""

from __future__ import annotations

import numpy as np

SIDE = 30
PIXEL = 0.2  # arcsec
_BLOCK = 2880


def _card(name: str, value: str) -> str:
    return f"{name:<8}= {value:>20}".ljust(80)


def _unit(first: str, image: np.ndarray, cards: list[str]) -> bytes:
    kind = -32 if image.dtype.itemsize == 4 else -64
    head = [first, _card("BITPIX", str(kind)), _card("NAXIS", "2")]
    head += [
        _card("NAXIS1", str(image.shape[1])),
        _card("NAXIS2", str(image.shape[0])),
        *cards,
        "END".ljust(80),
    ]
    text = "".join(head).encode()
    data = image.astype(f">f{image.dtype.itemsize}").tobytes()
    return text.ljust(-(-len(text) // _BLOCK) * _BLOCK) + data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")


def _psf(x: float, y: float, side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    shape = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.8**2))
    return np.asarray(shape / shape.sum())


def _artefact(kind: str, x: float, y: float, rng: np.random.Generator) -> np.ndarray:
    """The light of an artefact over its flux: a dipole, a cosmic ray's track, or a trail."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle = float(rng.uniform(0, np.pi))
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    if kind == "dipole":
        dx, dy = 1.5 * np.cos(angle), 1.5 * np.sin(angle)
        return 2 * (_psf(x + dx, y + dy, SIDE) - 0.8 * _psf(x - dx, y - dy, SIDE))
    length, width = (3.0, 0.5) if kind == "cosmic ray" else (9.0, 1.8)
    light = np.exp(-0.5 * (across / width) ** 2) * (np.abs(along) <= length)
    return np.asarray(light / light.sum())


ARTEFACTS = ("dipole", "cosmic ray", "trail")


def cutouts(
    flux: float,
    error: float,
    background: float,
    ra: float,
    dec: float,
    angle: float,
    rng: np.random.Generator,
    artefact: str = "",
) -> dict[str, bytes]:
    """The three cut-outs of a source.

    Parameters
    ----------
    flux, error
        nJy, of the source on the difference image.
    background
        nJy, of what is there in the template: a star or the middle of a galaxy.
    ra, dec
        degrees, where the source is: the reference position.
    angle
        radians, by which the visit is turned.
    rng
        For noise.
    artefact
        What it is if nothing in the sky, one of ARTEFACTS.
    """
    x, y = (SIDE - 1) / 2 + rng.uniform(-0.5, 0.5, 2)
    psf, noise = _psf(x, y, SIDE), error / 6
    template = background * psf + rng.normal(0, noise / 3, (SIDE, SIDE))
    light = _artefact(artefact, x, y, rng) if artefact else psf
    difference = flux * light + rng.normal(0, noise, (SIDE, SIDE))
    step = PIXEL / 3600
    cards = [
        _card("EXTEND", "T"),
        _card("BUNIT", "'nJy     '"),
        _card("WCSAXES", "2"),
        *(_card(f"CRPIX{axis}", f"{at + 1:.12f}") for axis, at in ((1, x), (2, y))),
        _card("PC1_1", f"{-step * np.cos(angle):.13E}"),
        _card("PC1_2", f"{step * np.sin(angle):.13E}"),
        _card("PC2_1", f"{step * np.sin(angle):.13E}"),
        _card("PC2_2", f"{step * np.cos(angle):.13E}"),
        *(_card(f"CDELT{axis}", "1.0") for axis in (1, 2)),
        *(_card(f"CRVAL{axis}", f"{at:.12f}") for axis, at in ((1, ra), (2, dec))),
    ]
    around = [_card("PCOUNT", "0"), _card("GCOUNT", "1")]
    more = _unit(_card("XTENSION", "'IMAGE   '"), np.full((SIDE, SIDE), noise, "f4"), around)
    more += _unit(_card("XTENSION", "'IMAGE   '"), _psf(20, 20, 41), around)
    first = _card("SIMPLE", "T")
    images = {
        "cutoutScience": template + difference,
        "cutoutTemplate": template,
        "cutoutDifference": difference,
    }
    return {name: _unit(first, image.astype("f4"), cards) + more for name, image in images.items()}
