"""The Zwicky Transient Facility (ZTF): its alert packets, schemas 3.0 to 4.02.

Source: https://zwickytransientfacility.github.io/ztf-avro-alert/schema.html, and 203 real packets.
"""

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from schemas.surveys.arrow import field_names, field_types, root_name
from schemas.surveys.survey import History, LightCurve, Public, Stamps, Survey, Topics
from schemas.surveys.ztf.columns import ALERT, FORCED, FORCED_MISSING, MISSING, PAST

PIXEL = 1.0127
"""arcsec; of stamps, whose rows grow towards smaller declination, columns towards smaller right ascension:
`dec` against `ypos` in eleven exposures of real packets; 1.01 in Bellm et al. (2019, PASP 131, 018002)."""

_STAMPS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
_CANDIDATE = {"jd", "fid", "programid", "isdiffpos", "magpsf"}


def _recognises(schema: Any) -> bool:
    """By name, as ZTF gives it; records that a broker wrote again (Spark calls each "topLevelRecord") by
    their structure."""
    kinds = field_types(schema)
    if not kinds:
        return False
    root = root_name(schema)
    if root == "ztf":
        return True
    return (
        root in ("topLevelRecord", "alert", "")
        and "objectId" in kinds
        and field_names(kinds.get("candidate")) >= _CANDIDATE
    )


def _topic(values: Mapping[str, Any], night: date | None, schema: Callable[[], Any]) -> str:
    """Nightly, a topic a program: `ztf_20231012_programid1`."""
    return f"ztf_{night:%Y%m%d}_programid{values['programid']}"


SURVEY = Survey(
    name="ztf",
    title="ZTF",
    candidate="candidate",
    reference=json.loads((Path(__file__).parent / "4.01.avsc").read_text()),
    recognises=_recognises,
    public=Public(
        field="programid",
        value=1,
        rows=("prv_candidates", "fp_hists"),
        allowed=("candidate", *_STAMPS, *(f"{name}.stampData" for name in _STAMPS)),
    ),
    topics=Topics(
        r"ztf_[0-9]{8}_programid[0-9]+",
        _topic,
        needs=("programid",),
        nightly=True,
        program=r"_programid(\d+)$",
    ),
    light_curve=LightCurve(
        detections="prv_candidates",
        forced="fp_hists",
        epoch=(
            *(
                "jd",
                "band",
                "fid",
                "pid",
                "magpsf",
                "sigmapsf",
                "diffmaglim",
                "positive",
                "programid",
                "candid",
            ),
        ),
        measured=(
            "jd",
            "band",
            "fid",
            "pid",
            "forcediffimflux",
            "forcediffimfluxunc",
            "magzpsci",
            "mag",
            "usable",
            "positive",
            "point",
            "pointerr",
            "programid",
        ),
        exposure="pid",
        value="magpsf",
        error="sigmapsf",
        limit="diffmaglim",
    ),
    stamps=Stamps(
        dict(zip(("Science", "Template", "Difference"), _STAMPS, strict=True)),
        data="stampData",
        matrix=((-PIXEL, 0.0), (0.0, -PIXEL)),
        turned=True,
        packed=True,
    ),
    histories={"prv_candidates": History(PAST), "fp_hists": History(FORCED, FORCED_MISSING)},
    # Packets that a broker wrote again may lack the first (the snappy ones do).
    aliases={"candid": ("candid", "candidate.candid")},
    computed=ALERT,
    missing=MISSING,
    rank="rb",
    flux_unit="10^(-0.4 (mag - 25))",
    facts=("drb", "ndethist", "jdstarthist", "distpsnr1", "sgscore1", "distnr", "ssdistnr", "ssnamenr"),
    digest=("candid", "objectId", "programid", "jd", "fid", "ra", "dec", "magpsf", "sigmapsf", "rb"),
    statistics=("candid", "objectId", "jd", "ra", "dec", "fid", "magpsf", "rb"),
)
