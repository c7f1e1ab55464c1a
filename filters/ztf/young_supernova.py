"""Supernovae in their first days."""

from typing import Annotated, Any

import pandas as pd

from filters.contract import alert_filter
from filters.history import history
from filters.ztf.pure_transient import pure_transient


@alert_filter(
    survey="ztf",
    reads=["jd", "jdstarthist", "prv_candidates.jd", "prv_candidates.magpsf"],
    extends=pure_transient,
)
def young_supernova(
    alerts: pd.DataFrame,
    *,
    age_max: Annotated[float, "d"] = 5,
    limit_within: Annotated[float, "d"] = 2.5,
    **transient: Any,
) -> dict[str, pd.Series]:
    """`pure_transient`, no older than `age_max`, with a limit at most `limit_within` before first seen.

    The age is counted from the first detection of the survey (`jdstarthist`). The first detection and the
    non-detection before it are the packet's, in any band.

    Parameters
    ----------
    alerts
        One row an alert.
    age_max
        Most time since the first detection of the survey.
    limit_within
        Most time between a non-detection and the first detection after it.
    transient
        Parameters of `pure_transient`.

    Source
    ------
    The "Young Supernova channel" of Bellm et al. 2017 (talk, 8 August 2017).
    """
    past = history(alerts, "prv_candidates")
    detected = past["magpsf"].notna()
    first_seen = past[detected]["jd"].min().fillna(alerts["jd"])  # now, if never before
    limits = past[~detected]  # non-detections
    days_before = limits.spread(first_seen) - limits["jd"]
    return {
        **pure_transient.cuts_of(alerts, **transient),
        "young": alerts["jd"] - alerts["jdstarthist"] <= age_max,
        "limit just before": limits[(days_before > 0) & (days_before <= limit_within)].any(),
    }
