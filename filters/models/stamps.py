"""Real sources by a model of their difference stamp: `filters.models.stamps:stamp_model`.

It is not among the registered filters, which run where nobody names any: whoever wants it names it.
"""

from typing import Annotated, Any

import pandas as pd

from filters.blocks.ztf import clean, real
from filters.contract import alert_filter
from filters.models.model import model
from filters.stamps import Remembered

STAMP_REAL = model("stamp_real")


@alert_filter(survey="ztf", reads=["rb", "nbad", *STAMP_REAL.reads], gives={"real": ""})
def stamp_model(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.2,
    score_min: Annotated[float, ""] = 0.5,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small network holds the difference stamp for that of a real source.

    Parameters
    ----------
    alerts
        One row an alert.
    rb_min
        Least real-bogus score of the survey: other stamps are not looked at.
    score_min
        Least score of the model, 0 to 1.

    Source
    ------
    Trained on the simulated sky by benchmarks/train_stamp_model.py.
    """
    score = Remembered(lambda left: STAMP_REAL(left)["real"])
    cuts = {
        "not hopeless": real(alerts, rb_min=rb_min),
        "no bad pixel": clean(alerts),
        "the model": lambda left: score(left) >= score_min,
    }
    return cuts, {"real": score}
