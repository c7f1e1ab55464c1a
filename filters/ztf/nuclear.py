"""Transients in the middle of galaxies: tidal disruptions, active nuclei."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import known_object, ps1_source
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["positive", "distpsnr1", "sgscore1", "ssdistnr"])
def nuclear(
    alerts: pd.DataFrame,
    *,
    radius: Annotated[float, "arcsec"] = 0.6,
    sgscore_max: Annotated[float, ""] = 0.5,
    object_radius: Annotated[float, "arcsec"] = 5,
) -> dict[str, pd.Series]:
    """Brighter than the reference, within `radius` of a galaxy's centre, and no known solar-system object.

    Parameters
    ----------
    alerts
        One row an alert.
    radius
        Largest distance of the PS1 source.
    sgscore_max
        The star-galaxy score of the PS1 source is below this (0 is a galaxy).
    object_radius
        A known solar-system object nearer than this rejects the alert.

    Source
    ------
    After van Velzen et al. 2019, ApJ 872, 198 (nuclear flares in ZTF).
    """
    return {
        "positive": alerts["positive"],
        "at a PS1 source": ps1_source(alerts, radius=radius),
        "a galaxy": alerts["sgscore1"] < sgscore_max,
        "no known object": ~known_object(alerts, radius=object_radius),
    }
