"""What was measured of each alert, in one form for every survey: the difference flux of past and present
epochs.

Detections are of the history and of the alert itself; forced photometry says more about the same exposures,
and about those in which nothing was detected, so that of one exposure the forced flux counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from filters.history import History, history
from filters.view import column_of, index_of

WINDOW = 60.0
"""Days before the alert: older epochs say nothing about a supernova that is seen now."""

_MAG = np.log(10) / 2.5


@dataclass(frozen=True)
class Measured:
    """Epochs of n alerts, end to end, in the alerts' order.

    rows: of each epoch the position of its alert. days: after the alert, so 0 or negative. bands: names.
    flux, error: of the survey's difference image. alerts: n. zero: magnitude of a flux of 1.
    """

    rows: np.ndarray
    days: np.ndarray
    bands: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    alerts: int
    zero: float

    def counts(self) -> np.ndarray:
        """How many epochs each alert has, (n,)."""
        return np.bincount(self.rows, minlength=self.alerts)


def measured_by_ztf(alerts: pd.DataFrame) -> Measured:
    """ZTF's epochs: `prv_candidates`, `fp_hists` where it is usable, and the alert."""
    own = _own(alerts, "flux"), _own(alerts, "magerr")
    seen = history(alerts, "prv_candidates")
    seen = seen[seen["mag"].notna()].once_an_exposure()
    forced = history(alerts, "fp_hists")
    forced = forced[forced["usable"]].once_an_exposure()
    unit = 10 ** (-0.4 * (forced["magzpsci"].to_numpy() - 25))
    detected, error = seen["flux"].to_numpy(), seen["magerr"].to_numpy()
    parts = [
        _part(seen, detected, np.abs(detected) * error * _MAG),
        _part(
            forced,
            forced["forcediffimflux"].to_numpy() * unit,
            forced["forcediffimfluxunc"].to_numpy() * unit,
        ),
    ]
    return _joined(alerts, parts, own[0], np.abs(own[0]) * own[1] * _MAG, 25.0)


def measured_by_rubin(alerts: pd.DataFrame) -> Measured:
    """Rubin's epochs, nJy: `prvDiaSources` with a good flux, usable `prvDiaForcedSources`, and the alert."""
    seen = history(alerts, "prvDiaSources")
    seen = seen[seen["mag"].notna()].once_an_exposure()
    forced = history(alerts, "prvDiaForcedSources")
    forced = forced[forced["usable"]].once_an_exposure()
    parts = [_part(past, past["flux"].to_numpy(), past["fluxerr"].to_numpy()) for past in (seen, forced)]
    return _joined(alerts, parts, _own(alerts, "flux"), _own(alerts, "fluxerr"), 31.4)


def _own(alerts: pd.DataFrame, name: str) -> np.ndarray:
    return np.asarray(column_of(alerts, name).to_numpy(dtype=float, na_value=np.nan))


def _part(past: History, flux: np.ndarray, error: np.ndarray) -> pd.DataFrame:
    """The epochs of one history: row, days, exposure, band, flux, error."""
    exposure = pd.Series(past["exposure"].values).to_numpy(dtype=float, na_value=np.nan)
    days = past["jd"].to_numpy() - past.alert["jd"].to_numpy()
    band = np.asarray(past["band"].to_numpy(), object)
    columns = {
        "row": past.rows,
        "days": days,
        "exposure": exposure,
        "band": band,
        "flux": flux,
        "error": error,
    }
    return pd.DataFrame(columns)


def _joined(
    alerts: pd.DataFrame, parts: list[pd.DataFrame], flux: np.ndarray, error: np.ndarray, zero: float
) -> Measured:
    """All epochs that can be used: the later part counts for an exposure that two have; the alert comes
    last."""
    count = len(index_of(alerts))
    band = np.asarray(column_of(alerts, "band").to_numpy(), object)
    now = {
        "row": np.arange(count),
        "days": 0.0,
        "exposure": np.nan,
        "band": band,
        "flux": flux,
        "error": error,
    }
    past = pd.concat(parts).drop_duplicates(["row", "exposure"], keep="last")
    whole = pd.concat([past, pd.DataFrame(now)]).sort_values(["row", "days"], kind="stable")
    good = np.isfinite(whole["flux"]) & np.isfinite(whole["error"]) & (whole["error"] > 0)
    chosen = whole[good & (whole["days"] >= -WINDOW) & whole["band"].notna()]
    rows, days, bands, fluxes, errors = (
        chosen[name].to_numpy() for name in ("row", "days", "band", "flux", "error")
    )
    return Measured(rows, days, bands, fluxes, errors, count, zero)
