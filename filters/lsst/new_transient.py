"""New transients: reliable, few detections, no mover."""

from typing import Annotated

import pandas as pd

from filters.blocks.lsst import RELIABLE, first_jd, known_object, reliable_cuts
from filters.contract import alert_filter
from filters.history import history

READS = [
    *RELIABLE,
    "ssObjectId",
    "jd",
    "positive",
    "isDipole",
    "diaObject.nDiaSources",
    "diaObject.firstDiaSourceMjdTai",
    "prvDiaSources.jd",
]


@alert_filter(survey="lsst", reads=READS)
def new_transient(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    detections_min: Annotated[int, "detections"] = 2,
    detections_max: Annotated[int, "detections"] = 20,
    age_max: Annotated[float, "d"] = 10,
) -> dict[str, pd.Series]:
    """Reliable, brighter than the reference, few detections, first seen recently; no dipole, no known mover.

    Hosts and stars are not recognised, because the packet has no neighbours.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    detections_min
        Least number of detections of the diaObject, this one included.
    detections_max
        Most detections of the diaObject, this one included.
    age_max
        Most time since the first detection.

    Source
    ------
    After the broker Lasair, Smith et al. 2019, RNAAS 3, 26.
    """
    past = history(alerts, "prvDiaSources")
    seen = alerts["diaObject.nDiaSources"]
    return {
        **reliable_cuts(alerts, reliability_min),
        "positive": alerts["positive"],
        "no dipole": ~alerts["isDipole"],
        "no known object": ~known_object(alerts),
        "a few detections": (seen >= detections_min) & (seen <= detections_max),
        "young": alerts["jd"] - first_jd(alerts, past) <= age_max,
    }
