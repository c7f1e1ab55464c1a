"""Rows: the candidate, the thirty days before it, and forced photometry, each encoded once.

A history row is made from the same values as the alert of its epoch, so the two agree for every column. As in
the survey's packets, a row has nulls where the alert has the sentinels of "no solar-system object", and the
image's path in the archive instead of its bare name.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from schemas.simulated.detection import Columns, Detections, Observation, measure
from schemas.simulated.exposures import CANDIDATE_ONLY, SHARED, ExposureLog
from schemas.simulated.identity import (
    MISSING,
    Neighbour,
    gaia_columns,
    ps1_columns,
    reference_source,
    surroundings,
)
from schemas.simulated.packet import PacketWriter
from schemas.simulated.survey import HISTORY_DAYS, PIXEL_SCALE, Survey

FORCED_MISSING = -99999.0  # DEFINITIONS.md: any value of fp_hists
_FORCED_REACH = 5.0  # arcsec: forced photometry names no reference source farther away
# Fields without a default that a non-detection leaves null.
_NOTHING: dict[str, None] = dict.fromkeys(
    ("candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf", "ranr", "decnr")
)


@dataclass
class Dossier:
    """All that is known of an observed source: neighbours, measured values, and rows as bytes."""

    seen: Observation
    near: list[Neighbour]
    reference: Neighbour
    far: tuple[float, float]  # arcsec to Gaia's sources beyond the neighbours
    measured: dict[int, dict[str, Any]]  # visit -> measured columns
    solar: dict[str, Any]
    rows: dict[int, bytes] = field(default_factory=dict)
    forced: dict[int, bytes] = field(default_factory=dict)
    forced_reference: dict[int, bytes] = field(default_factory=dict)  # fid -> bytes


def open_dossiers(observations: Sequence[Observation], rng: np.random.Generator) -> list[Dossier]:
    """Measure the detections of several sources at once, and look up their neighbours."""
    if not observations:
        return []
    rows = iter(_records(measure(Detections.of(observations), rng)))
    found = []
    for seen in observations:
        place, own = seen.source.place, seen.source.counterpart
        near = surroundings(place.ra, place.dec, rng)
        if own is not None:
            near.insert(0, own)
        found.append(
            Dossier(
                seen=seen,
                near=near,
                reference=reference_source(near, rng),
                far=(float(rng.uniform(38, 100)), float(rng.uniform(40, 300))),
                measured={visit: next(rows) for visit in np.flatnonzero(seen.detected).tolist()},
                solar=_solar_system(seen, rng),
            )
        )
    return found


def _records(columns: Columns) -> list[dict[str, Any]]:
    """Columns as one dictionary of plain values a row."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _solar_system(seen: Observation, rng: np.random.Generator) -> dict[str, Any]:
    """The known solar-system object at this place: distance (whole arcsec), predicted magnitude and name."""
    source = seen.source
    if source.designation is None:
        return {"ssdistnr": MISSING, "ssmagnr": MISSING, "ssnamenr": "null"}
    predicted = float(source.parameters["mag"] or 0) + float(rng.normal(0, 0.2))
    distance = float(rng.choice([0.0, 1.0, 2.0, 4.0], p=[0.78, 0.17, 0.04, 0.01]))
    return {"ssdistnr": distance, "ssmagnr": round(predicted, 1), "ssnamenr": source.designation}


