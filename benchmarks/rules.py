"""Ten of the twelve ZTF filters as people write them who read one alert at a time: plain Python, cheap cuts
first, nothing computed that an earlier cut made needless. Thresholds as in `filters/ztf`.

Left out are `real_bogus` and `solar_system`, which pass more than half of the real packets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import floor, sqrt
from typing import Any

Packet = Mapping[str, Any]
Row = Mapping[str, Any]

_NIGHT_0 = 2457754.5


def _positive(row: Row) -> bool:
    return row["isdiffpos"] in ("t", "1")


def _at_source(candidate: Row, radius: float) -> bool:
    distance = candidate["distpsnr1"]
    return distance is not None and distance != -999 and distance <= radius


def _known_object(candidate: Row) -> bool:
    distance = candidate["ssdistnr"]
    return distance is not None and 0 <= distance <= 5


def _magnitude(candidate: Row, name: str) -> float:
    """Missing is NaN, with which every comparison is false."""
    value = candidate[name]
    return float("nan") if value is None or value == -999 else value


def _past(packet: Packet) -> list[Row]:
    now = packet["candidate"]["jd"]
    return [row for row in packet["prv_candidates"] or () if row["jd"] < now]


def _detections(packet: Packet) -> list[Row]:
    return [row for row in _past(packet) if row["magpsf"] is not None]


def star_galaxy(packet: Packet, radius: float = 1.5) -> bool:
    candidate = packet["candidate"]
    return _at_source(candidate, radius) and _magnitude(candidate, "sgscore1") > 0.5


def pure(packet: Packet, fwhm_max: float = 5) -> bool:
    candidate = packet["candidate"]
    return (
        candidate["rb"] is not None
        and candidate["rb"] >= 0.65
        and candidate["nbad"] == 0
        and candidate["fwhm"] <= fwhm_max
        and candidate["elong"] <= 1.2
        and abs(candidate["magdiff"]) <= 0.1
    )


def pure_transient(packet: Packet) -> bool:
    candidate = packet["candidate"]
    if not pure(packet) or not _positive(candidate) or _known_object(candidate):
        return False
    if _at_source(candidate, 1.5) and _magnitude(candidate, "sgscore1") >= 0.5:
        return False
    times = sorted([*(row["jd"] for row in _detections(packet) if _positive(row)), candidate["jd"]])
    return any((later - earlier) * 1440 >= 30 for earlier, later in pairwise(times))


def young_supernova(packet: Packet) -> bool:
    now, start = packet["candidate"]["jd"], packet["candidate"]["jdstarthist"]
    if start is None or now - start > 5 or not pure_transient(packet):
        return False
    first = min((row["jd"] for row in _detections(packet)), default=now)
    return any(row["magpsf"] is None and 0 < first - row["jd"] <= 2.5 for row in _past(packet))


def two_detections_30min(packet: Packet) -> bool:
    candidate = packet["candidate"]
    if not _positive(candidate):
        return False
    now = candidate["jd"]
    tonight, apart = floor(now - _NIGHT_0), False
    for row in _detections(packet):
        if floor(row["jd"] - _NIGHT_0) != tonight:
            return False
        apart = apart or (now - row["jd"]) * 1440 > 30
    return apart


def two_detections_20min(packet: Packet) -> bool:
    times = [row["jd"] for row in _detections(packet)]
    if not times:
        return False
    first = min(times)
    return (packet["candidate"]["jd"] - first) * 1440 > 20 and (max(times) - first) * 1440 <= 20


def _flux(row: Row) -> float:
    size = 10 ** (-0.4 * (row["magpsf"] - 25))
    return size if _positive(row) else -size


def stellar_outburst(packet: Packet) -> bool:
    if not star_galaxy(packet):
        return False
    candidate = packet["candidate"]
    epochs: dict[int, float] = {}
    for row in _detections(packet):
        if row["fid"] == candidate["fid"]:
            epochs.setdefault(row["pid"], _flux(row))
    if len(epochs) < 5:
        return False
    mean = sum(epochs.values()) / len(epochs)
    deviation = sqrt(sum((flux - mean) ** 2 for flux in epochs.values()) / len(epochs))
    return abs(_flux(candidate) - mean) > 5 * deviation


def blue_outburst(packet: Packet) -> bool:
    candidate = packet["candidate"]
    if not _at_source(candidate, 1.5) or not _positive(candidate):
        return False
    in_band = {1: "sgmag1", 2: "srmag1", 3: "simag1"}[candidate["fid"]]
    colour = _magnitude(candidate, "sgmag1") - _magnitude(candidate, "srmag1")
    return colour < 0.6 and _magnitude(candidate, in_band) - candidate["magpsf"] >= 2


def asteroid(packet: Packet) -> bool:
    candidate = packet["candidate"]
    return (
        candidate["ndethist"] <= 1
        and candidate["rb"] is not None
        and candidate["rb"] >= 0.65
        and _positive(candidate)
        and not _at_source(candidate, 5)
        and not _known_object(candidate)
    )


def nuclear(packet: Packet) -> bool:
    candidate = packet["candidate"]
    return (
        _at_source(candidate, 0.6)
        and _magnitude(candidate, "sgscore1") < 0.5
        and _positive(candidate)
        and not _known_object(candidate)
    )


RULES: dict[str, Callable[[Packet], bool]] = {
    rule.__name__: rule
    for rule in (
        asteroid,
        blue_outburst,
        nuclear,
        pure,
        pure_transient,
        star_galaxy,
        stellar_outburst,
        two_detections_20min,
        two_detections_30min,
        young_supernova,
    )
}
STRICT: dict[str, dict[str, float]] = {"pure": {"fwhm_max": 3}, "star_galaxy": {"radius": 0.5}}
"""Parameters under which the real packets pass as few alerts as channels that somebody reads: one in eight.

At their defaults these two alone pass five in eight, and all ways mostly measure how fast a broker writes.
"""
LAST_FIELD_READ = "prv_candidates"
"""The rules need no field of a packet after this one (in the writer's order)."""
