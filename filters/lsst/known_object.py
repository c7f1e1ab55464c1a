"""Known solar-system objects."""

import pandas as pd

from filters.blocks import lsst as blocks
from filters.contract import alert_filter


@alert_filter(survey="lsst", reads=["ssObjectId", "timeWithdrawnMjdTai"])
def known_object(alerts: pd.DataFrame) -> dict[str, pd.Series]:
    """The source is associated with a known solar-system object.

    Source: `ssObjectId` of the schema lsst.v11_0.diaSource; 0 means none in 7.x and 9.0, null later.
    """
    return {
        "known object": blocks.known_object(alerts),
        "not withdrawn": ~blocks.withdrawn(alerts),
    }
