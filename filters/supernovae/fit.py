"""The light curve of a supernova of type Ia that fits an alert best, by trying all of a grid.

For each template (redshift, stretch, dust) and each day of the maximum the best amplitude is known in closed
form, and with it chi squared. The smallest one wins. A template counts only where its amplitude makes it as
bright as a supernova of type Ia is at that redshift: otherwise shape and redshift would hardly depend on each
other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from filters.supernovae.epochs import WINDOW, Measured
from filters.supernovae.templates import Templates, templates

FREE = 5
"""Parameters that the fit chooses: amplitude, day of the maximum, redshift, stretch and dust."""

AGO, AHEAD = 60, 20
"""Days: the maximum was at most so long ago, or is at most so far ahead."""

PEAK, SPREAD = -19.1, 0.8
"""mag: absolute magnitude of the maximum in rest-frame B, without dust, and how far from it an amplitude
counts.

Source: Betoule et al. (2014, A&A 568, A22) for H0 = 70 km/s/Mpc; the spread has room for fast, faint ones."""

SCATTER = 0.05
"""Part of a flux by which the template is not exact: added to its error."""

FITTED = ("chi2", "dof", "chi2_dof", "peak_jd", "phase", "amplitude", "redshift", "stretch", "dust")
"""What a fit gives. dof: usable epochs less the free parameters; where it is 0 or less, nothing else is
known. peak_jd: of the maximum in rest-frame B, days UTC. phase: rest-frame days from it to the alert.
amplitude: flux of that maximum, without dust, in the survey's unit."""


def gives(flux: str) -> dict[str, str]:
    """What filters give of a fit: name -> unit. flux: the survey's unit of flux."""
    units = {"peak_jd": "d", "phase": "d", "amplitude": flux, "dust": "mag"}
    names = ("chi2_dof", "dof", "peak_jd", "phase", "amplitude", "redshift", "stretch", "dust")
    return {name: units.get(name, "") for name in names}


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in: an installation that only root can write
        return njit(nogil=True)(function)


@_compiled
def _sums(  # type: ignore[no-untyped-def]
    light, band, row, share, weighted, weight, flux_by_model, model_by_model
):
    """Sums over epochs of weight x flux x model and weight x model x model, (steps, templates) each.

    light: (band, day, template). Of each epoch: band, the day (row of light) before it for the first step,
    the share of the next day, weight x flux, weight. A step later the maximum is a day later, the epoch a
    day earlier.
    """
    for epoch in range(len(band)):
        for step in range(len(flux_by_model)):
            early = light[band[epoch], row[epoch] - step]
            late = light[band[epoch], row[epoch] - step + 1]
            for one in range(light.shape[2]):
                model = (1 - share[epoch]) * early[one] + share[epoch] * late[one]
                flux_by_model[step, one] += weighted[epoch] * model
                model_by_model[step, one] += weight[epoch] * model * model


def fits(survey: str, measured: Measured, jd: np.ndarray) -> pd.DataFrame:
    """The best fit of each alert: a row each, the columns of FITTED, float64.

    Parameters
    ----------
    survey
        Whose passbands.
    measured
        The epochs of the alerts.
    jd
        Of the alerts, (n,), days UTC.
    """
    grid = templates(survey, -int(WINDOW) - AHEAD - 1, AGO + 1)
    found = np.full((measured.alerts, len(FITTED)), np.nan)
    number = {band: place for place, band in enumerate(grid.bands)}
    bands = np.array([number.get(band, -1) for band in measured.bands], np.int64)
    ends = np.searchsorted(measured.rows, np.arange(measured.alerts + 1))
    for alert in range(measured.alerts):
        some = np.arange(ends[alert], ends[alert + 1])
        some = some[bands[some] >= 0]
        found[alert, 1] = len(some) - FREE
        if len(some) > FREE:
            found[alert] = _best(grid, bands[some], measured, some, float(jd[alert]))
    return pd.DataFrame(found, columns=list(FITTED))


def _best(
    grid: Templates, band: np.ndarray, measured: Measured, some: np.ndarray, jd: float
) -> tuple[float, ...]:
    """The fit of one alert, in the order of FITTED; NaN where no template is bright enough or faint
    enough."""
    flux = measured.flux[some]
    weight = 1 / (measured.error[some] ** 2 + (SCATTER * np.clip(flux, 0, None)) ** 2)
    day = np.floor(measured.days[some])
    row = (day + AGO - grid.first).astype(
        np.int64
    )  # of the first step: the maximum AGO days before the alert
    sums = np.zeros((2, AGO + AHEAD + 1, len(grid)))
    _sums(grid.light, band, row, measured.days[some] - day, weight * flux, weight, sums[0], sums[1])
    gained, amplitude = _gained(grid, sums, measured.zero)
    step, one = np.unravel_index(int(np.argmax(gained)), gained.shape)
    dof = float(len(some) - FREE)
    if not np.isfinite(gained[step, one]):
        return (np.nan, dof, *([np.nan] * (len(FITTED) - 2)))
    shift, more = _vertex(gained[:, one], int(step))
    chi2 = max(float((weight * flux * flux).sum()) - more, 0.0)
    peak = float(step) - AGO + shift
    z = float(grid.redshift[one])
    told = float(amplitude[step, one]), z, float(grid.stretch[one]), float(grid.dust[one])
    return (chi2, dof, chi2 / dof, jd + peak, -peak / (1 + z), *told)


def _gained(grid: Templates, sums: np.ndarray, zero: float) -> tuple[np.ndarray, np.ndarray]:
    """By how much each template's best amplitude lowers chi squared (-inf where it is no such supernova), and
    that amplitude; (step, template) each."""
    amplitude = np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=sums[1] > 0)
    faintest, brightest = (10 ** (-0.4 * (grid.modulus + PEAK + by - zero)) for by in (SPREAD, -SPREAD))
    allowed = (amplitude >= faintest) & (amplitude <= brightest)
    return np.where(allowed, sums[0] * amplitude, -np.inf), amplitude


def _vertex(gained: np.ndarray, step: int) -> tuple[float, float]:
    """Where between the steps (days) the gain of a template is largest, and how large, by a parabola."""
    around = gained[step - 1 : step + 2]
    if len(around) < 3 or not np.isfinite(around).all():
        return 0.0, float(gained[step])
    bend = around[0] - 2 * around[1] + around[2]
    if bend >= 0:
        return 0.0, float(around[1])
    shift = 0.5 * (around[0] - around[2]) / bend
    return float(shift), float(around[1] - 0.25 * (around[0] - around[2]) * shift)
