"""Known solar-system objects."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import known_object
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["ssdistnr"])
def solar_system(
    alerts: pd.DataFrame, *, object_radius: Annotated[float, "arcsec"] = 5
) -> dict[str, pd.Series]:
    """A known solar-system object is expected within `object_radius`: 0 <= ssdistnr <= `object_radius`.

    Source: the ZTF alert schema's `ssdistnr`, distance to the nearest known object; negative means none.
    """
    return {"known object": known_object(alerts, radius=object_radius)}