class Historian:
    """Builds and keeps the encoded rows of one simulated survey."""

    def __init__(self, survey: Survey, writer: PacketWriter, seed: int) -> None:
        self.writer = writer
        self._log = ExposureLog(survey, seed)
        self._limits: dict[int, bytes] = {}
        self._forced: dict[int, bytes] = {}

    def candidate(self, dossier: Dossier, visit: int) -> dict[str, Any]:
        """The candidate record of a detection, as plain values."""
        seen, measured = dossier.seen, dossier.measured[visit]
        exposure, place = self._exposure(seen, visit), seen.source.place
        east, north = measured["east"], measured["north"]
        before = np.flatnonzero(seen.detected[: visit + 1])
        ssnrms = 4 + measured["scorr"] * (1.4 + 0.5 * (seen.serial % 7) / 7)
        dsnrms = ssnrms * 0.4
        return {
            **self._detection(dossier, visit),
            **{name: exposure[name] for name in CANDIDATE_ONLY},
            **ps1_columns(dossier.near, east, north, place.ra, place.dec),
            **gaia_columns(dossier.near, east, north, dossier.far),
            "ndethist": len(before),
            "ncovhist": visit + 1,
            "jdstarthist": float(seen.visits.jd[before[0]]),
            "jdendhist": float(seen.visits.jd[visit]),
            "tooflag": 0,
            "dsnrms": dsnrms,
            "ssnrms": ssnrms,
            "dsdiff": dsnrms - ssnrms,
        }

    def previous(self, dossier: Dossier, visit: int) -> list[bytes]:
        """Rows of the thirty days before a visit, oldest first, of all programs."""
        return [self._previous(dossier, v) for v in range(_window(dossier.seen, visit), visit)]

    def forced(self, dossier: Dossier, visit: int) -> list[bytes]:
        """Forced photometry of the earlier nights in the window, latest first, as in the real packets."""
        visits = dossier.seen.visits
        tonight = int(np.searchsorted(visits.night, visits.night[visit]))
        return [
            self._forced_row(dossier, v) for v in range(tonight - 1, _window(dossier.seen, visit) - 1, -1)
        ]

    def _exposure(self, seen: Observation, visit: int) -> dict[str, Any]:
        return self._log(seen.visits, visit, seen.source.place.field, seen.source.place.rcid)

    def _previous(self, dossier: Dossier, visit: int) -> bytes:
        if dossier.seen.detected[visit]:
            return self._previous_detection(dossier, visit)
        pid = int(dossier.seen.visits.pid[visit])
        if pid not in self._limits:
            self._limits[pid] = self.writer.previous(_NOTHING | self._exposure(dossier.seen, visit))
        return self._limits[pid]

    def _previous_detection(self, dossier: Dossier, visit: int) -> bytes:
        if visit not in dossier.rows:
            row = self._detection(dossier, visit)
            row["pdiffimfilename"] = self._exposure(dossier.seen, visit)["pdiffimfilename"]
            if row["ssnamenr"] == "null":
                row |= dict.fromkeys(dossier.solar)
            dossier.rows[visit] = self.writer.previous(row)
        return dossier.rows[visit]

    def _detection(self, dossier: Dossier, visit: int) -> dict[str, Any]:
        """The columns that candidate and history row share."""
        seen, measured, near = dossier.seen, dossier.measured[visit], dossier.reference
        exposure = self._exposure(seen, visit)
        distance = math.hypot(near.east - measured["east"], near.north - measured["north"])
        return {
            **{name: exposure[name] for name in SHARED},
            **measured,
            **_reference_columns(seen, near, exposure["fid"]),
            **dossier.solar,
            "pdiffimfilename": exposure["pdiffimfilename"].rsplit("/", 1)[-1].removesuffix(".fz"),
            "candid": int(seen.candid[visit]),
            "tblid": int(seen.tblid[visit]),
            "distnr": distance / PIXEL_SCALE,
        }

    def _forced_row(self, dossier: Dossier, visit: int) -> bytes:
        if visit in dossier.forced:
            return dossier.forced[visit]
        seen = dossier.seen
        pid, fid = int(seen.visits.pid[visit]), int(seen.visits.fid[visit])
        if pid not in self._forced:
            self._forced[pid] = self.writer.forced_exposure(self._exposure(seen, visit))
        if fid not in dossier.forced_reference:
            dossier.forced_reference[fid] = self.writer.forced_reference(_forced_reference(dossier, fid))
        row = self._forced[pid] + self.writer.forced_flux(_forced_flux(seen, visit))
        dossier.forced[visit] = row = row + dossier.forced_reference[fid]
        return row


def _window(seen: Observation, visit: int) -> int:
    """The first visit that a history still holds."""
    return int(np.searchsorted(seen.visits.jd, seen.visits.jd[visit] - HISTORY_DAYS))


def _reference_columns(seen: Observation, near: Neighbour, fid: int) -> dict[str, float]:
    """The nearest source of the reference image, as the alert's band shows it."""
    place, mag = seen.source.place, near.mags[fid - 1]
    extended = near.radius > 0 and mag < 21.5
    return {
        "ranr": round((place.ra + near.east / 3600 / math.cos(math.radians(place.dec))) % 360, 7),
        "decnr": round(place.dec + near.north / 3600, 7),
        "magnr": round(mag, 3),
        "sigmagnr": round(min(0.012 + 0.3 * 10 ** (0.4 * (mag - 23.1)), 0.36), 3),
        "chinr": round((2.0 if extended else 0.5) + 0.5 * (seen.serial % 11) / 11, 3),
        "sharpnr": round((0.3 if extended else -0.05) + 0.15 * (seen.serial % 13) / 13, 3),
    }


def _forced_reference(dossier: Dossier, fid: int) -> dict[str, float]:
    near = dossier.reference
    columns = _reference_columns(dossier.seen, near, fid)
    if near.distance > _FORCED_REACH:
        return {"distnr": FORCED_MISSING, **dict.fromkeys(columns, FORCED_MISSING)}
    return {"distnr": near.distance, **columns}  # arcsec, unlike the candidate's pixels


def _forced_flux(seen: Observation, visit: int) -> dict[str, Any]:
    """Forced flux (DN) at the object's place: the same photons as the alert's, so that joins on pid agree."""
    mix = (seen.serial * 2654435761 + visit * 40503) % 1000
    status = "61" if mix < 150 else "56" if mix < 200 else "55" if mix < 210 else "0"
    if status in ("61", "55"):
        return {"forcediffimflux": FORCED_MISSING, "forcediffimfluxunc": FORCED_MISSING, "procstatus": status}
    return {
        "forcediffimflux": float(seen.flux[visit]) * (0.99 + 2e-5 * mix),
        "forcediffimfluxunc": float(seen.sigma[visit]) * 0.9,
        "procstatus": status,
    }
