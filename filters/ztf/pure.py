"""A clean sample of real sources."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import clean, magnitudes_agree, real, round_shape, sharp
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["rb", "nbad", "fwhm", "elong", "magdiff"])
def pure(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.65,
    nbad: Annotated[int, "pixels"] = 0,
    fwhm_max: Annotated[float, "pixels"] = 5,
    elong_max: Annotated[float, ""] = 1.2,
    magdiff_max: Annotated[float, "mag"] = 0.1,
) -> dict[str, pd.Series]:
    """A pure sample: real, no bad pixel, as sharp and as round as a point, aperture and PSF magnitudes agree.

    Parameters
    ----------
    alerts
        One row an alert.
    rb_min
        Least real-bogus score, 0 to 1.
    nbad
        Number of bad pixels, exactly.
    fwhm_max
        Largest full width at half maximum.
    elong_max
        Largest ratio of the axes.
    magdiff_max
        Largest difference of aperture and PSF magnitude, of either sign.

    Source
    ------
    "Filtering alerts", the public example of the ZTF alert distribution (ztf-avro-alert).
    """
    return {
        "real": real(alerts, rb_min=rb_min),
        "no bad pixel": clean(alerts, nbad=nbad),
        "sharp": sharp(alerts, fwhm_max=fwhm_max),
        "round": round_shape(alerts, elong_max=elong_max),
        "magnitudes agree": magnitudes_agree(alerts, magdiff_max=magdiff_max),
    }
