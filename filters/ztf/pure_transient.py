"""A clean sample of transients."""

from typing import Annotated, Any

import pandas as pd

from filters.blocks.ztf import known_object, star
from filters.contract import alert_filter
from filters.history import history
from filters.ztf.pure import pure
from schemas.time import MINUTES

READS = [
    "jd",
    "positive",
    "distpsnr1",
    "sgscore1",
    "ssdistnr",
    "prv_candidates.jd",
    "prv_candidates.magpsf",
    "prv_candidates.positive",
]


@alert_filter(survey="ztf", reads=READS, extends=pure)
def pure_transient(
    alerts: pd.DataFrame,
    *,
    gap: Annotated[float, "min"] = 30,
    star_radius: Annotated[float, "arcsec"] = 1.5,
    star_sgscore: Annotated[float, ""] = 0.5,
    object_radius: Annotated[float, "arcsec"] = 5,
    **purity: Any,
) -> dict[str, pd.Series]:
    """`pure`, brighter than the reference, no star, seen `gap` apart or more, no known solar-system object.

    Parameters
    ----------
    alerts
        One row an alert.
    gap
        Least time between positive epochs of the object.
    star_radius
        A PS1 star nearer than this rejects the alert.
    star_sgscore
        A PS1 source with at least this star-galaxy score is a star.
    object_radius
        A known solar-system object nearer than this rejects the alert.
    purity
        Parameters of `pure`.

    Source
    ------
    "Filtering alerts", the public example of the ZTF alert distribution (ztf-avro-alert), with the positive
    epochs in order of time, this one included, and both spellings of positive ("t" and "1").
    """
    return {
        **pure.cuts_of(alerts, **purity),
        "positive": alerts["positive"],
        "no star": ~star(alerts, radius=star_radius, sgscore=star_sgscore),
        "does not move": seen_apart(alerts, gap),
        "no known object": ~known_object(alerts, radius=object_radius),
    }


def seen_apart(alerts: pd.DataFrame, gap: float) -> pd.Series:
    """Some two successive positive epochs, this one the last, are `gap` minutes apart or more."""
    past = history(alerts, "prv_candidates")
    seen = past[past["magpsf"].notna() & past["positive"]].by_time()
    between = seen["jd"].diff() * MINUTES
    until_now = (alerts["jd"] - seen["jd"].max()) * MINUTES
    return (between >= gap).any() | (until_now >= gap)
