"""Two detections in one night, none before."""

from typing import Annotated

import pandas as pd

from filters.contract import alert_filter
from filters.history import history
from schemas.time import MINUTES, night_of


@alert_filter(
    survey="ztf",
    reads=[
        "jd",
        "night",
        "positive",
        "jdstarthist",
        "prv_candidates.jd",
        "prv_candidates.night",
        "prv_candidates.magpsf",
    ],
)
def two_detections_30min(
    alerts: pd.DataFrame,
    *,
    gap: Annotated[float, "min"] = 30,
    whole_survey: Annotated[bool, ""] = False,
) -> dict[str, pd.Series]:
    """Two detections tonight separated by more than `gap`, and no previous detections.

    "Previous" reaches back as far as the packet does, 30 days.

    Parameters
    ----------
    alerts
        One row an alert.
    gap
        Time between this detection and an earlier one of the night; it must be longer.
    whole_survey
        The survey's own record of the first detection (`jdstarthist`) must be tonight too.

    Source
    ------
    Bellm et al. 2017, "The ZTF Alert Distribution System" (talk, 8 August 2017), first pseudocode.
    """
    past = history(alerts, "prv_candidates")
    seen = past[past["magpsf"].notna()]
    tonight = seen["night"] == seen.alert["night"]
    minutes = (seen.alert["jd"] - seen["jd"]) * MINUTES
    cuts = {
        "positive": alerts["positive"],
        "seen again tonight": seen[tonight & (minutes > gap)].any(),
        "none before": seen[~tonight].count() == 0,
    }
    if whole_survey:
        cuts["first of the survey"] = alerts["jdstarthist"].map(night_of) == alerts["night"]
    return cuts
