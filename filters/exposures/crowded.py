"""Exposures of a quadrant that have far more alerts than it usually has."""

from typing import Annotated

import pandas as pd

from filters.contract import alert_filter


@alert_filter(
    survey="ztf", reads=["exposure", "rb"], scope="exposure", gives={"alerts_here": "", "times_usual": ""}
)
def no_crowd(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.0,
    usual: Annotated[float, "alerts"] = 30.0,
    factor: Annotated[float, ""] = 5.0,
    least: Annotated[int, "alerts"] = 50,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Real enough, and its exposure has at most `factor` times the alerts that its quadrant usually has.

    What is usual is a parameter, so that it is known of each verdict: a table by quadrant, which
    `archive.replay.usual` makes of the last nights, as its running median (docs/channels.md).

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    rb_min
        Least real-bogus score, 0 to 1; the others count all the same.
    usual
        Alerts in an exposure of the quadrant.
    factor
        More than so many times the usual number are too many.
    least
        Fewer alerts than this are never too many.

    Source
    ------
    The rate among the filters on an aggregated stream of Bellm et al. 2017 (talk, 8 August 2017).
    """
    return _uncrowded(alerts, alerts["rb"] >= rb_min, usual, factor, least)


@alert_filter(
    survey="lsst",
    reads=["exposure", "reliability"],
    scope="exposure",
    gives={"alerts_here": "", "times_usual": ""},
)
def no_crowd_rubin(
    alerts: pd.DataFrame,
    *,
    reliability_min: Annotated[float, ""] = 0.0,
    usual: Annotated[float, "alerts"] = 30.0,
    factor: Annotated[float, ""] = 5.0,
    least: Annotated[int, "alerts"] = 50,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """As `no_crowd`, of one detector of a Rubin visit: what is usual is a table by `detector`.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    reliability_min
        Least `reliability`, 0 to 1; the others count all the same.
    usual
        Alerts in an exposure of the detector.
    factor
        More than so many times the usual number are too many.
    least
        Fewer alerts than this are never too many.

    Source
    ------
    The rate among the filters on an aggregated stream of Bellm et al. 2017 (talk, 8 August 2017).
    """
    return _uncrowded(alerts, alerts["reliability"] >= reliability_min, usual, factor, least)


def _uncrowded(
    alerts: pd.DataFrame, real: pd.Series, usual: float, factor: float, least: int
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    here = alerts.groupby("exposure", sort=False)["candid"].transform("size").astype(float)
    cuts = {"real": real, "no crowd": (here < least) | (here <= factor * usual)}
    return cuts, {"alerts_here": here, "times_usual": here / max(usual, 1e-9)}
