"""Sources that can be trusted."""

from typing import Annotated

import pandas as pd

from filters.blocks.lsst import RELIABLE, reliable_cuts
from filters.contract import alert_filter


@alert_filter(survey="lsst", reads=RELIABLE)
def reliable(alerts: pd.DataFrame, *, reliability_min: Annotated[float, ""] = 0.5) -> dict[str, pd.Series]:
    """A reliable source without a flag that says "do not use", and not withdrawn.

    Source: `reliability`, `timeWithdrawnMjdTai` and the flags of the schema lsst.v11_0.diaSource.
    """
    return reliable_cuts(alerts, reliability_min)
