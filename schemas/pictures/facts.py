"""The main facts about an alert, from its packet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from schemas.dictionary import words_of
from schemas.frame import FrameMaker
from schemas.pictures.light_curve import CannotDraw, utc
from schemas.surveys.registry import survey_of_packet
from schemas.surveys.survey import COMMON, Survey

_DIGITS = 4
_EXACT = ("ra", "dec", "jd")
"""Not rounded to so many digits."""


def facts(packet: Mapping[str, Any]) -> dict[str, Any]:
    """Column -> value as a filter sees it, None where it is missing; and `utc`, `position` (sexagesimal).

    Raises CannotDraw for a packet of no survey that we know.
    """
    survey = survey_of_packet(packet)
    if survey is None:
        raise CannotDraw("this packet is of no survey that zads knows")
    frame = FrameMaker(_names(survey), survey.name).of_packets([packet])
    words = words_of(survey.name)
    row = {n: _plain(n, frame[n].iloc[0], words[n].kind) for n in map(str, frame.columns)}
    known = {"objectId": row["objectId"], "candid": row["candid"], "ra": row["ra"], "dec": row["dec"]}
    known["position"] = sexagesimal(row["ra"], row["dec"])
    known["utc"] = None if row["jd"] is None else utc(row["jd"]).removesuffix(" UTC")
    known |= {"survey": survey.name, **row}
    for history in survey.histories:
        known[f"rows of {history}"] = len(packet.get(history) or [])
    return known


def _names(survey: Survey) -> list[str]:
    there = set(survey.names())
    own = [survey.rank, *survey.facts, survey.public.field]
    return list(dict.fromkeys([*COMMON, *(name for name in own if name in there)]))


def _plain(name: str, value: Any, kind: str) -> Any:
    if value is None or value is pd.NA or value != value:
        return None
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float) or name in _EXACT:
        return value
    return int(value) if kind == "whole number" else round(value, _DIGITS)


def sexagesimal(ra: float | None, dec: float | None) -> str | None:
    """A position (degrees) as "12:34:56.78 -01:23:45.6"."""
    if ra is None or dec is None:
        return None
    from astropy.coordinates import SkyCoord

    place = SkyCoord(ra, dec, unit="deg")
    hours = place.ra.to_string("hour", sep=":", precision=2, pad=True)
    return f"{hours} {place.dec.to_string(sep=':', precision=1, pad=True, alwayssign=True)}"
