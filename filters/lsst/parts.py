"""What several Rubin filters ask of an alert, each in one place. Fluxes in nJy, magnitudes in mag.

`reliability` comes from a model that is trained again and again: every threshold on it is a parameter.
"""

import numpy as np
import pandas as pd

from filters.history import History
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

RELIABLE = ["reliability", "timeWithdrawnMjdTai", *DO_NOT_USE]
"""What `reliable_cuts` reads."""


def reliable_cuts(alerts: pd.DataFrame, reliability_min: float) -> dict[str, pd.Series]:
    """Cuts: reliable, none of the flags that say "do not use", not withdrawn."""
    flagged = np.logical_or.reduce([alerts[name].to_numpy() for name in DO_NOT_USE])
    return {
        "reliable": alerts["reliability"] >= reliability_min,
        "no bad flag": answer(alerts, ~flagged, DO_NOT_USE),
        "not withdrawn": alerts["timeWithdrawnMjdTai"].isna(),
    }


def no_solar_system_object(alerts: pd.DataFrame) -> pd.Series:
    """No known solar-system object is associated with the source."""
    return alerts["ssObjectId"].isna()


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
