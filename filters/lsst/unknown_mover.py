"""Moving objects that are not yet known."""

from typing import Annotated

import pandas as pd

from filters.blocks.lsst import RELIABLE, known_object, reliable_cuts
from filters.contract import alert_filter

READS = [*RELIABLE, "ssObjectId", "positive", "trailLength", "trail_flag_edge", "diaObject.nDiaSources"]


@alert_filter(survey="lsst", reads=READS)
def unknown_mover(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    trail_min: Annotated[float, "arcsec"] = 1.5,
    detections_max: Annotated[int, "detections"] = 1,
) -> dict[str, pd.Series]:
    """Reliable, brighter than the reference, trailed or seen once only, and no known solar-system object.

    A source without a diaObject was seen once. In 30 s a trail of 1.5 arcsec is a motion of 1.2 deg a day.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    trail_min
        Least length of a trail.
    detections_max
        Without a trail, most detections of the diaObject.

    Source
    ------
    After the solar-system processing of Ivezic et al. 2019, ApJ 873, 111.
    """
    trailed = (alerts["trailLength"] >= trail_min) & ~alerts["trail_flag_edge"]
    seen = alerts["diaObject.nDiaSources"]
    return {
        **reliable_cuts(alerts, reliability_min),
        "positive": alerts["positive"],
        "no known object": ~known_object(alerts),
        "trailed or seen once": trailed | seen.isna() | (seen <= detections_max),
    }
