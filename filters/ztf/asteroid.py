"""Asteroids that are not yet known."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import hostless, known_object, real
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["positive", "rb", "ndethist", "distpsnr1", "ssdistnr"])
def asteroid(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.65,
    ndethist_max: Annotated[int, "detections"] = 1,
    source_radius: Annotated[float, "arcsec"] = 5,
    object_radius: Annotated[float, "arcsec"] = 5,
) -> dict[str, pd.Series]:
    """Real, seen here once only, where PS1 has no source and no known solar-system object is expected.

    Parameters
    ----------
    alerts
        One row an alert.
    rb_min
        Least real-bogus score, 0 to 1.
    ndethist_max
        Most detections at this place.
    source_radius
        A PS1 source nearer than this rejects the alert.
    object_radius
        A known solar-system object nearer than this rejects the alert.

    Source
    ------
    The "potential asteroids channel" of Bellm et al. 2017 (talk, 8 August 2017).
    """
    return {
        "positive": alerts["positive"],
        "real": real(alerts, rb_min=rb_min),
        "seen once": alerts["ndethist"] <= ndethist_max,
        "no PS1 source": hostless(alerts, radius=source_radius),
        "no known object": ~known_object(alerts, radius=object_radius),
    }
