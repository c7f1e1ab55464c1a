"""Rows: the candidate, the thirty days before it, and forced photometry, each encoded once."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from schemas.simulated.detection import Observation, measure
from schemas.simulated.identity import (
    MISSING,
    Neighbour,
    gaia_columns,
    ps1_columns,
    reference_source,
    surroundings,
)
from schemas.simulated.packet import PacketWriter
from schemas.simulated.survey import FILTER_NAMES, HISTORY_DAYS, NIGHT_ZERO, PIXEL_SCALE, Survey

RB_VERSION, DRB_VERSION = "t17_f5_c3", "d6_m7"
FORCED_MISSING = -99999.0  # DEFINITIONS.md: any value of fp_hists
_INVESTIGATOR = {1: "Kulkarni", 2: "Kulkarni", 3: "Prince"}
_FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)  # NIGHT_ZERO


@dataclass
class Dossier:
    """All that is known of an observed source: neighbours, measured columns, and rows as bytes."""

    seen: Observation
    near: list[Neighbour]
    reference: Neighbour
    far: tuple[float, float]
    columns: dict[str, np.ndarray]
    order: dict[int, int]  # visit -> position in the measured columns
    solar: tuple[float, float, str]
    rows: dict[int, bytes] = field(default_factory=dict)
    forced: dict[int, bytes] = field(default_factory=dict)


def open_dossier(seen: Observation, seed: int) -> Dossier:
    """Measure a source's detections and look up its neighbours; the same for the same seed and source."""
    rng = np.random.default_rng([seed, seen.serial, 1])
    source = seen.source
    near = surroundings(source.place.ra, source.place.dec, rng)
    if source.counterpart is not None:
        near = [source.counterpart, *near]
    at = np.flatnonzero(seen.detected)
    solar = (MISSING, MISSING, "null")
    if source.designation is not None:
        mag = float(source.parameters["mag"] or 0)
        solar = (
            float(rng.choice([0.0, 1.0, 2.0], p=[0.8, 0.17, 0.03])),
            round(mag - rng.normal(0, 0.2), 1),
            source.designation,
        )
    return Dossier(
        seen,
        near,
        reference_source(near, rng),
        (float(rng.uniform(38, 100)), float(rng.uniform(40, 300))),
        measure(seen, at, rng),
        {int(visit): i for i, visit in enumerate(at)},
        solar,
    )


