"""Sources that are fainter than in the reference image."""

from typing import Annotated

import pandas as pd

from filters.blocks.lsst import RELIABLE, known_object, reliable_cuts
from filters.contract import alert_filter

READS = [*RELIABLE, "ssObjectId", "isNegative", "isDipole", "flux", "fluxerr"]


@alert_filter(survey="lsst", reads=READS)
def negative_source(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    snr_min: Annotated[float, ""] = 5,
) -> dict[str, pd.Series]:
    """Detected as negative, with a significant negative flux; no dipole, no known solar-system object.

    These are variables near minimum, dips, and transients that were in the reference image.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    snr_min
        The flux is at least this many errors below zero.

    Source
    ------
    `isNegative` and `psfFlux` of the schema lsst.v11_0.diaSource.
    """
    return {
        **reliable_cuts(alerts, reliability_min),
        "negative": alerts["isNegative"],
        "no dipole": ~alerts["isDipole"],
        "no known object": ~known_object(alerts),
        "significant": alerts["flux"] <= -snr_min * alerts["fluxerr"],
    }
