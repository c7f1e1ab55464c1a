"""Features of a light curve, the same for every survey: how fast it rises, since when, peak brightness.

Each feature gives one number an alert, missing where it is not defined. The epochs are the past detections of
the packet's history, either sign, and the alert itself, the last one. An exposure counts once. In a filter:

    past = history(alerts, "prv_candidates")
    return {"rising": rise_rate(alerts, past) > 0.1}

with the columns that its documentation names in the filter's `reads` ("mag", "prv_candidates.mag" ...),
and in an expression `rise_rate() > 0.1`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from filters.history import History
from filters.traced import answer
from filters.view import column_of

Alerts = pd.DataFrame
_BASELINE = 0.5 / 24  # days


def detections(past: History) -> History:
    """The past epochs in which the object was detected, each exposure once."""
    return past[past["mag"].notna()].once_an_exposure()


def rise_rate(alerts: Alerts, past: History, baseline: float = _BASELINE) -> pd.Series:
    """How fast it has brightened since its last detection in the same band, mag/d; negative: it fades.

    Reads jd, mag, band of the alert; jd, mag, exposure, band of the history.

    Parameters
    ----------
    alerts, past
        The batch, and its history of detections.
    baseline
        days that the two detections lie apart at least: what is nearer in time says more of the noise.

    Returns
    -------
    Series
        mag/d; missing without such a detection.
    """
    seen = detections(past)
    before = seen[(seen["band"] == seen.alert["band"]) & (seen.alert["jd"] - seen["jd"] >= baseline)]
    brighter = before["mag"].last().to_numpy() - _own(alerts, "mag")
    rate = brighter / (_own(alerts, "jd") - before["jd"].last().to_numpy())
    given = () if baseline == _BASELINE else (f"baseline={baseline!r}",)
    return _answer("rise_rate", alerts, past, rate, *given)


def since_first(alerts: Alerts, past: History) -> pd.Series:
    """Days since the first detection in the packet; 0 for an object seen for the first time.

    Reads jd of the alert; jd, mag, exposure of the history.
    """
    days = _own(alerts, "jd") - detections(past)["jd"].min().to_numpy()
    return _answer("since_first", alerts, past, np.where(np.isnan(days), 0.0, days))


def detections_tonight(alerts: Alerts, past: History) -> pd.Series:
    """How many exposures of this night detected the object, this one included.

    Reads jd, night of the alert; jd, mag, exposure, night of the history.
    """
    seen = detections(past)
    tonight = seen[seen["night"] == seen.alert["night"]]
    return _answer("detections_tonight", alerts, past, tonight.totals() + 1.0)


def limit_before_first(alerts: Alerts, past: History) -> pd.Series:
    """Days from the last non-detection before the first detection to that detection; missing without one.

    Reads jd of the alert; jd, mag, exposure of the history.

    A survey whose history holds no non-detections (Rubin) has none.
    """
    first = _own(alerts, "jd") - since_first(alerts, past).to_numpy()
    limits = past[past["mag"].isna() & (past["jd"] < past.spread(answer(alerts, first, past.sources)))]
    return _answer("limit_before_first", alerts, past, first - limits["jd"].max().to_numpy())


def peak(alerts: Alerts, past: History) -> pd.Series:
    """The brightest magnitude so far, in any band, mag.

    Reads jd, mag of the alert; jd, mag, exposure of the history.
    """
    brightest = np.fmin(detections(past)["mag"].min().to_numpy(), _own(alerts, "mag"))
    return _answer("peak", alerts, past, brightest)


def since_peak(alerts: Alerts, past: History) -> pd.Series:
    """Days since the brightest detection so far (the last of several); 0 when it is this one.

    Reads jd, mag of the alert; jd, mag, exposure of the history.
    """
    seen = detections(past)
    brightest = seen["mag"].min()
    at = seen[seen["mag"] == seen.spread(brightest)]["jd"].last().to_numpy()
    own, now = _own(alerts, "mag"), _own(alerts, "jd")
    earlier = brightest.to_numpy() < own
    return _answer("since_peak", alerts, past, np.where(earlier | np.isnan(own), now - at, 0.0))


def colour(alerts: Alerts, past: History, blue: str = "g", red: str = "r") -> pd.Series:
    """Magnitude in the blue band minus that in the red one, both of tonight, mag.

    Reads jd, mag, band, night of the alert; jd, mag, exposure, band, night of the history.

    One is this alert's, the other that of the last detection tonight in the other band.

    Parameters
    ----------
    alerts, past
        The batch, and its history of detections.
    blue, red
        Bands; an alert in neither of them has no colour.

    Returns
    -------
    Series
        mag; missing without both.
    """
    seen = detections(past)
    tonight = seen[seen["night"] == seen.alert["night"]]
    own, band = _own(alerts, "mag"), column_of(alerts, "band").to_numpy()
    other = {name: tonight[tonight["band"] == name]["mag"].last().to_numpy() for name in (blue, red)}
    made = np.where(band == blue, own - other[red], np.where(band == red, other[blue] - own, np.nan))
    return _answer("colour", alerts, past, made, f'"{blue}"', f'"{red}"')


@dataclass(frozen=True)
class Feature:
    """A feature as an expression knows it.

    function: gets the alerts, their history, and texts from the expression. unit, meaning: for people. own,
    rows: the columns that it reads of alerts and of the history.
    """

    function: Callable[..., pd.Series]
    unit: str
    own: tuple[str, ...]
    rows: tuple[str, ...]
    texts: int = 0

    @property
    def meaning(self) -> str:
        """The first sentence of its documentation."""
        return (self.function.__doc__ or "").split("\n\n")[0].replace("\n    ", " ")


_SEEN = ("jd", "mag", "exposure")
FEATURES = {
    "rise_rate": Feature(rise_rate, "mag/d", ("jd", "mag", "band"), (*_SEEN, "band")),
    "since_first": Feature(since_first, "d", ("jd",), _SEEN),
    "detections_tonight": Feature(detections_tonight, "", ("jd", "night"), (*_SEEN, "night")),
    "limit_before_first": Feature(limit_before_first, "d", ("jd",), _SEEN),
    "peak": Feature(peak, "mag", ("jd", "mag"), _SEEN),
    "since_peak": Feature(since_peak, "d", ("jd", "mag"), _SEEN),
    "colour": Feature(colour, "mag", ("jd", "mag", "band", "night"), (*_SEEN, "band", "night"), texts=2),
}
"""Name in expressions -> feature. Another one is a function and a line here."""


def _own(alerts: Alerts, name: str) -> np.ndarray:
    values: Any = column_of(alerts, name)
    return np.asarray(values.to_numpy(dtype=float, na_value=np.nan))


def _answer(name: str, alerts: Alerts, past: History, values: np.ndarray, *given: str) -> pd.Series:
    """The values of a feature; given: what it was called with, for `explain`."""
    feature = FEATURES[name]
    rows = (f"{past.name}.{column}" for column in feature.rows)
    called = f"{name}({', '.join(given)})"
    return answer(alerts, np.asarray(values, float), (*past.sources, *feature.own, *rows), called)
