"""Kinds of objects by a model of their light curve: `filters.models.light_curves:light_curve_class`.

It is not among the registered filters, which run where nobody names any: whoever wants it names it.
"""

from typing import Annotated, Any

import pandas as pd

from filters.blocks.ztf import real
from filters.contract import alert_filter
from filters.errors import BadParameter
from filters.models.model import model
from filters.stamps import Remembered
from schemas.errors import near_names
from schemas.frame import TEXT

LIGHT_CURVE_CLASS = model("light_curve_class")


@alert_filter(
    survey="ztf", reads=["rb", *LIGHT_CURVE_CLASS.reads], gives={"kind": "text", "score": "", "surest": ""}
)
def light_curve_class(
    alerts: pd.DataFrame,
    *,
    kind: Annotated[str, ""] = "supernova",
    score_min: Annotated[float, ""] = 0.5,
    rb_min: Annotated[float, ""] = 0.65,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small network holds the light curve for that of a `kind` of object.

    Values: the likeliest kind, the score of the wanted one, and that of the likeliest.

    Parameters
    ----------
    alerts
        One row an alert.
    kind
        supernova, nucleus, variable, outburst, mover or artefact.
    score_min
        Least score of that kind, 0 to 1; the scores of all kinds add up to 1.
    rb_min
        Least real-bogus score of the survey: others are not looked at.

    Source
    ------
    Trained on the simulated sky by benchmarks/train_class_model.py.
    """
    if kind not in LIGHT_CURVE_CLASS.values:
        raise BadParameter(
            f"light_curve_class: no kind '{kind}'; {near_names(kind, LIGHT_CURVE_CLASS.values)}"
        )
    scores = Remembered(LIGHT_CURVE_CLASS)

    def table(left: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({name: scores(left, name) for name in LIGHT_CURVE_CLASS.values})

    cuts = {
        "real": real(alerts, rb_min=rb_min),
        "the model": lambda left: scores(left, kind) >= score_min,
    }
    return cuts, {
        "kind": lambda passing: table(passing).idxmax(axis=1).astype(TEXT),
        "score": lambda passing: scores(passing, kind),
        "surest": lambda passing: table(passing).max(axis=1),
    }
