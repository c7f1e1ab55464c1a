"""Real or bogus."""

from typing import Annotated

import pandas as pd

from filters.blocks.ztf import real
from filters.contract import alert_filter


@alert_filter(survey="ztf", reads=["rb"])
def real_bogus(alerts: pd.DataFrame, *, rb_min: Annotated[float, ""] = 0.65) -> dict[str, pd.Series]:
    """Real rather than bogus: a real-bogus score of at least `rb_min`.

    Source: Mahabal et al. 2019, PASP 131, 038002; the threshold of the survey's public filter example.
    A packet whose `rb` is float32(0.65) does not pass: widened, it is less than 0.65.
    """
    return {"real": real(alerts, rb_min=rb_min)}
