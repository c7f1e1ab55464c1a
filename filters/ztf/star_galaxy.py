"""Alerts at the place of a star."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import ps1_source
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["distpsnr1", "sgscore1"])
def star_galaxy(
    alerts: pd.DataFrame,
    *,
    radius: Annotated[float, "arcsec"] = 1.5,
    sgscore_min: Annotated[float, ""] = 0.5,
) -> dict[str, pd.Series]:
    """Stars pass: a PS1 source within `radius`, with a star-galaxy score above `sgscore_min`.

    Parameters
    ----------
    alerts
        One row an alert.
    radius
        Largest distance of the PS1 source.
    sgscore_min
        The star-galaxy score of the PS1 source is above this (1 is a star).

    Source
    ------
    The star-galaxy score of Tachibana & Miller 2018, PASP 130, 128001.
    """
    return {
        "PS1 source here": ps1_source(alerts, radius=radius),
        "a star": alerts["sgscore1"] > sgscore_min,
    }
