"""Alerts that lie on a line with others of their exposure: the trail of a satellite, a bleeding column."""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.contract import alert_filter

_BLOCK = 2_000_000  # distances worked out at a time


@alert_filter(survey="ztf", reads=["exposure", "xpos", "ypos", "rb"], scope="exposure", gives={"on_line": ""})
def no_trail(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.0,
    members: Annotated[int, "alerts"] = 5,
    width: Annotated[float, "pixels"] = 3.0,
    most: Annotated[int, "alerts"] = 1000,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Real enough, and no line through the alert has `members` alerts of its exposure on it.

    The line goes through the alert and another one; on it are those at most `width` from it. An exposure of
    more than `most` alerts is not looked at: it says something else, and all of it passes.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    rb_min
        Least real-bogus score, 0 to 1; the others make lines all the same.
    members
        So many alerts on a line, this one included, are a trail.
    width
        Largest distance from the line.
    most
        Largest exposure that is looked at.

    Source
    ------
    "Reject events occurring in spatial proximity, such as around a saturated star bleed trail", Bellm et al.
    2017 (talk, 8 August 2017).
    """
    found = on_lines(alerts, "xpos", "ypos", width, most)
    return {"real": alerts["rb"] >= rb_min, "no trail": found < members}, {"on_line": found}


@alert_filter(
    survey="lsst", reads=["exposure", "x", "y", "reliability"], scope="exposure", gives={"on_line": ""}
)
def no_trail_rubin(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.0,
    members: Annotated[int, "alerts"] = 5,
    width: Annotated[float, "pixels"] = 10.0,
    most: Annotated[int, "alerts"] = 1000,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """As `no_trail`, of the sources on one detector of a Rubin visit; its pixels are a fifth of an arcsec.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    reliability_min
        Least `reliability`, 0 to 1; the others make lines all the same.
    members
        So many alerts on a line, this one included, are a trail.
    width
        Largest distance from the line.
    most
        Largest exposure that is looked at.

    Source
    ------
    "Reject events occurring in spatial proximity, such as around a saturated star bleed trail", Bellm et al.
    2017 (talk, 8 August 2017).
    """
    found = on_lines(alerts, "x", "y", width, most)
    return {"real": alerts["reliability"] >= reliability_min, "no trail": found < members}, {"on_line": found}


def on_lines(alerts: pd.DataFrame, x: str, y: str, width: float, most: int) -> pd.Series:
    """For each alert the most alerts of its exposure on a line through it; 1 in an exposure that is too
    large.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    x, y
        Names of the columns of its place on the detector, pixels.
    width
        Largest distance from the line, pixels.
    most
        Largest exposure that is looked at.
    """
    on_line = np.ones(len(alerts))
    places = [alerts[name].to_numpy(dtype=float, na_value=np.nan) for name in (x, y)]
    for rows in alerts.groupby("exposure", sort=False).indices.values():
        if len(rows) <= most:
            on_line[rows] = most_on_a_line(places[0][rows], places[1][rows], width)
    return pd.Series(on_line, alerts.index)


def most_on_a_line(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
    """For each place the most places, itself included, within `width` of a line through it and another one.

    Parameters
    ----------
    x, y
        (n,) pixels; a place that is missing is alone.
    width
        Largest distance from the line, pixels.
    """
    count = len(x)
    most = np.ones(count)
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(there) < 2:
        return most
    px, py = x[there], y[there]
    step = max(1, _BLOCK // len(there) ** 2)
    for at in range(0, len(there), step):
        here = slice(at, at + step)
        dx, dy = px - px[here, None], py - py[here, None]
        length = np.hypot(dx, dy)
        apart = length > width
        ux, uy = (np.divide(d, length, out=np.zeros_like(d), where=apart) for d in (dx, dy))
        away = np.abs(ux[:, :, None] * dy[:, None, :] - uy[:, :, None] * dx[:, None, :])
        on = (away <= width).sum(2)
        most[there[here]] = np.where(apart, on, 1).max(1)
    return most
