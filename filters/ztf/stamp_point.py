"""Real sources by the pixels of their difference image."""

from typing import Annotated, Any

import pandas as pd

from filters.blocks.ztf import clean, real
from filters.contract import alert_filter
from filters.stamps import Remembered, images, point_score

DIFFERENCE = "cutoutDifference.stampData"


@alert_filter(survey="ztf", reads=["rb", "nbad", DIFFERENCE], gives={"point_score": ""})
def stamp_point(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.2,
    nbad: Annotated[int, "pixels"] = 0,
    score_min: Annotated[float, ""] = 0.5,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The difference image is one point source: no dipole, trail, cosmic ray, ghost or bad column.

    The stamps of alerts that the survey's own score has given up, or that have bad pixels, are not looked at.

    Parameters
    ----------
    alerts
        One row an alert.
    rb_min
        Least real-bogus score, 0 to 1.
    nbad
        Number of bad pixels, exactly.
    score_min
        Least score of the stamp, 0 to 1.

    Source
    ------
    "User-computed RB" among the filters on image cut-outs of Bellm et al. 2017 (talk, 8 August 2017); the
    score is that of `filters.stamps.score`.
    """
    score = Remembered(lambda some: point_score(images(some[DIFFERENCE])))
    cuts = {
        "not hopeless": real(alerts, rb_min=rb_min),
        "no bad pixel": clean(alerts, nbad=nbad),
        "one point source": lambda left: score(left) >= score_min,
    }
    return cuts, {"point_score": score}
