"""Stars that suddenly change."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import ps1_source
from filters.contract import alert_filter
from filters.history import history

READS = ["jd", "fid", "flux", "distpsnr1", "sgscore1"]
READS += [f"prv_candidates.{name}" for name in ("jd", "fid", "exposure", "flux")]


@alert_filter(survey="ztf", reads=READS)
def stellar_outburst(
    alerts: pd.DataFrame,
    *,
    sigmas: Annotated[float, ""] = 5,
    epochs_min: Annotated[int, "epochs"] = 5,
    radius: Annotated[float, "arcsec"] = 1.5,
    sgscore_min: Annotated[float, ""] = 0.5,
) -> dict[str, pd.Series]:
    """Has a stellar counterpart, and the flux differs from its past mean by more than `sigmas` times their
    RMS.

    The history is the signed flux 10^(-0.4 (magpsf - 25)) of earlier detections in the same band, one for
    each exposure. RMS is the standard deviation about their mean (divided by n).

    Parameters
    ----------
    alerts
        One row an alert.
    sigmas
        The difference must be larger than this many times the RMS.
    epochs_min
        Least number of earlier detections in the band; with fewer the filter is false.
    radius
        Largest distance of the PS1 source.
    sgscore_min
        The star-galaxy score of the PS1 source is above this (1 is a star).

    Source
    ------
    Bellm et al. 2017 (talk, 8 August 2017), second pseudocode.
    """
    past = history(alerts, "prv_candidates")
    same_band = past[past["flux"].notna() & (past["fid"] == past.alert["fid"])]
    earlier = same_band.once_an_exposure()["flux"]
    change = (alerts["flux"] - earlier.mean()).abs()
    return {
        "PS1 source here": ps1_source(alerts, radius=radius),
        "a star": alerts["sgscore1"] > sgscore_min,
        "enough history": earlier.count() >= epochs_min,
        "outburst": change > sigmas * earlier.std(),
    }
