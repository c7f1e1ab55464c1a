"""Sources that get brighter, by forced photometry."""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.blocks.lsst import RELIABLE, known_object, reliable_cuts, usable_forced
from filters.contract import alert_filter
from filters.history import history

FORCED = [f"prvDiaForcedSources.{name}" for name in ("jd", "band", "flux", "fluxerr", "usable")]
READS = [*RELIABLE, "ssObjectId", "jd", "band", "flux", "fluxerr", *FORCED]


@alert_filter(survey="lsst", reads=READS)
def rising(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    sigmas: Annotated[float, ""] = 5,
    epochs_min: Annotated[int, "epochs"] = 2,
) -> dict[str, pd.Series]:
    """The flux is more than `sigmas` above the last forced flux in the band, and above all before it.

    The rise is measured in units of the two errors, added in quadrature. Forced fluxes may be negative.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    sigmas
        The rise must be larger than this many errors.
    epochs_min
        Least number of usable forced fluxes in the band.

    Source
    ------
    The definition of `prvDiaForcedSources` in the schema lsst.v11_0; the significance of a difference of two
    measurements, sqrt(e1^2 + e2^2).
    """
    before = usable_forced(history(alerts, "prvDiaForcedSources"))
    error = np.hypot(alerts["fluxerr"], before["fluxerr"].last())
    return {
        **reliable_cuts(alerts, reliability_min),
        "no known object": ~known_object(alerts),
        "enough history": before["flux"].count() >= epochs_min,
        "rising": alerts["flux"] - before["flux"].last() > sigmas * error,
        "brightest so far": alerts["flux"] > before["flux"].max(),
    }
