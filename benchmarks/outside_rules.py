"""The rules of `benchmarks.everything` that read a catalogue, a watchlist and sky maps, one alert at a time.

As people write them who read packet by packet: k-d trees asked for one place, the cells of each sky map
sorted once and looked up by bisection, cheap cuts first. HEALPix cells are computed in plain Python, which
for one place is quicker than any library that is built for arrays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import asin, cos, floor, pi, radians, sin, sqrt

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.rules import RULES, Packet

_ARCSEC = pi / 180 / 3600
_ORDER = 29
_SPREAD = [sum(((byte >> bit) & 1) << 2 * bit for bit in range(8)) for byte in range(256)]
Rule = Callable[[Packet], bool]


def real_bogus(packet: Packet) -> bool:
    score = packet["candidate"]["rb"]
    return score is not None and score >= 0.65


def solar_system(packet: Packet) -> bool:
    distance = packet["candidate"]["ssdistnr"]
    return distance is not None and 0 <= distance <= 5


def vector(ra: float, dec: float) -> tuple[float, float, float]:
    """The unit vector of a place in degrees."""
    lon, lat = radians(ra), radians(dec)
    return cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)


def cell_of(ra: float, dec: float) -> int:
    """The HEALPix cell of order 29, nested, of a place in degrees.

    Source: Gorski et al. 2005, ApJ 622, 759, section 5 and the appendix.
    """
    side = 1 << _ORDER
    z, quarter = sin(radians(dec)), (ra % 360) / 90
    if abs(z) <= 2 / 3:
        first, second = side * (0.5 + quarter), side * z * 0.75
        up, down = floor(first - second), floor(first + second)
        face_up, face_down = up >> _ORDER, down >> _ORDER
        if face_up == face_down:
            face = face_up % 4 + 4
        else:
            face = face_up % 4 if face_up < face_down else face_down % 4 + 8
        x, y = down & (side - 1), side - (up & (side - 1)) - 1
    else:
        cap = min(3, floor(quarter))
        part, away = quarter - cap, side * sqrt(3 * (1 - abs(z)))
        up, down = min(side - 1, floor(part * away)), min(side - 1, floor((1 - part) * away))
        face, x, y = (cap, side - down - 1, side - up - 1) if z > 0 else (cap + 8, up, down)
    return face << 2 * _ORDER | _spread(x) | _spread(y) << 1


def _spread(number: int) -> int:
    """A zero after each bit."""
    return (
        _SPREAD[number & 255]
        | _SPREAD[number >> 8 & 255] << 16
        | _SPREAD[number >> 16 & 255] << 32
        | _SPREAD[number >> 24] << 48
    )


@dataclass(frozen=True)
class Map:
    """A sky map: when it was (JD), and its cells, sorted, with the credible level of each."""

    jd: float
    begins: list[int]
    ends: list[int]
    level: list[float]

    def level_at(self, cell: int) -> float:
        """Credible level of a cell; infinite where the map says nothing."""
        at = bisect_right(self.begins, cell) - 1
        return self.level[at] if at >= 0 and cell < self.ends[at] else float("inf")


def rules(
    catalogue: tuple[np.ndarray, np.ndarray, np.ndarray],
    targets: tuple[np.ndarray, np.ndarray, np.ndarray],
    maps: Sequence[Map],
) -> dict[str, Rule]:
    """Every rule of `benchmarks.everything`.

    Parameters
    ----------
    catalogue
        ra, dec (deg) and mag of its sources.
    targets
        ra, dec (deg) and radius (arcsec) of the watchlist.
    maps
        The sky maps.
    """
    sources, magnitudes = _tree(*catalogue[:2]), catalogue[2].tolist()
    wanted, radii = _tree(*targets[:2]), targets[2].tolist()
    near, widest = 2 * sin(2 * _ARCSEC / 2), 2 * sin(max(radii) * _ARCSEC / 2)

    def in_catalogue(packet: Packet) -> bool:
        candidate = packet["candidate"]
        if candidate["rb"] is None or candidate["rb"] <= 0.5:
            return False
        chord, row = sources.query(vector(candidate["ra"], candidate["dec"]), distance_upper_bound=near)
        return bool(chord < near and magnitudes[row] < 20)

    def on_list(packet: Packet) -> bool:
        candidate = packet["candidate"]
        if candidate["rb"] is None or candidate["rb"] <= 0.5:
            return False
        place = vector(candidate["ra"], candidate["dec"])
        for row in wanted.query_ball_point(place, widest):
            apart = sqrt(sum((a - b) ** 2 for a, b in zip(place, wanted.data[row], strict=True)))
            if 2 * asin(apart / 2) / _ARCSEC <= radii[row]:
                return True
        return False

    def in_maps(packet: Packet) -> bool:
        candidate, best, since = packet["candidate"], 0.9, 99.0
        cell = cell_of(candidate["ra"], candidate["dec"])
        for one in maps:
            days = candidate["jd"] - one.jd
            if 0 <= days <= 30 and (level := one.level_at(cell)) < best:
                best, since = level, days
        return since < 3

    outside: dict[str, Rule] = {"with-catalogue": in_catalogue, "with-watchlist": on_list}
    return {
        **RULES,
        "real_bogus": real_bogus,
        "solar_system": solar_system,
        **outside,
        "with-sky-maps": in_maps,
    }


def _tree(ra: np.ndarray, dec: np.ndarray) -> cKDTree:
    lon, lat = np.radians(ra), np.radians(dec)
    return cKDTree(np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]))
