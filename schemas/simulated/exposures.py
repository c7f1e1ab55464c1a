"""What a packet says of its exposure: the columns that all alerts and rows of one quadrant exposure share."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from schemas.simulated.survey import FILTER_NAMES, NIGHT_ZERO, Survey, Visits, pixel_noise

RB_VERSION, DRB_VERSION = "t17_f5_c3", "d6_m7"
# Columns shared by candidate and history row; those of the candidate alone.
SHARED = (
    *("jd", "fid", "pid", "diffmaglim", "programpi", "programid", "nid", "rcid", "field", "rbversion"),
    *("magzpsci", "magzpsciunc", "magzpscirms", "clrcoeff", "clrcounc"),
)
CANDIDATE_ONLY = (
    *("rfid", "jdstartref", "jdendref", "nframesref", "nmatches", "zpclrcov", "zpmed", "clrmed", "clrrms"),
    *("exptime", "drbversion"),
)
_INVESTIGATOR = {1: "Kulkarni", 2: "Kulkarni", 3: "Prince"}
_FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)  # the night 0


class ExposureLog:
    """Columns of quadrant exposures, described when first asked for."""

    def __init__(self, survey: Survey, seed: int) -> None:
        self._survey, self._seed = survey, seed
        self._known: dict[int, dict[str, Any]] = {}

    def __call__(self, visits: Visits, visit: int, field: int, rcid: int) -> dict[str, Any]:
        """Columns of one visit of a field's quadrant; `pdiffimfilename` is the path in the archive."""
        pid = int(visits.pid[visit])
        if pid not in self._known:
            number = self._survey.fields[field].number
            self._known[pid] = _geometry(visits, visit, number, rcid) | _calibration(
                visits, visit, np.random.default_rng([self._seed, pid, 2])
            )
        return self._known[pid]


def year_of(night: int) -> int:
    """The year of a night (nid)."""
    return (_FIRST_DAY + timedelta(days=night)).year


def _geometry(visits: Visits, visit: int, number: int, rcid: int) -> dict[str, Any]:
    jd, fid, programid = float(visits.jd[visit]), int(visits.fid[visit]), int(visits.programid[visit])
    reference = 2458313.966389 + (number + rcid) % 60
    return {
        "jd": jd,
        "fid": fid,
        "pid": int(visits.pid[visit]),
        "pdiffimfilename": _image_name(jd, number, fid, rcid),
        "programpi": _INVESTIGATOR[programid],
        "programid": programid,
        "nid": int(visits.night[visit]),
        "rcid": rcid,
        "field": number,
        "rfid": number * 10**6 + 120_000 + fid * 100 + rcid,
        "jdstartref": reference,
        "jdendref": reference + 60.969236,
        "nframesref": 15 + (number % 3) * 5,
        "exptime": 30.0,
        "rbversion": RB_VERSION,
        "drbversion": DRB_VERSION,
    }


def _calibration(visits: Visits, visit: int, rng: np.random.Generator) -> dict[str, Any]:
    fid, zeropoint = int(visits.fid[visit]), float(visits.zeropoint[visit])
    sky = float(visits.sky[visit])
    return {
        "diffmaglim": float(visits.maglim[visit]),
        "magzpsci": zeropoint,
        "magzpsciunc": float(rng.lognormal(-11.5, 1.0)),
        "magzpscirms": float(rng.normal(0.034, 0.007)),
        "clrcoeff": {1: -0.06, 2: 0.09, 3: 0.02}[fid] + float(rng.normal(0, 0.015)),
        "clrcounc": float(rng.lognormal(-11, 0.9)),
        "nmatches": int(rng.integers(200, 2200)),
        "zpclrcov": -float(rng.lognormal(-11.3, 1.0)),
        "zpmed": round(zeropoint + {1: -0.04, 2: 0.06, 3: 0.01}[fid], 3),
        "clrmed": round(float(rng.normal(0.68, 0.1)), 3),
        "clrrms": float(rng.normal(0.27, 0.04)),
        "sciinpseeing": float(visits.fwhm[visit]),
        "scibckgnd": sky,
        "scisigpix": float(pixel_noise(sky)),
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
