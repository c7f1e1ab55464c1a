"""The light curve that a packet carries and its words, for pictures on paper and in terminals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from schemas.errors import PacketError, ZadsError
from schemas.frame import FrameMaker, value_in_packet
from schemas.surveys.registry import SURVEYS, survey_of_packet
from schemas.surveys.survey import LightCurve as Made
from schemas.surveys.survey import Survey
from schemas.time import datetime_of_jd

_OWN = ("jd", "band", "exposure", "positive")
_FORCED = ("jd", "band", "exposure", "positive", "usable", "point", "pointerr")


class CannotDraw(ZadsError):
    """The object is not an alert with a light curve: the message says what it is, the hint what to give."""


@dataclass(frozen=True)
class Band:
    """How a band is drawn: with a `marker` too, for readers who cannot distinguish colours."""

    name: str
    colour: str
    marker: str


# Colours that colour-blind people can distinguish (Okabe & Ito 2008; Tol 2021): green, red, yellow as
# usual for ZTF's g, r and i.
BANDS: Mapping[str, Band] = {
    "u": Band("u", "#99CCFF", "p"),
    "g": Band("g", "#009E73", "o"),
    "r": Band("r", "#D55E00", "s"),
    "i": Band("i", "#E6A700", "D"),
    "z": Band("z", "#AA4499", "P"),
    "y": Band("y", "#661100", "X"),
}


def band(name: str | None) -> Band:
    """The look of a band; an unknown one is grey and says its name."""
    return BANDS.get(name or "") or Band(name or "no band", "#666666", "^")


@dataclass(frozen=True)
class Epoch:
    """One point of a light curve.

    days: before this alert, positive in the past. value: as the survey shows it, a magnitude or a flux; for a
    limit the limiting magnitude. error: in the same unit, NaN for a limit and where the packet has none.
    forced: measured at the object's place where nothing was detected.
    """

    days: float
    band: str | None
    value: float
    error: float
    detected: bool
    positive: bool
    forced: bool = False

    @property
    def limit(self) -> bool:
        """Only the limiting magnitude of this epoch is known."""
        return not self.detected and not self.forced


@dataclass(frozen=True)
class LightCurve:
    """What a packet contains about its object: the epochs before the alert (`past`), and the alert itself
    (`now`).

    ignored: rows at or after the alert's own time, which are not past. incomplete: rows without a time, or
    without a value. added: epochs of forced photometry that the history of detections and limits has no row
    for. label: of the axis of values. inverted: whether small values are bright (magnitudes).
    """

    past: tuple[Epoch, ...]
    now: Epoch | None
    ignored: int
    incomplete: int
    added: int = 0
    label: str = "difference magnitude"
    inverted: bool = True

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        return self.past if self.now is None else (*self.past, self.now)

    @property
    def note(self) -> str:
        """One line on the rows that are not drawn; empty when all are."""
        words = [
            (self.ignored, "row at or after this alert not drawn", "rows at or after this alert not drawn"),
            (self.incomplete, "row without time or limit", "rows without time or limit"),
        ]
        return ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in words if n)


def light_curve(packet: Mapping[str, Any]) -> LightCurve:
    """The light curve in a packet. Raises CannotDraw when it is of no survey that we know, or has no time."""
    survey = survey_of_packet(packet)
    row = None if survey is None else _row(packet, survey)
    if survey is None or row is None or not _is_number(row["jd"]):
        raise CannotDraw(
            f"no {_detections()} with a time (`jd`) in this packet (it has {_first_names(packet)} …)",
            hint="pictures are of the alerts of known surveys: give packets as `read_packet` returns them",
        )
    made, jd = survey.light_curve, row["jd"]
    history = _history(row, made.detections, [made.value, made.error, made.limit, "positive"])
    timed = [past for past in history if _is_number(past["jd"])]
    earlier = [past for past in timed if past["jd"] < jd]
    forced = _forced(row, made)
    past = [epoch for one in earlier if (epoch := _known(one, jd, made, forced)) is not None]
    told = {one["exposure"] for one in earlier}
    alone = [epoch for exposure, epoch in forced.items() if exposure not in told]
    now = _epoch(row, jd, made)
    return LightCurve(
        tuple(sorted([*past, *alone], key=lambda epoch: -epoch.days)),
        now if now is not None and now.detected else None,
        ignored=len(timed) - len(earlier),
        incomplete=len(history) - len(timed) + len(earlier) - len(past),
        added=len(alone),
        label=made.label,
        inverted=made.inverted,
    )


def _detections() -> str:
    return " or ".join(f"`{survey.candidate}`" for survey in SURVEYS.values())


def _first_names(packet: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(packet)[:5]))


def _row(packet: Mapping[str, Any], survey: Survey) -> dict[str, Any] | None:
    """What pictures look at, by the names of columns; lists for histories."""
    made = survey.light_curve
    own = [name for name in (*_OWN, made.value, made.error, made.limit) if name]
    past = [f"{made.detections}.{name}" for name in own if made.detections]
    names = [*own, *past, *(f"{made.forced}.{name}" for name in _FORCED if made.forced)]
    try:
        frame = FrameMaker(names, survey.name, identity=()).of_packets([packet])
    except PacketError as error:
        raise CannotDraw(f"this packet cannot be drawn: {error}") from error
    return {name: frame[name].iloc[0] for name in frame.columns}


def _history(row: Mapping[str, Any], history: str, names: Sequence[str | None]) -> list[dict[str, Any]]:
    if not history:
        return []
    wanted = [name for name in ("jd", "band", "exposure", *names) if name]
    columns = [list(row[f"{history}.{name}"]) for name in wanted]
    return [dict(zip(wanted, values, strict=True)) for values in zip(*columns, strict=True)]


def _epoch(row: Mapping[str, Any], jd: float, made: Made) -> Epoch | None:
    detected = _is_there(row[made.value]) or made.limit is None
    value = row[made.value if detected else str(made.limit)]
    if not _is_number(value):
        return None
    error = row[made.error] if detected else None
    positive = bool(row["positive"])
    return Epoch(
        jd - row["jd"],
        _word(row["band"]),
        value,
        error if _is_number(error) else math.nan,
        detected,
        positive,
    )


def _known(row: Mapping[str, Any], jd: float, made: Made, forced: Mapping[Any, Epoch]) -> Epoch | None:
    """The epoch of a history's row: its detection, else the forced flux of that exposure, else its limit."""
    epoch = _epoch(row, jd, made)
    if epoch is not None and epoch.detected:
        return epoch
    return forced.get(row["exposure"], epoch)


