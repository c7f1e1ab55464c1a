"""Columns of an exposure: all alerts and rows of one quadrant exposure share them."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from simulator.sky.telescope import FILTER_NAMES, NIGHT_ZERO, Survey, pixel_noise

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
_INVESTIGATOR = np.array(["", "Kulkarni", "Kulkarni", "Prince"])
_FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)  # the night 0

Columns = dict[str, Any]


def year_of(night: int) -> int:
    """The year of a night (nid)."""
    return (_FIRST_DAY + timedelta(days=night)).year


def exposure_columns(survey: Survey, seed: int, field: int, rcid: int, first: int) -> Columns:
    """Columns of a quadrant's visits: arrays, or one value for all.

    `pdiffimfilename` is the path in the archive; an alert shows its last part.

    Parameters
    ----------
    survey
        The survey.
    seed
        Of the simulated sky.
    field
        Index of the field.
    rcid
        The quadrant.
    first
        Number of the first visit to give.
    """
    visits = survey.visits(field, rcid)
    number = survey.fields[field].number
    found = _geometry(number, rcid) | _calibration(survey, seed, field, rcid)
    found |= {"jd": visits.jd, "fid": visits.fid, "pid": visits.pid, "nid": visits.night}
    found |= {"diffmaglim": visits.maglim, "programid": visits.programid}
    found |= {"programpi": _INVESTIGATOR[visits.programid], "rfid": found["rfid"] + visits.fid * 100}
    late = {name: v[first:] if isinstance(v, np.ndarray) else v for name, v in found.items()}
    names = zip(late["jd"].tolist(), late["fid"].tolist(), strict=True)
    late["pdiffimfilename"] = np.array([_image_name(jd, number, fid, rcid) for jd, fid in names], object)
    return late


def _geometry(number: int, rcid: int) -> Columns:
    reference = 2458313.966389 + (number + rcid) % 60
    return {
        "rcid": rcid,
        "field": number,
        "rfid": number * 10**6 + 120_000 + rcid,
        "exptime": 30.0,
        "jdstartref": reference,
        "jdendref": reference + 60.969236,
        "nframesref": 15 + (number % 3) * 5,
        "rbversion": RB_VERSION,
        "drbversion": DRB_VERSION,
    }


def _calibration(survey: Survey, seed: int, field: int, rcid: int) -> Columns:
    """How well each exposure was calibrated; ranges as in the real packets."""
    visits = survey.visits(field, rcid)
    count, fid = len(visits), visits.fid
    rng = np.random.default_rng([seed, 2, survey.fields[field].number, rcid])
    return {
        "magzpsci": visits.zeropoint,
        "magzpsciunc": rng.lognormal(-11.5, 1.0, count),
        "magzpscirms": rng.normal(0.034, 0.007, count),
        "clrcoeff": np.array([0, -0.06, 0.09, 0.02])[fid] + rng.normal(0, 0.015, count),
        "clrcounc": rng.lognormal(-11, 0.9, count),
        "nmatches": rng.integers(200, 2200, count),
        "zpclrcov": -rng.lognormal(-11.3, 1.0, count),
        "zpmed": np.round(visits.zeropoint + np.array([0, -0.04, 0.06, 0.01])[fid], 3),
        "clrmed": np.round(rng.normal(0.68, 0.1, count), 3),
        "clrrms": rng.normal(0.27, 0.04, count),
        "sciinpseeing": visits.fwhm,
        "scibckgnd": visits.sky,
        "scisigpix": pixel_noise(visits.sky),
        "adpctdif1": rng.normal(0.085, 0.006, count),
        "adpctdif2": rng.normal(0.083, 0.006, count),
    }


def _image_name(jd: float, number: int, fid: int, rcid: int) -> str:
    """The difference image in the survey's archive."""
    day = _FIRST_DAY + timedelta(days=math.floor(jd - NIGHT_ZERO))
    fraction = f"{math.floor((jd - NIGHT_ZERO) % 1 * 1e6):06d}"
    ccd, quadrant = divmod(rcid, 4)
    stem = f"ztf_{day:%Y%m%d}{fraction}_{number:06d}_z{FILTER_NAMES[fid]}_c{ccd + 1:02d}_o_q{quadrant + 1}"
    return f"/ztf/archive/sci/{day:%Y/%m%d}/{fraction}/{stem}_scimrefdiffimg.fits.fz"
