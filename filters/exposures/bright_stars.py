"""Alerts that crowd around a bright star or along its diffraction spikes, in one exposure."""

from typing import Annotated

import numpy as np
import pandas as pd

from filters.contract import alert_filter

STAR = ["bright.sep", "bright.ra", "bright.dec", "bright.mag"]
"""A catalogue of stars that the operator adds, with the columns ra, dec (deg) and mag (see
docs/channels.md)."""

GIVES = {"around_star": "", "on_spike": "", "star_mag": "mag"}


@alert_filter(survey="ztf", reads=["exposure", "ra", "dec", "rb", *STAR], scope="exposure", gives=GIVES)
def no_star_artefact(
    alerts: pd.DataFrame,
    *,
    rb_min: Annotated[float, ""] = 0.0,
    members: Annotated[int, "alerts"] = 3,
    halo: Annotated[float, "arcsec"] = 20.0,
    spike: Annotated[float, "arcsec"] = 80.0,
    width: Annotated[float, "arcsec"] = 4.0,
    angle: Annotated[float, "deg"] = 0.0,
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Real enough, and not one of `members` alerts in the halo of a bright star, or on its spikes.

    A star of magnitude 10 has a halo of radius `halo` and four spikes of length `spike`, both twice as
    large for a star two magnitudes brighter. The star is the nearest one of the catalogue `bright`. An
    alert near a star that is alone there passes: it may be real.

    Parameters
    ----------
    alerts
        One row an alert; whole exposures.
    rb_min
        Least real-bogus score, 0 to 1; the others count as members all the same.
    members
        So many alerts of one exposure in a halo, or on the spikes of one star, are artefacts.
    halo
        Radius around a star of magnitude 10.
    spike
        Length of a spike of a star of magnitude 10.
    width
        Largest distance of an alert from the axis of a spike.
    angle
        Of one spike from north towards east; the others lie at right angles to it. 0 for a camera that does
        not turn, on a telescope whose vanes point north, south, east and west.

    Source
    ------
    "Reject events occurring in spatial proximity", Bellm et al. 2017 (talk, 8 August 2017).
    """
    number = {name: alerts[name].to_numpy(dtype=float, na_value=np.nan) for name in ("ra", "dec", *STAR)}
    scale = 2 ** ((10.0 - number["bright.mag"]) / 2)
    near = number["bright.sep"] <= halo * scale
    along, across = from_star(number, angle)
    on_spike = (across <= width) & (along <= spike * scale) & ~near
    star = alerts[["exposure"]].assign(ra=number["bright.ra"], dec=number["bright.dec"])
    around, spiked = (_others(star, mask) for mask in (near, on_spike))
    index = alerts.index
    cuts = {
        "real": alerts["rb"] >= rb_min,
        "no halo": pd.Series(around < members, index),
        "no spike": pd.Series(spiked < members, index),
    }
    values = {"around_star": around, "on_spike": spiked, "star_mag": number["bright.mag"]}
    return cuts, {name: pd.Series(value, index) for name, value in values.items()}


def from_star(number: dict[str, np.ndarray], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each alert the distance from its star along the nearest spike, and from the spike's axis; arcsec.

    Parameters
    ----------
    number
        ra, dec, bright.ra and bright.dec, (n,) degrees each.
    angle
        Of one of the four spikes from north towards east, degrees.
    """
    apart = (number["ra"] - number["bright.ra"] + 180) % 360 - 180
    east = apart * np.cos(np.radians(number["bright.dec"])) * 3600
    north = (number["dec"] - number["bright.dec"]) * 3600
    turn = np.radians(angle)
    first = np.abs(north * np.cos(turn) + east * np.sin(turn))
    second = np.abs(east * np.cos(turn) - north * np.sin(turn))
    return np.fmax(first, second), np.fmin(first, second)


def _others(star: pd.DataFrame, mask: np.ndarray) -> np.ndarray:
    """For each alert in the mask, how many of its exposure are in it at the same star; 0 for others."""
    chosen = mask & star.notna().all(axis=1).to_numpy()
    found = np.zeros(len(star))
    if chosen.any():
        groups = star[chosen].groupby(list(star.columns), sort=False)
        found[chosen] = groups["exposure"].transform("size").to_numpy(float)
    return found
