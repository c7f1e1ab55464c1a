"""A made-up third survey: other names, another clock, no histories, another rule of what is public.

All that zads needs to know of it is here; tests/test_third_survey.py runs it through everything.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.surveys.arrow import field_types, root_name
from schemas.surveys.survey import Computed, LightCurve, Public, Stamps, Stored, Survey, Topics, floats
from schemas.time import UNIX_0, night_of

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "event",
    "namespace": "skywatch",
    "fields": [
        {"name": "eventNumber", "type": "long"},
        {
            "name": "source",
            "type": {
                "type": "record",
                "name": "source",
                "fields": [
                    {"name": "star", "type": "string"},
                    {"name": "unixMilliseconds", "type": "long"},
                    {"name": "lon", "type": "double"},
                    {"name": "lat", "type": "double"},
                    {"name": "filterName", "type": ["null", "string"], "default": None},
                    {"name": "brightness", "type": ["null", "float"], "default": None},
                    {"name": "brightnessError", "type": ["null", "float"], "default": None},
                    {"name": "sign", "type": "int"},
                    {"name": "frameNumber", "type": "long"},
                    {"name": "goodness", "type": "float"},
                    {"name": "owner", "type": ["null", "int"], "default": None},
                ],
            },
        },
        {"name": "picture", "type": ["null", "bytes"], "default": None},
    ],
}
OURS = 7
"""The owner whose data are public."""

_PARSED = fastavro.parse_schema(SCHEMA)


def packet(number: int, **source: Any) -> bytes:
    """A packet; source: values other than the usual ones."""
    told = {
        "star": f"S-{number % 5}",
        "unixMilliseconds": 1_700_000_000_000 + number * 40_000,
        "lon": 10.0 + number % 5,
        "lat": -20.0,
        "filterName": ("red", "blue", None)[number % 3],
        "brightness": None if number % 11 == 10 else 15.0 + number % 8,
        "brightnessError": 0.1,
        "sign": 1 if number % 4 else -1,
        "frameNumber": number // 10,
        "goodness": (number % 10) / 10,
        "owner": (OURS, OURS, 8, None)[number % 4],
    }
    record = {"eventNumber": 10**15 + number, "source": told | source, "picture": b"no picture"}
    stream = io.BytesIO()
    fastavro.writer(stream, _PARSED, [record])
    return stream.getvalue()


def _jd(stored: Stored, _: str) -> np.ndarray:
    return floats(stored["unixMilliseconds"]) / 86_400_000 + UNIX_0


def _band(stored: Stored, _: str) -> pa.Array:
    names = pc.index_in(stored["filterName"].cast(pa.string()), pa.array(["blue", "red"]))
    return pa.array(["g", "r"]).take(names)


def _flux(stored: Stored, _: str) -> np.ndarray:
    return np.sign(floats(stored["sign"])) * 10 ** (-0.4 * floats(stored["brightness"]))


def _topic(_: Mapping[str, Any], __: date | None, ___: Callable[[], Any]) -> str:
    return "skywatch.events"


SURVEY = Survey(
    name="skywatch",
    title="Skywatch",
    candidate="source",
    reference=SCHEMA,
    recognises=lambda schema: bool(field_types(schema)) and root_name(schema) == "skywatch",
    public=Public(field="owner", value=OURS, allowed=("source", "picture")),
    topics=Topics(r"skywatch\.events", _topic),
    light_curve=LightCurve(
        detections="", forced="", epoch=("jd", "band", "exposure", "mag", "magerr", "positive", "candid")
    ),
    stamps=Stamps({"Science": "picture"}),
    aliases={
        "candid": ("eventNumber",),
        "objectId": ("source.star",),
        "ra": ("source.lon",),
        "dec": ("source.lat",),
    },
    computed={
        "jd": Computed(("unixMilliseconds",), _jd),
        "night": Computed(("unixMilliseconds",), lambda s, p: np.asarray(night_of(_jd(s, p), 0.25))),
        "band": Computed(("filterName",), _band),
        "exposure": Computed(("frameNumber",), lambda s, _: s["frameNumber"]),
        "positive": Computed(("sign",), lambda s, _: floats(s["sign"]) > 0),
        "mag": Computed(("brightness",), lambda s, _: floats(s["brightness"])),
        "magerr": Computed(("brightnessError",), lambda s, _: floats(s["brightnessError"])),
        "flux": Computed(("brightness", "sign"), _flux),
    },
    night_shift=0.25,
    rank="goodness",
    flux_unit="10^(-0.4 mag)",
    digest=("candid", "objectId", "brightness", "goodness"),
    statistics=("candid", "objectId", "unixMilliseconds", "ra", "dec"),
)
