"""How much a difference image looks like one point source: moments and dipole, in NumPy.

Five numbers of the pixels are each turned into a factor between 0 and 1 by a logistic curve; the score is
their product. An artefact fails at least one of them: a dipole has negative light beside positive, a cosmic
ray or a hot pixel is too sharp, a ghost too wide, a trail or a column too long, and bright far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from filters.stamps.images import Images

_CORE = 7  # pixels from the middle, to each side
_FAR = 9.0
_SKY = 18.0  # beyond it is sky
_WEIGHT = 3.0  # standard deviation of the weights of the moments
_SURE = 3.0  # standard deviations of the sky
_BRIGHT = 5.0
_BLOCK = 64  # images at a time: what is in the cache is quick

LIMITS: dict[str, tuple[float, float]] = {
    "negative": (0.20, 0.03),
    "ellipticity": (0.25, 0.04),
    "sharpness": (0.24, 0.025),
    "size": (2.15, 0.05),
    "far": (35.0, 8.0),
}
"""Number -> where its factor is one half, and the width of its logistic curve.

Source: between the real sources and the artefacts of the simulated sky, seeds 1 to 3 (docs/stamps.md)."""


@dataclass(frozen=True)
class Shape:
    """What the pixels of n difference images say; each (n,) float64, NaN where an image says nothing.

    negative: share of the light within 7 pixels that is negative, of pixels beyond 3 sigma. ellipticity: of
    the light-weighted second moments, 0 for round, 1 for a line. sharpness: the brightest pixel by the light
    within 5 pixels. size: root of the mean second moment, pixels. far: pixels beyond 5 sigma, of either sign,
    more than 9 pixels from the middle. snr: the light within 5 pixels by its error.
    """

    negative: np.ndarray
    ellipticity: np.ndarray
    sharpness: np.ndarray
    size: np.ndarray
    far: np.ndarray
    snr: np.ndarray


def point_score(found: Images) -> np.ndarray:
    """(n,) float64 from 0 to 1: near 1 for one point source; NaN for a stamp that is missing or damaged."""
    shape = shape_of(found)
    score = np.ones(len(found))
    for name, (half, width) in LIMITS.items():
        away = np.clip((getattr(shape, name) - half) / width, -50.0, 50.0)
        score *= 1.0 / (1.0 + np.exp(away))
    return score


def shape_of(found: Images) -> Shape:
    """What the pixels of difference images say, the change bright as ZTF turns them.

    An image without a measurement in its middle nine pixels, or without sky around, says nothing.
    """
    parts = [_shapes(found.pixels[at : at + _BLOCK]) for at in range(0, len(found), _BLOCK)]
    columns = np.concatenate(parts, axis=1) if parts else np.empty((6, 0))
    columns[:, ~found.there] = np.nan
    return Shape(*columns)


def _shapes(pixels: np.ndarray) -> np.ndarray:
    """(6, n): the fields of Shape."""
    side = pixels.shape[1]
    middle = side // 2
    rows, columns = np.mgrid[-middle : side - middle, -middle : side - middle]
    radius = np.hypot(rows, columns)
    level, sigma = _sky(pixels[:, (radius > _SKY) & ((rows + columns) % 4 == 0)])
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.abs(pixels - level[:, None, None].astype(np.float32))
        far = ((away > (_BRIGHT * sigma[:, None, None]).astype(np.float32)) & (radius > _FAR)).sum((1, 2))
        near = slice(middle - _CORE, middle + _CORE + 1)
        core = (pixels[:, near, near] - level[:, None, None]) / sigma[:, None, None]
        mute = ~np.isfinite(core[:, _CORE - 1 : _CORE + 2, _CORE - 1 : _CORE + 2]).all((1, 2))
        found = np.stack([*_core_shapes(np.nan_to_num(core, posinf=0.0, neginf=0.0)), far])
    found[:, mute | ~(sigma > 0)] = np.nan
    negative, ellipticity, sharpness, size, snr, far = found
    return np.stack([negative, ellipticity, sharpness, size, far, snr])


def _core_shapes(core: np.ndarray) -> list[np.ndarray]:
    """Negative share, ellipticity, sharpness, size, signal to noise of (n, 15, 15) pixels in sigma.

    Sums go along each image's own pixels, in their order: a matrix product would not, and its last digits
    would depend on how many images there are.
    """
    y, x = np.mgrid[-_CORE : _CORE + 1, -_CORE : _CORE + 1].astype(float)
    radius = np.hypot(x, y)
    within = (radius <= _CORE).ravel()
    flat = np.ascontiguousarray(core.reshape(len(core), -1))
    above = np.where((flat > _SURE) & within, flat, 0.0).sum(1)
    below = np.where((flat < -_SURE) & within, -flat, 0.0).sum(1)
    light = np.maximum(flat, 0.0) * np.exp(-0.5 * (radius / _WEIGHT) ** 2).ravel()
    x, y = x.ravel(), y.ravel()
    total = np.maximum(light.sum(1), 1e-9)
    mx, my, xx, yy, xy = ((light * of).sum(1) / total for of in (x, y, x * x, y * y, x * y))
    xx, yy, xy = xx - mx * mx, yy - my * my, xy - mx * my
    trace = np.maximum(xx + yy, 1e-9)
    aperture = (radius <= 5.0).ravel()
    inside = np.where(aperture, flat, 0.0).sum(1)
    peak = core[:, _CORE - 1 : _CORE + 2, _CORE - 1 : _CORE + 2].max((1, 2))
    return [
        below / np.maximum(above + below, 1e-9),
        np.hypot(xx - yy, 2 * xy) / trace,
        np.where(inside > 0, peak / np.maximum(inside, 1e-9), np.inf),
        np.sqrt(trace / 2),
        inside / np.sqrt(aperture.sum()),
    ]


def _sky(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and standard deviation ((n,) each) of the sky pixels (n, k), by medians; NaN pixels left out."""
    with np.errstate(invalid="ignore"):
        level = _median(values)
        return level, 1.4826 * _median(np.abs(values - level[:, None]))


def _median(values: np.ndarray) -> np.ndarray:
    holes = np.isnan(values).any(1)
    found = np.full(len(values), np.nan)
    found[~holes] = np.median(values[~holes], 1)
    for row in np.flatnonzero(holes):
        there = values[row][~np.isnan(values[row])]
        found[row] = np.median(there) if len(there) else np.nan
    return found
