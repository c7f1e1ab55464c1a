"""Real sources by the pixels of their difference image."""

from typing import Annotated, Any

import pandas as pd

from filters.blocks.lsst import DO_NOT_USE, no_bad_flag, real
from filters.contract import alert_filter
from filters.stamps.once import Remembered
from filters.stamps.psf import psf_score

DIFFERENCE = "cutoutDifference"


@alert_filter(survey="lsst", reads=["reliability", *DO_NOT_USE, DIFFERENCE], gives={"psf_score": ""})
def point_like(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.1,
    score_min: Annotated[float, ""] = 0.5,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The difference image is one point source, positive or negative: no dipole, trail or cosmic ray.

    The stamps of alerts that the survey's own score has given up, or that have a bad flag, are not looked at.

    Parameters
    ----------
    alerts
        One row an alert.
    reliability_min
        Least `reliability`, 0 to 1.
    score_min
        Least score of the stamp, 0 to 1.

    Source
    ------
    "User-computed RB" among the filters on image cut-outs of Bellm et al. 2017 (talk, 8 August 2017); the
    score is that of `filters.stamps.psf`, by the point-spread function that each packet brings.
    """
    score = Remembered(lambda some: psf_score(some[DIFFERENCE]))
    cuts = {
        "not hopeless": real(alerts, reliability_min=reliability_min),
        "no bad flag": no_bad_flag(alerts),
        "one point source": lambda left: score(left) >= score_min,
    }
    return cuts, {"psf_score": score}
