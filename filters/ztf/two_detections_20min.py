"""Two detections within one visit of the field, none before."""

from typing import Annotated

import pandas as pd

from filters.contract import alert_filter
from filters.history import history
from schemas.time import MINUTES


@alert_filter(survey="ztf", reads=["jd", "prv_candidates.jd", "prv_candidates.magpsf"])
def two_detections_20min(alerts: pd.DataFrame, *, gap: Annotated[float, "min"] = 20) -> dict[str, pd.Series]:
    """First detected more than `gap` before this detection, and by no other more than `gap` after the first.

    Source: Bellm et al. 2017 (talk, 8 August 2017): "Two detections separated by > 20 minutes with no
    previous". Detections of either sign, within the packet (30 days).
    """
    past = history(alerts, "prv_candidates")
    seen = past[past["magpsf"].notna()]
    first = seen["jd"].min()
    after_first = (seen["jd"] - seen.spread(first)) * MINUTES
    return {
        "first seen before": (alerts["jd"] - first) * MINUTES > gap,
        "not seen between": seen[after_first > gap].count() == 0,
    }
