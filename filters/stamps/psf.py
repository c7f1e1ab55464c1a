"""How much of a difference image its own point-spread function explains: for surveys that send it, as Rubin
does.

The function is put where the source is and scaled to fit. What is left beyond noise, by the light that it
explains, is small for a point source of any brightness, and large for a dipole, a trail or a cosmic ray.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from schemas.errors import PacketError
from schemas.packets.packet import planes

NEAR = 10.0
"""pixels around the source that have to be explained; those beyond tell the noise."""

HALF = 0.05
"""Light that is left by the light explained, at which the score is one half."""

_SURE = 3.0  # standard deviations of chi squared that noise alone may exceed it by
_FEWEST = 20  # pixels beyond NEAR


def psf_score(stamps: pd.Series) -> np.ndarray:
    """(n,) float64 from 0 to 1: near 1 for a point source; NaN for a stamp that cannot be judged.

    Parameters
    ----------
    stamps
        A column of plain FITS files: the difference image, whose header says where the source is (CRPIX),
        and the point-spread function as the third image.
    """
    return np.array([_scored(data) for data in stamps.array], float)


def _scored(data: object) -> float:
    if not isinstance(data, bytes) or not data:
        return np.nan
    try:
        (cards, image), _, (_, psf), *_ = planes(data)
        column, row = (float(cards[name]) - 1 for name in (b"CRPIX1", b"CRPIX2"))
    except (PacketError, ValueError, KeyError):
        return np.nan
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    model = _at(np.asarray(psf, float), rows - row, columns - column)
    near = np.hypot(rows - row, columns - column) <= NEAR
    there = np.isfinite(image)
    inside, outside = near & there, ~near & there
    light = float((model[inside] ** 2).sum())
    if not light > 0 or outside.sum() < _FEWEST:
        return np.nan
    pixels = np.asarray(image, float)
    amplitude = float((pixels[inside] * model[inside]).sum()) / light
    left = pixels - amplitude * model
    beyond = left[outside]
    noise = 1.4826 * float(np.median(np.abs(beyond - np.median(beyond))))
    if not noise > 0:
        return np.nan
    count = int(inside.sum())
    excess = float((left[inside] ** 2).sum()) / noise**2 - count - _SURE * np.sqrt(2.0 * count)
    explained = amplitude**2 * light / noise**2
    return 1 / (1 + max(excess, 0.0) / max(explained, 1e-9) / HALF)


def _at(psf: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The point-spread function at so many pixels from its middle, linear between its pixels; 0 outside."""
    y, x = rows + psf.shape[0] // 2, columns + psf.shape[1] // 2
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = (y0 >= 0) & (x0 >= 0) & (y0 < psf.shape[0] - 1) & (x0 < psf.shape[1] - 1)
    y0, x0 = np.where(inside, y0, 0), np.where(inside, x0, 0)
    v, u = y - y0, x - x0
    low = psf[y0, x0] * (1 - u) + psf[y0, x0 + 1] * u
    high = psf[y0 + 1, x0] * (1 - u) + psf[y0 + 1, x0 + 1] * u
    return np.where(inside, low * (1 - v) + high * v, 0.0)
