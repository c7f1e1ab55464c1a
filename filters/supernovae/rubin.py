"""Supernovae of type Ia among Rubin's alerts, by their light curves."""

from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd

from filters.blocks.lsst import RELIABLE, first_jd, known_object, reliable_cuts
from filters.contract import alert_filter
from filters.history import History, history
from filters.stamps.once import Remembered
from filters.supernovae import FREE, fits, gives, measured_by_rubin
from filters.traced import answer

EPOCHS = [
    *(f"prvDiaSources.{name}" for name in ("jd", "band", "exposure", "mag", "flux", "fluxerr", "positive")),
    *(f"prvDiaForcedSources.{name}" for name in ("jd", "band", "exposure", "usable", "flux", "fluxerr")),
]
READS = [
    *RELIABLE,
    *("ssObjectId", "isDipole", "diaObject.firstDiaSourceMjdTai"),
    *("jd", "band", "positive", "mag", "flux", "fluxerr"),
    *EPOCHS,
]
GIVES = gives("nJy")


@alert_filter(survey="lsst", reads=READS, gives=GIVES)
def type_ia_rubin(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.5,
    age_max: Annotated[float, "d"] = 150,
    detections_min: Annotated[int, "epochs"] = 5,
    dof_min: Annotated[int, ""] = 3,
    chi2_max: Annotated[float, ""] = 8.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The light curve, forced photometry included, is that of a supernova of type Ia, in ugrizy.

    As `type_ia` for ZTF, with the same templates through the LSST's passbands, up to a redshift of 0.6. Rubin
    measures near supernovae better than a template is like them: observed ones have a chi squared of 2 to 8
    over the degrees of freedom, and core collapse from 2 to 40.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    age_max
        Most time since the first detection: active galaxies have been seen for longer.
    detections_min
        Least number of exposures with a positive detection, this one included.
    dof_min
        Least degrees of freedom.
    chi2_max
        Largest chi squared over the degrees of freedom.

    Source
    ------
    "Goodness of fit to SN Ia lightcurve" among the filters of Bellm et al. 2017 (talk, 8 August 2017); the
    templates of Hsiao et al. (2007, ApJ 663, 1187).
    """
    fitted = Remembered(lambda some: fits("lsst", measured_by_rubin(some), some["jd"].to_numpy()))
    seen = positive_detections(alerts)
    cuts = {
        **reliable_cuts(alerts, reliability_min),
        "positive": alerts["positive"] & alerts["mag"].notna(),
        "no dipole": ~alerts["isDipole"],
        "no known object": ~known_object(alerts),
        "not old": alerts["jd"] - first_jd(alerts, history(alerts, "prvDiaSources")) <= age_max,
        "seen often": seen.count() + 1 >= detections_min,
        "in two bands": (seen["band"] != seen.alert["band"]).any(),
        "enough epochs": lambda left: epochs(left) - FREE >= dof_min,
        "fits": lambda left: fitted(left, "chi2_dof") <= chi2_max,
    }
    return cuts, {name: partial(fitted, name=name) for name in GIVES}


def positive_detections(alerts: pd.DataFrame) -> History:
    """The detections before this one whose flux is good and positive, one an exposure."""
    past = history(alerts, "prvDiaSources")
    found: History = past[past["mag"].notna() & past["positive"]].once_an_exposure()
    return found


def epochs(alerts: pd.DataFrame) -> pd.Series:
    """Measurements that a fit can use."""
    return answer(alerts, measured_by_rubin(alerts).counts().astype(np.int64), READS)
