"""Supernovae of type Ia by their light curves."""

from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd

from filters.blocks.ztf import known_object, real, star
from filters.contract import alert_filter
from filters.history import history
from filters.stamps.once import Remembered
from filters.supernovae import FREE, fits, gives, measured_by_ztf
from filters.traced import answer

SEEN = [f"prv_candidates.{name}" for name in ("jd", "band", "exposure", "mag", "flux", "magerr", "positive")]
FORCED = [
    f"fp_hists.{name}"
    for name in ("jd", "band", "exposure", "usable", "forcediffimflux", "forcediffimfluxunc", "magzpsci")
]
READS = [
    *("jd", "jdstarthist", "band", "positive", "flux", "magerr", "rb", "distpsnr1", "sgscore1", "ssdistnr"),
    *SEEN,
    *FORCED,
]
GIVES = gives("10^(-0.4 (mag - 25))")


@alert_filter(survey="ztf", reads=READS, gives=GIVES)
def type_ia(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.65,
    age_max: Annotated[float, "d"] = 100,
    detections_min: Annotated[int, "epochs"] = 5,
    dof_min: Annotated[int, ""] = 3,
    chi2_max: Annotated[float, ""] = 2.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The light curve, forced photometry included, is that of a supernova of type Ia.

    The other cuts leave few alerts to fit: real, brighter than the reference, no star, no known object, not
    seen for long, detected often enough in two bands. Values: chi squared over the degrees of freedom and
    these (usable epochs less the five free parameters of the fit), when the maximum in rest-frame B was or
    will be, the phase of this alert (rest-frame days from it), the flux of that maximum without dust, and
    redshift, stretch and dust (E(B-V)) of the best template.

    Parameters
    ----------
    alerts
        One row an alert.
    rb_min
        Least real-bogus score.
    age_max
        Most time since the first detection of the survey: active galaxies have been seen for longer.
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
    fitted = Remembered(lambda some: fits("ztf", measured_by_ztf(some), some["jd"].to_numpy()))
    cuts = {
        "real": real(alerts, rb_min=rb_min),
        "positive": alerts["positive"],
        "no star": ~star(alerts),
        "no known object": ~known_object(alerts),
        "not old": alerts["jd"] - alerts["jdstarthist"] <= age_max,
        "seen often": detections(alerts) >= detections_min,
        "in two bands": in_two_bands(alerts),
        "enough epochs": lambda left: epochs(left) - FREE >= dof_min,
        "fits": lambda left: fitted(left, "chi2_dof") <= chi2_max,
    }
    return cuts, {name: partial(fitted, name=name) for name in GIVES}


def detections(alerts: pd.DataFrame) -> pd.Series:
    """Exposures with a positive detection in the packet, the alert's own included."""
    return _positive(alerts).count() + 1


def in_two_bands(alerts: pd.DataFrame) -> pd.Series:
    """Some positive detection before is in another band than the alert."""
    seen = _positive(alerts)
    return (seen["band"] != seen.alert["band"]).any()


def epochs(alerts: pd.DataFrame) -> pd.Series:
    """Measurements that a fit can use."""
    return answer(alerts, measured_by_ztf(alerts).counts().astype(np.int64), READS)


def _positive(alerts: pd.DataFrame) -> Any:
    past = history(alerts, "prv_candidates")
    return past[past["mag"].notna() & past["positive"]].once_an_exposure()