class Historian:
    """Builds and keeps the encoded rows of one simulated survey."""

    def __init__(self, survey: Survey, writer: PacketWriter, seed: int) -> None:
        self.survey, self.writer, self.seed = survey, writer, seed
        self._exposures: dict[int, dict[str, Any]] = {}
        self._limits: dict[int, bytes] = {}
        self._forced: dict[int, bytes] = {}

    def candidate(self, dossier: Dossier, visit: int) -> dict[str, Any]:
        """The candidate record of a detection, as plain values."""
        seen, visits = dossier.seen, dossier.seen.visits
        row = self._detection(dossier, visit)
        exposure = self._exposure(seen, visit)
        i = dossier.order[visit]
        columns = dossier.columns
        place = seen.source.place
        before = np.flatnonzero(seen.detected[: visit + 1])
        snr = abs(float(seen.flux[visit])) / float(seen.sigma[visit])
        ssnrms = 4 + snr * (1.6 + 0.5 * (seen.serial % 7) / 7)
        dsnrms = ssnrms * 0.38
        return (
            row
            | {k: exposure[k] for k in _EXPOSURE_ONLY}
            | ps1_columns(
                dossier.near, float(columns["east"][i]), float(columns["north"][i]), place.ra, place.dec
            )
            | gaia_columns(dossier.near, dossier.far)
            | {
                "ndethist": len(before),
                "ncovhist": visit + 1,
                "jdstarthist": float(visits.jd[before[0]]),
                "jdendhist": float(visits.jd[visit]),
                "tooflag": 0,
                "dsnrms": dsnrms,
                "ssnrms": ssnrms,
                "dsdiff": dsnrms - ssnrms,
                "exptime": 30.0,
                "drb": float(columns["drb"][i]),
                "drbversion": DRB_VERSION,
            }
        )

    def previous(self, dossier: Dossier, visit: int) -> list[bytes]:
        """Rows of the thirty days before a visit, oldest first, of all programs."""
        visits = dossier.seen.visits
        first = int(np.searchsorted(visits.jd, visits.jd[visit] - HISTORY_DAYS))
        return [self._previous(dossier, v) for v in range(first, visit)]

    def forced(self, dossier: Dossier, visit: int) -> list[bytes]:
        """Forced photometry of the earlier nights in the window, latest first, as in the real packets."""
        visits = dossier.seen.visits
        first = int(np.searchsorted(visits.jd, visits.jd[visit] - HISTORY_DAYS))
        last = int(np.searchsorted(visits.night, visits.night[visit]))
        return [self._forced_row(dossier, v) for v in range(last - 1, first - 1, -1)]

    def _previous(self, dossier: Dossier, visit: int) -> bytes:
        pid = int(dossier.seen.visits.pid[visit])
        if not dossier.seen.detected[visit]:
            if pid not in self._limits:
                self._limits[pid] = self.writer.previous(_NOTHING | self._exposure(dossier.seen, visit))
            return self._limits[pid]
        if visit not in dossier.rows:
            row = self._detection(dossier, visit) | {
                "pdiffimfilename": self._exposure(dossier.seen, visit)["pdiffimfilename"]
            }
            if row["ssnamenr"] == "null":  # the survey writes null here where the alert itself had −999
                row |= {"ssdistnr": None, "ssmagnr": None, "ssnamenr": None}
            dossier.rows[visit] = self.writer.previous(row)
        return dossier.rows[visit]

    def _detection(self, dossier: Dossier, visit: int) -> dict[str, Any]:
        """The columns that candidate and history row share."""
        seen, columns, i = dossier.seen, dossier.columns, dossier.order[visit]
        exposure = self._exposure(seen, visit)
        measured = {k: v[i].item() for k, v in columns.items()}
        near, place = dossier.reference, seen.source.place
        fid = exposure["fid"]
        magnr = near.mags[fid - 1]
        extended = near.radius > 0 and magnr < 21.5
        distance = math.hypot(near.east - measured["east"], near.north - measured["north"])
        return (
            {k: exposure[k] for k in _SHARED_EXPOSURE}
            | measured
            | {
                "pdiffimfilename": exposure["pdiffimfilename"].rsplit("/", 1)[-1].removesuffix(".fz"),
                "candid": int(seen.candid[visit]),
                "tblid": int(seen.tblid[visit]),
                "distnr": distance / PIXEL_SCALE,
                "magnr": round(magnr, 3),
                "sigmagnr": round(0.015 + 0.3 * 10 ** (0.4 * (magnr - 22.9)), 3),
                "chinr": round((2.0 if extended else 0.6) + 0.3 * (seen.serial % 11) / 11, 3),
                "sharpnr": round((0.4 if extended else -0.02) + 0.04 * (seen.serial % 13) / 13, 3),
                "ranr": round((place.ra + near.east / 3600 / math.cos(math.radians(place.dec))) % 360, 7),
                "decnr": round(place.dec + near.north / 3600, 7),
                "ssdistnr": dossier.solar[0],
                "ssmagnr": dossier.solar[1],
                "ssnamenr": dossier.solar[2],
            }
        )

    def _forced_row(self, dossier: Dossier, visit: int) -> bytes:
        found = dossier.forced.get(visit)
        if found is None:
            pid = int(dossier.seen.visits.pid[visit])
            if pid not in self._forced:
                self._forced[pid] = self.writer.forced_exposure(self._exposure(dossier.seen, visit))
            found = dossier.forced[visit] = self._forced[pid] + self.writer.forced_flux(
                self._flux(dossier, visit)
            )
        return found

    def _flux(self, dossier: Dossier, visit: int) -> dict[str, Any]:
        """Forced flux at the object's place: the same photons as the alert's, so that joins on pid agree."""
        seen, near = dossier.seen, dossier.reference
        mix = (seen.serial * 2654435761 + visit * 40503) % 1000
        status = "61" if mix < 80 else "56" if mix < 130 else "0"
        lost = status == "61"
        fid = int(seen.visits.fid[visit])
        found: dict[str, Any] = {
            "forcediffimflux": FORCED_MISSING if lost else float(seen.flux[visit]) * (0.99 + 2e-5 * mix),
            "forcediffimfluxunc": FORCED_MISSING if lost else float(seen.sigma[visit]) * 0.9,
            "procstatus": status,
        }
        if near.distance > 6:
            return found | dict.fromkeys(_FORCED_REFERENCE, FORCED_MISSING)
        place = seen.source.place
        return found | {
            "distnr": near.distance,
            "ranr": round((place.ra + near.east / 3600 / math.cos(math.radians(place.dec))) % 360, 7),
            "decnr": round(place.dec + near.north / 3600, 7),
            "magnr": round(near.mags[fid - 1], 3),
            "sigmagnr": round(0.015 + 0.3 * 10 ** (0.4 * (near.mags[fid - 1] - 22.9)), 3),
            "chinr": 0.7,
            "sharpnr": -0.01,
        }

    def _exposure(self, seen: Observation, visit: int) -> dict[str, Any]:
        """Columns of a quadrant exposure, one set for all its alerts and rows."""
        pid = int(seen.visits.pid[visit])
        if pid not in self._exposures:
            self._exposures[pid] = self._describe(seen, visit, np.random.default_rng([self.seed, pid, 2]))
        return self._exposures[pid]

    def _describe(self, seen: Observation, visit: int, rng: np.random.Generator) -> dict[str, Any]:
        visits, place = seen.visits, seen.source.place
        jd, fid, programid = float(visits.jd[visit]), int(visits.fid[visit]), int(visits.programid[visit])
        number = self.survey.fields[place.field].number
        zeropoint = float(visits.zeropoint[visit])
        background = float(visits.sky[visit])
        return {
            "jd": jd,
            "fid": fid,
            "pid": int(visits.pid[visit]),
            "diffmaglim": float(visits.maglim[visit]),
            "pdiffimfilename": _image_name(jd, number, fid, place.rcid),
            "programpi": _INVESTIGATOR[programid],
            "programid": programid,
            "nid": int(visits.night[visit]),
            "rcid": place.rcid,
            "field": number,
            "magzpsci": zeropoint,
            "magzpsciunc": float(rng.lognormal(-11, 0.6)),
            "magzpscirms": float(rng.normal(0.032, 0.006)),
            "clrcoeff": {1: -0.06, 2: 0.09, 3: 0.02}[fid] + float(rng.normal(0, 0.012)),
            "clrcounc": float(rng.lognormal(-10.6, 0.6)),
            "rbversion": RB_VERSION,
            "rfid": number * 10**6 + 120_000 + fid * 100 + place.rcid,
            "jdstartref": 2458313.966389 + (number + place.rcid) % 60,
            "jdendref": 2458374.935625 + (number + place.rcid) % 60,
            "nframesref": 15 + (number % 3) * 5,
            "nmatches": int(rng.integers(200, 2200)),
            "zpclrcov": -float(rng.lognormal(-10.8, 0.6)),
            "zpmed": round(zeropoint + {1: -0.04, 2: 0.06, 3: 0.01}[fid], 3),
            "clrmed": round(float(rng.normal(0.7, 0.08)), 3),
            "clrrms": float(rng.normal(0.27, 0.03)),
            "sciinpseeing": float(visits.fwhm[visit]),
            "scibckgnd": background,
            "scisigpix": float(np.sqrt(background / 6.2 + 4)),
            "exptime": 30.0,
            "adpctdif1": float(rng.normal(0.085, 0.006)),
            "adpctdif2": float(rng.normal(0.083, 0.006)),
        }


