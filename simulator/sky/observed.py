"""Type Ia supernovae as observed, without a template: a sky to judge what was made from the template.

observed.toml says where the light curves are from. Each is that of one supernova, with its own dust, seen at
another distance; what redshift does to its colours is left out, so far ones are a little too blue.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simulator.sky.lightcurves import Curve, flux_of

_TABLE = Path(__file__).with_name("observed.toml")
_EXPLOSION, _FADING = -17.5, 0.03  # rest-frame days from the maximum in B; mag a day after the last one


class Observed(NamedTuple):
    """decline: mag in B within 15 days of the maximum. below: (band g r i, day), mag below the maximum in
    B."""

    name: str
    decline: float
    days: np.ndarray
    below: np.ndarray


@cache
def observed_supernovae() -> tuple[Observed, ...]:
    """Those of the table."""
    table = tomllib.loads(_TABLE.read_text())
    days = np.array(table.pop("days"), float)
    return tuple(
        Observed(name, one["decline"], days, np.array([one["g"], one["r"], one["i"]]))
        for name, one in table.items()
    )


def observed_like(x1: float) -> Observed:
    """The observed supernova whose light curve declines most nearly as one of stretch parameter `x1`.

    Source: the relation of x1 to the decline in Guy et al. (2007, A&A 466, 11).
    """
    decline = 1.09 - 0.161 * x1 + 0.013 * x1**2
    return min(observed_supernovae(), key=lambda one: abs(one.decline - decline))


def observed_ia(one: Observed, peak_jd: float, peak_b: float, redshift: float) -> Curve:
    """The light curve of an observed supernova at another time and distance.

    Parameters
    ----------
    one
        The supernova.
    peak_jd
        Julian date of the maximum in B, days.
    peak_b
        Apparent magnitude of that maximum.
    redshift
        Stretches time.
    """

    def curve(jd: np.ndarray, fid: np.ndarray) -> np.ndarray:
        day = (jd - peak_jd) / (1 + redshift)
        below = np.select([fid == b for b in (1, 2, 3)], [np.interp(day, one.days, m) for m in one.below])
        rise = np.clip((day - _EXPLOSION) / (one.days[0] - _EXPLOSION), 0, 1) ** 2
        late = _FADING * np.clip(day - one.days[-1], 0, None)
        return flux_of(peak_b + below + late) * rise

    return curve
