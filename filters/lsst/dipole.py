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
    """Fitted well by two lobes, near each other and significant: a star that moved, or a bad subtraction.

    Source: `isDipole`, `dipoleLength` and `dipoleMeanFlux` of the schema lsst.v11_0.diaSource.
    """
    return {
        "dipole": alerts["isDipole"],
        "short": alerts["dipoleLength"] <= length_max,
        "significant": alerts["dipoleMeanFlux"] >= snr_min * alerts["dipoleMeanFluxErr"],
        "centroid": ~alerts["centroid_flag"],
    }
