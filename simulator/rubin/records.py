"""The records of a Rubin packet: diaSource, histories, diaObject, ssSource and mpc_orbits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from schemas.surveys.lsst.versions import REFERENCE, schema_of
from schemas.time import tai_of_jd
from simulator.rubin.sky import Object
from simulator.rubin.visits import BANDS

_DETECTORS = 189
_MOST_FORCED = 365.0  # days


@dataclass(frozen=True)
class Seen:
    """One detection of an object and its earlier epochs.

    now: which of the epochs it is. jd (days UTC), visit, band (index), flux, forced, error, true (nJy),
    detected: of all epochs, in order of time. luck: three numbers in [0, 1) of the object.
    """

    object: Object
    index: int
    now: int
    jd: np.ndarray
    visit: np.ndarray
    band: np.ndarray
    flux: np.ndarray
    forced: np.ndarray
    error: np.ndarray
    true: np.ndarray
    detected: np.ndarray
    luck: np.ndarray

    def at(self, now: int) -> Seen:
        """The same object at another epoch."""
        return replace(self, now=now)

    @cached_property
    def tai(self) -> np.ndarray:
        """The epochs as MJD in TAI, days."""
        return np.asarray(tai_of_jd(self.jd))

    @property
    def past(self) -> np.ndarray:
        """The earlier detections."""
        return np.flatnonzero(self.detected[: self.now])

    @property
    def name(self) -> str:
        """The objectId."""
        known = self.object.known
        return f"ss{self.solar_id}" if known else str(self.object_id)

    @property
    def solar_id(self) -> int:
        return 20_000_000_000_000_000 + self.index * 7919

    @cached_property
    def object_id(self) -> int:
        """That of its first detection."""
        return self.source_id(int(np.flatnonzero(self.detected)[0]))

    def source_id(self, epoch: int) -> int:
        return int(self.visit[epoch]) * 100_000 + self.index % 100_000

    @property
    def background(self) -> float:
        """nJy in the template: stars and hosts have some."""
        return 0.0 if self.object.moving else float(200 + 20_000 * self.luck[0])


def blank(kind: Any) -> Any:
    """The default value of an Avro type: null, zero or empty."""
    if isinstance(kind, list):
        return None
    zeros = {"int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": "", "boolean": False}
    return zeros[kind] if isinstance(kind, str) else None


@cache
def _empty(name: str) -> dict[str, Any]:
    """A record of the newest schema without values."""
    return {field["name"]: blank(field["type"]) for field in _defined(schema_of(REFERENCE), name)["fields"]}


@cache
def _unflagged() -> dict[str, bool]:
    """The pixel flags of a source, none of them set."""
    return dict.fromkeys((name for name in _empty("diaSource") if name.startswith("pixelFlags")), False)


def _defined(schema: Any, name: str) -> Any:
    """The record of this name, wherever it is defined."""
    if isinstance(schema, list):
        return next((found for part in schema if (found := _defined(part, name))), None)
    if not isinstance(schema, dict):
        return None
    if schema["type"] == "record":
        if schema["name"] == name:
            return schema
        return next((found for f in schema["fields"] if (found := _defined(f["type"], name))), None)
    return _defined(schema.get("items"), name)


def records(seen: Seen) -> dict[str, Any]:
    """The packet as a dictionary, without cut-outs."""
    one, now = seen.object, seen.now
    made = dict(_empty("alert"))
    made["diaSourceId"] = seen.source_id(now)
    made["observation_reason"], made["target_name"] = "simulated", f"field {one.field}"
    made["diaSource"] = source(seen, now)
    made["prvDiaSources"] = [source(seen, int(epoch)) for epoch in seen.past] or None
    made["prvDiaForcedSources"] = _forced(seen) or None
    if one.known:
        made["ssSource"], made["mpc_orbits"] = _solar(seen), _orbit(seen)
    else:
        made["diaObject"] = _object(seen)
    return made


def source(seen: Seen, epoch: int) -> dict[str, Any]:
    """A diaSource: position, fluxes, flags, how sure it is."""
    one, flux, error = seen.object, float(seen.flux[epoch]), float(seen.error[epoch])
    bogus = one.kind == "bogus"
    steady = seen.luck[1] * 10 + epoch
    spread = (steady * 0.6180339887) % 1  # depends on the epoch only
    trail = 2.0 + 3 * seen.luck[2] if one.kind == "unknown asteroid" else 0.15 * spread
    return {
        **_empty("diaSource"),
        "diaSourceId": seen.source_id(epoch),
        "visit": int(seen.visit[epoch]),
        "detector": int(seen.index * 31 % _DETECTORS),
        "diaObjectId": None if one.known else seen.object_id,
        "ssObjectId": seen.solar_id if one.known else None,
        "midpointMjdTai": float(seen.tai[epoch]),
        "ra": one.ra + (spread - 0.5) * 4e-5,
        "dec": one.dec + (0.5 - spread) * 4e-5,
        "x": float(100 + 3800 * seen.luck[0]),
        "y": float(100 + 3800 * seen.luck[1]),
        "centroid_flag": False,
        "isNegative": flux < 0,
        "snr": abs(flux) / error,
        "psfFlux": flux,
        "psfFluxErr": error,
        "psfFlux_flag": False,
        "apFlux": flux * (1 + 0.02 * (spread - 0.5)),
        "apFluxErr": 1.3 * error,
        "trailLength": float(trail),
        "trail_flag_edge": False,
        "isDipole": bool(bogus and seen.luck[2] < 0.4),
        "dipoleLength": 0.6 if bogus else None,
        "dipoleMeanFlux": abs(flux) if bogus else None,
        "dipoleMeanFluxErr": error if bogus else None,
        "scienceFlux": flux + seen.background,
        "scienceFluxErr": error,
        "templateFlux": seen.background,
        "templateFluxErr": error / 3,
        "extendedness": float(0.1 * spread),
        "reliability": float(0.35 * spread if bogus else 1 - 0.35 * spread**2),
        "band": BANDS[int(seen.band[epoch])],
        "timeProcessedMjdTai": float(seen.tai[epoch]) + 60 / 86400,
        "bboxSize": 30,
        **_unflagged(),
        "pixelFlags_bad": bool(bogus and seen.luck[0] < 0.3),
        "glint_trail": False,
    }


def _forced(seen: Seen) -> list[dict[str, Any]]:
    """Forced photometry of every visit from the first detection on, this one left out."""
    if seen.object.moving or not len(seen.past):
        return []
    since = max(float(seen.jd[seen.past[0]]), float(seen.jd[seen.now]) - _MOST_FORCED)
    epochs = np.flatnonzero(seen.jd[: seen.now] >= since)
    return [
        {
            **_empty("diaForcedSource"),
            "diaForcedSourceId": seen.source_id(int(epoch)) + 50_000,
            "diaObjectId": seen.object_id,
            "ra": seen.object.ra,
            "dec": seen.object.dec,
            "visit": int(seen.visit[epoch]),
            "detector": int(seen.index * 31 % _DETECTORS),
            "psfFlux": float(seen.forced[epoch]),
            "psfFluxErr": float(seen.error[epoch]),
            "midpointMjdTai": float(seen.tai[epoch]),
            "scienceFlux": float(seen.forced[epoch]) + seen.background,
            "scienceFluxErr": float(seen.error[epoch]),
            "band": BANDS[int(seen.band[epoch])],
            "timeProcessedMjdTai": float(seen.tai[seen.now]),
        }
        for epoch in epochs.tolist()
    ]


def _object(seen: Seen) -> dict[str, Any]:
    """The summary of all detections, this one included."""
    epochs = [*seen.past.tolist(), seen.now]
    made = {
        **_empty("diaObject"),
        "diaObjectId": seen.object_id,
        "ra": seen.object.ra,
        "dec": seen.object.dec,
        "validityStartMjdTai": float(seen.tai[seen.now]),
        "firstDiaSourceMjdTai": float(seen.tai[epochs[0]]),
        "lastDiaSourceMjdTai": float(seen.tai[seen.now]),
        "nDiaSources": len(epochs),
    }
    for number, band in enumerate(BANDS):
        fluxes = [float(seen.flux[epoch]) for epoch in epochs if seen.band[epoch] == number]
        made[f"{band}_psfFluxNdata"] = len(fluxes)
        if fluxes:
            made[f"{band}_psfFluxMean"] = float(np.mean(fluxes))
            made[f"{band}_psfFluxMin"], made[f"{band}_psfFluxMax"] = min(fluxes), max(fluxes)
    return made


def _solar(seen: Seen) -> dict[str, Any]:
    return {
        **_empty("ssSource"),
        "diaSourceId": seen.source_id(seen.now),
        "ssObjectId": seen.solar_id,
        "designation": f"2026 SM{seen.index}",
        "ephVmag": float(31.4 - 2.5 * np.log10(seen.true[seen.now])),
        "ephOffset": float(0.3 * seen.luck[1]),
        "topoRange": float(1 + 2 * seen.luck[0]),
        "helioRange": float(2 + 2 * seen.luck[0]),
        "phaseAngle": float(20 * seen.luck[2]),
    }


def _orbit(seen: Seen) -> dict[str, Any]:
    return {
        **_empty("mpc_orbits"),
        "id": seen.index,
        "designation": f"2026 SM{seen.index}",
        "packed_primary_provisional_designation": f"K26S{seen.index:05d}",
        "unpacked_primary_provisional_designation": f"2026 SM{seen.index}",
        "a": float(2.2 + seen.luck[0]),
        "e": float(0.3 * seen.luck[1]),
        "i": float(15 * seen.luck[2]),
        "h": float(16 + 4 * seen.luck[0]),
    }
