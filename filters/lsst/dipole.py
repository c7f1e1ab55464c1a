"""Dipoles: pairs of a positive and a negative lobe."""

from typing import Annotated

import pandas as pd

from filters.contract import alert_filter


@alert_filter(
    survey="lsst", reads=["isDipole", "dipoleLength", "dipoleMeanFlux", "dipoleMeanFluxErr", "centroid_flag"]
)
def dipole(
    alerts: pd.DataFrame,
    *,
    length_max: Annotated[float, "arcsec"] = 3,
    snr_min: Annotated[float, ""] = 5,
) -> dict[str, pd.Series]:
    """A significant dipole with two lobes near each other: a star that moved, or a bad subtraction.

    Parameters
    ----------
    alerts
        One row an alert.
    length_max
        Largest separation of the two lobes.
    snr_min
        Least mean flux of the lobes, in units of its error.

    Source
    ------
    `isDipole`, `dipoleLength` and `dipoleMeanFlux` of the schema lsst.v11_0.diaSource.
    """
    return {
        "dipole": alerts["isDipole"],
        "short": alerts["dipoleLength"] <= length_max,
        "significant": alerts["dipoleMeanFlux"] >= snr_min * alerts["dipoleMeanFluxErr"],
        "centroid": ~alerts["centroid_flag"],
    }
