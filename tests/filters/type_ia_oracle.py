"""The filter of type Ia supernovae again, in plain Python, a template at a time; only the table is shared."""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Packet = Mapping[str, Any]
Epoch = tuple[float, str, float, float]

TABLE = Path(__file__).resolve().parents[2] / "filters" / "supernovae" / "templates.npz"
STRETCHES = (0.75, 0.85, 0.95, 1.05, 1.15)
BANDS = {1: "g", 2: "r", 3: "i"}


@cache
def table() -> dict[str, Any]:
    with np.load(TABLE) as found:
        return {name: found[name].tolist() for name in found.files}


def light(band: str, z: int, dust: int, rest: float) -> float:
    """The flux of a template on a rest-frame day."""
    days = table()["days"]
    fluxes = table()["ztf"][table()["ztf_bands"].index(band)][z][dust]
    if rest < days[0]:
        return 0.0
    if rest >= days[-1]:
        return float(fluxes[-1]) * 10 ** (-0.4 * 0.014 * (rest - days[-1]))
    at = int(rest - days[0])
    share = rest - days[at]
    return float((1 - share) * fluxes[at] + share * fluxes[at + 1])


@cache
def on_day(band: str, z: int, stretch: float, dust: int, day: int) -> float:
    """The same on a whole day of the observer."""
    return light(band, z, dust, day / ((1 + table()["ztf_redshifts"][z]) * stretch))


def model(band: str, z: int, stretch: float, dust: int, day: float) -> float:
    low = math.floor(day)
    early, late = (on_day(band, z, stretch, dust, low + k) for k in (0, 1))
    return early + (day - low) * (late - early)


def usable(*numbers: Any) -> bool:
    return all(x is not None and math.isfinite(x) for x in numbers)


def epochs(packet: Packet) -> list[Epoch]:
    """Days after the alert, band, flux, error: of one exposure the forced flux counts."""
    now = packet["candidate"]["jd"]
    by_exposure: dict[Any, Epoch] = {}
    for row in packet.get("prv_candidates") or []:
        if (
            usable(row["jd"])
            and row["jd"] < now
            and row["magpsf"] is not None
            and row["magpsf"] == row["magpsf"]
        ):
            by_exposure.setdefault(row["pid"], detected(row, now))
    forced: dict[Any, Epoch] = {}
    for row in packet.get("fp_hists") or []:
        flux = row["forcediffimflux"]
        if row["jd"] < now and row["procstatus"] == "0" and usable(flux) and flux != -99999:
            unit = 10 ** (-0.4 * (row["magzpsci"] - 25))
            made = row["jd"] - now, BANDS.get(row["fid"], ""), flux * unit, row["forcediffimfluxunc"] * unit
            forced.setdefault(row["pid"], made)
    every = [*(by_exposure | forced).values(), detected(packet["candidate"], now)]
    return [e for e in every if usable(*e[2:]) and e[3] > 0 and e[0] >= -60 and e[1]]


def detected(row: Packet, now: float) -> Epoch:
    magnitude, error, sign = row["magpsf"], row.get("sigmapsf"), row["isdiffpos"]
    if not usable(magnitude, error) or sign is None or magnitude < -700:
        return 0.0, "", math.nan, math.nan
    flux = 10 ** (-0.4 * (magnitude - 25)) * (1 if sign in ("t", "1") else -1)
    return row["jd"] - now, BANDS.get(row["fid"], ""), flux, abs(flux) * error * math.log(10) / 2.5


def chi2_dof(packet: Packet) -> float | None:
    """Of the best template; None where nothing can be said."""
    every = epochs(packet)
    dof = len(every) - 5
    if dof <= 0:
        return None
    weights = [1 / (error**2 + (0.05 * max(flux, 0)) ** 2) for _, _, flux, error in every]
    nothing = sum(w * e[2] ** 2 for w, e in zip(weights, every, strict=True))
    best: tuple[float, tuple[int, float, int], int] | None = None
    for z, modulus in enumerate(table()["ztf_modulus"]):
        bounds = [10 ** (-0.4 * (modulus - 19.1 + by - 25)) for by in (0.8, -0.8)]
        for stretch in STRETCHES:
            for dust in range(len(table()["dust"])):
                for peak in range(-60, 21):
                    gained = gain(every, weights, (z, stretch, dust), peak, bounds)
                    if gained is not None and (best is None or gained > best[0]):
                        best = gained, (z, stretch, dust), peak
                        around = [gain(every, weights, best[1], peak + k, bounds) for k in (-1, 0, 1)]
    if best is None:
        return None
    gained = best[0]
    if None not in around and -60 < best[2] < 20:
        left, middle, right = (float(x) for x in around if x is not None)
        bend = left - 2 * middle + right
        gained = middle - (left - right) ** 2 / (8 * bend) if bend < 0 else middle
    return max(nothing - gained, 0.0) / dof


def gain(
    every: list[Epoch], weights: list[float], template: tuple[int, float, int], peak: int, bounds: list[float]
) -> float | None:
    """By how much the best amplitude lowers chi squared; None where it is not that of such a supernova."""
    models = [model(band, *template, day - peak) for day, band, _, _ in every]
    both = sum(w * m * e[2] for w, m, e in zip(weights, models, every, strict=True))
    square = sum(w * m * m for w, m in zip(weights, models, strict=True))
    amplitude = both / square if square > 0 else 0.0
    return both * amplitude if bounds[0] <= amplitude <= bounds[1] else None