def _image_name(jd: float, number: int, fid: int, rcid: int) -> str:
    """The difference image in the survey's archive."""
    day = _FIRST_DAY + timedelta(days=math.floor(jd - NIGHT_ZERO))
    fraction = f"{math.floor((jd - NIGHT_ZERO) % 1 * 1e6):06d}"
    ccd, quadrant = divmod(rcid, 4)
    stem = f"ztf_{day:%Y%m%d}{fraction}_{number:06d}_z{FILTER_NAMES[fid]}_c{ccd + 1:02d}_o_q{quadrant + 1}"
    return f"/ztf/archive/sci/{day:%Y/%m%d}/{fraction}/{stem}_scimrefdiffimg.fits.fz"


_SHARED_EXPOSURE = (
    *("jd", "fid", "pid", "diffmaglim", "programpi", "programid", "nid", "rcid", "field", "rbversion"),
    *("magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc"),
)
_EXPOSURE_ONLY = (
    *("rfid", "jdstartref", "jdendref", "nframesref", "nmatches", "zpclrcov", "zpmed", "clrmed", "clrrms"),
)
_FORCED_REFERENCE = ("distnr", "ranr", "decnr", "magnr", "sigmagnr", "chinr", "sharpnr")
# Fields without a default that a non-detection leaves null.
_NOTHING: dict[str, None] = dict.fromkeys(
    ("candid", "isdiffpos", "ra", "dec", "magpsf", "sigmapsf", "ranr", "decnr")
)
