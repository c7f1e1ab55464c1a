"""Sources that are seen again in one night."""

from typing import Annotated

import pandas as pd

from filters.blocks.lsst import RELIABLE, known_object, reliable_cuts
from filters.contract import alert_filter
from filters.history import history
from schemas.time import MINUTES

PAST = [f"prvDiaSources.{name}" for name in ("jd", "night", "positive")]
READS = [*RELIABLE, "ssObjectId", "jd", "night", "positive", *PAST]


@alert_filter(survey="lsst", reads=READS)
def repeated_tonight(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    gap: Annotated[float, "min"] = 15,
    detections_min: Annotated[int, "detections"] = 1,
) -> dict[str, pd.Series]:
    """Detected before in the same night, more than `gap` ago, so that it does not move; no known mover.

    The night is that of Cerro Pachon, the date of UTC - 12 h.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    gap
        An earlier detection counts when it is longer ago than this.
    detections_min
        Least number of such detections.

    Source
    ------
    Pairs of visits a night, Bianco et al. 2022, ApJS 258, 1.
    """
    past = history(alerts, "prvDiaSources")
    minutes = (past.alert["jd"] - past["jd"]) * MINUTES
    tonight = past[(past["night"] == past.alert["night"]) & past["positive"] & (minutes > gap)]
    return {
        **reliable_cuts(alerts, reliability_min),
        "positive": alerts["positive"],
        "no known object": ~known_object(alerts),
        "seen before tonight": tonight.count() >= detections_min,
    }
