"""The Vera C. Rubin Observatory's LSST: its alert packets, schemas 7.1 to 11.0.

Source: https://sdm-schemas.lsst.io and https://github.com/lsst/alert_packet, whose files lie in the folders
here, one a version, and 67 real packets. A new minor version is one more folder; the newest is the reference.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from schemas.surveys.arrow import field_types
from schemas.surveys.lsst.columns import ALERT, FORCED, MISSING, PAST
from schemas.surveys.lsst.versions import ALIASES, REFERENCE, major_of, numbered, schema_of
from schemas.surveys.survey import History, LightCurve, Public, Stamps, Survey, Topics

_EPOCH = ("jd", "band", "exposure", "flux", "fluxerr", "mag", "magerr", "positive", "snr")


def _recognises(schema: Any) -> bool:
    """By what it describes: a diaSource. Records that another broker has rewritten have lost their names."""
    return "diaSource" in field_types(schema)


def _topic(values: Mapping[str, Any], night: date | None, schema: Callable[[], Any]) -> str:
    """One long-lived topic a major version: `lsst-alerts-v11`."""
    return f"lsst-alerts-v{major_of(schema())}"


SURVEY = Survey(
    name="lsst",
    title="Rubin",
    candidate="diaSource",
    reference=schema_of(REFERENCE),
    recognises=_recognises,
    public=Public(),  # all of it is public
    topics=Topics(r"lsst-alerts-v[0-9]+", _topic),
    light_curve=LightCurve(
        detections="prvDiaSources",
        forced="prvDiaForcedSources",
        epoch=(*_EPOCH, "candid"),
        measured=(
            "jd",
            "band",
            "exposure",
            "flux",
            "fluxerr",
            "mag",
            "usable",
            "positive",
            "point",
            "pointerr",
        ),
        value="flux",
        error="fluxerr",
        label="difference flux (nJy)",
        inverted=False,
        radius=2 / 3600,
    ),
    stamps=Stamps(
        {"Science": "cutoutScience", "Template": "cutoutTemplate", "Difference": "cutoutDifference"}
    ),
    histories={"prvDiaSources": History(PAST), "prvDiaForcedSources": History(FORCED)},
    aliases=ALIASES,
    computed=ALERT,
    missing=MISSING,
    night_shift=0.5,  # UTC - 12 h: the observing night of Cerro Pachon
    rank="reliability",
    flux_unit="nJy",
    facts=("snr", "isDipole", "extendedness", "diaObject.nDiaSources", "ssObjectId", "ssSource.ephVmag"),
    digest=(
        "candid",
        "objectId",
        "jd",
        "band",
        "ra",
        "dec",
        "psfFlux",
        "psfFluxErr",
        "snr",
        "mag",
        "reliability",
    ),
    numbered=numbered,
    statistics=("candid", "objectId", "midpointMjdTai", "ra", "dec", "band", "psfFlux", "snr", "reliability"),
)
