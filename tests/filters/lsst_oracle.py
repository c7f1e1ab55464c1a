"""The Rubin filters again, in plain Python, an alert at a time, from their descriptions.

Nothing of `filters` or `schemas` is used: two readings of one text should agree.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from astropy.io import fits

Packet = Mapping[str, Any]

FLAGS = [
    *("centroid_flag", "glint_trail", "pixelFlags_bad", "pixelFlags_crCenter", "pixelFlags_nodataCenter"),
    *("pixelFlags_offimage", "pixelFlags_saturatedCenter", "pixelFlags_streakCenter"),
    *(f"pixelFlags_injected{word}" for word in ("", "Center", "_template", "_templateCenter")),
]


def reliable(packet: Packet) -> bool:
    s = packet["diaSource"]
    flagged = any(s.get(name) for name in FLAGS)
    return _at_least(s["reliability"], 0.5) and not flagged and s.get("timeWithdrawnMjdTai") is None


def dipole(packet: Packet) -> bool:
    s = packet["diaSource"]
    flux, error = s["dipoleMeanFlux"], s["dipoleMeanFluxErr"]
    short = s["dipoleLength"] is not None and s["dipoleLength"] <= 3
    significant = flux is not None and error is not None and flux >= 5 * error
    return bool(s.get("isDipole")) and short and significant and not s["centroid_flag"]


def known_object(packet: Packet) -> bool:
    return not no_object(packet) and packet["diaSource"].get("timeWithdrawnMjdTai") is None


def unknown_mover(packet: Packet) -> bool:
    s, seen = packet["diaSource"], _of_object(packet, "nDiaSources")
    trailed = _at_least(s["trailLength"], 1.5) and not s["trail_flag_edge"]
    return reliable(packet) and positive(s) and no_object(packet) and (trailed or seen is None or seen <= 1)


def new_transient(packet: Packet) -> bool:
    s, seen = packet["diaSource"], _of_object(packet, "nDiaSources")
    times = [row["midpointMjdTai"] for row in past(packet, "prvDiaSources")]
    times += [s["midpointMjdTai"], _of_object(packet, "firstDiaSourceMjdTai")]
    first = min(time for time in times if time is not None)
    few = seen is not None and 2 <= seen <= 20
    young = s["midpointMjdTai"] - first <= 10
    return reliable(packet) and positive(s) and not s.get("isDipole") and no_object(packet) and few and young


def rising(packet: Packet) -> bool:
    s, before = packet["diaSource"], forced(packet)
    if not (reliable(packet) and no_object(packet) and len(before) >= 2):
        return False
    if s["psfFlux"] is None or s["psfFluxErr"] is None:
        return False
    last = before[-1]
    error = math.hypot(s["psfFluxErr"], last["psfFluxErr"])
    brightest = s["psfFlux"] > max(row["psfFlux"] for row in before)
    return s["psfFlux"] - last["psfFlux"] > 5 * error and brightest


def fading(packet: Packet) -> bool:
    s, before = packet["diaSource"], forced(packet)
    if not (reliable(packet) and positive(s) and no_object(packet) and len(before) >= 3):
        return False
    if s["psfFlux"] is None or s["psfFluxErr"] is None:
        return False
    error = math.hypot(s["psfFluxErr"], sum(row["psfFluxErr"] for row in before) / len(before))
    below = max(row["psfFlux"] for row in before) - s["psfFlux"] > 5 * error
    return below and s["psfFlux"] <= before[-1]["psfFlux"]


def large_amplitude(packet: Packet) -> bool:
    s = packet["diaSource"]
    epochs: dict[tuple[int, int], float] = {}
    for row in past(packet, "prvDiaSources"):
        if row["band"] == s["band"] and s["band"] is not None and _above_zero(row["scienceFlux"]):
            epochs.setdefault((row["visit"], row["detector"]), row["scienceFlux"])
    fluxes = list(epochs.values())
    if _above_zero(s["scienceFlux"]):
        fluxes.append(s["scienceFlux"])
    if len(fluxes) < 5:
        return False
    return reliable(packet) and no_object(packet) and 2.5 * math.log10(max(fluxes) / min(fluxes)) >= 1


def negative_source(packet: Packet) -> bool:
    s = packet["diaSource"]
    flux, error = s["psfFlux"], s["psfFluxErr"]
    significant = flux is not None and error is not None and flux <= -5 * error
    return (
        reliable(packet) and bool(s["isNegative"]) and not s["isDipole"] and no_object(packet) and significant
    )


def repeated_tonight(packet: Packet) -> bool:
    s = packet["diaSource"]
    again = [
        row
        for row in past(packet, "prvDiaSources")
        if night(row) == night(s)
        and positive(row)
        and (s["midpointMjdTai"] - row["midpointMjdTai"]) * 1440 > 15
    ]
    return reliable(packet) and positive(s) and no_object(packet) and bool(again)


def positive(record: Mapping[str, Any]) -> bool:
    return record["isNegative"] is False


def no_object(packet: Packet) -> bool:
    return packet["diaSource"]["ssObjectId"] in (None, 0)


def night(record: Mapping[str, Any]) -> int:
    return math.floor(record["midpointMjdTai"] - 37 / 86400 - 0.5)


def past(packet: Packet, history: str) -> list[Mapping[str, Any]]:
    now = packet["diaSource"]["midpointMjdTai"]
    return [row for row in packet[history] or [] if row["midpointMjdTai"] < now]


def forced(packet: Packet) -> list[Mapping[str, Any]]:
    """In this band, usable, in order of time."""
    rows = [
        row
        for row in past(packet, "prvDiaForcedSources")
        if row["psfFlux"] is not None
        and row["psfFluxErr"] is not None
        and row["psfFluxErr"] > 0
        and row["timeWithdrawnMjdTai"] is None
        and row["band"] is not None
        and row["band"] == packet["diaSource"]["band"]
    ]
    return sorted(rows, key=lambda row: row["midpointMjdTai"])


def _of_object(packet: Packet, name: str) -> Any:
    return None if packet["diaObject"] is None else packet["diaObject"][name]


def _at_least(value: Any, least: float) -> bool:
    return value is not None and value >= least


def _above_zero(value: Any) -> bool:
    return value is not None and value > 0


def point_like(packet: Packet) -> bool:
    s = packet["diaSource"]
    flagged = any(s.get(name) for name in FLAGS)
    return _at_least(s["reliability"], 0.1) and not flagged and _explained(packet["cutoutDifference"])


def _explained(data: bytes | None) -> bool:
    """Whether less is left of the image than a twentieth of what its point-spread function explains."""
    if not data:
        return False
    with fits.open(io.BytesIO(data)) as units:
        image, psf = units[0].data, units[2].data
        x, y = units[0].header["CRPIX1"] - 1, units[0].header["CRPIX2"] - 1
    near: list[tuple[float, float]] = []
    far: list[tuple[float, float]] = []
    for row in range(len(image)):
        for column in range(len(image[0])):
            one = float(image[row][column]), _psf_at(psf, row - y, column - x)
            (near if math.hypot(row - y, column - x) <= 10 else far).append(one)
    light = math.fsum(p * p for _, p in near)
    amplitude = math.fsum(d * p for d, p in near) / light
    beyond = [d - amplitude * p for d, p in far]
    noise = 1.4826 * median(abs(d - median(beyond)) for d in beyond)
    left = math.fsum((d - amplitude * p) ** 2 for d, p in near) / noise**2
    excess = max(left - len(near) - 3 * math.sqrt(2 * len(near)), 0)
    return excess <= 0.05 * amplitude**2 * light / noise**2


def _psf_at(psf: Any, row: float, column: float) -> float:
    row, column = row + len(psf) // 2, column + len(psf) // 2
    y, x = math.floor(row), math.floor(column)
    if not (0 <= y < len(psf) - 1 and 0 <= x < len(psf) - 1):
        return 0.0
    corners = [((1 - row + y), 0), (row - y, 1)], [((1 - column + x), 0), (column - x, 1)]
    return sum(v * u * float(psf[y + dy][x + dx]) for v, dy in corners[0] for u, dx in corners[1])


ORACLE: dict[str, Callable[[Packet], bool]] = {
    f.__name__: f
    for f in (
        *(reliable, dipole, known_object, unknown_mover, new_transient, rising, fading, large_amplitude),
        *(negative_source, repeated_tonight, point_like),
    )
}
