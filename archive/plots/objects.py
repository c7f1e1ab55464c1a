"""Pictures of one object: its light curve, its cut-outs from epoch to epoch, its place on the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from archive.plots.replays import plain_axes
from archive.read.archive import Archive
from archive.read.objects import no_such_alert
from schemas.packets.packet import STAMPS, read_packet
from schemas.pictures.figure import blank_figure, draw_stamp
from schemas.pictures.light_curve import band
from schemas.surveys.registry import SURVEYS
from schemas.surveys.survey import LightCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY, _INK = "#B8B8B8", "#222222"
_SEEN = ("alert", "detection")
_MOST_STAMPS = 6
_NEIGHBOURHOOD = 0.5
"""Degrees around an object that `plot_place` shows."""


def plot_light_curve(curve: pd.DataFrame) -> Figure:
    """What `Archive.light_curve` gives: difference magnitude against days since the first detection.

    Filled points are brighter than the reference image, open ones fainter; a black ring is an alert of its
    own, what has none comes from the histories of later alerts. Small points are forced photometry of
    exposures without a detection, triangles are limits of those where it measured nothing either.
    """
    figure = blank_figure(9, 3.8)
    axes = figure.add_subplot()
    draw_curve(axes, curve)
    return plain_axes(figure, axes)


def draw_curve(axes: Axes, curve: pd.DataFrame) -> None:
    """The same, drawn in existing axes."""
    made = _made_as(curve)
    curve = _with_forced(curve, made)
    first = _first_seen(curve)
    for name in sorted(curve["band"].dropna().unique()):
        _draw_band(axes, curve[curve["band"] == name], name, first, made)
    alerts = curve[curve["kind"] == "alert"]
    axes.plot(alerts["jd"] - first, alerts[made.value], "o", ms=11, mfc="none", mec=_INK, label="alert")
    if curve["forced"].notna().any():
        axes.plot([], [], "o", color=_INK, ms=3.5, label="small: forced photometry")
    if _limits(curve).any():
        axes.plot([], [], "v", color=_GREY, label="limit, nothing measured")
    if made.inverted:
        axes.invert_yaxis()
    axes.set_xlabel("days since the first detection")
    axes.set_ylabel(made.label)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def _first_seen(curve: pd.DataFrame) -> float:
    """Julian date of the first detection; of the first epoch where there is none."""
    seen = curve[curve["kind"].isin(_SEEN)]
    return float((seen if len(seen) else curve)["jd"].min())


def _made_as(curve: pd.DataFrame) -> LightCurve:
    """How the survey whose light curve this is makes them."""
    made = (survey.light_curve for survey in SURVEYS.values())
    return next(one for one in made if {*one.epoch} <= {*curve.columns})


def _with_forced(curve: pd.DataFrame, made: LightCurve) -> pd.DataFrame:
    """With the columns `forced`, `sigma`: of usable forced photometry where nothing was detected."""
    wanted = curve["usable"] & ~curve["kind"].isin(_SEEN)
    point, sigma = (curve[name].astype("float64") for name in ("point", "pointerr"))
    return curve.assign(forced=np.where(wanted, point, np.nan), sigma=sigma)


def _limits(curve: pd.DataFrame) -> pd.Series:
    """Epochs of which nothing is known but a limit."""
    return (curve["kind"] == "limit") & curve["forced"].isna()


def _draw_band(axes: Axes, rows: pd.DataFrame, name: str, first: float, made: LightCurve) -> None:
    """Limits and detections in one band; `first`: the Julian date of day 0."""
    look = band(name)
    if made.limit is not None:
        limits = rows[_limits(rows)]
        days = limits["jd"] - first
        axes.plot(days, limits[made.limit], "v", color=look.colour, ms=5, mec="none", alpha=0.4)
    detected = rows["kind"].isin(_SEEN) & rows[made.value].notna()
    for positive in (True, False):
        seen = rows[detected & (rows["positive"] == positive)]
        axes.errorbar(
            seen["jd"] - first,
            seen[made.value],
            yerr=seen[made.error],
            fmt=look.marker,
            color=look.colour,
            markerfacecolor=look.colour if positive else "white",
            ms=5.5,
            elinewidth=1,
        )
        forced = rows[rows["forced"].notna() & (rows["forced_positive"] == positive)]
        axes.errorbar(
            forced["jd"] - first,
            forced["forced"],
            yerr=forced["sigma"],
            fmt=look.marker,
            color=look.colour,
            markerfacecolor=look.colour if positive else "white",
            ms=3.5,
            elinewidth=1,
        )
    count = int((detected | rows["forced"].notna()).sum())
    label = f"{look.name}: {count} point{'s' * (count != 1)}"
    axes.plot([], [], look.marker, color=look.colour, label=label)


def plot_cutouts(archive: Archive, objectId: str, which: str = "Difference") -> Figure:
    """One kind of cut-out of an object's alerts, in order of time.

    At most six, evenly chosen, the first and the last among them; days are those of `plot_light_curve`.

    Parameters
    ----------
    archive
        Where the object's alerts are.
    objectId
        Its name.
    which
        "Science", "Template" or "Difference".

    Raises
    ------
    NoSuchAlert
        For an object that is not there.
    """
    curve = archive.light_curve(objectId)
    alerts = curve[curve["kind"] == "alert"]
    chosen = alerts.iloc[np.unique(np.linspace(0, len(alerts) - 1, _MOST_STAMPS).round().astype(int))]
    packets = archive.packets([int(candid) for candid in chosen["candid"]])
    first = _first_seen(curve)
    figure = blank_figure(1.9 * max(len(chosen), 2), 2.3)
    rows = zip(chosen["jd"], chosen["band"], packets.values(), strict=True)
    for place, (jd, name, raw) in enumerate(rows):
        axes = figure.add_subplot(1, max(len(chosen), 2), place + 1)
        [packet] = read_packet(raw)
        draw_stamp(axes, packet, which)
        axes.set_title(f"{band(name).name}, day {jd - first:.2f}", fontsize=9)
    return figure


def plot_object(archive: Archive, objectId: str) -> Figure:
    """An object on one page: its whole light curve, and stamps of its first, brightest and last alert.

    Raises NoSuchAlert.
    """
    curve = archive.light_curve(objectId)
    alerts = curve[curve["kind"] == "alert"].reset_index(drop=True)
    made = _made_as(curve)
    values = alerts[made.value].to_numpy(float)
    brightest = int(np.argmin(values) if made.inverted else np.argmax(values))
    picks = sorted({0, brightest, len(alerts) - 1})
    packets = archive.packets([int(alerts["candid"][row]) for row in picks])
    figure = blank_figure(9, 3.6 + 2.1 * len(picks))
    grid = figure.add_gridspec(1 + len(picks), 3, height_ratios=[1.7, *[1] * len(picks)])
    axes = figure.add_subplot(grid[0, :])
    draw_curve(axes, curve)
    axes.set_title(objectId, loc="left", fontsize=11, fontweight="bold")
    first = _first_seen(curve)
    for number, (row, raw) in enumerate(zip(picks, packets.values(), strict=True), start=1):
        [packet] = read_packet(raw)
        for column, which in enumerate(STAMPS):
            stamp = figure.add_subplot(grid[number, column])
            draw_stamp(stamp, packet, which)
            if not column:
                seen = band(alerts["band"][row]).name
                stamp.set_title(f"{seen}, day {alerts['jd'][row] - first:.2f}", fontsize=9, loc="left")
    return figure


def plot_place(archive: Archive, objectId: str) -> Figure:
    """Where an object is: left among all alerts within half a degree, right its own alerts in arcseconds.

    Right: offsets of each alert from their median, north up, east left; the circle is the 1.5 arcsec within
    which ZTF gives one name. Raises ZadsError when the archive has no alert of it.
    """
    own = archive.alerts(columns=["ra", "dec", "band"], where=[("objectId", "==", objectId)]).compute(
        scheduler="threads"
    )
    if own.empty:
        raise no_such_alert(f"alert of {objectId}", archive)
    ra, dec = own["ra"].median(), own["dec"].median()
    around = archive.alerts(columns=["ra", "dec"], cone=(ra, dec, _NEIGHBOURHOOD)).compute(
        scheduler="threads"
    )
    figure = blank_figure(9, 4.2)
    wide, near = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    wide.scatter(*_offsets(around, ra, dec), s=6, color=_GREY, label="all alerts around")
    wide.plot([0], [0], "o", ms=13, mfc="none", mec="#D55E00", mew=1.5, label=objectId)
    wide.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    _sky_axes(wide, _NEIGHBOURHOOD, "degrees")
    for name in sorted(own["band"].unique()):
        look = band(name)
        x, y = _offsets(own[own["band"] == name], ra, dec)
        near.plot(x * 3600, y * 3600, look.marker, color=look.colour, ms=6, label=look.name)
    turn = np.linspace(0, 2 * np.pi, 200)
    near.plot(1.5 * np.cos(turn), 1.5 * np.sin(turn), color=_GREY, lw=1)
    near.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    _sky_axes(near, 2.0, "arcsec")
    return figure


def _offsets(frame: pd.DataFrame, ra: float, dec: float) -> tuple[np.ndarray, np.ndarray]:
    """Degrees east and north of a place, on the plane that touches the sky there (small angles)."""
    east = (frame["ra"].to_numpy() - ra + 180) % 360 - 180
    return east * np.cos(np.radians(dec)), frame["dec"].to_numpy() - dec


def _sky_axes(axes: Axes, half: float, unit: str) -> None:
    axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
    axes.set_xlabel(f"east ({unit})", fontsize=9)
    axes.set_ylabel(f"north ({unit})", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