def _forced(row: Mapping[str, Any], made: Made) -> dict[Any, Epoch]:
    """The epochs before the alert that forced photometry measured, by exposure."""
    epochs: dict[Any, Epoch] = {}
    for one in _history(row, made.forced, _FORCED):
        there = one["exposure"] is not None and _is_number(one["jd"]) and one["jd"] < row["jd"]
        if there and one["usable"] and _is_number(one["point"]):
            epochs[one["exposure"]] = Epoch(
                days=row["jd"] - one["jd"],
                band=_word(one["band"]),
                value=one["point"],
                error=one["pointerr"],
                detected=False,
                positive=bool(one["positive"]),
                forced=True,
            )
    return epochs


def _is_there(value: Any) -> bool:
    return value is not None and value == value


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def headline(packet: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The object's name, and what to say of the alert: magnitude, sign, how real, date (UTC), candid."""
    survey = survey_of_packet(packet)
    if survey is None:
        return "no objectId", []
    names = ["band", "mag", "magerr", "positive", "jd", "objectId", survey.rank]
    row = FrameMaker(names, survey.name, identity=()).of_packets([packet]).iloc[0]
    candid = value_in_packet(packet, "candid")
    magnitude, error, rank = (row[name] for name in ("mag", "magerr", survey.rank))
    measured = f"{magnitude:.2f}" if _is_number(magnitude) else "no magnitude"
    if _is_number(error):
        measured += f" ± {error:.2f}"
    said = [
        f"{band(_word(row['band'])).name} = {measured}",
        "" if row["positive"] else "negative",
        f"{survey.rank} {rank:.2f}" if _is_number(rank) else f"no {survey.rank}",
        utc(row["jd"]),
        f"candid {candid}",
    ]
    return _word(row["objectId"]) or "no objectId", [word for word in said if word]


def is_negative(packet: Mapping[str, Any]) -> bool:
    """Whether the source is not brighter than in the reference image."""
    survey = survey_of_packet(packet)
    if survey is None:
        return False
    return not FrameMaker(["positive"], survey.name, identity=()).of_packets([packet])["positive"].iloc[0]


def utc(jd: float | None) -> str:
    """A Julian date (days, UTC) for people, to the second."""
    if not _is_number(jd):
        return "no date"
    try:
        return datetime_of_jd(jd).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:
        return f"JD {jd}"
