"""Variables of large amplitude."""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.blocks.lsst import RELIABLE, known_object, reliable_cuts, same_band
from filters.contract import alert_filter
from filters.history import history
from filters.traced import answer

PAST = [f"prvDiaSources.{name}" for name in ("jd", "band", "exposure", "scienceFlux")]
READS = [*RELIABLE, "ssObjectId", "jd", "band", "scienceFlux", *PAST]


@alert_filter(survey="lsst", reads=READS)
def large_amplitude(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    amplitude_min: Annotated[float, "mag"] = 1,
    epochs_min: Annotated[int, "epochs"] = 5,
) -> dict[str, pd.Series]:
    """The flux on the science images, in one band, spans at least `amplitude_min`, this epoch included.

    Epochs whose flux is not above zero have no magnitude and do not count.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    amplitude_min
        Least difference of the faintest and the brightest epoch.
    epochs_min
        Least number of epochs in the band, this one included.

    Source
    ------
    `scienceFlux` of the schema lsst.v11_0.diaSource; amplitudes of pulsating stars after Catelan & Smith
    2015, Pulsating Stars (Wiley).
    """
    past = history(alerts, "prvDiaSources")
    earlier = same_band(past[past["scienceFlux"] > 0]).once_an_exposure()["scienceFlux"]
    now = alerts["scienceFlux"].where(alerts["scienceFlux"] > 0)
    brightest, faintest = np.fmax(earlier.max(), now), np.fmin(earlier.min(), now)
    amplitude = 2.5 * np.log10(np.asarray(brightest, float) / np.asarray(faintest, float))
    sources = ["scienceFlux", "band", "prvDiaSources.band", "prvDiaSources.scienceFlux"]
    return {
        **reliable_cuts(alerts, reliability_min),
        "no known object": ~known_object(alerts),
        "enough epochs": earlier.count() + now.notna() >= epochs_min,
        "large amplitude": answer(alerts, amplitude, sources) >= amplitude_min,
    }
