"""The light curve that a packet carries and its words, for pictures on paper and in terminals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard

import numpy as np

from schemas.errors import ZadsError
from schemas.surveys.definitions import forced_point, is_detection, is_positive, is_usable


class CannotDraw(ZadsError):
    """What was given is no alert with a light curve: the message says what it is, the hint what would do."""


@dataclass(frozen=True)
class Band:
    """How a filter of the camera looks: `marker` repeats what `colour` says, for who cannot tell colours."""

    name: str
    colour: str
    marker: str


# Green, red and yellow as everybody draws ZTF, in the tints of Okabe & Ito (2008) that colour-blind people
# can tell apart.
BANDS: Mapping[int | None, Band] = {
    1: Band("g", "#009E73", "o"),
    2: Band("r", "#D55E00", "s"),
    3: Band("i", "#E6A700", "D"),
}
_JD_UNIX = 2440587.5  # JD of 1970-01-01T00:00 UTC


def band(fid: int | None) -> Band:
    """The band of a filter number; an unknown one is grey and says its number."""
    return BANDS.get(fid) or Band(f"fid {fid}" if fid is not None else "no band", "#666666", "^")


@dataclass(frozen=True)
class Epoch:
    """One point of a light curve.

    days: before this alert, positive in the past. magnitude: `magpsf` of a detection, that of the flux of
    forced photometry, else `diffmaglim`. error: mag, NaN for a limit and where the packet has none.
    forced: measured at the object's place where nothing was detected.
    """

    days: float
    fid: int | None
    magnitude: float
    error: float
    detected: bool
    positive: bool
    forced: bool = False

    @property
    def limit(self) -> bool:
        """Nothing is known of this epoch but how faint a source would have been seen."""
        return not self.detected and not self.forced


@dataclass(frozen=True)
class LightCurve:
    """What a packet knows of its object: the epochs before the alert (`past`), and the alert itself (`now`).

    ignored: rows at or after the alert's own time, which are not past. incomplete: rows without a time, or
    without a limit where nothing was detected. added: epochs of forced photometry that the history of
    detections and limits has no row for.
    """

    past: tuple[Epoch, ...]
    now: Epoch | None
    ignored: int
    incomplete: int
    added: int = 0

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
    """The light curve in a ZTF packet. Raises CannotDraw when the packet has no `candidate` with a `jd`."""
    candidate = packet.get("candidate")
    if not isinstance(candidate, Mapping) or not _is_number(candidate.get("jd")):
        raise CannotDraw(
            f"no `candidate` with a `jd` in this packet (it has {', '.join(map(str, list(packet)[:5]))} …)",
            hint="pictures are of ZTF alerts: give packets as `read_packet` returns them",
        )
    jd = candidate["jd"]
    rows = packet.get("prv_candidates") or []
    forced = _forced(packet.get("fp_hists") or [], jd)
    timed = [row for row in rows if _is_number(row.get("jd"))]
    earlier = [row for row in timed if row["jd"] < jd]
    past = [epoch for row in earlier if (epoch := _known(row, jd, forced)) is not None]
    told = {row.get("pid") for row in earlier}
    alone = [epoch for pid, epoch in forced.items() if pid not in told]
    now = _epoch(candidate, jd)
    return LightCurve(
        tuple(sorted([*past, *alone], key=lambda epoch: -epoch.days)),
        now if now is not None and now.detected else None,
        ignored=len(timed) - len(earlier),
        incomplete=len(rows) - len(timed) + len(earlier) - len(past),
        added=len(alone),
    )


def _forced(rows: Any, jd: float) -> dict[Any, Epoch]:
    """The epochs before `jd` that forced photometry measured, by exposure (`pid`)."""
    epochs: dict[Any, Epoch] = {}
    for row in rows:
        flux, time, pid = row.get("forcediffimflux"), row.get("jd"), row.get("pid")
        if pid is None or not _is_number(time) or time >= jd or not is_usable(flux, row.get("procstatus")):
            continue
        error, zeropoint = (row.get(name) for name in ("forcediffimfluxunc", "magzpsci"))
        magnitude, uncertainty = (float(value) for value in forced_point(flux, error, zeropoint))
        if math.isfinite(magnitude):
            epochs[pid] = Epoch(jd - time, row.get("fid"), magnitude, uncertainty, False, flux > 0, True)
    return epochs


def _known(row: Mapping[str, Any], jd: float, forced: Mapping[Any, Epoch]) -> Epoch | None:
    """The epoch of a history's row: its detection, else the forced flux of that exposure, else its limit."""
    epoch = _epoch(row, jd)
    if epoch is not None and epoch.detected:
        return epoch
    return forced.get(row.get("pid"), epoch)


def _epoch(row: Mapping[str, Any], jd: float) -> Epoch | None:
    detected = is_detection(row.get("magpsf"))
    magnitude = row.get("magpsf" if detected else "diffmaglim")
    if not _is_number(magnitude):
        return None
    error = row.get("sigmapsf") if detected else None
    return Epoch(
        days=jd - row["jd"],
        fid=row.get("fid"),
        magnitude=magnitude,
        error=error if _is_number(error) else math.nan,
        detected=detected,
        positive=is_positive(row.get("isdiffpos")),
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def headline(packet: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The object's name, and what to say of the alert: magnitude, sign, real-bogus, date (UTC), candid."""
    candidate = packet.get("candidate") or {}
    magnitude, error, rb = (candidate.get(name) for name in ("magpsf", "sigmapsf", "rb"))
    measured = f"{magnitude:.2f}" if _is_number(magnitude) else "no magnitude"
    if _is_number(error):
        measured += f" ± {error:.2f}"
    said = [
        f"{band(candidate.get('fid')).name} = {measured}",
        "" if is_positive(candidate.get("isdiffpos")) else "negative",
        f"rb {rb:.2f}" if _is_number(rb) else "no rb",
        utc(candidate.get("jd")),
        f"candid {packet.get('candid', candidate.get('candid'))}",
    ]
    return str(packet.get("objectId") or "no objectId"), [word for word in said if word]


def utc(jd: float | None) -> str:
    """A Julian date (days, UTC) for people, to the second."""
    if not _is_number(jd):
        return "no date"
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round((jd - _JD_UNIX) * 86400))
    except OverflowError:
        return f"JD {jd}"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
