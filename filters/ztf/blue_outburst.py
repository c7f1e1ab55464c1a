"""Dwarf novae and similar objects: blue stars in outburst."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import ps1_magnitude_in_band, ps1_source
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["fid", "magpsf", "positive", "distpsnr1", "sgmag1", "srmag1", "simag1"])
def blue_outburst(
    alerts: pd.DataFrame,
    *,
    radius: Annotated[float, "arcsec"] = 1.5,
    colour_max: Annotated[float, "mag"] = 0.6,
    amplitude_min: Annotated[float, "mag"] = 2,
) -> dict[str, pd.Series]:
    """A blue PS1 source (g - r below `colour_max`) now at least `amplitude_min` brighter.

    Brighter than its PS1 magnitude in the same band.

    Parameters
    ----------
    alerts
        One row an alert.
    radius
        Largest distance of the PS1 source.
    colour_max
        Largest g - r of the PS1 source.
    amplitude_min
        Least difference from the PS1 magnitude.

    Source
    ------
    After Szkody et al. 2020, AJ 159, 198 (cataclysmic variables in the first year of ZTF).
    """
    return {
        "PS1 source here": ps1_source(alerts, radius=radius),
        "blue": alerts["sgmag1"] - alerts["srmag1"] < colour_max,
        "outburst": ps1_magnitude_in_band(alerts) - alerts["magpsf"] >= amplitude_min,
        "positive": alerts["positive"],
    }
