"""What several ZTF filters ask of an alert. Distances in arcsec, magnitudes in mag.

A comparison with a missing value is false: where missing means "none there", the question is put so that
false is the answer "none".
"""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.blocks.block import block
from filters.features import rise_rate
from filters.history import history
from filters.traced import answer

PS1_MAGNITUDES = {1: "sgmag1", 2: "srmag1", 3: "simag1"}
"""Band (`fid`: g, r, i) -> magnitude of the nearest PS1 source in that band."""

_SEEN = [f"prv_candidates.{name}" for name in ("jd", "mag", "exposure", "band")]


@block(survey="ztf", reads=["rb"])
def real(alerts: pd.DataFrame, *, rb_min: Annotated[float, ""] = 0.65) -> pd.Series:
    """The survey's own real-bogus score is at least `rb_min`.

    Source: "Filtering alerts", the public example of the ZTF alert distribution (ztf-avro-alert).
    """
    return alerts["rb"] >= rb_min


@block(survey="ztf", reads=["nbad"])
def clean(alerts: pd.DataFrame, *, nbad: Annotated[int, "pixels"] = 0) -> pd.Series:
    """Exactly `nbad` bad pixels within the source: none, unless told otherwise."""
    return alerts["nbad"] == nbad


@block(survey="ztf", reads=["fwhm"])
def sharp(alerts: pd.DataFrame, *, fwhm_max: Annotated[float, "pixels"] = 5) -> pd.Series:
    """The full width at half maximum is at most `fwhm_max`."""
    return alerts["fwhm"] <= fwhm_max


@block(survey="ztf", reads=["elong"])
def round_shape(alerts: pd.DataFrame, *, elong_max: Annotated[float, ""] = 1.2) -> pd.Series:
    """The longer axis is at most `elong_max` times the shorter one."""
    return alerts["elong"] <= elong_max


@block(survey="ztf", reads=["magdiff"])
def magnitudes_agree(alerts: pd.DataFrame, *, magdiff_max: Annotated[float, "mag"] = 0.1) -> pd.Series:
    """Aperture and PSF magnitude differ by at most `magdiff_max`, in either direction."""
    return alerts["magdiff"].abs() <= magdiff_max


@block(survey="ztf", reads=["nbad", "fwhm", "elong", "magdiff"])
def good_quality(alerts: pd.DataFrame) -> pd.Series:
    """No bad pixel, as sharp and as round as a point, aperture and PSF magnitude agree."""
    return clean(alerts) & sharp(alerts) & round_shape(alerts) & magnitudes_agree(alerts)


@block(survey="ztf", reads=["distpsnr1"])
def ps1_source(alerts: pd.DataFrame, *, radius: Annotated[float, "arcsec"] = 1.5) -> pd.Series:
    """The nearest PS1 source is within `radius`; false where there is none."""
    return alerts["distpsnr1"] <= radius


@block(survey="ztf", reads=["distpsnr1"])
def hostless(alerts: pd.DataFrame, *, radius: Annotated[float, "arcsec"] = 5) -> pd.Series:
    """No PS1 source is within `radius`."""
    return ~ps1_source(alerts, radius=radius)


@block(survey="ztf", reads=["distpsnr1", "sgscore1"])
def star(
    alerts: pd.DataFrame,
    *,
    radius: Annotated[float, "arcsec"] = 1.5,
    sgscore: Annotated[float, ""] = 0.5,
) -> pd.Series:
    """A PS1 source within `radius` with a star-galaxy score of at least `sgscore` (1 is a star).

    Parameters
    ----------
    alerts
        One row an alert.
    radius
        Largest distance of the PS1 source.
    sgscore
        Least score.

    Source
    ------
    The star-galaxy score of Tachibana & Miller 2018, PASP 130, 128001.
    """
    return ps1_source(alerts, radius=radius) & (alerts["sgscore1"] >= sgscore)


@block(survey="ztf", reads=["ssdistnr"])
def known_object(alerts: pd.DataFrame, *, radius: Annotated[float, "arcsec"] = 5) -> pd.Series:
    """A known solar-system object is within `radius`: 0 <= ssdistnr <= radius."""
    distance = alerts["ssdistnr"]
    return (distance >= 0) & (distance <= radius)


@block(survey="ztf", reads=["jd", "mag", "band", *_SEEN])
def rising(alerts: pd.DataFrame, *, rate: Annotated[float, "mag/d"] = 0) -> pd.Series:
    """Brighter than at its last detection in the same band, by more than `rate` (see `rise_rate`)."""
    return rise_rate(alerts, history(alerts, "prv_candidates")) > rate


def ps1_magnitude_in_band(alerts: pd.DataFrame) -> pd.Series:
    """Magnitude of the nearest PS1 source in the alert's own band; NaN where there is none."""
    band = alerts["fid"].to_numpy()
    magnitudes = [alerts[name].to_numpy() for name in PS1_MAGNITUDES.values()]
    chosen = np.select([band == fid for fid in PS1_MAGNITUDES], magnitudes, np.nan)
    return answer(alerts, chosen, ["fid", *PS1_MAGNITUDES.values()])
