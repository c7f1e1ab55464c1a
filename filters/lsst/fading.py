"""Sources that get fainter, by forced photometry."""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.blocks.lsst import known_object, reliable_cuts, usable_forced
from filters.contract import alert_filter
from filters.history import history
from filters.lsst.rising import READS as RISING

READS = [*RISING, "positive"]


@alert_filter(survey="lsst", reads=READS)
def fading(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    sigmas: Annotated[float, ""] = 5,
    epochs_min: Annotated[int, "epochs"] = 3,
) -> dict[str, pd.Series]:
    """Brighter than the reference, but more than `sigmas` below the brightest forced flux in the band.

    And not above the last one. The drop is measured in units of this flux's error and the mean error of the
    others, added in quadrature.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    sigmas
        The drop must be larger than this many errors.
    epochs_min
        Least number of usable forced fluxes in the band.

    Source
    ------
    The definition of `prvDiaForcedSources` in the schema lsst.v11_0.
    """
    before = usable_forced(history(alerts, "prvDiaForcedSources"))
    error = np.hypot(alerts["fluxerr"], before["fluxerr"].mean())
    return {
        **reliable_cuts(alerts, reliability_min),
        "positive": alerts["positive"],
        "no known object": ~known_object(alerts),
        "enough history": before["flux"].count() >= epochs_min,
        "below its peak": before["flux"].max() - alerts["flux"] > sigmas * error,
        "not rising": alerts["flux"] <= before["flux"].last(),
    }
