"""The score of a difference stamp once more, a pixel at a time, on FITS files read by astropy."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from astropy.io import fits

HALF_AND_WIDTH = {
    "negative": (0.20, 0.03),
    "ellipticity": (0.25, 0.04),
    "sharpness": (0.24, 0.025),
    "size": (2.15, 0.05),
    "far": (35.0, 8.0),
}


def pixels_of(data: bytes) -> dict[tuple[int, int], float]:
    """(row, column) from the middle pixel -> value, within 31 pixels; missing ones left out."""
    raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    with fits.open(io.BytesIO(raw), ignore_missing_simple=True) as units:
        image = units[0].data
    rows, columns = image.shape
    found = {}
    for row in range(rows):
        for column in range(columns):
            # a longer side is cut about its middle, as a shorter one is laid upon it
            place = row - rows // 2, column - columns // 2
            value = float(image[row, column])
            if max(map(abs, place)) <= 31 and not math.isnan(value):
                found[place] = value
    return found


def shape(data: bytes) -> dict[str, float] | None:
    """The numbers that the score is made of; None for an image that says nothing."""
    found = pixels_of(data)
    sky = [v for (y, x), v in found.items() if math.hypot(y, x) > 18 and (y + x) % 4 == 0]
    middle = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    if not sky or any(place not in found for place in middle):
        return None
    level = median(sky)
    sigma = 1.4826 * median([abs(v - level) for v in sky])
    if sigma <= 0:
        return None
    snr = {place: (v - level) / sigma for place, v in found.items()}
    core = {(y, x): v for (y, x), v in snr.items() if max(abs(y), abs(x)) <= 7}
    near = [v for (y, x), v in core.items() if math.hypot(y, x) <= 7]
    above, below = sum(v for v in near if v > 3), sum(-v for v in near if v < -3)
    light = {(y, x): v * math.exp(-(y * y + x * x) / 18) for (y, x), v in core.items() if v > 0}
    total = sum(light.values())
    mean_y = sum(w * y for (y, _), w in light.items()) / total
    mean_x = sum(w * x for (_, x), w in light.items()) / total
    yy = sum(w * (y - mean_y) ** 2 for (y, _), w in light.items()) / total
    xx = sum(w * (x - mean_x) ** 2 for (_, x), w in light.items()) / total
    xy = sum(w * (y - mean_y) * (x - mean_x) for (y, x), w in light.items()) / total
    inside = sum(v for (y, x), v in core.items() if math.hypot(y, x) <= 5)
    return {
        "negative": below / (above + below) if above + below else 0.0,
        "ellipticity": math.hypot(xx - yy, 2 * xy) / (xx + yy),
        "sharpness": max(core[place] for place in middle) / inside if inside > 0 else math.inf,
        "size": math.sqrt((xx + yy) / 2),
        "far": sum(abs(v) > 5 and math.hypot(y, x) > 9 for (y, x), v in snr.items()),
    }


def score(data: bytes) -> float:
    """From 0 to 1; NaN for an image that says nothing."""
    numbers = shape(data)
    if numbers is None:
        return math.nan
    factors = [
        1 / (1 + math.exp(min(50, max(-50, (numbers[name] - half) / width))))
        for name, (half, width) in HALF_AND_WIDTH.items()
    ]
    return math.prod(factors)


def stamp_point(packet: Mapping[str, Any]) -> bool:
    """The filter."""
    candidate, stamp = packet["candidate"], packet.get("cutoutDifference") or {}
    rb, nbad, data = candidate.get("rb"), candidate.get("nbad"), stamp.get("stampData")
    if rb is None or not rb >= 0.2 or nbad != 0 or not data:
        return False
    try:
        return score(data) >= 0.5
    except (OSError, EOFError, ValueError):  # no image
        return False
