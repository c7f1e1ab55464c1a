"""What several ZTF filters ask of an alert, each in one place. Distances in arcsec, magnitudes in mag.

A comparison with a missing value is false: where missing means "none there", the question is put so that
false is the answer "none".
"""

import numpy as np
import pandas as pd

from filters.traced import answer

PS1_MAGNITUDES = {1: "sgmag1", 2: "srmag1", 3: "simag1"}
"""Band (`fid`: g, r, i) -> magnitude of the nearest PS1 source in that band."""


def ps1_source_within(alerts: pd.DataFrame, radius: float) -> pd.Series:
    """The nearest PS1 source is within `radius` arcsec; false where there is none."""
    return alerts["distpsnr1"] <= radius


def known_object_within(alerts: pd.DataFrame, radius: float) -> pd.Series:
    """A known solar-system object is within `radius` arcsec: 0 <= ssdistnr <= radius."""
    distance = alerts["ssdistnr"]
    return (distance >= 0) & (distance <= radius)


def ps1_magnitude_in_band(alerts: pd.DataFrame) -> pd.Series:
    """Magnitude of the nearest PS1 source in the alert's own band; NaN where there is none."""
    band = alerts["fid"].to_numpy()
    magnitudes = [alerts[name].to_numpy() for name in PS1_MAGNITUDES.values()]
    chosen = np.select([band == fid for fid in PS1_MAGNITUDES], magnitudes, np.nan)
    return answer(alerts, chosen, ["fid", *PS1_MAGNITUDES.values()])
