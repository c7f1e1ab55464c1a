"""What several Rubin filters ask of an alert, each in one place. Fluxes in nJy, magnitudes in mag.

`reliability` comes from a model that is trained again and again: every threshold on it is a parameter.
"""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.blocks.block import block
from filters.features import rise_rate
from filters.history import History, history
from filters.traced import answer
from schemas.time import jd_of_tai

DO_NOT_USE = (
    "centroid_flag",
    "glint_trail",
    "pixelFlags_bad",
    "pixelFlags_crCenter",
    "pixelFlags_injected",
    "pixelFlags_injectedCenter",
    "pixelFlags_injected_template",
    "pixelFlags_injected_templateCenter",
    "pixelFlags_nodataCenter",
    "pixelFlags_offimage",
    "pixelFlags_saturatedCenter",
    "pixelFlags_streakCenter",
)
"""Flags of a source that is no measurement of the sky: bad pixels in its centre, or injected for tests.

Source: the descriptions of the flags in the schema lsst.v11_0.diaSource.
"""

_SEEN = [f"prvDiaSources.{name}" for name in ("jd", "mag", "exposure", "band")]

RELIABLE = ["reliability", "timeWithdrawnMjdTai", *DO_NOT_USE]
"""What `reliable_cuts` reads."""


@block(survey="lsst", reads=["reliability"])
def real(alerts: pd.DataFrame, *, reliability_min: Annotated[float, ""] = 0.5) -> pd.Series:
    """The survey's own `reliability` is at least `reliability_min`."""
    return alerts["reliability"] >= reliability_min


@block(survey="lsst", reads=DO_NOT_USE)
def no_bad_flag(alerts: pd.DataFrame) -> pd.Series:
    """None of the flags that say "do not use"."""
    flagged = np.logical_or.reduce([alerts[name].to_numpy() for name in DO_NOT_USE])
    return answer(alerts, ~flagged, DO_NOT_USE)


@block(survey="lsst", reads=["timeWithdrawnMjdTai"])
def withdrawn(alerts: pd.DataFrame) -> pd.Series:
    """The survey has withdrawn the source."""
    return alerts["timeWithdrawnMjdTai"].notna()


@block(survey="lsst", reads=["timeWithdrawnMjdTai", *DO_NOT_USE])
def good_quality(alerts: pd.DataFrame) -> pd.Series:
    """None of the flags that say "do not use", and not withdrawn."""
    return no_bad_flag(alerts) & ~withdrawn(alerts)


@block(survey="lsst", reads=["ssObjectId"])
def known_object(alerts: pd.DataFrame) -> pd.Series:
    """A known solar-system object is associated with the source."""
    return alerts["ssObjectId"].notna()


@block(survey="lsst", reads=["jd", "mag", "band", *_SEEN])
def rising(alerts: pd.DataFrame, *, rate: Annotated[float, "mag/d"] = 0) -> pd.Series:
    """Brighter than at its last detection in the same band, by more than `rate` (see `rise_rate`)."""
    return rise_rate(alerts, history(alerts, "prvDiaSources")) > rate


def reliable_cuts(alerts: pd.DataFrame, reliability_min: float) -> dict[str, pd.Series]:
    """Cuts: reliable, none of the flags that say "do not use", not withdrawn."""
    return {
        "reliable": real(alerts, reliability_min=reliability_min),
        "no bad flag": no_bad_flag(alerts),
        "not withdrawn": ~withdrawn(alerts),
    }


def first_jd(alerts: pd.DataFrame, past: History) -> pd.Series:
    """When the object was first detected: by its diaObject, its history, or now; days UTC."""
    told = jd_of_tai(alerts["diaObject.firstDiaSourceMjdTai"].to_numpy())
    earliest = np.fmin(np.fmin(told, past["jd"].min().to_numpy()), alerts["jd"].to_numpy())
    return answer(alerts, earliest, ["jd", "diaObject.firstDiaSourceMjdTai", "prvDiaSources.jd"])


def same_band(past: History) -> History:
    """The epochs in the alert's own band."""
    chosen: History = past[past["band"] == past.alert["band"]]
    return chosen


def usable_forced(past: History) -> History:
    """Forced photometry in the alert's own band that can be used, in order of time."""
    chosen: History = past[past["usable"] & (past["band"] == past.alert["band"])]
    return chosen.by_time()
